"""Pots over a database without a homeserver: the books of payments, and who is in which room, told by the test."""

from dataclasses import dataclass, field

from payment_books import ASSETS, HERE, PACKAGES, ROOM, SALTS, Books, payment_id

from super_app.db import Cursor, Transaction
from super_app.errors import Refused
from super_app.ids import Acct, PaymentId, RoomId, UserId, server_of
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKey, AccountKind
from super_app.money import AssetCode, Money
from super_app.payments.model import Order
from super_app.pots import rules
from super_app.pots.model import GIFT_MS, LINK_MS, Claim, Claimed, Kind, Pot, PotId, PotKey, PotState, Share, Split
from super_app.pots.service import Pots
from super_app.safeguards.model import Settings

POT_PACKAGES = (*PACKAGES, "super_app.pots")
EUR = AssetCode("EUR")
SALT = "55" * 16


@dataclass
class ToldMembers:
    """``super_app.pots.ports.Members`` as the test tells it."""

    inside: set[UserId] = field(default_factory=set)
    blocked: set[tuple[UserId, UserId]] = field(default_factory=set)

    def is_member(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        return user_id in self.inside

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return (resident, other) in self.blocked


class PotBooks(Books):
    def __init__(self, transaction: Transaction, settings: Settings | None = None) -> None:
        super().__init__(transaction, settings)
        self.members = ToldMembers()
        self.pots = Pots(
            payments=self.payments,
            guards=self.safeguards,
            members=self.members,
            is_halted=self.homeserver.payments_are_halted,
        )
        self.payments.pay_out_of(self.pots)
        self.safeguards.count_aside(self.pots.aside_minor)
        self.claims = 1_000

    def join(self, *names: str) -> None:
        self.members.inside |= {self.user(name) for name in names}

    @staticmethod
    def user(name: str) -> UserId:
        return UserId(name if ":" in name else f"@{name}:{HERE}")

    def gift(
        self,
        number: int,
        giver: str,
        amounts: tuple[int, ...],
        *,
        only: str | None = None,
        split: Split = Split.RANDOM,
        currency: AssetCode = EUR,
        proven: bool = False,
        memo: str | None = "for you",
    ) -> Pot | Refused:
        pot_id = PotId(f"{number:032x}")
        return self._make(
            Pot(
                giver_acct=Acct(self.account(self.user(giver))),
                pot_id=pot_id,
                giver=self.user(giver),
                kind=Kind.GIFT,
                split=split,
                money=Money(amount_minor=sum(amounts), currency=currency),
                shares=len(amounts),
                memo=memo,
                room_id=ROOM,
                event_id=None,
                only=None if only is None else self.user(only),
                secret=None,
                salt=SALT,
                commitment=rules.commitment(pot_id, SALT, amounts),
                state=PotState.OPEN,
                told=False,
                created_ms=self.now_ms,
                expires_ms=self.now_ms + GIFT_MS,
            ),
            amounts,
            proven=proven,
        )

    def link(
        self, number: int, giver: str, minor: int, *, to: str | None = None, secret: str | None = "secret"
    ) -> Pot | Refused:
        pot_id = PotId(f"{number:032x}")
        return self._make(
            Pot(
                giver_acct=Acct(self.account(self.user(giver))),
                pot_id=pot_id,
                giver=self.user(giver),
                kind=Kind.LINK,
                split=Split.EQUAL,
                money=Money(amount_minor=minor, currency=EUR),
                shares=1,
                memo=None,
                room_id=None,
                event_id=None,
                only=None if to is None else self.user(to),
                secret=secret,
                salt=SALT,
                commitment=rules.commitment(pot_id, SALT, [minor]),
                state=PotState.OPEN,
                told=False,
                created_ms=self.now_ms,
                expires_ms=self.now_ms + LINK_MS,
            ),
            (minor,),
        )

    def _make(self, pot: Pot, amounts: tuple[int, ...], *, proven: bool = False) -> Pot | Refused:
        return self.transaction(lambda cur: self.pots.make(cur, pot, amounts, self.now_ms, proven=proven))

    def claim(
        self,
        number: int,
        giver: str,
        claimer: str,
        *,
        kind: Kind = Kind.GIFT,
        secret: str | None = None,
        under: PaymentId | None = None,
    ) -> Claimed | Refused:
        self.claims += 1
        user_id = self.user(claimer)
        wanted = Claim(
            giver=self.user(giver),
            pot_id=PotId(f"{number:032x}"),
            kind=kind,
            claimer=user_id,
            claimer_acct=self.account(user_id),
            payment_id=under or payment_id(self.claims),
            secret=secret,
        )
        return self.transaction(lambda cur: self.pots.claim(cur, wanted, SALTS, self.now_ms))

    def cancel_pot(self, number: int, giver: str, kind: Kind = Kind.GIFT) -> Pot | Refused:
        key = self._key(number, giver)
        return self.transaction(lambda cur: self.pots.cancel(cur, kind, key, self.now_ms))

    def expire_pot(self, number: int, giver: str) -> Pot | None:
        key = self._key(number, giver)
        return self.transaction(lambda cur: self.pots.expire(cur, key, self.now_ms))

    def pot(self, number: int, giver: str, kind: Kind = Kind.GIFT) -> tuple[Pot, tuple[Share, ...]]:
        found = self.transaction(lambda cur: self.pots.find(cur, kind, self.user(giver), PotId(f"{number:032x}")))
        assert not isinstance(found, Refused), found
        return found

    def aside(self, acct: Acct, currency: AssetCode = EUR) -> int:
        key = AccountKey(owner=acct, currency=currency, kind=AccountKind.GIFT)
        return self.transaction(lambda cur: ledger.balance(cur, key))

    def order_of(self, number: int, giver: str, claimer: str) -> Order:
        """The order of the payment that pays a share, to play the other homeserver with."""
        pot, shares = self.pot(number, giver)
        share = next(each for each in shares if each.claimer == self.user(claimer))
        assert share.payment_id is not None
        assert server_of(self.user(claimer)) != HERE
        return self.order(int(share.payment_id, 16), giver, claimer, share.amount_minor, memo=pot.memo)

    def violations(self) -> tuple[object, ...]:
        return (*super().violations(), *self.transaction(self.pots.violations))

    def _key(self, number: int, giver: str) -> PotKey:
        return PotKey(giver_acct=Acct(self.account(self.user(giver))), pot_id=PotId(f"{number:032x}"))


__all__ = ["ASSETS", "POT_PACKAGES", "PotBooks"]
