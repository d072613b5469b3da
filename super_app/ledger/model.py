"""Accounts, transfers, holds and entries of the ledger.

A balance is credits minus debits. A transfer debits one account (its balance falls) and credits another (it rises) by
the same amount, so entries sum to zero per currency by construction (I1). What the homeserver owes to people and
peers is positive; ``issued`` and ``due_from`` stand against it and are negative or zero.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, NewType

from super_app.ids import Acct, ServerName
from super_app.money import MAX_AMOUNT_MINOR, AssetCode, Money

TransferId = NewType("TransferId", str)
"""Idempotency key of a transfer, unique in the whole ledger: ``<cause>:<whatever makes it unique>``."""
HoldId = NewType("HoldId", str)
"""Idempotency key of a hold; for a payment ``<acct of the payer>:<payment id>``."""

HOUSE: Final = "house"


MAX_BALANCE_MINOR: Final = MAX_AMOUNT_MINOR
"""Largest absolute balance, so that canonical JSON can always carry it."""


class AccountKind(StrEnum):
    """What an account is for. ``sign`` says which balances it may have; the database repeats it as a constraint."""

    AVAILABLE = "available"
    HELD = "held"
    ISSUED = "issued"
    FEES = "fees"
    DUE_TO = "due_to"  # owner is the peer: what we owe it
    DUE_FROM = "due_from"  # owner is the peer: what it owes us, as a negative balance
    IN_TRANSIT = "in_transit"  # owner is the peer: sent to it in a settlement that it has not confirmed
    SUSPENSE = "suspense"  # what a restore could not fund or find an owner for, and what operators advanced
    GIFT = "gift"  # given, not yet claimed
    CLAIM = "claim"  # put by for somebody whose account is deactivated
    RECEIVABLE = "receivable"  # owed to the house by a person
    PROVIDER = "provider"  # lies with a payment provider

    @property
    def sign(self) -> int:
        """+1 where the balance is never negative, -1 where it is never positive, 0 where it may be either."""
        return _SIGNS.get(self, 1)


_SIGNS: Final = {
    AccountKind.DUE_FROM: -1,
    AccountKind.RECEIVABLE: -1,
    AccountKind.PROVIDER: -1,
    # Positive where more was paid out than was ever issued here, for what peers still owe us.
    AccountKind.ISSUED: 0,
    AccountKind.SUSPENSE: 0,
}


class AccountKey(NamedTuple):
    """One account. ``owner`` is an acct, ``HOUSE``, or for what is between homeservers the peer's server name.

    A tuple, because it is the key of every look-up in a batch and a tuple hashes several times faster.
    """

    owner: str
    currency: AssetCode
    kind: AccountKind


def available(acct: Acct, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=acct, currency=currency, kind=AccountKind.AVAILABLE)


def held(acct: Acct, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=acct, currency=currency, kind=AccountKind.HELD)


def aside(acct: Acct, currency: AssetCode) -> AccountKey:
    """What somebody has put aside for others to claim."""
    return AccountKey(owner=acct, currency=currency, kind=AccountKind.GIFT)


def house(kind: AccountKind, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=HOUSE, currency=currency, kind=kind)


def due_to(peer: ServerName, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=peer, currency=currency, kind=AccountKind.DUE_TO)


def due_from(peer: ServerName, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=peer, currency=currency, kind=AccountKind.DUE_FROM)


def in_transit(peer: ServerName, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=peer, currency=currency, kind=AccountKind.IN_TRANSIT)


class Cause(StrEnum):
    """Why money moved. ``reference`` of the transfer says which one."""

    ISSUE = "issue"
    HOLD = "hold"
    VOID = "void"
    PAYMENT = "payment"
    COMMIT = "commit"  # held -> due_to:peer
    CREDIT = "credit"  # due_from:peer -> available
    UNDO = "undo"  # due_to:peer -> available, on RECEIPT(void)
    SETTLE_SENT = "settle_sent"  # due_to:peer -> in_transit:peer
    SETTLE_PAID = "settle_paid"  # in_transit:peer -> issued: what was paid outside is burnt
    SETTLE_BACK = "settle_back"  # in_transit:peer -> due_to:peer, for what did not arrive
    SETTLE_RECEIVED = "settle_received"  # issued -> due_from:peer: what came from outside is issued
    SETTLE_COVER = "settle_cover"  # suspense <-> due_to or due_from:peer, for what a restored database does not know of
    FEE = "fee"  # held -> fees
    FEES_OUT = "fees_out"  # fees -> available: the house gives what it earned to a person
    RELEASE = "release"  # what a post in part leaves of a hold -> available
    BURN = "burn"  # available or claim -> issued
    CLAIM = "claim"  # available -> claim of one owner, whose account is deactivated
    CLAIM_BACK = "claim_back"  # claim -> available: the owner is back
    POT = "pot"  # available -> gift: put aside for others to claim
    POT_OUT = "pot_out"  # gift -> available, in one transaction with the hold of the payment that pays it out
    POT_BACK = "pot_back"  # available -> gift: that payment came to nothing
    POT_END = "pot_end"  # gift -> available: what nobody has claimed
    FARE = "fare"  # available -> gift: put aside for a call by the minute
    FARE_OUT = "fare_out"  # gift -> available, in one transaction with the hold of the payment of what was talked
    FARE_BACK = "fare_back"  # available -> gift: that payment came to nothing
    FARE_END = "fare_end"  # gift -> available: what the call did not cost
    DEPOSIT = "deposit"  # available -> gift: what a stranger has put down, until it is decided
    DEPOSIT_OUT = "deposit_out"  # gift -> available, in one transaction with its refund; or it is kept
    ADVANCE = "advance"  # suspense -> available, at the operator's risk, while a peer is gone
    ADVANCE_BACK = "advance_back"  # available -> suspense: what was advanced has come back by itself
    RESTORE = "restore"  # to where the peer's objects say that it belongs; what nobody has comes from suspense
    CORRECT = "correct"  # back what an entry moved; the reference names the entry

    @property
    def is_payment(self) -> bool:
        """Whether a freeze stops it: what people do. What gives back, and what operators do, is not stopped."""
        return self in _PAYMENTS


_PAYMENTS: Final = frozenset({Cause.HOLD, Cause.POT, Cause.FARE, Cause.PAYMENT, Cause.FEE, Cause.COMMIT, Cause.CREDIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Move ``amount_minor`` (1 to 2**53 - 1) from ``debit`` to ``credit``, two accounts of one currency.

    ``reference`` says which payment, hold or act it belongs to; it is chained for ever, so it names no person.
    """

    transfer_id: TransferId
    debit: AccountKey
    credit: AccountKey
    amount_minor: int
    cause: Cause
    reference: str

    def __post_init__(self) -> None:
        """Raises ValueError: such a transfer is a bug of the caller, not a refusal."""
        if not 1 <= self.amount_minor <= MAX_AMOUNT_MINOR:
            raise ValueError(f"a transfer moves 1 to {MAX_AMOUNT_MINOR} minor units, not {self.amount_minor}")
        if self.debit.currency != self.credit.currency or self.debit == self.credit:
            raise ValueError(f"a transfer needs two accounts of one currency, not {self.debit} and {self.credit}")


class Entry(NamedTuple):
    """A transfer in the journal: its place, what it left on both accounts, and its links.

    The hash ties it to the entry before it (``seq - 1``); ``debit_prev_seq`` and ``credit_prev_seq`` are the entries
    before it on the same account, 0 for an account's first. A tuple, as a batch makes hundreds of them.
    """

    seq: int
    transfer: Transfer
    debit_prev_seq: int
    debit_after_minor: int
    credit_prev_seq: int
    credit_after_minor: int
    posted_ms: int
    entry_hash: str

    def change_of(self, key: AccountKey) -> int:
        """By how many minor units the balance of one of its two accounts changed."""
        return self.transfer.amount_minor if key == self.transfer.credit else -self.transfer.amount_minor

    def after_of(self, key: AccountKey) -> int:
        """The balance that it left on one of its two accounts."""
        return self.credit_after_minor if key == self.transfer.credit else self.debit_after_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """An id that an archived entry has; its body is in the archive's file."""

    transfer_id: TransferId
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the journal: the newest entry and its hash. ``epoch`` rises when another writer takes over."""

    epoch: int
    seq: int
    entry_hash: str


class Account(NamedTuple):
    """An account as of the head: its balance and its newest entry. ``account_id`` is the database's number for it."""

    account_id: int
    balance_minor: int
    last_seq: int


class Posted(NamedTuple):
    """A transfer that stands. ``replayed`` when the same one had been posted before and nothing changed now.

    A tuple, as ``Entry`` is.
    """

    entry: Entry
    replayed: bool

    @property
    def transfer(self) -> Transfer:
        return self.entry.transfer

    @property
    def posted_ms(self) -> int:
        return self.entry.posted_ms


class HoldState(StrEnum):
    OPEN = "open"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money of one owner set aside. ``money`` is what was set aside.

    It is decided once: posted, in whole or in part, or voided. ``posted_minor`` is what went on; the rest went back.
    """

    hold_id: HoldId
    owner: Acct
    money: Money
    state: HoldState
    posted_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where a part of a hold goes when it is posted: to the payee, to the house as a fee."""

    credit: AccountKey
    amount_minor: int
    cause: Cause
    reference: str


class Deed(StrEnum):
    """What an operator did."""

    ISSUE = "issue"
    BURN = "burn"
    PAY_FEES = "pay_fees"
    CLAIM = "claim"
    CLAIM_BACK = "claim_back"
    CORRECT = "correct"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    ARCHIVE = "archive"
    ADVANCE = "advance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A line of the operators' log. ``owner`` is whose account it is about, ``transfer_id`` the entry that it made."""

    act_id: int
    deed: str
    operator: str
    reason: str
    owner: str
    transfer_id: TransferId | None
    acted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Since when no payment touches the accounts of an owner; None where they are free."""

    owner: Acct
    since_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one owner has of one currency, in minor units."""

    currency: AssetCode
    available_minor: int
    held_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Entries in a row: those above ``after_seq`` up to ``through_seq``.

    ``before_hash`` is what the first of them builds on, ``entry_hash`` the hash of the last, ``posted_ms`` its time.
    """

    after_seq: int
    before_hash: str
    through_seq: int
    entry_hash: str
    posted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A stretch that was written to a file and leaves the database. ``file_digest`` is the file's SHA-256."""

    stretch: Stretch
    file_name: str
    file_digest: str
    archived_ms: int

    @property
    def through_seq(self) -> int:
        return self.stretch.through_seq

    @property
    def entry_hash(self) -> str:
        return self.stretch.entry_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """That the balances as of an entry are kept."""

    seq: int
    entry_hash: str
    posted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An account as it was after one of its entries; ``seq`` 0 before the first."""

    seq: int
    balance_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A page of an account's entries, newest first, with the balances before and after the whole time range.

    ``following`` is where the next page begins, None after the last. ``archived`` is there where entries of the range
    are in an archive; ``opening_minor`` is then the balance at its end.
    """

    key: AccountKey
    opening_minor: int
    closing_minor: int
    entries: tuple[Entry, ...]
    following: int | None
    archived: Archive | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLine:
    """All accounts of one kind in one currency; those between homeservers, and the house's, by their owner."""

    currency: AssetCode
    kind: AccountKind
    owner: str
    """Empty for the accounts of people together."""
    accounts: int
    balance_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """The books as of an entry. The lines of a currency sum to zero (I1)."""

    seq: int
    entry_hash: str
    lines: tuple[TrialLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that does not hold: which, where, and by how many minor units (or objects)."""

    invariant: str
    where: str
    off_by: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Entries above ``after_seq`` up to ``through_seq`` were computed again. ``head_seq`` is the end of the journal."""

    after_seq: int
    through_seq: int
    head_seq: int
    violations: tuple[Violation, ...]
