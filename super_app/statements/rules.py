"""Pure decisions of statements: which time a month is, what a booking is called, what a search shows, what sums up."""

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId
from super_app.ledger.model import AccountKey, AccountKind, Cause, Entry
from super_app.payments.model import Payment
from super_app.statements.model import ActivityKind, Filter, Line, LineKind, Statement, Sum, Summary

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_YEAR: Final = re.compile(r"\d{4}")
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000
_OWN: Final = (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.GIFT)


def month_ms(text: str, zone: tzinfo) -> tuple[int, int] | Refused:
    """The first millisecond of a month such as ``2026-11`` and of the one after it, in a time zone."""
    found = _MONTH.fullmatch(text)
    if found is None or not _FIRST_YEAR <= int(found[1]) <= _LAST_YEAR:
        return Refused(reason=Reason.INVALID_VALUE, message="A month is written as 2026-11: the year and two digits.")
    year, month = int(found[1]), int(found[2])
    return _start_ms(year, month, zone), _start_ms(year + month // 12, month % 12 + 1, zone)


def year_of(text: str) -> int | Refused:
    if _YEAR.fullmatch(text) is None or not _FIRST_YEAR <= int(text) <= _LAST_YEAR:
        return Refused(reason=Reason.INVALID_VALUE, message="A year is written as 2026.")
    return int(text)


def months_of(year: int, zone: tzinfo) -> tuple[int, ...]:
    """The thirteen times at which the months of a year begin and its last one ends."""
    return tuple(_start_ms(year + number // 12, number % 12 + 1, zone) for number in range(13))


def _start_ms(year: int, month: int, zone: tzinfo) -> int:
    return round(datetime(year, month, 1, tzinfo=zone).timestamp() * 1000)


# Bookings.


def change_minor(entry: Entry, owner: Acct) -> int:
    """By how much an entry changed what its owner has; 0 where it only set money aside or let it go."""
    return _sign(entry.transfer.credit, owner) * entry.transfer.amount_minor - (
        _sign(entry.transfer.debit, owner) * entry.transfer.amount_minor
    )


def _sign(key: AccountKey, owner: Acct) -> int:
    return 1 if key.owner == owner and key.kind in _OWN else 0


def kind_of(cause: Cause, payment: Payment | None) -> LineKind:
    match cause:
        case Cause.PAYMENT | Cause.COMMIT | Cause.CREDIT:
            is_refund = payment is not None and payment.refund_of is not None
            return LineKind.REFUND if is_refund else LineKind.PAYMENT
        case Cause.UNDO | Cause.ADVANCE:
            return LineKind.RETURNED
        case Cause.ISSUE:
            return LineKind.ISSUED
        case Cause.BURN:
            return LineKind.BURNED
        case Cause.CORRECT:
            return LineKind.CORRECTION
        case Cause.FEE:
            return LineKind.FEE
        case _:
            return LineKind.OTHER


def other_of(payment: Payment, owner: Acct) -> UserId:
    return payment.payee.user_id if payment.payer_acct == owner else payment.payer


# A search.


def is_wanted(payment: Payment, owner: Acct, wanted: Filter) -> bool:
    """What of a filter the database does not decide: it folds the case of ASCII only."""
    if wanted.text and wanted.text.casefold() not in (payment.memo or "").casefold():
        return False
    if not wanted.person:
        return True
    names = [other_of(payment, owner)] if payment.payer_acct != owner else [payment.payee.user_id, payment.payee.handle]
    return any(wanted.person.casefold() in name.casefold() for name in names if name is not None)


def is_of_kind(payment: Payment, owner: Acct, kind: ActivityKind) -> bool:
    match kind:
        case ActivityKind.SENT:
            return payment.payer_acct == owner
        case ActivityKind.RECEIVED:
            return payment.payee_acct == owner
        case ActivityKind.REFUND:
            return payment.refund_of is not None
        case ActivityKind.REQUEST:
            return payment.request is not None


# A year.


def summary(statement: Statement, starts_ms: tuple[int, ...]) -> Summary:
    """What a year came to. ``starts_ms`` as ``months_of`` gives them."""
    months = [[line for line in statement.lines if start <= line.posted_ms < end] for start, end in pairwise(starts_ms)]
    by_person: dict[UserId, list[Line]] = defaultdict(list)
    by_kind: dict[LineKind, list[Line]] = defaultdict(list)
    for line in statement.lines:
        by_kind[line.kind].append(line)
        if line.other is not None:
            by_person[line.other].append(line)
    people = sorted(((user_id, sum_of(lines)) for user_id, lines in by_person.items()), key=_most_first)
    return Summary(
        statement=statement,
        months=tuple(map(sum_of, months)),
        people=tuple(people),
        kinds=tuple((kind, sum_of(by_kind[kind])) for kind in LineKind if kind in by_kind),
    )


def sum_of(lines: Iterable[Line]) -> Sum:
    changes = [line.change_minor for line in lines]
    return Sum(
        in_minor=sum(change for change in changes if change > 0),
        out_minor=-sum(change for change in changes if change < 0),
        count=len(changes),
    )


def _most_first(person: tuple[UserId, Sum]) -> tuple[int, UserId]:
    return -(person[1].in_minor + person[1].out_minor), person[0]


def too_many_lines(limit: int) -> Refused:
    return Refused(
        reason=Reason.INVALID_VALUE,
        message=f"That is more than {limit} bookings; ask for a month instead of a year, or ask the operator for an "
        "export.",
    )


def unknown_zone(name: str) -> Refused:
    return Refused(
        reason=Reason.INVALID_VALUE, message=f"tz: {name[:64]!r} is no time zone; write it as Europe/Berlin, or UTC."
    )
