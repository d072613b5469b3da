"""Pure decisions about disputes: what can be disputed, who may say what in which state, and when a case is settled."""

from super_app.disputes.model import (
    DISPUTABLE_MS,
    STATEMENT_MAX,
    STATEMENTS_MAX,
    Act,
    Author,
    Case,
    CaseState,
    Entry,
    Told,
)
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName, UserId, server_of
from super_app.payments.model import Payment, State
from super_app.wire import is_text


def judge_opening(
    payment: Payment, payer: Acct, wanted_minor: int, refundable_minor: int, now_ms: int
) -> Refused | None:
    """Whether a payer may dispute so much of a payment."""
    if payment.payer_acct != payer:
        return Refused(
            reason=Reason.NOT_ALLOWED, message="Only who paid disputes a payment; you can give it back with a refund."
        )
    if payment.state is not State.COMPLETED:
        return Refused(
            reason=Reason.CONFLICT,
            message=f"Only a completed payment can be disputed; this one is {payment.state.value}. Until it is "
            "committed it can be cancelled.",
            fields={"state": payment.state.value},
        )
    if now_ms - payment.created_ms > DISPUTABLE_MS:
        return Refused(
            reason=Reason.EXPIRED,
            message="A payment can be disputed for 180 days; this one is older. Ask the operator.",
        )
    if not 1 <= wanted_minor <= refundable_minor:
        return Refused(
            reason=Reason.REFUND_EXCEEDS_PAYMENT,
            message=f"{refundable_minor} minor units of that payment have not come back yet; dispute that or less.",
            fields={"refundable": refundable_minor},
        )
    return None


def judge_text(text: str) -> Refused | None:
    if not text.strip() or len(text) > STATEMENT_MAX or not is_text(text):
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"A statement has 1 to {STATEMENT_MAX} characters; write what happened.",
        )
    return None


def judge_saying(case: Case, author: Author, said: tuple[Entry, ...]) -> Refused | None:
    """Whether a side may add a statement."""
    if case.state is not CaseState.OPEN:
        return closed(case)
    if sum(entry.author is author and entry.act is Act.STATED for entry in said) >= STATEMENTS_MAX:
        return Refused(
            reason=Reason.LIMIT_EXCEEDED,
            message=f"Each side makes {STATEMENTS_MAX} statements at most; the operator decides by what was said.",
            fields={"limit": STATEMENTS_MAX},
        )
    return None


def refunded_minor(said: tuple[Entry, ...]) -> int:
    """What has come back since the case was opened."""
    return sum(entry.amount_minor or 0 for entry in said if entry.act is Act.REFUNDED)


def side_of(case: Case, acct: Acct) -> Author | None:
    """Which side somebody of this homeserver is; None for a stranger."""
    if case.payer_acct == acct:
        return Author.PAYER
    return Author.PAYEE if case.payee_acct == acct else None


def after(case: Case, act: Act, amount_minor: int | None, refunded_minor: int) -> Case | None:
    """The case after an act; None if that is not possible now. ``refunded_minor`` came back since it was opened."""
    state = case.state
    match act:
        case Act.STATED:
            return case if state is CaseState.OPEN else None
        case Act.WITHDRAWN:
            return _with(case, CaseState.WITHDRAWN) if state is CaseState.OPEN else None
        case Act.REJECTED:
            return _with(case, CaseState.REJECTED) if state is CaseState.OPEN else None
        case Act.GRANTED:
            fits = amount_minor is not None and 1 <= amount_minor <= case.wanted_minor
            return _with(case, CaseState.GRANTED, amount_minor) if state is CaseState.OPEN and fits else None
        case Act.REFUNDED:
            if state.final:
                return None
            return _with(case, CaseState.SETTLED) if refunded_minor >= case.due_minor else case
        case Act.OPENED:
            return None


def _with(case: Case, state: CaseState, granted_minor: int | None = None) -> Case:
    return Case(
        key=case.key,
        is_home=case.is_home,
        payer=case.payer,
        payee=case.payee,
        payer_acct=case.payer_acct,
        payee_acct=case.payee_acct,
        ground=case.ground,
        currency=case.currency,
        wanted_minor=case.wanted_minor,
        granted_minor=case.granted_minor if granted_minor is None else granted_minor,
        state=state,
        opened_ms=case.opened_ms,
    )


def judge_told(told: Told, origin: ServerName, here: ServerName) -> Refused | None:
    """Whether a homeserver may say this: the authenticated origin decides, whatever stands in the object.

    The payer's homeserver tells of the case, all of it; the payee's adds statements of the payee and nothing else.
    """
    payer_server, payee_server = server_of(UserId(told.payer)), server_of(UserId(told.payee))
    of_case = origin == payer_server and here == payee_server
    of_payee = origin == payee_server and here == payer_server
    if told.from_server != origin or told.to_server != here or payer_server == payee_server:
        return wrong_origin()
    if of_case:
        return None if told.number > 0 else wrong_origin()
    if of_payee and (Author(told.author), Act(told.act)) == (Author.PAYEE, Act.STATED):
        return None
    return wrong_origin()


def wrong_origin() -> Refused:
    return Refused(
        reason=Reason.WRONG_ORIGIN,
        message="A homeserver speaks of a dispute for its own side only: the payer's tells of the case, the payee's "
        "adds what the payee says.",
    )


def closed(case: Case) -> Refused:
    return Refused(
        reason=Reason.DISPUTE_CLOSED,
        message=f"This dispute is {case.state.value}, and nothing can be added to it.",
        fields={"state": case.state.value},
    )


def unknown_dispute() -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_DISPUTE,
        message="There is no dispute of yours about that payment; if you were paid, name the payer with ?payer=.",
    )
