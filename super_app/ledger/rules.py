"""What may be posted, and how entries are chained. Pure: values in, decision out."""

import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ledger.model import (
    MAX_BALANCE_MINOR,
    Account,
    AccountKey,
    AccountKind,
    Archived,
    Cause,
    Entry,
    Head,
    Hold,
    Posted,
    Transfer,
    TransferId,
)
from super_app.money import Asset, Money

_text: Final = json.encoder.encode_basestring
"""A string as canonical JSON has it: only quotes, backslashes and control characters escaped."""
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_UNTOUCHED: Final = (0, 0)


Taken = Entry | Archived
"""What stands under an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a batch: a verdict for each order in order, and what is to be written for them."""

    verdicts: Sequence[Posted | Refused]
    entries: Sequence[Entry]
    balances: Mapping[AccountKey, tuple[int, int]]
    """Balance and newest entry of each account that changes."""


def decide(
    orders: Sequence[Transfer],
    head: Head,
    accounts: Mapping[AccountKey, Account],
    taken: Mapping[TransferId, Taken],
    now_ms: int,
    frozen: AbstractSet[str] = frozenset(),
) -> Decision:
    """Decide a batch, one order after the other, each on the balances that those before it leave.

    ``accounts`` holds all that the orders name and that exist, as of ``head``; ``taken`` what stands under the orders'
    ids; ``frozen`` the owners whom no payment touches.
    """
    balances: dict[AccountKey, tuple[int, int]] = {}
    ours: dict[TransferId, Entry] = {}
    verdicts: list[Posted | Refused] = []
    seq, previous = head.seq, head.entry_hash
    for order in orders:
        stored = taken.get(order.transfer_id) or ours.get(order.transfer_id)
        if isinstance(stored, Archived):
            verdicts.append(entry_archived(stored))
            continue
        if stored is not None:
            field = differing_field(order, stored.transfer)
            verdicts.append(Posted(entry=stored, replayed=True) if field is None else conflict("transfer id", field))
            continue
        if frozen and order.cause.is_payment and (order.debit.owner in frozen or order.credit.owner in frozen):
            verdicts.append(account_frozen(payer=order.debit.owner in frozen))
            continue
        debit_minor, debit_prev_seq = balances.get(order.debit) or _standing(accounts, order.debit)
        credit_minor, credit_prev_seq = balances.get(order.credit) or _standing(accounts, order.credit)
        left = after(order, debit_minor, credit_minor)
        if isinstance(left, Refused):
            verdicts.append(left)
            continue
        seq += 1
        entry = chained(previous, seq, order, left, (debit_prev_seq, credit_prev_seq), posted_ms=now_ms)
        previous = entry.entry_hash
        balances[order.debit] = (left[0], seq)
        balances[order.credit] = (left[1], seq)
        ours[order.transfer_id] = entry
        verdicts.append(Posted(entry, replayed=False))
    return Decision(verdicts=verdicts, entries=list(ours.values()), balances=balances)


def decide_linked(
    orders: Sequence[Transfer],
    head: Head,
    accounts: Mapping[AccountKey, Account],
    taken: Mapping[TransferId, Taken],
    now_ms: int,
    frozen: AbstractSet[str] = frozenset(),
) -> Decision:
    """Decide a batch that stands or falls together: the first refusal is that of all, and then nothing is written."""
    decision = decide(orders, head, accounts, taken, now_ms, frozen)
    refused = next((verdict for verdict in decision.verdicts if isinstance(verdict, Refused)), None)
    if refused is None and taken and decision.entries:
        refused = Refused(
            reason=Reason.CONFLICT,
            message="Some of these transfers stand already without the others; use new ids for all of them.",
            fields={"field": "linked"},
        )
    if refused is None:
        return decision
    return Decision(verdicts=[refused] * len(orders), entries=(), balances={})


def _standing(accounts: Mapping[AccountKey, Account], key: AccountKey) -> tuple[int, int]:
    account = accounts.get(key)
    return _UNTOUCHED if account is None else (account.balance_minor, account.last_seq)


def after(order: Transfer, debit_minor: int, credit_minor: int) -> tuple[int, int] | Refused:
    """The balances of the two accounts after ``order``, from those before it; or why it may not be posted."""
    debit_after = debit_minor - order.amount_minor
    credit_after = credit_minor + order.amount_minor
    # A debit only lowers a balance and a credit only raises one, so each can break one bound of two.
    if debit_after < 0 and order.debit.kind.sign > 0:
        return insufficient(order.debit, debit_minor)
    if credit_after > 0 and order.credit.kind.sign < 0:
        return insufficient(order.credit, -credit_minor)
    if debit_after < -MAX_BALANCE_MINOR:
        return _too_much(order.debit)
    if credit_after > MAX_BALANCE_MINOR:
        return _too_much(order.credit)
    return debit_after, credit_after


def differing_field(order: Transfer, stored: Transfer) -> str | None:
    """The first field in which a transfer differs from the one that stands under its id; None if it is the same."""
    if order == stored:
        return None
    for name in ("debit", "credit", "amount_minor", "cause", "reference"):
        if getattr(order, name) != getattr(stored, name):
            return name.removesuffix("_minor")
    raise ValueError(f"transfers {order.transfer_id} and {stored.transfer_id} are not two of one id")


def differing_hold_field(owner: str, money: Money, stored: Hold) -> str | None:
    if owner != stored.owner:
        return "owner"
    if money.currency != stored.money.currency:
        return "currency"
    return "amount" if money.amount_minor != stored.money.amount_minor else None


def conflict(what: str, field: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"This {what} was already used with another {field}; what stands is unchanged. Use a new id.",
        fields={"field": field},
    )


def hold_exceeded(wanted_minor: int, stored: Hold) -> Refused:
    return Refused(
        reason=Reason.HOLD_EXCEEDED,
        message=(
            f"{wanted_minor} minor units are more than the {stored.money.amount_minor} that were set aside; post that "
            "much or less."
        ),
        fields={"held": stored.money.amount_minor},
    )


def entry_archived(archived: Archived) -> Refused:
    return Refused(
        reason=Reason.ENTRY_ARCHIVED,
        message=f"This was booked long ago, as entry {archived.seq}, which is in the archive; nothing was done again.",
        fields={"seq": archived.seq},
    )


def account_frozen(*, payer: bool) -> Refused:
    """The refusal of a payment from (``payer``) or to a frozen account."""
    if payer:
        message = "This account is frozen and pays nothing; its money is still there. Ask the operator."
    else:
        message = "The account that would be paid is frozen and takes no payments; nothing was moved."
    return Refused(reason=Reason.ACCOUNT_FROZEN, message=message, fields={"side": "payer" if payer else "payee"})


_TAKEN_FROM: Final = frozenset({AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.ISSUED, AccountKind.CLAIM})
_TAKEN_TO: Final = frozenset({AccountKind.AVAILABLE, AccountKind.ISSUED, AccountKind.FEES})
_CORRECTABLE: Final = frozenset({Cause.PAYMENT, Cause.FEE, Cause.ISSUE, Cause.BURN, Cause.CORRECT})


def correction_of(
    entry: Entry, transfer_id: TransferId, amount_minor: int | None, corrected_minor: int
) -> Transfer | Refused:
    """The transfer that takes back what ``entry`` moved, or ``amount_minor`` of it.

    ``corrected_minor`` of it were taken back before. NOT_CORRECTABLE where that would contradict a hold or another
    homeserver, CORRECTION_EXCEEDS_ENTRY (``correctable``) where it is more than is left.
    """
    moved = entry.transfer
    # A hold is decided for ever, so what was posted of one goes back to what can be spent.
    kind = AccountKind.ISSUED if moved.debit.kind is AccountKind.ISSUED else AccountKind.AVAILABLE
    back = moved.debit._replace(kind=kind)
    takes = moved.cause in _CORRECTABLE and moved.debit.kind in _TAKEN_FROM and moved.credit.kind in _TAKEN_TO
    if not takes or back == moved.credit:
        return Refused(
            reason=Reason.NOT_CORRECTABLE,
            message=(
                f"Entry {entry.seq} is a {moved.cause.value} and is not taken back alone: a hold, or another "
                "homeserver, counts on it. Burn or issue the difference, or let the payee refund the payment."
            ),
            fields={"cause": moved.cause.value},
        )
    left_minor = moved.amount_minor - corrected_minor
    wanted_minor = left_minor if amount_minor is None else amount_minor
    if not 1 <= wanted_minor <= left_minor:
        return Refused(
            reason=Reason.CORRECTION_EXCEEDS_ENTRY,
            message=f"Of entry {entry.seq} {left_minor} minor units are left to take back; correct that much or less.",
            fields={"correctable": left_minor},
        )
    return Transfer(
        transfer_id=transfer_id,
        debit=moved.credit,
        credit=back,
        amount_minor=wanted_minor,
        cause=Cause.CORRECT,
        reference=reference_to(entry.seq),
    )


def reference_to(seq: int) -> str:
    """What a correction has as its reference."""
    return f"entry:{seq}"


def unknown_entry(seq: int, archived_through: int) -> Refused:
    if 1 <= seq <= archived_through:
        return Refused(
            reason=Reason.ENTRY_ARCHIVED,
            message=f"Entry {seq} is in the archive and is not taken back any more; burn or issue the difference.",
            fields={"seq": seq},
        )
    return Refused(reason=Reason.UNKNOWN_ENTRY, message=f"The journal has no entry {seq}; look it up in a statement.")


def differing_scale(asset: Asset, scale: int) -> Refused:
    """Why payments do not start with ``asset`` as configured: what was booked in it has another ``scale``."""
    return Refused(
        reason=Reason.PAYMENTS_HALTED,
        message=(
            f"{asset.code} is configured with {asset.scale} decimals, but its balances were booked with {scale}: set "
            f"the scale of {asset.code} in payments.assets back to {scale}, or use another code."
        ),
        fields={"currency": asset.code, "scale": scale},
    )


def chained(
    previous: str, seq: int, order: Transfer, left: tuple[int, int], prev_seqs: tuple[int, int], *, posted_ms: int
) -> Entry:
    """The entry of ``order`` at ``seq``; ``left`` and ``prev_seqs`` are for its debit and its credit account.

    Its hash is the unpadded base64url of the SHA-256 of a canonical JSON list, which begins with the hash of the entry
    before (``""`` before the first one).
    """
    content = _content(previous, seq, order, left, prev_seqs, posted_ms)
    digest = binascii.b2a_base64(hashlib.sha256(content.encode()).digest())
    # By position, which is twice as fast as by name.
    return Entry(
        seq,
        order,
        prev_seqs[0],
        left[0],
        prev_seqs[1],
        left[1],
        posted_ms,
        digest[:43].translate(_TO_URL_SAFE).decode("ascii"),
    )


def _content(
    previous: str, seq: int, order: Transfer, left: tuple[int, int], prev_seqs: tuple[int, int], posted_ms: int
) -> str:
    debit, credit = order.debit, order.credit
    return (
        f'["superapp-entry-1","{previous}",{seq},{_text(order.transfer_id)},{_text(debit.currency)},'
        f'{_text(debit.owner)},"{debit.kind}",{prev_seqs[0]},{left[0]},'
        f'{_text(credit.owner)},"{credit.kind}",{prev_seqs[1]},{left[1]},'
        f'{order.amount_minor},"{order.cause}",{_text(order.reference)},{posted_ms}]'
    )


def archive_line(previous: str, entry: Entry) -> str:
    """The text whose hash is that of the entry; ``previous`` is the hash of the one before."""
    left = (entry.debit_after_minor, entry.credit_after_minor)
    prev_seqs = (entry.debit_prev_seq, entry.credit_prev_seq)
    return _content(previous, entry.seq, entry.transfer, left, prev_seqs, entry.posted_ms)


def is_linked(entry: Entry, previous: str) -> bool:
    """Whether the hash of ``entry`` follows from its content and from the hash before it."""
    left = (entry.debit_after_minor, entry.credit_after_minor)
    prev_seqs = (entry.debit_prev_seq, entry.credit_prev_seq)
    return entry == chained(previous, entry.seq, entry.transfer, left, prev_seqs, posted_ms=entry.posted_ms)


def not_durable(setting: str) -> Refused:
    """Why payments do not start on a database that runs with ``setting`` off (``synchronous`` is SQLite's)."""
    remedy = {
        "synchronous": "run SQLite with PRAGMA synchronous = FULL",
        "synchronous_commit": "remove synchronous_commit: false from the database section of homeserver.yaml",
    }.get(setting, f"set {setting} = on in postgresql.conf")
    return Refused(
        reason=Reason.PAYMENTS_HALTED,
        message=f"The database can lose a commit in a power cut, so payments do not start: {remedy}.",
        fields={"setting": setting},
    )


def insufficient(key: AccountKey, there_is_minor: int) -> Refused:
    what = "" if key.kind is AccountKind.AVAILABLE else f" in {key.kind.value}"
    return Refused(
        reason=Reason.INSUFFICIENT_FUNDS,
        message=f"There is not enough money{what}: {there_is_minor} minor units of {key.currency} are available.",
        fields={"available": there_is_minor, "currency": key.currency},
    )


def _too_much(key: AccountKey) -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=(
            f"An account holds at most {MAX_BALANCE_MINOR} minor units of {key.currency}; "
            "move some of it away first, or send less."
        ),
        fields={"limit": MAX_BALANCE_MINOR, "currency": key.currency},
    )
