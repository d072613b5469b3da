"""The admin routes of the ledger, in several currencies and an asset of the operator's own."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.ledger.archive_file import check_lines, header_line
from super_app.ledger.model import Stretch

ALICE, BOB, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "admin"))
DIGEST = "d" * 43
DAY_S = 86_400.0
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}, {"code": "JPY"}, {"code": "KWD"}, {"code": "GLD", "scale": 8}],
    },
}


class Bank(FakeHomeserver):
    """alice has 100.00 EUR; alice, bob and an admin live here."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.start()
        for name in ("alice", "bob"):
            self.register(name)
        self.register("admin", admin=True)
        self.room(ALICE, BOB)
        self.issue(ALICE, 10_000, "EUR")

    def issue(self, user_id: str, amount: int, currency: str) -> dict[str, Any]:
        body = {
            "user_id": user_id,
            "amount": amount,
            "currency": currency,
            "reference": f"{user_id} {amount} {currency}",
        }
        return self.call("POST", "admin/issue", ADMIN, body)

    def admin(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        return self.call(method, f"admin/{path}", ADMIN, body, {name: str(value) for name, value in query.items()})

    def available(self, user_id: str) -> dict[str, int]:
        return {each["currency"]: each["available"] for each in self.call("GET", "wallet", user_id)["accounts"]}

    def pay(self, number: int, amount: int, currency: str = "EUR", payer: str = ALICE) -> dict[str, Any]:
        payee = BOB if payer == ALICE else ALICE
        body = {"payment_id": f"{number:032x}", "payee": payee, "amount": amount, "currency": currency}
        return self.call("POST", "payments", payer, body)

    def entries(self, account: str = ALICE, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin("GET", "statement", account=account, **{"currency": "EUR", **query})[
            "entries"
        ]
        return found


@contextmanager
def refused(code: str, status: int) -> Generator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    with pytest.raises(SynapseError) as refusal:
        yield fields
    assert (refusal.value.errcode, refusal.value.code) == (f"ORG.SUPERAPP.{code}", status)
    assert refusal.value.msg.endswith("."), refusal.value.msg
    fields.update(refusal.value._additional_fields)


@pytest.fixture
def bank() -> Bank:
    return Bank()


def burn(amount: Any = 2_500, **fields: Any) -> dict[str, Any]:
    return {"user_id": ALICE, "amount": amount, "currency": "EUR", "reference": "b1", **fields}


class TestCurrencies:
    @pytest.mark.parametrize(("currency", "scale"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("GLD", 8)])
    def test_each_is_issued_paid_burnt_and_balanced_apart(self, bank: Bank, currency: str, scale: int) -> None:
        most = 2**53 - 1 - 10_000
        bank.issue(ALICE, most, currency)
        before = bank.available(ALICE)
        assert bank.pay(1, 700, currency)["state"] == "completed"
        bank.admin("POST", "burn", burn(300, user_id=BOB, currency=currency))
        assert bank.available(ALICE) == {**before, currency: before[currency] - 700}
        assert bank.available(BOB) == {**dict.fromkeys(before, 0), currency: 400}
        (trial,) = [each for each in bank.admin("GET", "trial_balance")["currencies"] if each["currency"] == currency]
        assert (trial["scale"], trial["total"]) == (scale, 0)
        assert bank.admin("GET", "invariants")["ok"]

    def test_an_unknown_one_is_refused(self, bank: Bank) -> None:
        with refused("UNKNOWN_CURRENCY", 422):
            bank.admin("POST", "burn", burn(currency="USD"))
        with refused("UNKNOWN_CURRENCY", 422):
            bank.admin("GET", "statement", account=ALICE, currency="USD")


class TestBurn:
    def test_it_is_done_once_for_each_reference(self, bank: Bank) -> None:
        first = bank.admin("POST", "burn", burn())
        assert (first["cause"], first["amount"], first["debit_after"]) == ("burn", 2_500, 7_500)
        assert bank.admin("POST", "burn", burn()) == first
        assert bank.available(ALICE)["EUR"] == 7_500

    def test_what_it_refuses(self, bank: Bank) -> None:
        with refused("INSUFFICIENT_FUNDS", 402) as fields:
            bank.admin("POST", "burn", burn(10_001))
        assert fields["available"] == 10_000
        with refused("UNKNOWN_PAYEE", 404):
            bank.admin("POST", "burn", burn(user_id="@zoe:hs2.test"))
        with refused("INVALID_VALUE", 422):
            bank.admin("POST", "burn", burn(0))
        with refused("INVALID_VALUE", 422):
            bank.admin("POST", "burn", burn(reference=""))
        bank.admin("POST", "burn", burn())
        with refused("CONFLICT", 409) as fields:
            bank.admin("POST", "burn", burn(1))
        assert fields["field"] == "amount"


class TestCorrect:
    def test_a_payment_is_taken_back_in_parts(self, bank: Bank) -> None:
        bank.pay(1, 1_000)
        seq = bank.entries(BOB)[0]["seq"]
        body = {"seq": seq, "amount": 400, "reference": "c1", "reason": "paid twice"}
        first = bank.admin("POST", "correct", body)
        assert (first["cause"], first["reference"], first["credit_after"]) == ("correct", f"entry:{seq}", 9_400)
        assert bank.admin("POST", "correct", body) == first
        with refused("CORRECTION_EXCEEDS_ENTRY", 409) as fields:
            bank.admin("POST", "correct", {**body, "amount": 601, "reference": "c2"})
        assert fields["correctable"] == 600
        assert (bank.available(ALICE)["EUR"], bank.available(BOB)["EUR"]) == (9_400, 600)

    def test_what_it_refuses(self, bank: Bank) -> None:
        bank.pay(1, 1_000)
        body = {"seq": 99, "reference": "c1", "reason": "r"}
        with refused("UNKNOWN_ENTRY", 404):
            bank.admin("POST", "correct", body)
        with refused("NOT_CORRECTABLE", 409) as fields:
            bank.admin("POST", "correct", {**body, "seq": 2})
        assert fields["cause"] == "hold"
        bank.pay(2, 500, payer=BOB)
        bank.admin("POST", "burn", burn(500, user_id=BOB))
        with refused("INSUFFICIENT_FUNDS", 402):
            bank.admin("POST", "correct", {**body, "seq": 3})
        with refused("INVALID_VALUE", 422):
            bank.admin("POST", "correct", {"seq": 3, "reference": "c1"})


class TestFreeze:
    def test_a_frozen_person_neither_pays_nor_is_paid_until_it_is_lifted(self, bank: Bank) -> None:
        frozen = bank.admin("POST", f"accounts/{ALICE}/freeze", {"reason": "a court order"})
        assert frozen["user_id"] == ALICE
        assert bank.admin("GET", f"accounts/{ALICE}") == frozen
        assert bank.call("GET", "wallet", ALICE)["frozen_since"] == frozen["frozen_since"]
        assert bank.admin("POST", f"accounts/{ALICE}/freeze", {"reason": "again"}) == frozen
        with refused("ACCOUNT_FROZEN", 403) as fields:
            bank.pay(1, 100)
        assert fields["side"] == "payer"
        bank.issue(BOB, 100, "EUR")
        with refused("ACCOUNT_FROZEN", 403) as fields:
            bank.pay(2, 100, payer=BOB)
        assert fields["side"] == "payee"
        lifted = bank.admin("POST", f"accounts/{ALICE}/unfreeze", {"reason": "lifted"})
        assert "frozen_since" not in lifted
        assert "frozen_since" not in bank.call("GET", "wallet", ALICE)
        assert bank.pay(1, 100)["state"] == "completed"

    def test_only_people_of_here(self, bank: Bank) -> None:
        for path in ("freeze", "unfreeze"):
            with refused("UNKNOWN_PAYEE", 404):
                bank.admin("POST", f"accounts/@zoe:hs2.test/{path}", {"reason": "r"})
        with refused("UNKNOWN_PAYEE", 404):
            bank.admin("GET", "accounts/nobody")


class TestLog:
    def test_each_act_is_there_once_with_who_and_why(self, bank: Bank) -> None:
        for _ in range(2):
            bank.admin("POST", "burn", burn())
            bank.admin("POST", f"accounts/{ALICE}/freeze", {"reason": "a court order"})
        acts = bank.admin("GET", "acts")["acts"]
        assert [(act["deed"], act["operator"], act["reason"]) for act in acts] == [
            ("freeze", ADMIN, "a court order"),
            ("burn", ADMIN, "b1"),
            ("issue", ADMIN, f"{ALICE} 10000 EUR"),
        ]
        first = bank.admin("GET", "acts", limit=1)
        second = bank.admin("GET", "acts", limit=2, since=first["next"])
        assert [*first["acts"], *second["acts"]] == acts


class TestStatement:
    def test_it_names_the_other_side_and_adds_up(self, bank: Bank) -> None:
        bank.pay(1, 1_000)
        bank.pay(2, 300, payer=BOB)
        found = bank.admin("GET", "statement", account=ALICE, currency="EUR")
        assert (found["scale"], found["opening"], found["closing"]) == (2, 0, 9_300)
        running = found["closing"]
        for line in found["entries"]:
            assert line["balance"] == running
            running -= line["change"]
        assert running == found["opening"]
        assert [line["cause"] for line in found["entries"]] == ["payment", "hold", "issue"]
        assert found["entries"][0]["counterparty"] == BOB
        assert found["entries"][2]["counterparty"] == "house"

    def test_it_comes_in_pages_and_by_time(self, bank: Bank) -> None:
        started = bank.api.get_current_time_msec()
        for number in range(1, 4):
            bank.advance(10)
            bank.pay(number, number)
        everything = bank.entries()
        paged: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = bank.admin("GET", "statement", account=ALICE, currency="EUR", **query)
            paged += page["entries"]
            if "next" not in page:
                break
            query["since"] = page["next"]
        assert paged == everything
        cut = everything[1]["ts"]
        older = bank.admin("GET", "statement", account=ALICE, currency="EUR", from_ts=started + 1, until_ts=cut)
        newer = bank.admin("GET", "statement", account=ALICE, currency="EUR", from_ts=cut)
        assert older["closing"] == newer["opening"]
        assert [*newer["entries"], *older["entries"]] == [line for line in everything if line["ts"] > started]

    @pytest.mark.parametrize(("account", "kind"), [("house", "issued"), (ALICE, "held"), ("hs2.test", "due_to")])
    def test_of_every_kind_of_account(self, bank: Bank, account: str, kind: str) -> None:
        found = bank.admin("GET", "statement", account=account, kind=kind, currency="EUR")
        assert found["closing"] == (-10_000 if kind == "issued" else 0)

    def test_what_it_refuses(self, bank: Bank) -> None:
        with refused("UNKNOWN_PAYEE", 404):
            bank.entries("@nobody:hs1.test")
        with refused("INVALID_VALUE", 422):
            bank.entries(kind="pocket")
        with refused("INVALID_VALUE", 422):
            bank.entries(since=99)
        with refused("INVALID_VALUE", 422):
            bank.entries(limit=0)


class TestJournal:
    def test_it_is_verified_page_by_page(self, bank: Bank) -> None:
        for number in range(1, 4):
            bank.pay(number, number)
        seen = 0
        after: dict[str, int] = {}
        while True:
            page = bank.admin("GET", "verify", limit=2, everything="true", **after)
            assert page["broken"] == []
            seen += page["through"] - page["after"]
            if page["done"]:
                break
            after = {"after": page["through"]}
        assert seen == page["head"] == 7

    def test_a_snapshot_is_taken_by_itself_each_day_and_verifying_begins_there(self, bank: Bank) -> None:
        assert bank.admin("GET", "verify")["after"] == 0
        bank.advance(DAY_S + 1_200)
        assert bank.admin("GET", "verify")["after"] == 1
        bank.pay(1, 100)
        assert bank.admin("GET", "verify") == {"after": 1, "through": 3, "head": 3, "done": True, "broken": []}

    def test_old_entries_go_into_a_file(self, bank: Bank) -> None:
        bank.pay(1, 1_000)
        bank.advance(DAY_S)
        cut = bank.api.get_current_time_msec()
        bank.pay(2, 500)
        plan = bank.admin("GET", "archive/plan", until_ts=cut)
        lines = bank.admin("GET", "archive/lines", after=plan["after_seq"], limit=plan["through_seq"])["lines"]
        stretch = Stretch(
            after_seq=plan["after_seq"],
            before_hash=plan["before_hash"],
            through_seq=plan["through_seq"],
            entry_hash=plan["hash"],
            posted_ms=plan["posted_ts"],
        )
        assert check_lines([header_line("hs1.test", stretch), *lines]) == stretch
        body = {**plan, "file_name": "a.jsonl", "file_digest": DIGEST, "reason": "the year is over"}
        with refused("ARCHIVE_MISMATCH", 409):
            bank.admin("POST", "archive", {**body, "hash": "x" * 43})
        done = bank.admin("POST", "archive", body)
        assert (done["through_seq"], done["left"]) == (3, 0)
        assert bank.admin("POST", "archive", body)["left"] == 0
        with refused("CONFLICT", 409):
            bank.admin("POST", "archive", {**body, "file_digest": "e" * 43})
        assert [each["file_name"] for each in bank.admin("GET", "archives")["archives"]] == ["a.jsonl"]
        found = bank.admin("GET", "statement", account=ALICE, currency="EUR")
        assert (found["archived"]["through_seq"], found["opening"], found["closing"]) == (3, 9_000, 8_500)
        with refused("ENTRY_ARCHIVED", 409):
            bank.issue(ALICE, 10_000, "EUR")
        with refused("ENTRY_ARCHIVED", 409):
            bank.admin("POST", "correct", {"seq": 3, "reference": "c1", "reason": "r"})
        with refused("UNKNOWN_ENTRY", 404):
            bank.admin("GET", "archive/plan", until_ts=cut)
        assert bank.admin("GET", "invariants")["ok"]
        assert bank.admin("GET", "verify", everything="true")["broken"] == []
        assert bank.pay(3, 100)["state"] == "completed"
