"""Keeps localparts and handles from ever naming two people: registration, deactivation, and what comes in between.

A localpart that is somebody else's handle counts as taken. All of it fails open, because registering must not depend
on us: an account that comes to exist all the same freezes the handle.
"""

import logging
from collections.abc import Collection
from http import HTTPStatus

from synapse.module_api import ModuleApi
from synapse.module_api.errors import Codes, SynapseError
from synapse.spam_checker_api import RegistrationBehaviour

from super_app.ids import UserId
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.private_api import PrivateApi
from synapse_super_app.rollout import Rollout

logger = logging.getLogger(__name__)


class Registration:
    """Callbacks of Synapse about accounts that come and go."""

    def __init__(self, api: ModuleApi, private: PrivateApi, own: OwnHandles, rollout: Rollout) -> None:
        self._rollout = rollout
        self._api = api
        self._private = private
        self._own = own

    def register(self) -> None:
        # The callback sees every way to register, the guard answers /register/available and MAS before any of it.
        self._api.register_spam_checker_callbacks(check_registration_for_spam=self.check_registration_for_spam)
        self._private.guard_usernames(self.refuse_taken)
        self._api.register_account_validity_callbacks(on_user_registration=self.on_user_registration)
        self._api.register_third_party_rules_callbacks(
            on_user_deactivation_status_changed=self.on_user_deactivation_status_changed
        )

    async def check_registration_for_spam(
        self,
        email_threepid: dict[str, str] | None,
        username: str | None,
        request_info: Collection[tuple[str, str]],
        auth_provider_id: str | None = None,
    ) -> RegistrationBehaviour:
        # A returned refusal would read "Rate limited"; raised, it says what is wrong.
        if username is not None:
            await self.refuse_taken(username)
        return RegistrationBehaviour.ALLOW

    async def refuse_taken(self, localpart: str) -> None:
        """Raise M_USER_IN_USE for a localpart that is somebody else's handle, alias or quarantined name."""
        try:
            blocked = await self._own.blocks_registration(UserId(self._api.get_qualified_user_id(localpart)))
        except Exception:
            logger.exception("Could not ask whether %s is a handle; the registration goes on", ascii(localpart))
            return
        if blocked and self._rollout.dry_run:
            self._rollout.would_refuse("registration", Codes.USER_IN_USE.value)
        elif blocked:
            raise SynapseError(
                HTTPStatus.BAD_REQUEST,
                f"{localpart} is the handle of somebody on this homeserver; choose another user name.",
                Codes.USER_IN_USE,
            )

    async def on_user_registration(self, user_id: str) -> None:
        try:
            await self._own.registered(UserId(user_id))
        except Exception:
            logger.exception("Giving %s its first handle failed; the next sweep does it", user_id)

    async def on_user_deactivation_status_changed(
        self,
        user_id: str,
        deactivated: bool,  # noqa: FBT001  # Synapse calls it so
        by_admin: bool,  # noqa: FBT001
    ) -> None:
        # An account that is activated again stays hidden until its owner chooses to be found.
        if deactivated:
            await self._own.retire(UserId(user_id))
