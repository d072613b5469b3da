"""Disputes in the homeserver: routes, what the other homeserver is told, and what operators do.

What changes a case runs in the process that writes the ledger. What another homeserver has to hear is written down with
the change, signed when it is sent, and sent until it is taken. Of what others say, the authenticated origin and the
signature decide whom it can concern.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from super_app.db import Cursor
from super_app.disputes import rules, store
from super_app.disputes.model import Author, Case, CaseState, Ground, Owed, Told
from super_app.disputes.service import Disputes, Note, refund_id_of, told_of
from super_app.errors import FINAL, Reason, Refused
from super_app.ids import PaymentId, ServerName, parse_payment_id, parse_user_id
from super_app.ledger.lease import NotTheWriter
from super_app.names import DISPUTES_PATH, ERRCODE_PREFIX
from super_app.payments.model import PayerKey, Payment, PaymentContent, PaymentKey
from super_app.payments.service import payer_key_of
from super_app.signing import signed
from synapse_super_app.clearing.identity import payment_keys
from synapse_super_app.disputes import bodies
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Auth, Call, Route, Sessions
from synapse_super_app.ledger.relay import Relay
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.orders import Orders
from synapse_super_app.private_api import PutFailed
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_SERVLET_GROUP: Final = "superapp_disputes"
_RELAYED: Final = "dispute_told"
_TICK_MS: Final = 1_000.0
_RELOAD_MS: Final = 60_000
_TIMEOUT_MS: Final = 10_000
_PAGE: Final = 20
_ATTEMPTS_MAX: Final = 200
"""Of about an hour each, in the end."""
_PAUSES_MS: Final = (5_000, 15_000, 60_000, 300_000, 1_800_000, 3_600_000)


class DisputesShell:
    def __init__(self, *, runtime: Runtime, orders: Orders, writer: PaymentsWriter, relay: Relay) -> None:
        self._runtime = runtime
        self._orders = orders
        self._writer = writer
        self._relay = relay
        self._disputes = Disputes(runtime.server_name)
        self._noted: list[Callable[[], None]] = []
        self._next_ms = 0
        self._reload_ms = 0
        self._busy = False
        self._on = False
        relay.serve(_RELAYED, self._told_relayed)
        runtime.private.answer_put(_SERVLET_GROUP, DISPUTES_PATH, self._put)
        writer.while_committing(self._payments_changed, self._changed)

    def while_changing(self, note: Note, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction that adds a line to a case, and ``noted`` when one has committed."""
        self._disputes.while_changing(note)
        self._noted.append(noted)

    def start(self) -> None:
        """Send regularly, in whatever process; only the one that writes does."""
        self._runtime.api.looping_background_call(
            self._tick, _TICK_MS, desc="superapp_disputes", run_on_all_instances=True
        )

    async def begin(self, epoch: int) -> None:
        self._next_ms = self._reload_ms = 0
        self._on = True

    def end(self) -> None:
        self._on = False

    def routes(self) -> Sequence[Route]:
        side = (Reason.UNKNOWN_DISPUTE, Reason.CONFLICT, Reason.DISPUTE_CLOSED)
        return (
            Route(
                method="POST",
                path="payments/{payment_id}/dispute",
                handler=self._open,
                response=bodies.CaseJson,
                summary="Dispute a payment that you made, for 180 days; the same again gives the case as it is",
                body=bodies.OpenBody,
                reasons=(
                    Reason.UNKNOWN_PAYMENT,
                    Reason.CONFLICT,
                    Reason.EXPIRED,
                    Reason.REFUND_EXCEEDS_PAYMENT,
                    Reason.INVALID_AMOUNT,
                ),
            ),
            Route(
                method="GET",
                path="disputes",
                sessions=Sessions.READ,
                handler=self._all,
                response=bodies.CasesJson,
                summary="Disputes in which you are a side, newest first",
            ),
            Route(
                method="GET",
                path="disputes/{payment_id}",
                sessions=Sessions.READ,
                handler=self._one,
                response=bodies.CaseJson,
                summary="One dispute with its timeline",
                query=bodies.PayerQuery,
                reasons=(Reason.UNKNOWN_DISPUTE,),
            ),
            Route(
                method="POST",
                path="disputes/{payment_id}/statements",
                handler=self._state,
                response=bodies.CaseJson,
                summary="Say something in an open dispute",
                query=bodies.PayerQuery,
                body=bodies.StateBody,
                reasons=(*side, Reason.LIMIT_EXCEEDED),
            ),
            Route(
                method="POST",
                path="disputes/{payment_id}/withdraw",
                handler=self._withdraw,
                response=bodies.CaseJson,
                summary="Take a dispute of yours back",
                reasons=(*side, Reason.NOT_ALLOWED),
            ),
            Route(
                method="GET",
                path="admin/disputes",
                handler=self._waiting,
                response=bodies.CasesJson,
                summary="Disputes of a state, oldest first",
                auth=Auth.ADMIN,
                query=bodies.StateQuery,
            ),
            Route(
                method="POST",
                path="admin/disputes/{payment_id}/decide",
                handler=self._decide,
                response=bodies.CaseJson,
                summary="Grant a dispute, in part or whole, or reject it; at the payer's homeserver",
                auth=Auth.ADMIN,
                query=bodies.AdminQuery,
                body=bodies.DecideBody,
                reasons=(*side, Reason.NOT_ALLOWED, Reason.INVALID_AMOUNT),
            ),
            Route(
                method="POST",
                path="admin/disputes/{payment_id}/refund",
                handler=self._refund,
                response=bodies.CaseJson,
                summary="Give back what a dispute granted, from the payee; at the payee's homeserver",
                auth=Auth.ADMIN,
                query=bodies.AdminQuery,
                reasons=(*side, Reason.NOT_ALLOWED, Reason.INSUFFICIENT_FUNDS, Reason.ACCOUNT_FROZEN),
            ),
        )

    # Routes.

    async def _open(self, call: Call) -> bodies.CaseJson | Refused:
        body: bodies.OpenBody = call.body
        payment_id = parse_payment_id(call.path["payment_id"])
        if isinstance(payment_id, Refused):
            return payment_id
        acct = await self._runtime.accounts.acct_of(call.user_id)
        now_ms, entry_id = self._runtime.now_ms(), secrets.token_hex(16)
        return await self._changing(
            Author.PAYER,
            lambda cur: self._disputes.open(
                cur,
                acct,
                payment_id,
                ground=Ground(body.ground),
                text=body.statement,
                wanted_minor=body.amount,
                entry_id=entry_id,
                now_ms=now_ms,
            ),
        )

    async def _all(self, call: Call) -> bodies.CasesJson:
        acct = await self._runtime.accounts.acct_of(call.user_id)

        def read(cur: Cursor) -> bodies.CasesJson:
            found = self._disputes.of(cur, acct)
            return bodies.CasesJson(
                disputes=[
                    bodies.CaseJson.of(
                        case, self._disputes.timeline(cur, case), rules.side_of(case, acct) or Author.PAYEE
                    )
                    for case in found
                ]
            )

        return await self._runtime.database.run("disputes", read)

    async def _one(self, call: Call) -> bodies.CaseJson | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        query: bodies.PayerQuery = call.query

        def read(cur: Cursor) -> bodies.CaseJson | Refused:
            case = self._disputes.find(cur, acct, self._key(cur, call, query.payer or call.user_id))
            if isinstance(case, Refused):
                return case
            side = rules.side_of(case, acct) or Author.PAYEE
            return bodies.CaseJson.of(case, self._disputes.timeline(cur, case), side)

        return await self._runtime.database.run("dispute", read)

    async def _state(self, call: Call) -> bodies.CaseJson | Refused:
        body: bodies.StateBody = call.body
        query: bodies.PayerQuery = call.query
        acct = await self._runtime.accounts.acct_of(call.user_id)
        now_ms = self._runtime.now_ms()
        # Both sides choose ids; those of one must not meet those of the other.
        entry_id = hashlib.sha256(f"{call.user_id} {body.statement_id}".encode()).hexdigest()[:32]
        payer = query.payer or call.user_id
        side = Author.PAYER if payer == call.user_id else Author.PAYEE
        return await self._changing(
            side,
            lambda cur: self._disputes.state(cur, acct, self._key(cur, call, payer), body.text, entry_id, now_ms),
        )

    async def _withdraw(self, call: Call) -> bodies.CaseJson | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        now_ms, entry_id = self._runtime.now_ms(), secrets.token_hex(16)
        return await self._changing(
            Author.PAYER,
            lambda cur: self._disputes.withdraw(cur, acct, self._key(cur, call, call.user_id), entry_id, now_ms),
        )

    async def _waiting(self, call: Call) -> bodies.CasesJson:
        query: bodies.StateQuery = call.query

        def read(cur: Cursor) -> bodies.CasesJson:
            found = self._disputes.waiting(cur, CaseState(query.state))
            return bodies.CasesJson(
                disputes=[
                    bodies.CaseJson.of(case, self._disputes.timeline(cur, case), Author.OPERATOR) for case in found
                ]
            )

        return await self._runtime.database.run("disputes", read)

    async def _decide(self, call: Call) -> bodies.CaseJson | Refused:
        body: bodies.DecideBody = call.body
        query: bodies.AdminQuery = call.query
        granted_minor = body.amount
        if body.decision == "grant" and granted_minor is None:
            found = await self._find(call, query.payer)
            if isinstance(found, Refused):
                return found
            granted_minor = found.wanted_minor
        elif body.decision == "reject":
            granted_minor = None
        now_ms, entry_id = self._runtime.now_ms(), secrets.token_hex(16)
        decided = await self._changing(
            Author.OPERATOR,
            lambda cur: self._disputes.decide(
                cur, self._key(cur, call, query.payer), granted_minor, body.reason, entry_id, now_ms
            ),
        )
        logger.info("%s decided the dispute about payment %s: %s", call.user_id, call.path["payment_id"], body.decision)
        return decided

    async def _refund(self, call: Call) -> bodies.CaseJson | Refused:
        """Order the refund in the payee's name: a payment like any other, under an id of the case."""
        query: bodies.AdminQuery = call.query

        def look(cur: Cursor) -> tuple[PaymentKey, tuple[Payment, int] | Refused]:
            key = self._key(cur, call, query.payer)
            return key, self._disputes.to_refund(cur, key)

        key, found = await self._runtime.database.run("dispute_refund", look)
        if isinstance(found, Refused):
            return found
        payment, left_minor = found
        content = PaymentContent(
            payment_id=refund_id_of(key),
            payee=payment.payer,
            amount=left_minor,
            currency=payment.money.currency,
            refund_of=payment.payment_id,
        )
        refund = await self._orders.pay(payment.payee.user_id, content, None, proven=True)
        if isinstance(refund, Refused):
            return refund
        logger.info("%s gave back %d of payment %s", call.user_id, left_minor, payment.payment_id)
        case = await self._find(call, query.payer)
        if isinstance(case, Refused):
            return case
        timeline = await self._runtime.database.run("dispute", lambda cur: self._disputes.timeline(cur, case))
        return bodies.CaseJson.of(case, timeline, Author.OPERATOR)

    async def _find(self, call: Call, payer: str) -> Case | Refused:
        found = await self._runtime.database.run("dispute", lambda cur: store.find(cur, self._key(cur, call, payer)))
        return rules.unknown_dispute() if found is None else found

    async def _changing(self, side: Author, work: Callable[[Cursor], Case | Refused]) -> bodies.CaseJson | Refused:
        def both(cur: Cursor) -> bodies.CaseJson | Refused:
            case = work(cur)
            if isinstance(case, Refused):
                return case
            return bodies.CaseJson.of(case, self._disputes.timeline(cur, case), side)

        done = await self._writer.run("dispute_change", both)
        self._changed()
        return done

    def _key(self, cur: Cursor, call: Call, payer: str) -> PaymentKey:
        user_id = parse_user_id(payer)
        # What is no user id has paid nobody.
        payer_key = PayerKey("") if user_id is None else payer_key_of(cur, self._runtime.server_name, user_id)
        return PaymentKey(payer_key=payer_key, payment_id=PaymentId(call.path["payment_id"]))

    def _payments_changed(self, cur: Cursor, payments: Sequence[Payment], now_ms: int) -> bool:
        written = [self._disputes.payment_changed(cur, payment, now_ms) for payment in payments]
        return any(written)

    def _changed(self) -> None:
        self._next_ms = 0
        for noted in self._noted:
            noted()

    # Other homeservers.

    async def _put(self, origin: ServerName, entry_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._relay.at_writer(
            _RELAYED,
            lambda: {"origin": origin, "body": dict(body)},
            lambda: self._told(origin, body),
            dict,
        )

    async def _told_relayed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await self._told(ServerName(arguments["origin"]), arguments["body"])

    async def _told(self, origin: ServerName, body: Mapping[str, Any]) -> dict[str, Any]:
        told = Told.parse(dict(body))
        if isinstance(told, Refused):
            raise error_of(told)
        now_ms = self._runtime.now_ms()
        refused = await self._writer.run(
            "dispute_told", lambda cur: self._disputes.told(cur, told, origin, dict(body), now_ms)
        )
        if refused is not None:
            raise error_of(refused)
        self._changed()
        return {}

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if not self._on or self._busy or now_ms < min(self._next_ms, self._reload_ms):
            return
        self._busy = True
        try:
            self._next_ms = self._reload_ms = now_ms + _RELOAD_MS
            for owed in await self._runtime.database.run("disputes_owed", lambda cur: store.owed(cur, now_ms, _PAGE)):
                await self._tell(owed)
            next_ms = await self._runtime.database.run("dispute_next", store.next_owed_ms)
            if next_ms is not None:
                self._next_ms = min(self._next_ms, next_ms)
        except NotTheWriter:
            # Whoever writes now sends it.
            return
        finally:
            self._busy = False

    async def _tell(self, owed: Owed) -> None:
        key, _, _ = payment_keys(self._runtime)
        said = signed(told_of(owed.case, owed.entry, self._runtime.server_name, owed.to_server), key)
        due_ms: int | None = None
        try:
            await self._runtime.private.put(owed.to_server, f"{DISPUTES_PATH}/{owed.entry.entry_id}", said, _TIMEOUT_MS)
        except PutFailed as failure:
            if _is_final(failure) or owed.attempts >= _ATTEMPTS_MAX:
                logger.warning(
                    "%s refuses to hear of the dispute about payment %s: %s",
                    owed.to_server,
                    owed.case.key.payment_id,
                    failure,
                )
            else:
                due_ms = self._runtime.now_ms() + _PAUSES_MS[min(owed.attempts, len(_PAUSES_MS) - 1)]

        def note(cur: Cursor) -> None:
            if due_ms is None:
                store.told(cur, owed)
            else:
                store.retry(cur, owed, due_ms)

        await self._writer.run("dispute_sent", note)


def _is_final(failure: PutFailed) -> bool:
    """Whether telling it again would be answered the same."""
    errcode = failure.errcode or ""
    name = errcode.removeprefix(ERRCODE_PREFIX)
    known = errcode.startswith(ERRCODE_PREFIX) and name in Reason.__members__
    return known and (Reason[name] in FINAL or Reason[name] is Reason.DISPUTE_CLOSED)
