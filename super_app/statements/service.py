"""What statements are made of, read in one transaction, which must see one state of the books."""

from collections.abc import Iterator
from dataclasses import replace

from super_app.clearing import store as clearing_store
from super_app.clearing.model import LinkId
from super_app.clearing.ports import WireId
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, PaymentId, UserId
from super_app.ledger import journal
from super_app.ledger.model import Cause, Entry, aside, available, held
from super_app.money import Asset
from super_app.payments.model import PayerKey, Payment, PaymentKey
from super_app.statements import rules, store
from super_app.statements.model import MAX_LINES, SCANNED, Filter, Found, Line, Statement

_CHUNK = 500


def search(cur: Cursor, acct: Acct, wanted: Filter, before: tuple[int, PaymentKey] | None, limit: int) -> Found:
    """A page of the payments that a filter lets through. It looks at ``SCANNED`` payments and says where it stopped."""
    shown: list[Payment] = []
    looked = 0
    while looked < SCANNED:
        page = store.activity(cur, acct, wanted, before, _CHUNK)
        for payment in page:
            if rules.is_wanted(payment, acct, wanted):
                if len(shown) == limit:
                    return Found(payments=tuple(shown), following=before)
                shown.append(payment)
            before = (payment.created_ms, payment.key)
        looked += len(page)
        if len(page) < _CHUNK:
            return Found(payments=tuple(shown), following=None)
    return Found(payments=tuple(shown), following=before)


def statement(cur: Cursor, acct: Acct, owner: UserId, asset: Asset, from_ms: int, until_ms: int) -> Statement | Refused:
    """All that was booked to an account in a time. INVALID_VALUE if that is more than ``MAX_LINES``."""
    opening_minor, is_partly_archived = 0, False
    entries: dict[int, Entry] = {}
    for key in (available(acct, asset.code), held(acct, asset.code), aside(acct, asset.code)):
        since: int | None = None
        first = True
        while first or since is not None:
            page = journal.statement(cur, key, from_ms=from_ms, until_ms=until_ms, since=since, limit=journal.MAX_PAGE)
            if isinstance(page, Refused):
                return page
            if first:
                opening_minor += page.opening_minor
                is_partly_archived = is_partly_archived or page.archived is not None
            first, since = False, page.following
            entries |= {each.seq: each for each in page.entries if rules.change_minor(each, acct)}
            if len(entries) > MAX_LINES:
                return rules.too_many_lines(MAX_LINES)
    booked = [entries[seq] for seq in sorted(entries)]
    balance_minor = opening_minor
    lines: list[Line] = []
    for entry, payment in zip(booked, _payments(cur, acct, booked), strict=True):
        change_minor = rules.change_minor(entry, acct)
        balance_minor += change_minor
        line = Line(
            seq=entry.seq,
            posted_ms=entry.posted_ms,
            kind=rules.kind_of(entry.transfer.cause, payment),
            change_minor=change_minor,
            balance_minor=balance_minor,
        )
        if payment is not None:
            other = rules.other_of(payment, acct)
            line = replace(line, other=other, memo=payment.memo, payment_id=payment.payment_id)
        lines.append(line)
    return Statement(
        owner=owner,
        asset=asset,
        from_ms=from_ms,
        until_ms=until_ms,
        opening_minor=opening_minor,
        closing_minor=balance_minor,
        lines=tuple(lines),
        is_partly_archived=is_partly_archived,
    )


def _payments(cur: Cursor, acct: Acct, entries: list[Entry]) -> Iterator[Payment | None]:
    """The payment that each entry belongs to, where it does to one."""
    keys = [_key_of(cur, entry) for entry in entries]
    wires = {entry.transfer.reference for entry in entries if entry.transfer.cause is Cause.CREDIT}
    by_key = store.payments_at(cur, sorted({key for key in keys if key is not None}))
    by_wire = store.payments_of_wire(cur, acct, sorted(wires))
    for entry, key in zip(entries, keys, strict=True):
        if key is not None:
            yield by_key.get(key)
        else:
            yield by_wire.get(entry.transfer.reference) if entry.transfer.cause is Cause.CREDIT else None


def _key_of(cur: Cursor, entry: Entry) -> PaymentKey | None:
    """Whose hold an entry posted, or gave back after all."""
    transfer = entry.transfer
    what, _, rest = transfer.transfer_id.partition(":")
    if what.partition(".")[0] == "post":
        return _key(rest.removeprefix("fee:"))
    if what in ("undo", "advance", "advance_back"):
        link_id, _, wire_id = rest.partition(":")
        sent = clearing_store.out(cur, LinkId(link_id), WireId(wire_id))
        return None if sent is None else _key(sent.hold_id)
    return None


def _key(hold_id: str) -> PaymentKey | None:
    payer_key, separator, payment_id = hold_id.rpartition(":")
    return PaymentKey(payer_key=PayerKey(payer_key), payment_id=PaymentId(payment_id)) if separator else None
