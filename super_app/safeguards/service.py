"""The operations of the safeguards, and what payments ask of them (``super_app.payments.ports.Guards``).

They run in the transaction of the one writer, so two payments at once cannot both fit into what is left for one. PINs
are hashed outside, where time may be spent: here are only their hashes. A refusal has written nothing, but for tries of
a PIN, which count before they are looked at.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, UserId
from super_app.ledger import service as ledger
from super_app.money import Asset, AssetCode, Money
from super_app.payments.model import Order
from super_app.safeguards import passkey_store, rules, store
from super_app.safeguards.model import (
    CAREFUL_MS,
    Direction,
    Pin,
    Safeguard,
    Settings,
    Use,
    Window,
    WindowLimits,
)

Aside = Callable[[Cursor, Acct, AssetCode], int]
"""How many minor units of a person lie aside for others."""


class Safeguards:
    def __init__(self, *, assets: Mapping[AssetCode, Asset], settings: Settings) -> None:
        self._assets = assets
        self._settings = settings
        self._asides: list[Aside] = []

    def count_aside(self, aside: Aside) -> None:
        """Count what people have put aside for others among what they send. It is sent when it is claimed."""
        self._asides.append(aside)

    # What payments ask.

    def judge_order(self, cur: Cursor, order: Order, *, proven: bool, now_ms: int) -> Refused | None:
        """Whether a payer may send: WALLET_LOCKED, LIMIT_EXCEEDED, PIN_NOT_SET or PIN_REQUIRED, in this order.

        ``proven`` says that the right PIN came with it. What goes back to whom it came from is only held by the lock.
        """
        safeguard = store.find(cur, order.payer_acct)
        locked = rules.judge_lock(safeguard)
        if locked is not None or order.refund_of is not None:
            return locked
        return self._judge_sending(cur, safeguard, order.money, order.payee.user_id, proven=proven, now_ms=now_ms)

    def judge_aside(
        self, cur: Cursor, acct: Acct, money: Money, payee: UserId | None, *, proven: bool, now_ms: int
    ) -> Refused | None:
        """Whether somebody may put money aside for others, as ``judge_order``. ``payee`` None: for whoever comes.

        It is not asked again when the money is claimed.
        """
        safeguard = store.find(cur, acct)
        return rules.judge_lock(safeguard) or self._judge_sending(
            cur, safeguard, money, payee, proven=proven, now_ms=now_ms
        )

    def judge_pin(self, cur: Cursor, payer: Acct, payee: UserId | None, money: Money) -> Refused | None:
        """PIN_REQUIRED or PIN_NOT_SET, if paying somebody so much takes the PIN. ``payee`` None: whoever comes."""
        pin = store.find(cur, payer).pin
        minds = rules.minds_new_payees(pin, self._settings)
        new_payee = minds and (payee is None or not store.has_paid(cur, payer, payee))
        return rules.judge_pin(pin, self._settings, money, self._assets[money.currency], new_payee=new_payee)

    def judge_lock(self, cur: Cursor, acct: Acct) -> Refused | None:
        """WALLET_LOCKED, if nothing is sent now."""
        return rules.judge_lock(store.find(cur, acct))

    def judge_receiving(self, cur: Cursor, payee: Acct, money: Money, now_ms: int) -> Refused | None:
        """PAYEE_LIMIT if the payee may not have that much more, or nothing at all."""
        if self._judge_country(cur, payee) is not None:
            # Where somebody is at home is not the payer's to know.
            return rules.payee_limit()
        if not self._settings.tiers:
            return None
        tier = rules.tier_of(store.find(cur, payee), self._settings)
        currency, asset = money.currency, self._assets[money.currency]
        most = tier.balance.get(currency)
        if most is not None and self._balance_minor(cur, payee, currency) + money.amount_minor > most:
            return rules.payee_limit()
        for use in self._uses(cur, payee, Direction.RECEIVED, currency, tier.received.get(currency, {}), now_ms):
            refused = rules.judge_use(use, money, asset)
            if refused is not None:
                return refused
        return None

    # What the person does.

    def find(self, cur: Cursor, acct: Acct) -> Safeguard:
        return store.find(cur, acct)

    def limits(self, cur: Cursor, acct: Acct, now_ms: int) -> tuple[Use, ...]:
        """Every limit of this person and what is used of it."""
        safeguard = store.find(cur, acct)
        tier = rules.tier_of(safeguard, self._settings)
        found: list[Use] = []
        for currency in self._assets:
            found += self._sending(cur, safeguard, currency, now_ms)
            received = tier.received.get(currency, {})
            found += self._uses(cur, acct, Direction.RECEIVED, currency, received, now_ms)
        return tuple(found)

    def begin_try(self, cur: Cursor, acct: Acct, now_ms: int) -> Pin | Refused:
        """Count a try of the PIN, before it is compared. The answer has the hash to compare it with."""
        safeguard = store.find(cur, acct)
        refused = rules.judge_try(safeguard.pin, now_ms)
        if refused is not None or safeguard.pin is None:
            return refused or rules.no_pin()
        tries, locked_until_ms = rules.counted(safeguard.pin, now_ms)
        tried = replace(safeguard.pin, tries=tries, locked_until_ms=locked_until_ms)
        store.put(cur, replace(safeguard, pin=tried))
        return tried

    def end_try(self, cur: Cursor, acct: Acct, tried: Pin) -> None:
        """It was right: earlier ones no longer count. Nothing happens if the PIN was changed meanwhile."""
        safeguard = store.find(cur, acct)
        if safeguard.pin is not None and safeguard.pin.hash == tried.hash:
            store.put(cur, replace(safeguard, pin=replace(safeguard.pin, tries=0, locked_until_ms=None)))

    def set_pin(self, cur: Cursor, acct: Acct, pin_hash: str, before: Pin | None, now_ms: int) -> Safeguard | Refused:
        """A new PIN in the place of ``before``, or the first; what the person has set for it stays.

        CONFLICT if another one was set since ``before`` was proven.
        """
        safeguard = store.find(cur, acct)
        fresh = Pin(hash=pin_hash, set_ms=now_ms)
        if (None if safeguard.pin is None else safeguard.pin.hash) != (None if before is None else before.hash):
            return rules.pin_changed()
        if safeguard.pin is not None:
            fresh = replace(fresh, above=safeguard.pin.above, new_payee=safeguard.pin.new_payee)
        return self._put(cur, replace(safeguard, pin=fresh))

    def drop_pin(self, cur: Cursor, acct: Acct, now_ms: int) -> Safeguard:
        """No PIN any more, and no passkeys beside it.

        For a day small amounts only, since whoever could do that may not be the person.
        """
        safeguard = store.find(cur, acct)
        if safeguard.pin is None:
            return safeguard
        passkey_store.drop_all(cur, acct)
        return self._put(cur, replace(safeguard, pin=None, careful_until_ms=now_ms + CAREFUL_MS))

    def ask_for_pin(
        self, cur: Cursor, acct: Acct, *, above: Mapping[AssetCode, int] | None, new_payee: bool | None
    ) -> Safeguard | Refused:
        """When the person wants to be asked; None leaves it as it is."""
        safeguard = store.find(cur, acct)
        if safeguard.pin is None:
            return rules.no_pin()
        pin = safeguard.pin
        pin = pin if above is None else replace(pin, above=above)
        pin = pin if new_payee is None else replace(pin, new_payee=new_payee)
        return self._put(cur, replace(safeguard, pin=pin))

    def lock(self, cur: Cursor, acct: Acct, now_ms: int) -> Safeguard:
        """Nothing is sent until it is unlocked, and the passkeys are gone, since one may be in the lost device.

        What was sent before goes on.
        """
        passkey_store.drop_all(cur, acct)
        safeguard = store.find(cur, acct)
        if safeguard.locked_ms is not None:
            return safeguard
        return self._put(cur, replace(safeguard, locked_ms=now_ms))

    def unlock(self, cur: Cursor, acct: Acct, now_ms: int) -> Safeguard:
        safeguard = store.find(cur, acct)
        if safeguard.locked_ms is None:
            return safeguard
        return self._put(cur, replace(safeguard, locked_ms=None, careful_until_ms=now_ms + CAREFUL_MS))

    # What operators do.

    def put_in_tier(self, cur: Cursor, acct: Acct, tier: str | None) -> Safeguard | Refused:
        """None is the default tier."""
        if tier is not None and tier not in self._settings.tiers:
            return rules.unknown_tier(tier, self._settings.tiers)
        return self._put(cur, replace(store.find(cur, acct), tier=tier))

    def _judge_sending(
        self, cur: Cursor, safeguard: Safeguard, money: Money, payee: UserId | None, *, proven: bool, now_ms: int
    ) -> Refused | None:
        refused = self._judge_country(cur, safeguard.acct)
        if refused is not None:
            return refused
        asset = self._assets[money.currency]
        for use in self._sending(cur, safeguard, money.currency, now_ms):
            refused = rules.judge_use(use, money, asset)
            if refused is not None:
                return refused
        return None if proven else self.judge_pin(cur, safeguard.acct, payee, money)

    def put_in_country(self, cur: Cursor, acct: Acct, country: str | None) -> Refused | None:
        """Where somebody is at home, as the operator has found out; None: not known any more."""
        refused = None if country is None else rules.judge_new_country(country)
        if refused is None:
            store.put_country(cur, acct, country)
        return refused

    def country_of(self, cur: Cursor, acct: Acct) -> str | None:
        return store.country(cur, acct)

    def _judge_country(self, cur: Cursor, acct: Acct) -> Refused | None:
        # Most operators ask for none, and then nothing is looked up.
        if self._settings.countries is None:
            return None
        return rules.judge_country(store.country(cur, acct), self._settings)

    def _put(self, cur: Cursor, safeguard: Safeguard) -> Safeguard:
        store.put(cur, safeguard)
        return safeguard

    def _sending(self, cur: Cursor, safeguard: Safeguard, currency: AssetCode, now_ms: int) -> Iterator[Use]:
        limits = rules.tier_of(safeguard, self._settings).sent.get(currency, {})
        yield from self._uses(cur, safeguard.acct, Direction.SENT, currency, limits, now_ms)
        careful_minor = rules.careful_limit_minor(safeguard, self._settings, currency, now_ms)
        if careful_minor is not None:
            limits = {Window.DAY: careful_minor}
            yield from self._uses(cur, safeguard.acct, Direction.SENT, currency, limits, now_ms)

    def _uses(
        self, cur: Cursor, acct: Acct, direction: Direction, currency: AssetCode, limits: WindowLimits, now_ms: int
    ) -> Iterator[Use]:
        aside_minor = 0
        if direction is Direction.SENT and any(window.length_ms for window in limits):
            aside_minor = sum(aside(cur, acct, currency) for aside in self._asides)
        sums_minor = {
            window: store.moved_minor(cur, acct, direction, currency, now_ms - window.length_ms) + aside_minor
            for window in limits
            if window.length_ms
        }
        yield from rules.uses(direction, currency, limits, sums_minor)

    def _balance_minor(self, cur: Cursor, acct: Acct, currency: AssetCode) -> int:
        return sum(each.available_minor for each in ledger.wallet(cur, acct) if each.currency == currency)
