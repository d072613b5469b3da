"""The assistant's own account: made once, and never somebody else's."""

import logging
from typing import Final

from synapse.module_api.errors import SynapseError

from super_app.assistant import store
from super_app.ids import UserId
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_POLL_S: Final = 1.0


class Account:
    """``user_id`` is what it is or would be; it is only ours once ``is_ready``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._localpart = runtime.config.assistant.localpart
        self.user_id = UserId(f"@{self._localpart}:{runtime.server_name}")
        self.is_ready = False

    async def make(self) -> None:
        """Make the account if there is none. One that is somebody else's is left alone, with one line in the log."""
        database, api = self._runtime.database, self._runtime.api
        known = await database.run("assistant_account", lambda cur: store.is_ours(cur, self._localpart))
        exists = await api.get_userinfo_by_id(self.user_id) is not None
        if exists:
            if known:
                self.is_ready = True
            else:
                self._say_taken()
            return
        # Noted first: should the process die in between, the account is known as ours.
        now_ms = self._runtime.now_ms()
        await database.run("assistant_account_note", lambda cur: store.note_account(cur, self._localpart, now_ms))
        try:
            await api.register_user(self._localpart, self._runtime.config.assistant.display_name)
        except SynapseError as error:
            await database.run("assistant_account_forget", lambda cur: store.forget_account(cur, self._localpart))
            # One line: the operator needs the reason, not where in Synapse it arose.
            logger.error("The assistant is off: its account %s cannot be made (%s)", self.user_id, error.msg)  # noqa: TRY400
            return
        self.is_ready = True

    async def wait(self) -> None:
        """Wait until the account is ours, where another process makes it."""
        while not self.is_ready:
            known = await self._runtime.database.run(
                "assistant_account", lambda cur: store.is_ours(cur, self._localpart)
            )
            if known and await self._runtime.api.get_userinfo_by_id(self.user_id) is not None:
                self.is_ready = True
                return
            await self._runtime.api.sleep(_POLL_S)

    def _say_taken(self) -> None:
        logger.error(
            "The assistant is off: %s is somebody else's account; give the assistant another name with "
            "assistant.localpart, or switch it off with features: {assistant: false}",
            self.user_id,
        )
