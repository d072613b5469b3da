"""What operators do about payments that do not end because a peer is gone: see them, and give the money back."""

import logging
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, Field

from super_app.clearing.model import WaitingPayment
from super_app.clearing.ports import WireId
from super_app.errors import Reason, Refused
from super_app.wire import Text, WireModel
from synapse_super_app.clearing.operator_routes import LinkOperatorRoutes, peer_of
from synapse_super_app.http.routes import Auth, Call, Route

logger = logging.getLogger(__name__)

_SHOWN: Final = 500


class GiveBackBody(WireModel):
    reason: Annotated[Text, Field(min_length=1, max_length=512)]
    """Why, for the operators' log."""


class WaitingPaymentModel(BaseModel):
    """A payment to another homeserver that has not ended."""

    wire_id: str
    payment_id: str
    payer: str | None
    """Whose money it is; None once the names of the payment were erased."""
    amount: int
    currency: str
    scale: int
    state: str
    offered_ms: int
    given_back: bool
    """Whether an operator has given the amount back, at the house's own risk."""


class WaitingPaymentsModel(BaseModel):
    payments: list[WaitingPaymentModel]


class PaymentRoutes(LinkOperatorRoutes):
    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/links/{peer}/payments",
                handler=self._get,
                response=WaitingPaymentsModel,
                auth=Auth.ADMIN,
                summary="Payments to a homeserver that have not ended, the oldest first",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/payments/{wire_id}/give-back",
                handler=self._give_back,
                response=WaitingPaymentModel,
                body=GiveBackBody,
                auth=Auth.ADMIN,
                summary="Give a payer the money back, at our own risk, because the homeserver is gone",
                reasons=(Reason.UNKNOWN_PEER, Reason.UNKNOWN_PAYMENT, Reason.ALREADY_DECIDED),
            ),
        )

    async def _get(self, call: Call) -> WaitingPaymentsModel | Refused:
        peer = peer_of(call)
        found = await self._read("clearing_waiting", lambda cur: self._clearing.waiting(cur, peer, _SHOWN))
        return found if isinstance(found, Refused) else WaitingPaymentsModel(payments=[_model(each) for each in found])

    async def _give_back(self, call: Call) -> WaitingPaymentModel | Refused:
        body: GiveBackBody = call.body
        peer, wire_id, now_ms = peer_of(call), WireId(call.path["wire_id"]), self._runtime.now_ms()
        given = await self._write_towards(
            peer,
            "clearing_give_back",
            lambda cur: self._clearing.give_back(
                cur, peer, wire_id, reason=body.reason, operator=call.user_id, now_ms=now_ms
            ),
        )
        if isinstance(given, Refused):
            return given
        logger.warning("%s gave the money of payment %s to %s back to its payer", call.user_id, wire_id, peer)
        return _model(given)


def _model(waiting: WaitingPayment) -> WaitingPaymentModel:
    payment = waiting.payment
    return WaitingPaymentModel(
        wire_id=payment.terms.wire_id,
        payment_id=payment.payment_id,
        payer=waiting.payer,
        amount=payment.terms.amount_minor,
        currency=payment.terms.currency,
        scale=payment.terms.scale,
        state=payment.state,
        offered_ms=payment.offered_ms,
        given_back=waiting.advanced,
    )
