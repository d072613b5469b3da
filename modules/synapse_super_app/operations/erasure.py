"""What of a person is erased when their account is deactivated and they want to be forgotten (GDPR, article 17).

It owns which package erases what, in one transaction. The books are not touched: entries are in the name of the acct,
a pseudonym, and whose it is stands in the table of accounts alone, since the operator must be able to pay out what is
left and nobody else may get the user name. It may be done again, and finds what could not be erased before because it
was not over yet.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from super_app.accounts import relation_store
from super_app.assistant import store as assistant_store
from super_app.calls import service as calls
from super_app.clearing import store as clearing_store
from super_app.conferences import store as conferences_store
from super_app.db import Cursor
from super_app.deposits import store as deposits_store
from super_app.disputes import store as disputes_store
from super_app.errors import Reason, Refused
from super_app.fares import store as fares_store
from super_app.ids import Acct, UserId
from super_app.operations import store
from super_app.payments import store as payments_store
from super_app.pots import store as pots_store
from super_app.requests import store as requests_store
from super_app.safeguards import store as safeguards_store
from super_app.schedules import store as schedules_store
from super_app.sessions import store as sessions_store
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.operations.bodies import ErasureJson
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_ROUND_MS: Final = 3_600_000
_PAGE: Final = 200


ERASERS: Final[Mapping[str, Callable[[Cursor, Acct, UserId, int], int]]] = {
    "super_app.accounts": lambda cur, acct, _user, _now: relation_store.erase_person(cur, acct),
    "super_app.safeguards": lambda cur, acct, _user, _now: safeguards_store.erase_person(cur, acct),
    "super_app.sessions": lambda cur, acct, _user, _now: sessions_store.erase_person(cur, acct),
    "super_app.payments": lambda cur, acct, _user, _now: payments_store.erase_person(cur, acct),
    "super_app.clearing": lambda cur, acct, _user, _now: clearing_store.erase_person(cur, acct),
    "super_app.pots": lambda cur, acct, _user, _now: pots_store.erase_person(cur, acct),
    "super_app.deposits": lambda cur, acct, user, _now: deposits_store.erase_person(cur, acct, user),
    "super_app.fares": lambda cur, acct, _user, _now: fares_store.erase_person(cur, acct),
    "super_app.requests": lambda cur, _acct, user, now: requests_store.erase_person(cur, user, now),
    "super_app.schedules": lambda cur, acct, _user, _now: schedules_store.erase_person(cur, acct),
    "super_app.disputes": lambda cur, acct, _user, _now: disputes_store.erase_person(cur, acct),
    "super_app.conferences": lambda cur, _acct, user, _now: conferences_store.erase_person(cur, user),
    "super_app.assistant": lambda cur, _acct, user, _now: assistant_store.erase_person(cur, user),
    "super_app.calls": lambda cur, acct, user, _now: calls.forget_person(cur, acct, user),
}
"""By the package whose tables it is about."""

NOTHING_OF_A_PERSON: Final[Mapping[str, str]] = {
    "super_app.ledger": "entries are in the name of the acct, and others' depend on them",
    "super_app.operations": "what operators did, as a hash chain",
    "super_app.directory": "handles are retired with the account; records that were published are signed",
    "super_app.reviews": "what the law makes an operator note of payments that it held up",
    "super_app.cards": "which event shows which payment or call, without names",
    "super_app.recovery": "shares are given up, here and at other realms, when the account is deactivated",
}
"""Packages of which nothing is erased here, and why."""


class Erasure:
    def __init__(self, runtime: Runtime, packages: Sequence[str]) -> None:
        """``packages`` are those whose tables there are."""
        self._runtime = runtime
        self._erasers = [ERASERS[package] for package in packages if package in ERASERS]

    def route(self) -> Route:
        return Route(
            method="POST",
            path="admin/erasures/{user_id}",
            handler=self._asked,
            response=ErasureJson,
            summary="Erase what need not be kept of somebody whose account is deactivated; again it finds what is left",
            auth=Auth.ADMIN,
            reasons=(Reason.UNKNOWN_PAYEE, Reason.CONFLICT),
        )

    def start(self) -> None:
        if self._runtime.is_main:
            self._runtime.api.looping_background_call(
                self._round, _ROUND_MS, desc="superapp_erasures", run_on_all_instances=False
            )
            self._runtime.api.run_as_background_process("superapp_erasures", self._round)

    async def deactivated(
        self,
        user_id: str,
        is_deactivated: bool,  # noqa: FBT001  # Synapse calls it so
        by_admin: bool,  # noqa: FBT001
    ) -> None:
        """What a crash makes us miss here, the hourly round finds."""
        if not self._runtime.api.is_mine(user_id):
            return
        acct = await self._runtime.accounts.acct_of(UserId(user_id))
        if not is_deactivated:
            await self._runtime.database.run("erasure_over", lambda cur: store.drop_erasure(cur, acct))
        elif await self._runtime.database.run(
            "erasure_wanted", lambda cur: self._runtime.private.wants_erasure(cur, UserId(user_id))
        ):
            await self._erase(acct, UserId(user_id))

    async def _round(self) -> None:
        """Those who wanted it while no process of ours saw it."""
        while people := await self._runtime.database.run(
            "erasures_missed", lambda cur: self._runtime.private.erased_and_not_by_us(cur, _PAGE)
        ):
            for user_id in people:
                await self._erase(await self._runtime.accounts.acct_of(user_id), user_id)

    async def _asked(self, call: Call) -> ErasureJson | Refused:
        user_id = UserId(call.path["user_id"])
        is_gone = await self._runtime.database.run(
            "erasure_gone", lambda cur: self._runtime.private.is_deactivated(cur, user_id)
        )
        if is_gone is None:
            return Refused(
                reason=Reason.UNKNOWN_PAYEE, message=f"{user_id} is nobody here; write the whole user id of an account."
            )
        if not is_gone:
            return Refused(
                reason=Reason.CONFLICT,
                message=f"{user_id} is in use; deactivate it first, with Synapse's admin API or in a client of theirs.",
            )
        acct = await self._runtime.accounts.acct_of(user_id)
        erased_ms, erased = await self._erase(acct, user_id)
        return ErasureJson(user_id=user_id, owner=acct, erased_ms=erased_ms, erased=erased)

    async def _erase(self, acct: Acct, user_id: UserId) -> tuple[int, int]:
        now_ms = self._runtime.now_ms()
        erased = await self._runtime.database.run(
            "erasure", partial(self._all_of, acct=acct, user_id=user_id, now_ms=now_ms)
        )
        logger.info("Erased what need not be kept of a deactivated account: %d rows", erased)
        return now_ms, erased

    def _all_of(self, cur: Cursor, acct: Acct, user_id: UserId, now_ms: int) -> int:
        erased = sum(erase(cur, acct, user_id, now_ms) for erase in self._erasers)
        store.put_erasure(cur, acct, now_ms)
        return erased
