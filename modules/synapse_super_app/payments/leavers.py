"""Deactivated accounts in the homeserver: who left, what lies in their accounts, and the operator's rule for it.

An hourly round in the process that writes the ledger compares Synapse's users with whom we know to have left, so that
no process that dies at the wrong moment lets anybody be forgotten. Nothing of it is done while payments are halted.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge
from pydantic import BaseModel, Field

from super_app.accounts import store as accounts
from super_app.db import Cursor
from super_app.ids import Acct, UserId
from super_app.ledger import operators
from super_app.ledger.lease import NotTheWriter
from super_app.money import AssetCode
from super_app.payments import leaver_store, leaving
from super_app.payments.leavers import Leaver, LeaverRule, Then, due_ms
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.payments.residents import Residents
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_ROUND_MS: Final = 3_600_000
_PAGE: Final = 200

_taken_total: Final = Counter(
    "superapp_left_money_taken_total", "Entries by the rule for deactivated accounts, by what it did.", ["then"]
)
_left_minor: Final = Gauge(
    "superapp_left_money_minor", "Money in deactivated accounts, in minor units; at the process that writes.", ["asset"]
)


class LeaversQuery(BaseModel):
    since: str | None = None
    """``next`` of the page before."""
    limit: int = Field(default=100, ge=1, le=1_000)


class LeftMoneyJson(BaseModel):
    """``kind``: ``available`` (blocked), ``claim`` (put by), ``held`` and ``gift`` (under way, or put aside)."""

    currency: str
    scale: int
    kind: str
    amount: int


class LeaverJson(BaseModel):
    """``due_ms`` is when the rule takes what is available; absent where it takes nothing."""

    user_id: str
    left_ms: int
    due_ms: int | None = None
    frozen: bool
    money: list[LeftMoneyJson]


class LeaversJson(BaseModel):
    """Longest gone first."""

    then: str
    after_ms: int
    leavers: list[LeaverJson]
    next: str | None = None


class Leavers:
    def __init__(self, runtime: Runtime, writer: LedgerWriter, residents: Residents) -> None:
        self._runtime = runtime
        self._writer = writer
        self._residents = residents
        config = runtime.config.payments.deactivated
        self._rule = LeaverRule(then=Then(config.then), after_ms=config.after)
        self._on = False
        self._busy = False

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/leavers",
                handler=self._page,
                response=LeaversJson,
                summary="Deactivated accounts in which there is money, and when the rule takes it",
                auth=Auth.ADMIN,
                query=LeaversQuery,
            ),
        )

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        self._runtime.api.looping_background_call(
            self._round, _ROUND_MS, desc="superapp_leavers", run_on_all_instances=True
        )

    async def begin(self, epoch: int) -> None:
        self._on = True
        self._runtime.api.run_as_background_process("superapp_leavers", self._round)

    def end(self) -> None:
        self._on = False
        _left_minor.clear()

    async def _round(self) -> None:
        if not self._on or self._busy:
            return
        self._busy = True
        try:
            await self._note_who_left()
            await self._note_who_is_back()
            if self._rule.then is not Then.KEEP and not self._residents.payments_are_halted():
                await self._apply()
            await self._measure()
        except NotTheWriter:
            logger.debug("Another process writes now, and looks after those who left")
        finally:
            self._busy = False

    async def _note_who_left(self) -> None:
        database, private = self._runtime.database, self._runtime.private
        while gone := await database.run("leavers_gone", lambda cur: private.left_and_not_noted(cur, _PAGE)):
            await self._writer.run("leavers_note", partial(_note, gone=gone, now_ms=self._runtime.now_ms()))

    async def _note_who_is_back(self) -> None:
        database, private = self._runtime.database, self._runtime.private
        while back := await database.run("leavers_back", lambda cur: private.noted_and_back(cur, _PAGE)):
            for acct in back:
                returned = await self._writer.run(
                    "leaver_back", partial(leaving.come_back, acct=acct, now_ms=self._runtime.now_ms())
                )
                _taken_total.labels("back").inc(len(returned))

    async def _apply(self) -> None:
        until_ms = self._runtime.now_ms() - self._rule.after_ms
        while due := await self._runtime.database.run(
            "leavers_due", lambda cur: leaver_store.due(cur, until_ms, _PAGE)
        ):
            taken = 0
            for acct in due:
                entries = await self._writer.run("leaver_rule", partial(self._take, acct=acct))
                taken += len(entries)
                _taken_total.labels(self._rule.then.value).inc(len(entries))
            logger.info("The rule for deactivated accounts (%s) made %d entries", self._rule.then.value, taken)
            if not taken:
                # They came back, or were frozen, since they were found.
                return

    def _take(self, cur: Cursor, acct: Acct) -> tuple[object, ...]:
        if _is_back(self._runtime, cur, acct):
            return ()
        return leaving.apply(cur, acct, self._rule, self._runtime.now_ms())

    async def _measure(self) -> None:
        sums = await self._runtime.database.run("leavers_sums", leaver_store.sums)
        for code in self._runtime.config.payments.by_code():
            _left_minor.labels(code).set(sums.get(code, 0))

    async def _page(self, call: Call) -> LeaversJson:
        query: LeaversQuery = call.query
        after = _cursor(query.since)

        def read(cur: Cursor) -> LeaversJson:
            found = leaver_store.page(cur, after, query.limit)
            scales = operators.scales(cur)
            return LeaversJson(
                then=self._rule.then.value,
                after_ms=self._rule.after_ms,
                leavers=[self._shown(cur, each, scales) for each in found],
                next=f"{found[-1].left_ms}.{found[-1].acct}" if len(found) == query.limit else None,
            )

        return await self._runtime.database.run("leavers", read)

    def _shown(self, cur: Cursor, leaver: Leaver, scales: dict[AssetCode, int]) -> LeaverJson:
        return LeaverJson(
            user_id=leaver.user_id,
            left_ms=leaver.left_ms,
            due_ms=due_ms(self._rule, leaver.left_ms),
            frozen=operators.freeze_of(cur, leaver.acct).since_ms is not None,
            money=[
                LeftMoneyJson(
                    currency=each.currency,
                    scale=scales.get(each.currency, 0),
                    kind=each.kind.value,
                    amount=each.amount_minor,
                )
                for each in leaver.money
            ],
        )


def _note(cur: Cursor, gone: Sequence[UserId], now_ms: int) -> None:
    for user_id in gone:
        account = accounts.by_user_id(cur, user_id)
        if account is not None:
            leaver_store.note(cur, account.acct, now_ms)


def _is_back(runtime: Runtime, cur: Cursor, acct: Acct) -> bool:
    account = accounts.by_acct(cur, acct)
    return account is None or runtime.private.is_deactivated(cur, account.user_id) is not True


def _cursor(since: str | None) -> tuple[int, Acct] | None:
    left_ms, _, acct = (since or "").partition(".")
    # What is no number of ours begins at the beginning, as with every page.
    return (int(left_ms), Acct(acct)) if left_ms.isascii() and left_ms.isdigit() and len(left_ms) < 17 else None
