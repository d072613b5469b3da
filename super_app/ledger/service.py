"""The ledger's operations. Each runs inside the caller's transaction, which the one ledger writer opened.

Whoever posts takes the lease row first, so no two transactions decide at once. A refusal has written nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, LiteralString

from super_app.db import Cursor, Engine, Row, SqlValue
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import rules, store
from super_app.ledger.model import (
    Account,
    AccountKey,
    AccountKind,
    Balance,
    Cause,
    Deed,
    Entry,
    Head,
    Hold,
    HoldId,
    HoldState,
    Part,
    Posted,
    Transfer,
    TransferId,
    Violation,
    available,
    held,
    house,
)
from super_app.ledger.store import Appended
from super_app.money import Money

MAX_PER_STATEMENT: Final = 1_000
"""Transfers in one statement; more go into the next one."""
MAX_PAGE: Final = 1_000
_CHAIN_CHECKED: Final = 1_000
"""Newest entries whose hashes ``violations`` computes again; ``verify_chain`` does all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Verdicts of a batch, in its order, and the books after it: the head, and the accounts that the batch names."""

    verdicts: Sequence[Posted | Refused]
    before: Head
    head: Head
    accounts: Mapping[AccountKey, Account]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch that was decided on remembered books. ``outcome`` comes true if ``carry_out`` says so."""

    entries: store.Written
    outcome: Outcome


def transfer(cur: Cursor, order: Transfer, now_ms: int) -> Posted | Refused:
    """Post one transfer.

    Refusals: INSUFFICIENT_FUNDS (``available``), LIMIT_EXCEEDED, CONFLICT (the id exists with another ``field``).
    """
    return post(cur, [order], now_ms).verdicts[0]


def transfer_many(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[Posted | Refused]:
    """Post many, in order, each with its own verdict; a constant number of statements for each thousand."""
    verdicts: list[Posted | Refused] = []
    for start in range(0, len(orders), MAX_PER_STATEMENT):
        verdicts.extend(post(cur, orders[start : start + MAX_PER_STATEMENT], now_ms).verdicts)
    return verdicts


def transfer_linked(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[Posted] | Refused:
    """Post all of them or none (a payment and its fee); at most ``MAX_PER_STATEMENT``.

    The first refusal is that of all. CONFLICT also if only some of them stand already.
    """
    posted: list[Posted] = []
    for verdict in _post(cur, orders, now_ms, rules.decide_linked).verdicts:
        if isinstance(verdict, Refused):
            return verdict
        posted.append(verdict)
    return posted


def post(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> Outcome:
    """Post one to ``MAX_PER_STATEMENT`` transfers, each with its own verdict."""
    return _post(cur, orders, now_ms, rules.decide)


def prepare(
    orders: Sequence[Transfer], now_ms: int, head: Head, accounts: Mapping[AccountKey, Account], engine: Engine
) -> Prepared | None:
    """Decide a batch without a database, on books that were right at ``head``.

    None if one of its accounts is not among those remembered, or if not all is well: a refusal may be the replay of
    what was paid long ago, so it takes a look into the journal.
    """
    named = _named(orders, accounts)
    if named is None:
        return None
    decision = rules.decide(orders, head, named, {}, now_ms)
    if len(decision.entries) < len(orders):
        return None
    outcome = _outcome(decision, head, named)
    return Prepared(entries=store.written(engine, decision.entries, named), outcome=outcome)


def carry_out(cur: Cursor, prepared: Prepared) -> bool:
    """Write what was prepared, in one statement.

    False, with nothing written, if the books or the epoch have moved or an id is taken. The head is locked in either
    case.
    """
    return store.append(cur, prepared.outcome.before, prepared.entries) is Appended.DONE


def statement_of(prepared: Prepared) -> tuple[LiteralString, Sequence[SqlValue]]:
    """``carry_out`` as one statement, which may be a transaction of its own. For PostgreSQL."""
    return store.append_statement(prepared.outcome.before, prepared.entries)


def is_carried_out(row: Row) -> bool:
    """What the row that ``statement_of`` gives says; False as from ``carry_out``."""
    return store.appended(row) is Appended.DONE


def place_hold(cur: Cursor, hold_id: HoldId, owner: Acct, money: Money, now_ms: int) -> Hold | Refused:
    """available -> held. The same hold again gives it as it now is; with another owner or amount CONFLICT."""
    store.take(cur)
    stored = store.hold(cur, hold_id)
    if stored is not None:
        field = rules.differing_hold_field(owner, money, stored)
        return stored if field is None else rules.conflict("hold", field)
    verdict = transfer(
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
    store.add_hold(cur, placed, verdict.entry.seq)
    return placed


def judge_hold(cur: Cursor, owner: Acct, money: Money) -> Refused | None:
    """What ``place_hold`` would refuse for now: ACCOUNT_FROZEN or INSUFFICIENT_FUNDS. Writes nothing."""
    if store.frozen_since_ms(cur, owner) is not None:
        return rules.account_frozen(payer=True)
    there_is_minor = sum(each.available_minor for each in wallet(cur, owner) if each.currency == money.currency)
    if there_is_minor < money.amount_minor:
        return rules.insufficient(available(owner, money.currency), there_is_minor)
    return None


def hold_of(cur: Cursor, hold_id: HoldId) -> Hold | None:
    """A hold as it now is."""
    return store.hold(cur, hold_id)


def post_hold(
    cur: Cursor,
    hold_id: HoldId,
    *,
    credit: AccountKey,
    cause: Cause,
    reference: str,
    now_ms: int,
    amount_minor: int | None = None,
) -> Posted | Refused:
    """held -> ``credit``, the whole of it, or ``amount_minor`` of it and the rest back to available.

    Refusals as for ``post_hold_in_parts``.
    """
    store.take(cur)
    stored = store.hold(cur, hold_id)
    if stored is None:
        return _unknown_hold(hold_id)
    wanted_minor = stored.money.amount_minor if amount_minor is None else amount_minor
    part = Part(credit=credit, amount_minor=wanted_minor, cause=cause, reference=reference)
    posted = _post_parts(cur, stored, [part], now_ms)
    return posted if isinstance(posted, Refused) else posted[0]


def post_hold_in_parts(cur: Cursor, hold_id: HoldId, parts: Sequence[Part], now_ms: int) -> list[Posted] | Refused:
    """Decide a hold: its parts go where they say (to the payee, a fee to the house), the rest back, all together.

    A hold is posted once, so the same parts again are a replay. Refusals: HOLD_EXCEEDED (``held``), ACCOUNT_FROZEN,
    ALREADY_DECIDED if it was voided, or posted with another ``field``; LIMIT_EXCEEDED and INSUFFICIENT_FUNDS of the
    accounts that are credited; UNKNOWN_PAYMENT if there is no such hold.
    """
    store.take(cur)
    stored = store.hold(cur, hold_id)
    return _unknown_hold(hold_id) if stored is None else _post_parts(cur, stored, parts, now_ms)


def _post_parts(cur: Cursor, stored: Hold, parts: Sequence[Part], now_ms: int) -> list[Posted] | Refused:
    if stored.state is HoldState.VOIDED:
        return _decided(stored)
    hold_id = stored.hold_id
    total_minor = sum(part.amount_minor for part in parts)
    rest_minor = stored.money.amount_minor - total_minor
    if rest_minor < 0:
        return rules.hold_exceeded(total_minor, stored)
    source = held(stored.owner, stored.money.currency)
    orders = [
        Transfer(
            # The first part has the id of a post in whole, so that a hold cannot be posted in two ways.
            transfer_id=TransferId(f"post:{hold_id}" if number == 0 else f"post.{number}:{hold_id}"),
            debit=source,
            credit=part.credit,
            amount_minor=part.amount_minor,
            cause=part.cause,
            reference=part.reference,
        )
        for number, part in enumerate(parts)
    ]
    if rest_minor > 0:
        orders.append(
            Transfer(
                transfer_id=TransferId(f"release:{hold_id}"),
                debit=source,
                credit=available(stored.owner, stored.money.currency),
                amount_minor=rest_minor,
                cause=Cause.RELEASE,
                reference=hold_id,
            )
        )
    verdicts = transfer_linked(cur, orders, now_ms)
    if isinstance(verdicts, Refused):
        other_body = stored.state is HoldState.POSTED and verdicts.reason is not Reason.ENTRY_ARCHIVED
        return _decided(stored, verdicts.fields.get("field")) if other_body else verdicts
    if stored.state is HoldState.OPEN:
        _decide(cur, replace(stored, state=HoldState.POSTED, posted_minor=total_minor), verdicts[0])
    return verdicts[: len(parts)]


def void_hold(cur: Cursor, hold_id: HoldId, now_ms: int) -> Hold | Refused:
    """held -> available. ALREADY_DECIDED if it was posted; voiding again changes nothing."""
    store.take(cur)
    stored = store.hold(cur, hold_id)
    if stored is None:
        return _unknown_hold(hold_id)
    if stored.state is HoldState.VOIDED:
        return stored
    if stored.state is HoldState.POSTED:
        return _decided(stored)
    verdict = transfer(
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
    return verdict if isinstance(verdict, Refused) else _decide(cur, replace(stored, state=HoldState.VOIDED), verdict)


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
    return by_operator(cur, order, Deed.ISSUE, owner=owner, reason=reference, operator=operator, now_ms=now_ms)


def by_operator(
    cur: Cursor, order: Transfer, deed: Deed, *, owner: str, reason: str, operator: str, now_ms: int
) -> Entry | Refused:
    """Post what an operator does, with its line in their log; a replay leaves no second one."""
    verdict = transfer(cur, order, now_ms)
    if isinstance(verdict, Refused):
        return verdict
    if not verdict.replayed:
        store.add_act(
            cur,
            deed,
            operator=operator,
            reason=reason,
            owner=owner,
            transfer_id=order.transfer_id,
            acted_ms=now_ms,
        )
    return verdict.entry


def balance(cur: Cursor, key: AccountKey) -> int:
    """Minor units; 0 for an account that no transfer has touched."""
    return balances(cur, [key])[0]


def balances(cur: Cursor, keys: Sequence[AccountKey]) -> list[int]:
    """``balance`` of each, as of one moment."""
    found = store.accounts(cur, keys)
    return [found[key].balance_minor if key in found else 0 for key in keys]


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

    Of the journal only what is newer than the newest snapshot is read; ``journal.verify`` reads all of it.
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
    """Compute the hashes of up to ``limit`` entries above ``after_seq`` again and compare; those in the database."""
    archived = store.newest_archive(cur)
    boundary = 0 if archived is None else archived.through_seq
    start = max(after_seq, boundary)
    # The entry before gives the hash that the first one must build on, or the archive does.
    first = start if start == boundary else start - 1
    page = store.chain(cur, first, limit + (start - first))
    previous, expected = "" if archived is None else archived.entry_hash, first + 1
    broken: list[Violation] = []
    for entry in page:
        if entry.seq != expected:
            broken.append(Violation(invariant="chain", where=f"entry {expected}", off_by=entry.seq - expected))
        elif entry.seq > start and not rules.is_linked(entry, previous):
            broken.append(Violation(invariant="chain", where=f"entry {entry.seq}", off_by=1))
        previous, expected = entry.entry_hash, entry.seq + 1
    return tuple(broken)


_Decide = Callable[
    [Sequence[Transfer], Head, Mapping[AccountKey, Account], Mapping[TransferId, rules.Taken], int, AbstractSet[str]],
    rules.Decision,
]


def _post(cur: Cursor, orders: Sequence[Transfer], now_ms: int, decide: _Decide) -> Outcome:
    if not 1 <= len(orders) <= MAX_PER_STATEMENT:
        raise ValueError(f"a batch holds 1 to {MAX_PER_STATEMENT} transfers, not {len(orders)}")
    head, accounts = store.books(cur, {key for order in orders for key in (order.debit, order.credit)})
    decision = decide(orders, head, accounts, {}, now_ms, frozenset())
    # A batch in which all is well, as almost every one is, needs no look at its ids: writing it finds those taken.
    # Anything else is decided again with them, as a refusal may be the replay of what was paid long ago.
    clean = len(decision.entries) == len(orders) and decision.balances.keys() <= accounts.keys()
    if not clean or _append(cur, head, decision, accounts) is not Appended.DONE:
        ids = {order.transfer_id for order in orders}
        taken = store.taken(cur, ids)
        frozen = store.frozen_among(cur, {key.owner for order in orders for key in (order.debit, order.credit)})
        decision = decide(orders, head, accounts, taken, now_ms, frozen)
        if decision.entries:
            accounts.update(store.open_accounts(cur, sorted(decision.balances.keys() - accounts.keys())))
            appended = _append(cur, head, decision, accounts)
            if appended is not Appended.DONE:
                raise RuntimeError(f"the head was locked and all ids were looked up, and yet: {appended}")
    return _outcome(decision, head, accounts)


def _append(cur: Cursor, head: Head, decision: rules.Decision, accounts: Mapping[AccountKey, Account]) -> Appended:
    return store.append(cur, head, store.written(cur.engine, decision.entries, accounts))


def _named(orders: Sequence[Transfer], accounts: Mapping[AccountKey, Account]) -> dict[AccountKey, Account] | None:
    """The accounts that the orders name; None if one of them is missing."""
    named: dict[AccountKey, Account] = {}
    for order in orders:
        debit, credit = accounts.get(order.debit), accounts.get(order.credit)
        if debit is None or credit is None:
            return None
        named[order.debit] = debit
        named[order.credit] = credit
    return named


def _outcome(decision: rules.Decision, head: Head, accounts: dict[AccountKey, Account]) -> Outcome:
    for key, (balance_minor, last_seq) in decision.balances.items():
        accounts[key] = Account(accounts[key].account_id, balance_minor, last_seq)
    return Outcome(verdicts=decision.verdicts, before=head, head=_head_after(head, decision), accounts=accounts)


def _head_after(head: Head, decision: rules.Decision) -> Head:
    if not decision.entries:
        return head
    newest = decision.entries[-1]
    return Head(epoch=head.epoch, seq=newest.seq, entry_hash=newest.entry_hash)


def check_durability(cur: Cursor) -> Refused | None:
    """Whether a commit survives a power cut. Payments do not start where it does not."""
    lacking = store.lacking_durability(cur)
    return None if lacking is None else rules.not_durable(lacking)


def _decide(cur: Cursor, decided: Hold, posted: Posted) -> Hold:
    if not store.decide_hold(cur, decided, posted.entry.seq):
        raise RuntimeError(f"hold {decided.hold_id} was decided by somebody who does not hold the lease")
    return decided


def _decided(stored: Hold, field: object = None) -> Refused:
    """``field`` is where what was asked for differs from what was done, where that is known."""
    fields: dict[str, object] = {"state": stored.state.value}
    return Refused(
        reason=Reason.ALREADY_DECIDED,
        message=f"This was already decided: the money set aside was {stored.state.value}.",
        fields=fields if field is None else {**fields, "field": field},
    )


def _unknown_hold(hold_id: HoldId) -> Refused:
    return Refused(reason=Reason.UNKNOWN_PAYMENT, message=f"No money was ever set aside under {hold_id}.")
