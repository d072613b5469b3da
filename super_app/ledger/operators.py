"""What operators do with the ledger: burn money, correct entries, freeze accounts, and the log of it all.

Each runs inside the caller's transaction, which the one ledger writer opened. Nothing that stands is ever edited: what
takes money back is a new entry. A refusal has written nothing, and a replay leaves no second line in the log.
"""

from collections.abc import Iterable

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct
from super_app.ledger import rules, service, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Act,
    Archived,
    Cause,
    Deed,
    Entry,
    Freeze,
    Transfer,
    TransferId,
    TrialBalance,
    available,
    house,
)
from super_app.money import Asset, AssetCode, Money

MAX_PAGE = 1_000


def burn(cur: Cursor, owner: Acct, money: Money, *, reference: str, operator: str, now_ms: int) -> Entry | Refused:
    """available -> issued: money of a person ceases to exist, frozen or not.

    Of somebody whose account is deactivated it is what was put by for them (``claim``), unless they have enough beside
    that. The same ``reference`` again changes nothing and gives the entry; with another owner or amount CONFLICT.
    INSUFFICIENT_FUNDS (``available``).
    """
    store.lock(cur)
    transfer_id = TransferId(f"burn:{reference}")
    order = Transfer(
        transfer_id=transfer_id,
        debit=_burnt_from(cur, owner, money, transfer_id),
        credit=house(AccountKind.ISSUED, money.currency),
        amount_minor=money.amount_minor,
        cause=Cause.BURN,
        reference=reference,
    )
    return service.by_operator(cur, order, Deed.BURN, owner=owner, reason=reference, operator=operator, now_ms=now_ms)


def pay_fees(cur: Cursor, owner: Acct, money: Money, *, reference: str, operator: str, now_ms: int) -> Entry | Refused:
    """fees -> available: what the house has earned goes to a person, for it to be spent or paid out.

    The same ``reference`` again changes nothing and gives the entry; with another owner or amount CONFLICT.
    INSUFFICIENT_FUNDS (``available``) for more than was earned and not paid yet.
    """
    order = Transfer(
        transfer_id=TransferId(f"pay_fees:{reference}"),
        debit=house(AccountKind.FEES, money.currency),
        credit=available(owner, money.currency),
        amount_minor=money.amount_minor,
        cause=Cause.FEES_OUT,
        reference=reference,
    )
    return service.by_operator(
        cur, order, Deed.PAY_FEES, owner=owner, reason=reference, operator=operator, now_ms=now_ms
    )


def fees(cur: Cursor) -> dict[AssetCode, int]:
    """What the house has earned and not paid to anybody yet, by currency."""
    return {line.currency: line.balance_minor for line in trial_balance(cur).lines if line.kind is AccountKind.FEES}


def _burnt_from(cur: Cursor, owner: Acct, money: Money, transfer_id: TransferId) -> AccountKey:
    own = available(owner, money.currency)
    put_by = AccountKey(owner=owner, currency=money.currency, kind=AccountKind.CLAIM)
    stands = store.taken(cur, [transfer_id]).get(transfer_id)
    if isinstance(stands, Entry):
        # A replay is one only of what was done.
        return put_by if stands.transfer.debit == put_by else own
    has, claimed = service.balances(cur, [own, put_by])
    return put_by if has < money.amount_minor <= claimed else own


def correct(
    cur: Cursor, seq: int, amount_minor: int | None, *, reference: str, reason: str, operator: str, now_ms: int
) -> Entry | Refused:
    """Take back what entry ``seq`` moved, or a part of it, by a new entry that names it.

    The same ``reference`` again changes nothing and gives that entry; for another ``seq`` or amount CONFLICT. Refusals:
    UNKNOWN_ENTRY, ENTRY_ARCHIVED, NOT_CORRECTABLE, CORRECTION_EXCEEDS_ENTRY (``correctable``), and INSUFFICIENT_FUNDS
    where who got the money has spent it.
    """
    store.lock(cur)
    transfer_id = TransferId(f"correct:{reference}")
    stands = store.taken(cur, [transfer_id]).get(transfer_id)
    if isinstance(stands, Archived):
        return rules.entry_archived(stands)
    if stands is not None:
        if stands.transfer.reference != rules.reference_to(seq):
            return rules.conflict("reference", "seq")
        same = amount_minor in (None, stands.transfer.amount_minor)
        return stands if same else rules.conflict("reference", "amount")
    entry = store.entry(cur, seq)
    if entry is None:
        return rules.unknown_entry(seq, store.archived_through(cur))
    order = rules.correction_of(entry, transfer_id, amount_minor, store.corrected_minor(cur, seq))
    if isinstance(order, Refused):
        return order
    owner = order.debit.owner if order.debit.kind is AccountKind.AVAILABLE else order.credit.owner
    corrected = service.by_operator(
        cur, order, Deed.CORRECT, owner=owner, reason=reason, operator=operator, now_ms=now_ms
    )
    if isinstance(corrected, Entry):
        store.add_correction(cur, transfer_id, seq, order.amount_minor)
    return corrected


def freeze(cur: Cursor, owner: Acct, *, reason: str, operator: str, now_ms: int) -> Freeze:
    """From now on no payment touches the owner's accounts, in no currency. Again it changes nothing."""
    store.lock(cur)
    if store.freeze(cur, owner, now_ms):
        _log(cur, Deed.FREEZE, owner=owner, reason=reason, operator=operator, now_ms=now_ms)
    return freeze_of(cur, owner)


def unfreeze(cur: Cursor, owner: Acct, *, reason: str, operator: str, now_ms: int) -> Freeze:
    """The owner pays and is paid again. Again it changes nothing."""
    store.lock(cur)
    if store.unfreeze(cur, owner):
        _log(cur, Deed.UNFREEZE, owner=owner, reason=reason, operator=operator, now_ms=now_ms)
    return freeze_of(cur, owner)


def freeze_of(cur: Cursor, owner: Acct) -> Freeze:
    return Freeze(owner=owner, since_ms=store.frozen_since_ms(cur, owner))


def judge_payee(cur: Cursor, owner: Acct) -> Refused | None:
    """ACCOUNT_FROZEN if no payment may reach the owner."""
    return None if store.frozen_since_ms(cur, owner) is None else rules.account_frozen(payer=False)


def judge_payer(cur: Cursor, owner: Acct) -> Refused | None:
    """ACCOUNT_FROZEN if no payment may leave the owner."""
    return None if store.frozen_since_ms(cur, owner) is None else rules.account_frozen(payer=True)


def acts(cur: Cursor, before: int | None, limit: int) -> tuple[Act, ...]:
    """A page of the operators' log, newest first. ``before`` is the ``act_id`` of the last line of the page before."""
    return store.acts(cur, before, min(limit, MAX_PAGE))


def trial_balance(cur: Cursor) -> TrialBalance:
    """All accounts, summed by currency and kind, as of the newest entry."""
    return store.trial_balance(cur)


def fix_scales(cur: Cursor, assets: Iterable[Asset]) -> Refused | None:
    """Remember the scale of each asset; PAYMENTS_HALTED if one was booked with another scale before."""
    wanted = tuple(assets)
    known = store.scales(cur)
    for asset in wanted:
        scale = known.get(asset.code)
        if scale is not None and scale != asset.scale:
            return rules.differing_scale(asset, scale)
    store.add_assets(cur, [asset for asset in wanted if asset.code not in known])
    return None


def scales(cur: Cursor) -> dict[AssetCode, int]:
    """The scale of each asset that was ever configured."""
    return store.scales(cur)


def _log(cur: Cursor, deed: Deed, *, owner: str, reason: str, operator: str, now_ms: int) -> None:
    store.add_act(cur, deed, operator=operator, reason=reason, owner=owner, transfer_id=None, acted_ms=now_ms)
