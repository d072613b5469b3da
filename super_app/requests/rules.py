"""Pure decisions about requests for money."""

from collections.abc import Mapping

from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId, parse_user_id, server_of
from super_app.money import Asset, AssetCode, Money, check_money
from super_app.payments.model import MEMO_MAX_CHARACTERS, Order, Venue
from super_app.requests.model import LIFE_MS, LONGEST_LIFE_MS, Answer, Payer, Request, RequestContent, State
from super_app.wire import is_text


def read_money(content: RequestContent, assets: Mapping[AssetCode, Asset]) -> Money | Refused:
    """The amount of a request whose other fields can be kept as well."""
    if content.memo is not None and len(content.memo) > MEMO_MAX_CHARACTERS:
        return Refused(
            reason=Reason.MEMO_TOO_LONG,
            message=f"The memo has {len(content.memo)} characters; {MEMO_MAX_CHARACTERS} are the most. Shorten it.",
            fields={"limit": MEMO_MAX_CHARACTERS},
        )
    if content.memo is not None and not is_text(content.memo):
        return Refused(
            reason=Reason.INVALID_VALUE, message="memo contains a NUL character or half a surrogate pair; remove it."
        )
    for asked in content.asked or ():
        if parse_user_id(asked) is None:
            return Refused(reason=Reason.INVALID_VALUE, message=f"from: {asked[:255]!a} is no user id.")
    return check_money(content.amount, content.currency, assets)


def expiry_ms(wanted_ms: int | None, now_ms: int) -> int:
    """When a request ends by itself. One that says too much lasts as long as it may."""
    return now_ms + LIFE_MS if wanted_ms is None else min(wanted_ms, now_ms + LONGEST_LIFE_MS)


def state_of(request: Request, viewer: UserId, now_ms: int) -> State:
    """How a request stands for its requester, or for one who is asked."""
    if viewer == request.requester:
        answers = {payer.answer for payer in request.payers}
        if answers == {Answer.PAID}:
            return State.PAID
        if request.cancelled_ms is not None:
            return State.CANCELLED
        if answers <= {Answer.DECLINED, Answer.PAID}:
            return State.DECLINED
        if Answer.PAYING in answers:
            return State.PAYING
        return State.EXPIRED if now_ms >= request.expires_ms else State.OPEN
    payer = request.payer(viewer)
    match Answer.OPEN if payer is None else payer.answer:
        case Answer.PAID:
            return State.PAID
        case Answer.PAYING:
            return State.PAYING
        case Answer.DECLINED:
            return State.DECLINED
        case Answer.OPEN:
            if request.cancelled_ms is not None:
                return State.CANCELLED
            return State.EXPIRED if now_ms >= request.expires_ms else State.OPEN


def judge_payment(request: Request, order: Order, venue: Venue, now_ms: int) -> Refused | None:
    """Whether an order may answer a request."""
    payer = request.payer(order.payer)
    if payer is None:
        return unknown(request.request_id)
    if venue is Venue.HIDDEN and server_of(order.payer) != order.payee_server:
        return Refused(
            reason=Reason.REQUEST_MISMATCH,
            message="In an encrypted room the other homeserver cannot read which request a payment answers; leave "
            "room_id out, or pay in the room in which you were asked.",
            fields={"room_id": request.room_id},
        )
    if order.money != request.money or order.payee.user_id != request.requester:
        return Refused(
            reason=Reason.REQUEST_MISMATCH,
            message=f"{request.requester} asks for {request.money.amount_minor} minor units of "
            f"{request.money.currency}; pay exactly that to them, or leave request out.",
            fields={"amount": request.money.amount_minor, "currency": request.money.currency},
        )
    if payer.payment_id == order.payment_id and payer.answer in (Answer.PAYING, Answer.PAID):
        return None
    state = state_of(request, order.payer, now_ms)
    return None if state is State.OPEN else closed(request, state)


def judge_decline(request: Request, payer: UserId, now_ms: int) -> Refused | bool:
    """Whether a payer's no changes something; a refusal where it is too late."""
    state = state_of(request, payer, now_ms)
    if state is State.DECLINED:
        return False
    return True if state is State.OPEN else closed(request, state)


def may_decline(request: Request, sender: UserId, now_ms: int) -> bool:
    """Whether a no from somebody, of whatever homeserver, changes something."""
    return request.payer(sender) is not None and judge_decline(request, sender, now_ms) is True


def judge_cancel(request: Request, now_ms: int) -> Refused | bool:
    """Whether taking a request back changes something; a refusal where it is too late."""
    state = state_of(request, request.requester, now_ms)
    if state is State.CANCELLED:
        return False
    return True if state is State.OPEN else closed(request, state)


def after_payment(payer: Payer, payment_id: PaymentId, answer: Answer) -> Payer:
    """Where a payer is after a payment of theirs has moved. One that came to nothing leaves the request open."""
    if answer is Answer.OPEN:
        mine = payer.payment_id == payment_id and payer.answer is Answer.PAYING
        return Payer(user_id=payer.user_id) if mine else payer
    if payer.answer is Answer.PAID:
        return payer
    return Payer(user_id=payer.user_id, answer=answer, payment_id=payment_id)


def repeats(existing: Request, wanted: Request) -> bool:
    """Whether a request is the one that stands under its id."""
    return (existing.money, existing.memo, existing.room_id) == (wanted.money, wanted.memo, wanted.room_id) and {
        payer.user_id for payer in existing.payers
    } == {payer.user_id for payer in wanted.payers}


def unknown(request_id: str) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_REQUEST,
        message=f"You have no request {request_id[:64]!a}; GET requests lists yours. If somebody else made it, name "
        "them with ?requester=.",
    )


def closed(request: Request, state: State) -> Refused:
    what = "is just being paid" if state is State.PAYING else f"is {state.value}"
    return Refused(
        reason=Reason.REQUEST_CLOSED,
        message=f"Request {request.request_id} {what}; ask {request.requester} for a new one if it is still due.",
        fields={"state": state.value},
    )
