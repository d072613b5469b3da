"""The ledger's operations. Each runs inside the caller's transaction, which the one ledger writer opened.

Whoever posts takes the lease row first, so no two transactions decide at once. A refusal has written nothing.
"""

from collections.abc import Sequence
from typing import Final

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import rules, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Balance,
    Cause,
    Entry,
    Hold,
    HoldId,
    HoldState,
    Posted,
    Transfer,
    TransferId,
    Violation,
    available,
    held,
    house,
)
from super_app.money import Money

MAX_PER_STATEMENT: Final = 1_000
"""Transfers in one statement; more go into the next one."""
MAX_PAGE: Final = 1_000
_CHAIN_CHECKED: Final = 1_000
"""Newest entries whose hashes ``violations`` computes again; ``verify_chain`` does all."""


def transfer(cur: Cursor, order: Transfer, now_ms: int) -> Posted | Refused:
    """Post one transfer. Refusals: INSUFFICIENT_FUNDS (``available``), CONFLICT (id exists with another body)."""
    return transfer_many(cur, [order], now_ms)[0]


def transfer_many(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[Posted | Refused]:
    """Post many, in order, each with its own verdict; a constant number of statements for each thousand."""
    return [_posted(verdict) for verdict in _post(cur, orders, now_ms)]


def place_hold(cur: Cursor, hold_id: HoldId, owner: Acct, money: Money, now_ms: int) -> Hold | Refused:
    """available -> held. The same hold again gives it as it now is; with another owner or amount CONFLICT."""
    store.lock(cur)
    stored = store.hold(cur, hold_id)
    if stored is not None:
        field = rules.differing_hold_field(owner, money, stored)
        return stored if field is None else rules.conflict("hold", field)
    verdict = _post_one(
        cur,
        Transfer(
            transfer_id=TransferId(f"hold:{hold_id}"),
            debit=available(owner, money.currency),
            credit=held(owner, money.currency),
            amount_minor=money.amount_minor,
            cause=Cause.HOLD,
            reference=hold_id,
        ),
        now_ms,
    )
    if isinstance(verdict, Refused):
        return verdict
    placed = Hold(hold_id=hold_id, owner=owner, money=money, state=HoldState.OPEN)
    store.add_hold(cur, placed, verdict.seq)
    return placed


def hold_of(cur: Cursor, hold_id: HoldId) -> Hold | None:
    """A hold as it now is."""
    return store.hold(cur, hold_id)


def post_hold(
    cur: Cursor, hold_id: HoldId, *, credit: AccountKey, cause: Cause, reference: str, now_ms: int
) -> Posted | Refused:
    """held -> ``credit``, the whole of it. ALREADY_DECIDED if the hold was voided or posted elsewhere."""
    store.lock(cur)
    stored = store.hold(cur, hold_id)
    if stored is None:
        return _unknown_hold(hold_id)
    if stored.state is HoldState.VOIDED:
        return _decided(stored)
    verdict = _post_one(
        cur,
        Transfer(
            transfer_id=TransferId(f"post:{hold_id}"),
            debit=held(stored.owner, stored.money.currency),
            credit=credit,
            amount_minor=stored.money.amount_minor,
            cause=cause,
            reference=reference,
        ),
        now_ms,
    )
    if isinstance(verdict, Refused):
        return _decided(stored) if verdict.reason is Reason.CONFLICT else verdict
    if stored.state is HoldState.POSTED:
        return _posted((verdict, True))
    _decide(cur, stored, HoldState.POSTED, verdict)
    return _posted((verdict, False))


def void_hold(cur: Cursor, hold_id: HoldId, now_ms: int) -> Hold | Refused:
    """held -> available. ALREADY_DECIDED if it was posted; voiding again changes nothing."""
    store.lock(cur)
    stored = store.hold(cur, hold_id)
    if stored is None:
        return _unknown_hold(hold_id)
    if stored.state is HoldState.VOIDED:
        return stored
    if stored.state is HoldState.POSTED:
        return _decided(stored)
    verdict = _post_one(
        cur,
        Transfer(
            transfer_id=TransferId(f"void:{hold_id}"),
            debit=held(stored.owner, stored.money.currency),
            credit=available(stored.owner, stored.money.currency),
            amount_minor=stored.money.amount_minor,
            cause=Cause.VOID,
            reference=hold_id,
        ),
        now_ms,
    )
    return verdict if isinstance(verdict, Refused) else _decide(cur, stored, HoldState.VOIDED, verdict)


def issue(cur: Cursor, owner: Acct, money: Money, *, reference: str, operator: str, now_ms: int) -> Entry | Refused:
    """issued -> available: new money for a person, by an operator.

    The same ``reference`` again changes nothing and gives the entry; with another owner or amount CONFLICT.
    """
    order = Transfer(
        transfer_id=TransferId(f"issue:{reference}"),
        debit=house(AccountKind.ISSUED, money.currency),
        credit=available(owner, money.currency),
        amount_minor=money.amount_minor,
        cause=Cause.ISSUE,
        reference=reference,
    )
    verdict = _post(cur, [order], now_ms)[0]
    if isinstance(verdict, Refused):
        return verdict
    entry, replayed = verdict
    if not replayed:
        store.add_act(cur, order.transfer_id, operator)
    return entry


def balance(cur: Cursor, key: AccountKey) -> int:
    """Minor units; 0 for an account that no transfer has touched."""
    account = store.accounts(cur, [key]).get(key)
    return 0 if account is None else account.balance_minor


def wallet(cur: Cursor, owner: Acct) -> tuple[Balance, ...]:
    """The currencies that an owner has ever had, by code."""
    return store.wallet(cur, owner)


def entries(cur: Cursor, key: AccountKey, before: int | None, limit: int) -> tuple[Entry, ...]:
    """A page of an account's statement, newest first, at most ``MAX_PAGE``.

    ``before`` is the ``seq`` of the last entry of the page before, None for the first page.
    """
    return store.history(cur, key, before, min(limit, MAX_PAGE))


def violations(cur: Cursor) -> tuple[Violation, ...]:
    """I1, I2 and I6 of clearing.md over all accounts, each balance against its entries, and the newest hashes.

    ``issued`` and ``due_from`` stand as negative balances, so I6 is the statement that the accounts of a currency sum
    to zero.
    """
    newest = store.head(cur)
    from_seq = max(0, newest.seq - _CHAIN_CHECKED)
    return (
        *store.unbalanced_currencies(cur),
        *store.wrong_signs(cur),
        *store.unmatched_holds(cur),
        *store.misfolded_accounts(cur),
        *verify_chain(cur, from_seq, _CHAIN_CHECKED),
    )


def verify_chain(cur: Cursor, after_seq: int, limit: int) -> tuple[Violation, ...]:
    """Compute the hashes of up to ``limit`` entries above ``after_seq`` again and compare."""
    # The entry before gives the hash that the first one must build on.
    first = max(0, after_seq - 1)
    page = store.chain(cur, first, limit + (after_seq - first))
    previous, expected = "", first + 1
    broken: list[Violation] = []
    for entry in page:
        if entry.seq != expected:
            broken.append(Violation(invariant="chain", where=f"entry {expected}", off_by=entry.seq - expected))
        elif entry.seq > after_seq and not rules.is_linked(entry, previous):
            broken.append(Violation(invariant="chain", where=f"entry {entry.seq}", off_by=1))
        previous, expected = entry.entry_hash, entry.seq + 1
    return tuple(broken)


def _post(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[tuple[Entry, bool] | Refused]:
    """Each order's entry and whether it is a replay."""
    verdicts: list[tuple[Entry, bool] | Refused] = []
    for start in range(0, len(orders), MAX_PER_STATEMENT):
        verdicts.extend(_post_some(cur, orders[start : start + MAX_PER_STATEMENT], now_ms))
    return verdicts


def _post_some(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[tuple[Entry, bool] | Refused]:
    newest = store.lock(cur)
    standing = store.entries_by_id(cur, dict.fromkeys(order.transfer_id for order in orders))
    keys = dict.fromkeys(key for order in orders for key in (order.debit, order.credit))
    accounts = store.accounts(cur, keys)
    ids = {key: account.account_id for key, account in accounts.items()}
    balances = {key: account.balance_minor for key, account in accounts.items()}
    verdicts: list[tuple[Entry, bool] | Refused] = []
    fresh: list[Entry] = []
    seq, previous = newest.seq, newest.entry_hash
    for order in orders:
        stored = standing.get(order.transfer_id)
        if stored is not None:
            field = rules.differing_field(order, stored.transfer)
            verdicts.append((stored, True) if field is None else rules.conflict("transfer id", field))
            continue
        after = rules.after(order, balances.get(order.debit, 0), balances.get(order.credit, 0))
        if isinstance(after, Refused):
            verdicts.append(after)
            continue
        seq += 1
        entry = rules.chained(previous, seq, order, after, now_ms)
        previous = entry.entry_hash
        balances[order.debit], balances[order.credit] = after
        standing[order.transfer_id] = entry
        fresh.append(entry)
        verdicts.append((entry, False))
    if fresh:
        touched = dict.fromkeys(key for entry in fresh for key in (entry.transfer.debit, entry.transfer.credit))
        unopened = [key for key in touched if key not in ids]
        if unopened:
            ids.update(store.open_accounts(cur, unopened))
        store.append(cur, fresh, ids)
    return verdicts


def _post_one(cur: Cursor, order: Transfer, now_ms: int) -> Entry | Refused:
    verdict = _post(cur, [order], now_ms)[0]
    return verdict if isinstance(verdict, Refused) else verdict[0]


def _posted(verdict: tuple[Entry, bool] | Refused) -> Posted | Refused:
    if isinstance(verdict, Refused):
        return verdict
    entry, replayed = verdict
    return Posted(transfer=entry.transfer, posted_ms=entry.posted_ms, replayed=replayed)


def _decide(cur: Cursor, stored: Hold, state: HoldState, entry: Entry) -> Hold:
    if not store.decide_hold(cur, stored.hold_id, state, entry.seq):
        raise RuntimeError(f"hold {stored.hold_id} was decided by somebody who does not hold the lease")
    return Hold(hold_id=stored.hold_id, owner=stored.owner, money=stored.money, state=state)


def _decided(stored: Hold) -> Refused:
    return Refused(
        reason=Reason.ALREADY_DECIDED,
        message=f"This was already decided: the money set aside was {stored.state.value}.",
        fields={"state": stored.state.value},
    )


def _unknown_hold(hold_id: HoldId) -> Refused:
    return Refused(reason=Reason.UNKNOWN_PAYMENT, message=f"No money was ever set aside under {hold_id}.")
