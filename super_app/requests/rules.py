"""Pure decisions about requests for money."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId, parse_user_id, server_of
from super_app.money import Asset, AssetCode, Money, check_money, shares_by_weight
from super_app.payments.model import MEMO_MAX_CHARACTERS, Order, Venue
from super_app.requests.model import (
    LIFE_MS,
    LONGEST_LIFE_MS,
    REMIND_PAUSE_MS,
    Answer,
    Contribution,
    Kind,
    Payer,
    Request,
    RequestContent,
    State,
)
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


def read_kind(content: RequestContent, money: Money) -> Kind | Refused:
    """Whom a request asks for how much, as far as its own words tell."""
    if content.goal:
        if content.asked is not None or content.parts is not None:
            return Refused(
                reason=Reason.INVALID_VALUE, message="A goal asks everybody in the room; leave from and parts out."
            )
        return Kind.GOAL
    if content.parts is None:
        return Kind.EACH
    asked = content.asked or []
    if len(content.parts) != len(asked) or len(set(asked)) < len(asked):
        return Refused(
            reason=Reason.INVALID_VALUE, message="parts: there is one part for each of from, who are different people."
        )
    if any(type(part) is not int or part < 1 for part in content.parts) or sum(content.parts) != money.amount_minor:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message=f"parts have to be whole numbers above 0 that make the amount, {money.amount_minor}.",
        )
    return Kind.SPLIT


def split_equally(total_minor: int, payers: int, *, with_requester: bool) -> tuple[int, ...] | Refused:
    """Equal parts of an amount for those who are asked. Where the requester takes one too, theirs is not asked for.

    What does not divide is shared out a unit each from the first on, the requester before all others.
    """
    return split_by_weight(total_minor, [1] * payers, mine=1 if with_requester else 0)


def split_by_weight(total_minor: int, weights: Sequence[int], *, mine: int = 0) -> tuple[int, ...] | Refused:
    """Parts in proportion to whole weights; what rounding leaves goes to the largest remainders.

    Of equal ones the requester's (``mine``) goes first, then the order in which people were named. The parts and the
    requester's make the total exactly.
    """
    if any(weight < 1 for weight in weights) or mine < 0:
        return Refused(reason=Reason.INVALID_VALUE, message="split: every share is a whole number above 0.")
    own, *parts = shares_by_weight(total_minor, [mine, *weights])
    if min(parts) < 1:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message=f"{total_minor} minor units are too little to be split like that: somebody would owe nothing. "
            "Ask for more, or fewer people.",
        )
    if own + sum(parts) != total_minor:
        raise ValueError(f"{own} and {parts} do not make {total_minor}")
    return tuple(parts)


def split_by_amount(total_minor: int, amounts_minor: Sequence[int]) -> tuple[int, ...] | Refused:
    """Parts as they were said. What they leave of the total is the requester's own."""
    if any(amount < 1 for amount in amounts_minor) or sum(amounts_minor) > total_minor:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message=f"split: the amounts are whole numbers above 0 and make {total_minor} at the most.",
        )
    return tuple(amounts_minor)


def expiry_ms(wanted_ms: int | None, now_ms: int) -> int:
    """When a request ends by itself. One that says too much lasts as long as it may."""
    return now_ms + LIFE_MS if wanted_ms is None else min(wanted_ms, now_ms + LONGEST_LIFE_MS)


def state_of(request: Request, viewer: UserId, now_ms: int) -> State:
    """How a request stands for its requester, or for one who is asked."""
    if request.kind is Kind.GOAL:
        return _state_of_goal(request, now_ms)
    if viewer == request.requester:
        answers = {payer.answer for payer in request.payers} - {Answer.EXCUSED}
        if answers == {Answer.PAID}:
            return State.PAID
        if request.cancelled_ms is not None:
            return State.CANCELLED
        if not answers:
            # Everybody was let off.
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
        case Answer.EXCUSED:
            return State.CANCELLED
        case Answer.OPEN:
            if request.cancelled_ms is not None:
                return State.CANCELLED
            return State.EXPIRED if now_ms >= request.expires_ms else State.OPEN


def _state_of_goal(request: Request, now_ms: int) -> State:
    """The same for everybody: who has paid may pay more, until the goal is reached."""
    if request.paid_minor >= request.money.amount_minor:
        return State.PAID
    if request.cancelled_ms is not None:
        return State.CANCELLED
    return State.EXPIRED if now_ms >= request.expires_ms else State.OPEN


def judge_payment(request: Request, order: Order, venue: Venue, now_ms: int) -> Refused | None:
    """Whether an order may answer a request."""
    payer = request.payer(order.payer)
    if payer is None and request.kind is not Kind.GOAL:
        return unknown(request.request_id)
    if venue is Venue.HIDDEN and server_of(order.payer) != order.payee_server:
        return Refused(
            reason=Reason.REQUEST_MISMATCH,
            message="In an encrypted room the other homeserver cannot read which request a payment answers; leave "
            "room_id out, or pay in the room in which you were asked.",
            fields={"room_id": request.room_id},
        )
    if payer is None:
        return _judge_contribution(request, order, now_ms)
    due = request.due_of(payer)
    if order.money != due or order.payee.user_id != request.requester:
        return Refused(
            reason=Reason.REQUEST_MISMATCH,
            message=f"{request.requester} asks you for {due.amount_minor} minor units of "
            f"{due.currency}; pay exactly that to them, or leave request out.",
            fields={"amount": due.amount_minor, "currency": due.currency},
        )
    if payer.payment_id == order.payment_id and payer.answer in (Answer.PAYING, Answer.PAID):
        return None
    state = state_of(request, order.payer, now_ms)
    return None if state is State.OPEN else closed(request, state)


def _judge_contribution(request: Request, order: Order, now_ms: int) -> Refused | None:
    if order.money.currency != request.money.currency or order.payee.user_id != request.requester:
        return Refused(
            reason=Reason.REQUEST_MISMATCH,
            message=f"{request.requester} collects {request.money.currency}; pay that to them, or leave request out.",
            fields={"currency": request.money.currency},
        )
    if any((each.payer, each.payment_id) == (order.payer, order.payment_id) for each in request.contributions):
        return None
    state = state_of(request, order.payer, now_ms)
    return None if state is State.OPEN else closed(request, state)


def judge_excuse(request: Request, payer: UserId, now_ms: int) -> Refused | bool:
    """Whether letting somebody off changes something; a refusal where they are not asked, or have paid."""
    found = request.payer(payer)
    if found is None:
        return Refused(
            reason=Reason.INVALID_VALUE, message=f"{payer[:255]} is not asked by this request; GET it to see who is."
        )
    if found.answer in (Answer.EXCUSED, Answer.DECLINED):
        return False
    state = state_of(request, payer, now_ms)
    return True if state is State.OPEN else closed(request, state)


def judge_reminder(request: Request, now_ms: int) -> Refused | None:
    """Whether those who have not answered may be reminded now."""
    state = state_of(request, request.requester, now_ms)
    if state not in (State.OPEN, State.PAYING):
        return closed(request, state)
    if request.kind is not Kind.GOAL and all(payer.answer is not Answer.OPEN for payer in request.payers):
        return closed(request, state)
    since_ms = request.reminded_ms if request.reminded_ms is not None else request.created_ms
    left_ms = since_ms + REMIND_PAUSE_MS - now_ms
    if request.reminded_ms is None or left_ms <= 0:
        return None
    return Refused(
        reason=Reason.REMINDED_RECENTLY,
        message="They were reminded within a day; wait, or write to them yourself.",
        fields={"retry_after_ms": left_ms},
    )


def after_contribution(
    contributions: Sequence[Contribution], payer: UserId, payment_id: PaymentId, amount_minor: int, answer: Answer
) -> tuple[Contribution, ...]:
    """What there is towards a goal after a payment has moved. One that came to nothing is gone again."""
    others = tuple(each for each in contributions if (each.payer, each.payment_id) != (payer, payment_id))
    if len(others) < len(contributions) and any(each.paid for each in contributions if each not in others):
        return tuple(contributions)
    if answer not in (Answer.PAYING, Answer.PAID):
        return others
    moved = Contribution(payer=payer, payment_id=payment_id, amount_minor=amount_minor, paid=answer is Answer.PAID)
    return (*others, moved)


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
        return replace(payer, answer=Answer.OPEN, payment_id=None) if mine else payer
    if payer.answer is Answer.PAID:
        return payer
    return replace(payer, answer=answer, payment_id=payment_id)


def repeats(existing: Request, wanted: Request) -> bool:
    """Whether a request is the one that stands under its id."""
    return (existing.kind, existing.money, existing.memo, existing.room_id) == (
        wanted.kind,
        wanted.money,
        wanted.memo,
        wanted.room_id,
    ) and {(payer.user_id, payer.part_minor) for payer in existing.payers} == {
        (payer.user_id, payer.part_minor) for payer in wanted.payers
    }


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
