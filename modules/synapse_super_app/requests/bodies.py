"""What the routes of requests take and give, as JSON."""

import json
from typing import Annotated, Literal, Self

from pydantic import Field

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.payments.model import WireAmount, WireCurrency
from super_app.requests import rules
from super_app.requests.model import PAYERS_MAX, Request
from super_app.signing import canonical, from_b64, to_b64
from super_app.wire import WireModel, is_text

_DEFAULT_PAGE = 20
_MAX_MS = 2**53 - 1


class MakeBody(WireModel):
    """Whom to ask for how much. With one person and without ``room_id`` their direct room is found or made."""

    request_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
    asked: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        Field(alias="from", min_length=1, max_length=PAYERS_MAX, description="User ids or full handles."),
    ]
    amount: WireAmount
    currency: WireCurrency
    memo: str | None = None
    room_id: Annotated[str | None, Field(max_length=255)] = None
    expires_ms: Annotated[
        int | None, Field(ge=0, le=_MAX_MS, description="Milliseconds since 1970; in 30 days if absent.")
    ] = None


class RequesterQuery(WireModel):
    """Whose id it is; one who is asked names the requester, since ids are theirs."""

    requester: Annotated[str | None, Field(max_length=255)] = None


class PageQuery(WireModel):
    since: Annotated[str | None, Field(description="``next`` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, description="At most 100 come at once.")] = _DEFAULT_PAGE

    def before(self) -> tuple[int, str, str] | Refused | None:
        return None if self.since is None else _read_token(self.since)


class PayerJson(WireModel):
    user_id: str
    state: Literal["open", "paying", "paid", "declined"]
    payment_id: str | None = None


class RequestJson(WireModel):
    """A request as its requester or one who is asked sees it."""

    request_id: str
    direction: Literal["outgoing", "incoming"]
    requester: str
    asked: Annotated[list[PayerJson], Field(alias="from")]
    amount: int
    currency: str
    memo: str | None = None
    state: Literal["open", "paying", "paid", "declined", "cancelled", "expired"]
    room_id: str
    event_id: str | None = None
    created_ts: int
    expires_ts: int

    @classmethod
    def of(cls, request: Request, viewer: UserId, now_ms: int) -> Self:
        outgoing = request.requester == viewer
        # Who else is asked is in the room; how far they are concerns the requester.
        shown = [each for each in request.payers if outgoing or each.user_id == viewer]
        return cls.model_validate(
            {
                "request_id": request.request_id,
                "direction": "outgoing" if outgoing else "incoming",
                "requester": request.requester,
                "from": [
                    PayerJson(user_id=each.user_id, state=each.answer.value, payment_id=each.payment_id)
                    for each in shown
                ],
                "amount": request.money.amount_minor,
                "currency": request.money.currency,
                "memo": request.memo,
                "state": rules.state_of(request, viewer, now_ms).value,
                "room_id": request.room_id,
                "event_id": request.event_id,
                "created_ts": request.created_ms,
                "expires_ts": request.expires_ms,
            }
        )


class RequestsPage(WireModel):
    requests: list[RequestJson]
    next: str | None = None


def page_token(request: Request) -> str:
    """Where the page after this request begins. Opaque to clients."""
    return to_b64(canonical([request.created_ms, request.requester, request.request_id]))


def _read_token(token: str) -> tuple[int, str, str] | Refused:
    unknown = Refused(
        reason=Reason.INVALID_VALUE, message="since is not a token of this homeserver; use next of the page before."
    )
    try:
        created_ms, requester, request_id = json.loads(from_b64(token))
    except (ValueError, TypeError):
        return unknown
    if type(created_ms) is not int or not isinstance(requester, str) or not isinstance(request_id, str):
        return unknown
    if not (0 <= created_ms <= _MAX_MS and is_text(requester) and is_text(request_id)):
        return unknown
    return created_ms, requester, request_id
