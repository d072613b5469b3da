"""Schedules in the homeserver: their routes, and the clock that pays.

All runs in the process that writes the ledger, and the clock only while it does. Until something is due, the clock
compares a number in memory. A payment is ordered under the id of its occurrence, so whatever dies in between, the same
order is made again and paid once.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from synapse.module_api.errors import SynapseError

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger.lease import NotTheWriter
from super_app.names import ERRCODE_PREFIX
from super_app.payments.fees import judge_confirmed
from super_app.payments.model import Order, PaymentContent
from super_app.safeguards.passkeys import about_payment
from super_app.safeguards.service import Safeguards
from super_app.schedules import rules, store
from super_app.schedules.model import Schedule, ScheduleId, ScheduleKey, State
from super_app.schedules.service import Note, Schedules
from super_app.statements.rules import unknown_zone
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.orders import Orders
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.pins import Pins
from synapse_super_app.schedules import bodies

logger = logging.getLogger(__name__)

_TICK_MS: Final = 1_000.0
_RELOAD_MS: Final = 60_000
"""What a crash between a commit and its echo here hid is found again after this long."""
_PAGE: Final = 50
_Deed = Callable[[Cursor, ScheduleKey, int], Schedule | Refused]


class SchedulesShell:
    def __init__(
        self, *, runtime: Runtime, orders: Orders, writer: PaymentsWriter, safeguards: Safeguards, pins: Pins
    ) -> None:
        self._runtime = runtime
        self._orders = orders
        self._writer = writer
        self._safeguards = safeguards
        self._pins = pins
        self._assets = runtime.config.payments.by_code()
        self._schedules = Schedules(zone_named)
        self._noted: list[Callable[[], None]] = []
        self._next_ms = 0
        self._reload_ms = 0
        self._busy = False
        self._on = False

    def while_changing(self, note: Note, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction of which a payer should hear, and ``noted`` after the clock's work."""
        self._schedules.while_changing(note)
        self._noted.append(noted)

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        self._runtime.api.looping_background_call(
            self._tick, _TICK_MS, desc="superapp_schedules", run_on_all_instances=True
        )

    async def begin(self, epoch: int) -> None:
        """This process writes: whatever is due is found now."""
        self._next_ms = self._reload_ms = 0
        self._on = True

    def end(self) -> None:
        self._on = False

    def routes(self) -> Sequence[Route]:
        answers = (Reason.UNKNOWN_SCHEDULE, Reason.ALREADY_DECIDED, Reason.CONFLICT)
        changes: tuple[tuple[str, str, _Deed], ...] = (
            ("skip", "Do not pay the next one; the one after it is paid", self._schedules.skip),
            ("pause", "Pay nothing until it is resumed", lambda cur, key, _: self._schedules.pause(cur, key)),
            ("resume", "Go on; what fell into the pause is not paid", self._schedules.resume),
            ("cancel", "Pay nothing more", lambda cur, key, _: self._schedules.cancel(cur, key)),
        )
        return (
            Route(
                method="POST",
                path="schedules",
                handler=self._make,
                response=bodies.ScheduleJson,
                summary="Pay somebody later, once or again and again; the same schedule again gives it as it is",
                body=bodies.MakeBody,
                reasons=(
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.MEMO_TOO_LONG,
                    Reason.UNKNOWN_PAYEE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.PAYEE_IS_SELF,
                    Reason.PAYEE_GONE,
                    Reason.HANDLE_FROZEN,
                    Reason.BAD_RECORD,
                    Reason.NO_LINK,
                    Reason.LINK_HALTED,
                    Reason.PEER_UNREACHABLE,
                    Reason.WALLET_LOCKED,
                    Reason.LIMIT_EXCEEDED,
                    Reason.PIN_NOT_SET,
                    Reason.PIN_REQUIRED,
                    Reason.PIN_WRONG,
                    Reason.PIN_LOCKED,
                    Reason.CONFLICT,
                ),
            ),
            Route(
                method="GET",
                path="schedules",
                sessions=Sessions.READ,
                handler=self._all,
                response=bodies.SchedulesJson,
                summary="What you pay later, newest first",
            ),
            Route(
                method="GET",
                path="schedules/{schedule_id}",
                sessions=Sessions.READ,
                handler=self._one,
                response=bodies.ScheduleJson,
                summary="One schedule, with what became of its last payments",
                reasons=(Reason.UNKNOWN_SCHEDULE,),
            ),
            *(
                Route(
                    method="POST",
                    path=f"schedules/{{schedule_id}}/{name}",
                    handler=self._doing(name, deed),
                    response=bodies.ScheduleJson,
                    summary=summary,
                    reasons=answers,
                )
                for name, summary, deed in changes
            ),
        )

    # Routes.

    async def _make(self, call: Call) -> bodies.ScheduleJson | Refused:
        body: bodies.MakeBody = call.body
        plan = body.plan()
        if isinstance(plan, Refused):
            return plan
        if _zone(plan.zone) is None:
            return unknown_zone(plan.zone)
        order = await self._orders.resolve(call.user_id, body.content())
        if isinstance(order, Refused):
            return order
        costs_minor = self._orders.fee_minor(order)
        now_ms = self._runtime.now_ms()
        wanted = Schedule(
            acct=order.payer_acct,
            schedule_id=ScheduleId(body.schedule_id),
            payer=order.payer,
            payee=order.payee.user_id,
            payee_written=order.payee.handle or order.payee.user_id,
            money=order.money,
            memo=order.memo or None,
            plan=plan,
            state=State.ACTIVE,
            number=0,
            due_ms=0,
            act_ms=0,
            noticed=False,
            attempts=0,
            trying=False,
            created_ms=now_ms,
            fee_minor=body.fee or 0,
        )
        refused = await self._confirm(order, wanted, body, costs_minor)
        if refused is not None:
            return refused
        made = await self._writer.run("schedule_make", lambda cur: self._schedules.make(cur, wanted, now_ms))
        if isinstance(made, Refused):
            return made
        self._expect(made)
        return bodies.ScheduleJson.of(made, ())

    async def _confirm(self, order: Order, wanted: Schedule, body: bodies.MakeBody, costs_minor: int) -> Refused | None:
        """What one such payment would take now: its fee confirmed, the wallet open, and the PIN.

        Asked once, for all payments of it.
        """

        def judge(cur: Cursor) -> Refused | None:
            if store.find(cur, wanted.key) is not None:
                # The same call again, which was confirmed then; another one is a conflict.
                return None
            return (
                judge_confirmed(costs_minor, body.fee, self._assets[order.money.currency])
                or self._safeguards.judge_lock(cur, order.payer_acct)
                or self._safeguards.judge_pin(cur, order.payer_acct, order.payee.user_id, order.money)
            )

        refused = await self._runtime.database.run("schedule_judge", judge)
        if refused is not None and refused.reason is Reason.PIN_REQUIRED and (body.pin or body.passkey):
            about = about_payment(order.payee.user_id, order.money, body.fee or 0)
            return await self._pins.confirm(order.payer_acct, pin=body.pin, passkey=body.passkey, about=about)
        return refused

    async def _all(self, call: Call) -> bodies.SchedulesJson:
        acct = await self._runtime.accounts.acct_of(call.user_id)

        def read(cur: Cursor) -> bodies.SchedulesJson:
            found = self._schedules.of(cur, acct)
            return bodies.SchedulesJson(
                schedules=[bodies.ScheduleJson.of(each, self._schedules.past(cur, each.key)) for each in found]
            )

        return await self._runtime.database.run("schedules", read)

    async def _one(self, call: Call) -> bodies.ScheduleJson | Refused:
        key = await self._key(call)

        def read(cur: Cursor) -> bodies.ScheduleJson | Refused:
            found = self._schedules.find(cur, key)
            if isinstance(found, Refused):
                return found
            return bodies.ScheduleJson.of(found, self._schedules.past(cur, key))

        return await self._runtime.database.run("schedule", read)

    def _doing(self, name: str, deed: _Deed) -> Callable[[Call], Awaitable[bodies.ScheduleJson | Refused]]:
        async def handle(call: Call) -> bodies.ScheduleJson | Refused:
            key = await self._key(call)
            now_ms = self._runtime.now_ms()

            def work(cur: Cursor) -> tuple[Schedule, bodies.ScheduleJson] | Refused:
                done = deed(cur, key, now_ms)
                if isinstance(done, Refused):
                    return done
                return done, bodies.ScheduleJson.of(done, self._schedules.past(cur, key))

            done = await self._writer.run("schedule_change", work)
            if isinstance(done, Refused):
                return done
            self._expect(done[0])
            return done[1]

        handle.__name__ = f"schedule_{name}"
        return handle

    async def _key(self, call: Call) -> ScheduleKey:
        acct: Acct = await self._runtime.accounts.acct_of(call.user_id)
        return ScheduleKey(acct=acct, schedule_id=ScheduleId(call.path["schedule_id"]))

    # The clock.

    def _expect(self, schedule: Schedule) -> None:
        if schedule.act_ms is not None:
            self._next_ms = min(self._next_ms, schedule.act_ms)

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if not self._on or self._busy or now_ms < min(self._next_ms, self._reload_ms):
            return
        self._busy = True
        try:
            # Whatever is heard of from here on counts again.
            self._next_ms = self._reload_ms = now_ms + _RELOAD_MS
            while await self._look(now_ms):
                pass
            next_ms = await self._runtime.database.run("schedule_next", store.next_act_ms)
            if next_ms is not None:
                self._next_ms = min(self._next_ms, max(next_ms, now_ms + int(_TICK_MS)))
        finally:
            self._busy = False

    async def _look(self, now_ms: int) -> bool:
        """Act on what is due; whether there may be more."""
        due = await self._runtime.database.run("schedules_due", lambda cur: store.due(cur, now_ms, _PAGE))
        moved = False
        for schedule in due:
            try:
                moved = await self._act_on(schedule) or moved
            except NotTheWriter:
                # It stays due, where the writer is now.
                return False
            except Exception:
                # It stays due and is tried again; the others' payments do not wait for it.
                logger.exception("Schedule %s could not be looked after", schedule.schedule_id)
        if due:
            for noted in self._noted:
                noted()
        return moved and len(due) == _PAGE

    async def _act_on(self, schedule: Schedule) -> bool:
        now_ms, key = self._runtime.now_ms(), schedule.key
        match rules.act(schedule, now_ms):
            case rules.Act.NOTHING:
                return False
            case rules.Act.NOTICE:
                await self._writer.run("schedule_notice", lambda cur: self._schedules.notice(cur, key, now_ms))
            case rules.Act.MISS:
                await self._writer.run("schedule_miss", lambda cur: self._schedules.miss(cur, key, now_ms))
            case rules.Act.PAY:
                await self._pay(schedule)
        return True

    async def _pay(self, schedule: Schedule) -> None:
        key, now_ms = schedule.key, self._runtime.now_ms()
        user = await self._runtime.api.get_userinfo_by_id(schedule.payer)
        if (user is None or user.is_deactivated) and not schedule.trying:
            await self._writer.run("schedule_cancel", lambda cur: self._schedules.cancel(cur, key))
            return
        tried = await self._writer.run("schedule_begin", lambda cur: self._schedules.begin(cur, key, now_ms))
        if tried is None:
            return
        payment_id = rules.payment_id_of(key, tried.number)
        content = PaymentContent(
            payment_id=payment_id,
            payee=tried.payee,
            amount=tried.money.amount_minor,
            currency=tried.money.currency,
            memo=tried.memo,
        )
        try:
            paid = await self._orders.pay(tried.payer, content, None, fee_minor=tried.fee_minor, proven=True)
        except NotTheWriter:
            raise
        except SynapseError as error:
            paid = _refused_of(error)
        over_ms = self._runtime.now_ms()
        if isinstance(paid, Refused):
            logger.info("Schedule %s was not paid: %s", tried.schedule_id, paid.reason.value)
            reason = paid.reason
            await self._writer.run("schedule_refused", lambda cur: self._schedules.refused(cur, tried, reason, over_ms))
            return
        await self._writer.run("schedule_ordered", lambda cur: self._schedules.ordered(cur, tried, payment_id, over_ms))


def _refused_of(error: SynapseError) -> Refused:
    """What the homeserver itself said about the event of a payment."""
    name = error.errcode.removeprefix(ERRCODE_PREFIX)
    known = error.errcode.startswith(ERRCODE_PREFIX) and name in Reason.__members__
    return Refused(reason=Reason[name] if known else Reason.NOT_IN_ROOM, message=error.msg)


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zone_named(name: str) -> ZoneInfo:
    """The zone of a name that was checked; UTC for one that the system has lost since."""
    return _zone(name) or ZoneInfo("UTC")
