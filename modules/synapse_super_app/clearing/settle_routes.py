"""What operators do with settlements: see them, propose, agree, refuse, cancel, and say what was sent and what came.

Each act answers with the settlement as it then stands, and may be repeated. What happens by itself is set here too.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, LiteralString

from pydantic import BaseModel, Field

from super_app.clearing import settlement_rules
from super_app.clearing.model import SettlementId
from super_app.clearing.objects import BANK_REFERENCE_PATTERN, PAY_TO_PATTERN
from super_app.clearing.settlement_desk import SettlementDesk
from super_app.clearing.settlement_model import AutoSettle, Every, Settlement, SettlementState, Way
from super_app.clearing.settlement_rules import WaitsFor
from super_app.clearing.settlements import reference_of, waits_of
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode
from super_app.wire import WireModel
from synapse_super_app.clearing.operator_routes import LinkOperatorRoutes, peer_of
from synapse_super_app.http.routes import Auth, Call, Handler, Route

logger = logging.getLogger(__name__)

_SHOWN = 1_000
_Minor = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
_MinorOrNone = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
_Word = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
_PayTo = Annotated[str, Field(pattern=PAY_TO_PATTERN)]
_ACT_REASONS = (Reason.UNKNOWN_PEER, Reason.UNKNOWN_SETTLEMENT, Reason.ALREADY_DECIDED, Reason.LINK_HALTED)


class ProposeBody(WireModel):
    currency: str
    amount_minor: _Minor | None = None
    """None: all that we owe net and that may be settled."""
    settlement_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] | None = None
    """32 random bytes as unpadded base64url, so that the same request again proposes nothing more."""


class AgreeBody(WireModel):
    pay_to: _PayTo | None = None
    """Where we want to be paid, a payto: URI (RFC 8905); None: where our terms say."""


class ReasonBody(WireModel):
    reason: _Word | None = None
    """A word of small letters and underscores that the other operator sees."""


class SentBody(WireModel):
    bank_reference: Annotated[str, Field(pattern=BANK_REFERENCE_PATTERN)] | None = None
    """What the transfer says beside the reference, such as its end-to-end id."""


class ReceivedBody(WireModel):
    amount_minor: _Minor | None = None
    """None: all of it."""


class TermsBody(WireModel):
    threshold_minor: _Minor | None = None
    """Propose as soon as so much is owed net; None: never."""
    every: Annotated[str, Field(pattern=r"^(never|day|week)$")] = "never"
    weekday: Annotated[int, Field(ge=1, le=7)] = 1
    """1 for Monday to 7."""
    time: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "00:00"
    """Of day, UTC."""
    agree_up_to_minor: _MinorOrNone = 0
    """Agree by itself to what the peer proposes up to this amount."""
    pay_to: _PayTo | None = None

    def chosen(self, currency: AssetCode) -> AutoSettle:
        hours, minutes = self.time.split(":")
        return AutoSettle(
            currency=currency,
            threshold_minor=self.threshold_minor,
            every=Every(self.every),
            weekday=self.weekday,
            minute_of_day=int(hours) * 60 + int(minutes),
            agree_up_to_minor=self.agree_up_to_minor,
            pay_to=self.pay_to or "",
        )


class SettlementModel(BaseModel):
    peer: str
    settlement_id: str
    reference: str
    """What is written on the real transfer: a creditor reference, ISO 11649. The same on both sides."""
    way: Way
    """``out``: we pay the peer; ``in``: it pays us."""
    currency: str
    scale: int
    amount_minor: int
    received_minor: int | None
    """What the creditor has confirmed; the rest is owed again."""
    state: SettlementState
    waits_for: str | None
    """Whose operator must act: ``us`` or ``peer``."""
    waits: str | None
    reason: str | None
    pay_to: str | None
    """A payto: URI with amount and reference, to pay by. None where the creditor named no account."""
    bank_reference: str | None
    opened_ts: int
    changed_ts: int
    due_ts: int | None
    """When the proposal lapses, or the payment becomes disputed."""


class TermsModel(BaseModel):
    peer: str
    currency: str
    threshold_minor: int | None
    every: Every
    weekday: int
    time: str
    agree_up_to_minor: int
    pay_to: str | None
    next_ts: int | None
    """When the schedule has its turn next."""


class SettlementsModel(BaseModel):
    settlements: list[SettlementModel]
    """Newest first."""
    terms: list[TermsModel]
    """What happens by itself."""


class SettlementsQuery(WireModel):
    peer: str | None = None
    limit: Annotated[int, Field(ge=1, le=_SHOWN)] = 100


class SettleRoutes(LinkOperatorRoutes):
    @property
    def _desk(self) -> SettlementDesk:
        return self._clearing.settlements

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/settlements",
                handler=self._list,
                response=SettlementsModel,
                query=SettlementsQuery,
                auth=Auth.ADMIN,
                summary="Settlements with other homeservers, newest first, whom they wait for, and what goes by itself",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/settlements",
                handler=self._propose,
                response=SettlementModel,
                body=ProposeBody,
                auth=Auth.ADMIN,
                summary="Propose to pay a homeserver what we owe it",
                reasons=(
                    Reason.UNKNOWN_PEER,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.EXCEEDS_DEBT,
                    Reason.CONFLICT,
                    Reason.NO_LINK,
                    Reason.LINK_HALTED,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            self._act("agree", self._agree, "Agree that the peer pays; the answer says where to", AgreeBody),
            self._act("refuse", self._refuse, "Refuse a settlement that the peer proposes", ReasonBody),
            self._act("cancel", self._cancel, "Take back a settlement of ours that was not sent", ReasonBody),
            self._act("sent", self._sent, "Say that we have paid", SentBody),
            self._act("received", self._received, "Confirm what has arrived; it frees the credit", ReceivedBody),
            self._act("not-received", self._not_received, "Say that nothing has arrived; the debt stands", ReasonBody),
            Route(
                method="PUT",
                path="admin/links/{peer}/settlement-terms/{currency}",
                handler=self._choose,
                response=TermsModel,
                body=TermsBody,
                auth=Auth.ADMIN,
                summary="What happens by itself with a peer in one currency: when we propose, and to what we agree",
                reasons=(Reason.UNKNOWN_PEER, Reason.UNKNOWN_CURRENCY),
            ),
        )

    def _act(self, name: str, handler: Handler, summary: str, body: type[WireModel]) -> Route:
        return Route(
            method="POST",
            path=f"admin/links/{{peer}}/settlements/{{settlement_id}}/{name}",
            handler=handler,
            response=SettlementModel,
            body=body,
            auth=Auth.ADMIN,
            summary=summary,
            reasons=_ACT_REASONS,
        )

    async def _list(self, call: Call) -> SettlementsModel | Refused:
        query: SettlementsQuery = call.query
        peer = None if query.peer is None else ServerName(query.peer)
        found, terms = await self._read(
            "settlements", lambda cur: (self._desk.newest(cur, peer, query.limit), self._desk.chosen(cur))
        )
        if isinstance(found, Refused):
            return found
        return SettlementsModel(
            settlements=[self._model(each) for each in found],
            terms=[_terms_model(each, auto) for each, auto in terms if peer in (None, each)],
        )

    async def _propose(self, call: Call) -> SettlementModel | Refused:
        body: ProposeBody = call.body
        currency, now_ms = AssetCode(body.currency), self._runtime.now_ms()
        settlement_id = SettlementId(body.settlement_id or call.request_id)
        return await self._done(
            call,
            "settle_propose",
            lambda cur, peer: self._desk.propose(
                cur, peer, currency, body.amount_minor, now_ms, settlement_id=settlement_id
            ),
        )

    async def _agree(self, call: Call) -> SettlementModel | Refused:
        body: AgreeBody = call.body
        which, now_ms = _which(call), self._runtime.now_ms()
        return await self._done(
            call, "settle_agree", lambda cur, peer: self._desk.agree(cur, peer, which, body.pay_to, now_ms)
        )

    async def _refuse(self, call: Call) -> SettlementModel | Refused:
        body: ReasonBody = call.body
        which, why, now_ms = _which(call), body.reason or "declined", self._runtime.now_ms()
        return await self._done(
            call, "settle_refuse", lambda cur, peer: self._desk.refuse(cur, peer, which, why, now_ms)
        )

    async def _cancel(self, call: Call) -> SettlementModel | Refused:
        body: ReasonBody = call.body
        which, why, now_ms = _which(call), body.reason or "cancelled", self._runtime.now_ms()
        return await self._done(
            call, "settle_cancel", lambda cur, peer: self._desk.cancel(cur, peer, which, why, now_ms)
        )

    async def _sent(self, call: Call) -> SettlementModel | Refused:
        body: SentBody = call.body
        which, written, now_ms = _which(call), body.bank_reference or "", self._runtime.now_ms()
        return await self._done(
            call, "settle_sent", lambda cur, peer: self._desk.sent(cur, peer, which, written, now_ms)
        )

    async def _received(self, call: Call) -> SettlementModel | Refused:
        body: ReceivedBody = call.body
        which, now_ms = _which(call), self._runtime.now_ms()
        return await self._done(
            call, "settle_received", lambda cur, peer: self._desk.received(cur, peer, which, body.amount_minor, now_ms)
        )

    async def _not_received(self, call: Call) -> SettlementModel | Refused:
        body: ReasonBody = call.body
        which, why, now_ms = _which(call), body.reason or "not_arrived", self._runtime.now_ms()
        return await self._done(
            call, "settle_not_received", lambda cur, peer: self._desk.not_received(cur, peer, which, why, now_ms)
        )

    async def _choose(self, call: Call) -> TermsModel | Refused:
        body: TermsBody = call.body
        peer, now_ms = peer_of(call), self._runtime.now_ms()
        chosen = body.chosen(AssetCode(call.path["currency"]))
        done = await self._write_towards(
            peer, "settle_choose", lambda cur: self._desk.choose(cur, peer, chosen, now_ms)
        )
        return done if isinstance(done, Refused) else _terms_model(peer, done)

    async def _done(
        self, call: Call, what: LiteralString, work: Callable[[Cursor, ServerName], Settlement | Refused]
    ) -> SettlementModel | Refused:
        peer = peer_of(call)
        settlement = await self._write_towards(peer, what, lambda cur: work(cur, peer))
        if isinstance(settlement, Refused):
            return settlement
        logger.info("%s with %s by %s: %s", what, peer, call.user_id, settlement.terms.settlement_id)
        return self._model(settlement)

    def _model(self, settlement: Settlement) -> SettlementModel:
        terms = settlement.terms
        asset = Asset(code=terms.currency, scale=terms.scale)
        reference = reference_of(self._runtime.server_name, settlement)
        waits_for = settlement_rules.waits_for(settlement)
        pay_to = settlement.pay_to and settlement_rules.payto_of(
            settlement.pay_to, terms.amount_minor, asset, reference
        )
        return SettlementModel(
            peer=settlement.peer,
            settlement_id=terms.settlement_id,
            reference=reference,
            way=settlement.way,
            currency=terms.currency,
            scale=terms.scale,
            amount_minor=terms.amount_minor,
            received_minor=settlement.received_minor or None,
            state=settlement.state,
            waits_for=None if waits_for is WaitsFor.NOBODY else waits_for.value,
            waits=waits_of(settlement) or None,
            reason=settlement.reason or None,
            pay_to=pay_to or None,
            bank_reference=settlement.bank_reference or None,
            opened_ts=settlement.opened_ms,
            changed_ts=settlement.changed_ms,
            due_ts=settlement.due_ms,
        )


def _which(call: Call) -> SettlementId:
    return SettlementId(call.path["settlement_id"])


def _terms_model(peer: ServerName, auto: AutoSettle) -> TermsModel:
    hours, minutes = divmod(auto.minute_of_day, 60)
    return TermsModel(
        peer=peer,
        currency=auto.currency,
        threshold_minor=auto.threshold_minor,
        every=auto.every,
        weekday=auto.weekday,
        time=f"{hours:02}:{minutes:02}",
        agree_up_to_minor=auto.agree_up_to_minor,
        pay_to=auto.pay_to or None,
        next_ts=auto.next_ms,
    )
