"""What a list of names finds in a payment, and what it leaves alone."""

import pytest

from super_app.clearing.ports import Party
from super_app.ids import Acct, Handle, PaymentId, UserId
from super_app.money import AssetCode, Money
from super_app.payments.model import PayerKey, Payment, State, Venue
from super_app.reviews import rules


def payment(
    payee: str = "@bob:hs2.test", memo: str | None = None, handle: str | None = None, *, refund: bool = False
) -> Payment:
    return Payment(
        payer_key=PayerKey("a"),
        payment_id=PaymentId("1" * 32),
        payer=UserId("@alice:hs1.test"),
        payer_acct=Acct("a"),
        payee=Party(user_id=UserId(payee), acct="", handle=None if handle is None else Handle(handle)),
        payee_acct=None,
        money=Money(amount_minor=1, currency=AssetCode("EUR")),
        memo=memo,
        request=None,
        refund_of=PaymentId("2" * 32) if refund else None,
        invoice=None,
        order_hash=None,
        salts=None,
        wire_id=None,
        room_id=None,
        event_id=None,
        venue=Venue.OPEN,
        payee_joined=True,
        position=0,
        state=State.HELD,
        reason=None,
        answered=False,
        created_ms=0,
        due_ms=None,
        signed=None,
    )


LIST = rules.read_list("# sanctions\nJosé Müller   # since 2020\n\n@mallory:hs2.test\n---\nACME Corp\n")


def test_a_list_is_read_with_its_comments_and_without_what_is_no_name() -> None:
    assert LIST == ("José Müller", "@mallory:hs2.test", "ACME Corp")
    assert rules.read_list("") == ()


@pytest.mark.parametrize(
    ("payee", "memo", "handle", "found"),
    [
        ("@bob:hs2.test", "lunch", None, None),
        ("@bob:hs2.test", "for JOSE  muller!", None, "José Müller"),
        ("@bob:hs2.test", "for Josef Müller", None, None),
        ("@bob:hs2.test", "for Müller, José", None, None),
        ("@jose.muller:hs2.test", None, None, "José Müller"),
        ("@jose_muller:hs2.test", None, None, "José Müller"),
        ("@josemullerson:hs2.test", None, None, None),
        ("@Mallory:hs2.test", None, None, "@mallory:hs2.test"),
        ("@mallory:hs3.test", None, None, None),
        ("@bob:hs2.test", None, "@mallory:hs2.test", "@mallory:hs2.test"),
        ("@bob:hs2.test", "mallory", None, None),
        ("@bob:acme.corp", None, None, None),
        ("@bob:hs2.test", "acme-corp invoice", None, "ACME Corp"),
    ],
)
def test_names_are_found_as_whole_words_without_case_and_accents(
    payee: str, memo: str | None, handle: str | None, found: str | None
) -> None:
    assert rules.match(payment(payee, memo, handle), LIST) == found


def test_what_goes_back_to_whom_it_came_from_is_not_held_up() -> None:
    assert rules.match(payment("@mallory:hs2.test", refund=True), LIST) is None
