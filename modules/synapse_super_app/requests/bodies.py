"""What the routes of requests take and give, as JSON."""

import json
from typing import Annotated, Literal, Self

from pydantic import Field

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.payments.model import WireAmount, WireCurrency
from super_app.requests import rules
from super_app.requests.model import PAYERS_MAX, Answer, Kind, Request
from super_app.signing import canonical, from_b64, to_b64
from super_app.wire import WireModel, is_text

_DEFAULT_PAGE = 20
_MAX_MS = 2**53 - 1


class SplitBody(WireModel):
    """How ``amount`` is split among ``from`` and, where ``mine`` says so, the one who asks.

    ``equal``: in equal parts; ``mine`` 1 counts you in. ``shares``: by whole numbers in ``parts``, one for each of
    ``from``; ``mine`` is yours. ``amounts``: as ``parts`` says; what they leave is yours.
    """

    how: Literal["equal", "shares", "amounts"]
    parts: Annotated[list[int] | None, Field(min_length=1, max_length=PAYERS_MAX)] = None
    mine: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class MakeBody(WireModel):
    """Whom to ask for how much: each for all of it, or split among them; or with ``goal`` a room for what it likes.

    With one person and without ``room_id`` their direct room is found or made.
    """

    request_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
    asked: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]] | None,
        Field(alias="from", min_length=1, max_length=PAYERS_MAX, description="User ids or full handles."),
    ] = None
    amount: WireAmount
    currency: WireCurrency
    memo: str | None = None
    room_id: Annotated[str | None, Field(max_length=255)] = None
    expires_ms: Annotated[
        int | None, Field(ge=0, le=_MAX_MS, description="Milliseconds since 1970; in 30 days if absent.")
    ] = None
    split: SplitBody | None = None
    goal: Annotated[bool, Field(description="Collect towards the amount, from everybody in the room.")] = False


class ExcuseBody(WireModel):
    payer: Annotated[str, Field(min_length=1, max_length=255, description="The user id of one who is asked.")]


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
    state: Literal["open", "paying", "paid", "declined", "excused"]
    amount: int
    payment_id: str | None = None


class ContributionJson(WireModel):
    user_id: str
    amount: int
    payment_id: str
    state: Literal["paying", "paid"]


class RequestJson(WireModel):
    """A request as its requester or one who is asked sees it."""

    request_id: str
    direction: Literal["outgoing", "incoming"]
    requester: str
    kind: Literal["each", "split", "goal"]
    asked: Annotated[list[PayerJson], Field(alias="from")]
    contributions: list[ContributionJson] | None = None
    paid: int
    amount: Annotated[int, Field(description="Of a split what you are asked for; all of it where it is yours.")]
    total: int
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
                    PayerJson(
                        user_id=each.user_id,
                        state=each.answer.value,
                        amount=request.due_of(each).amount_minor,
                        payment_id=each.payment_id,
                    )
                    for each in shown
                ],
                "kind": request.kind.value,
                "paid": request.paid_minor if outgoing or request.kind is Kind.GOAL else _paid_by(request, viewer),
                "contributions": _contributions(request) if request.kind is Kind.GOAL else None,
                "amount": _due(request, viewer),
                "total": request.money.amount_minor,
                "currency": request.money.currency,
                "memo": request.memo,
                "state": rules.state_of(request, viewer, now_ms).value,
                "room_id": request.room_id,
                "event_id": request.event_id,
                "created_ts": request.created_ms,
                "expires_ts": request.expires_ms,
            }
        )


def _due(request: Request, viewer: UserId) -> int:
    payer = None if viewer == request.requester else request.payer(viewer)
    return (request.money if payer is None else request.due_of(payer)).amount_minor


def _paid_by(request: Request, viewer: UserId) -> int:
    payer = request.payer(viewer)
    return request.due_of(payer).amount_minor if payer is not None and payer.answer is Answer.PAID else 0


def _contributions(request: Request) -> list[ContributionJson]:
    return [
        ContributionJson(
            user_id=each.payer,
            amount=each.amount_minor,
            payment_id=each.payment_id,
            state="paid" if each.paid else "paying",
        )
        for each in request.contributions
    ]


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
