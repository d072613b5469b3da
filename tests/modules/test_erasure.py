"""Who leaves and wants to be forgotten is, and the books still balance."""

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.ids import UserId
from synapse_super_app.operations.erasure import ERASERS, NOTHING_OF_A_PERSON

ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")
OPERATOR = UserId("@operator:hs1.test")
MEMO = "for the thing that nobody may know of"


@pytest.fixture
def hs() -> FakeHomeserver:
    made = FakeHomeserver(config={"features": {"assistant": True, "cards": True, "recovery": True}})
    made.start()
    made.register("operator", admin=True)
    for name in ("alice", "bob"):
        made.register(name)
    made.call("POST", "admin/issue", OPERATOR, {"user_id": ALICE, "amount": 100, "currency": "PTS", "reference": "r"})
    made.call("PUT", "contacts/@bob:hs1.test", ALICE)
    made.call("PUT", "contacts/@alice:hs1.test", BOB)
    order = {"payment_id": f"{1:032x}", "payee": BOB, "amount": 30, "currency": "PTS", "memo": MEMO}
    assert made.call("POST", "payments", ALICE, order)["state"] == "completed"
    back = {"payment_id": f"{2:032x}", "payee": ALICE, "amount": 10, "currency": "PTS", "memo": "thanks"}
    assert made.call("POST", "payments", BOB, back)["state"] == "completed"
    return made


def leaves(hs: FakeHomeserver, user_id: UserId, *, erase: bool) -> None:
    """As Synapse does it: both marks are there before modules hear of it."""
    hs.deactivated.add(user_id)
    if erase:
        hs.erased.add(user_id)
    for callback in hs.api.callbacks["on_user_deactivation_status_changed"]:
        hs.result(callback(user_id, True, False))


def count(hs: FakeHomeserver, table: str, where: str = "1 = 1") -> int:
    return int(hs.query(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


def of_alice() -> str:
    return f"owner_acct = (SELECT acct FROM superapp_account WHERE user_id = '{ALICE}')"


def test_contacts_and_memos_go_and_the_entries_stay_in_the_name_of_a_pseudonym(hs: FakeHomeserver) -> None:
    entries = hs.query("SELECT * FROM superapp_ledger_entry ORDER BY 1")
    assert count(hs, "superapp_contact", of_alice()) == 1
    leaves(hs, ALICE, erase=True)
    assert count(hs, "superapp_contact", of_alice()) == 0
    memos = {each["payment_id"]: each.get("memo") for each in hs.call("GET", "payments", BOB)["payments"]}
    # What she wrote is gone for him too; what he wrote is his.
    assert memos == {f"{1:032x}": None, f"{2:032x}": "thanks"}
    assert hs.query("SELECT * FROM superapp_ledger_entry ORDER BY 1") == entries
    assert hs.call("GET", "admin/invariants", OPERATOR)["ok"]
    assert hs.call("GET", "wallet", BOB)["accounts"][0]["available"] == 20
    # Nobody else's data went with hers.
    assert [each["user_id"] for each in hs.call("GET", "contacts", BOB)["contacts"]] == [ALICE]
    owners = {str(row[0]) for row in hs.query("SELECT owner FROM superapp_ledger_account")}
    assert not any("alice" in owner for owner in owners)
    assert MEMO not in str(hs.query("SELECT * FROM superapp_payment"))


def test_who_only_leaves_keeps_what_the_retention_keeps(hs: FakeHomeserver) -> None:
    leaves(hs, ALICE, erase=False)
    assert count(hs, "superapp_contact", of_alice()) == 1
    assert count(hs, "superapp_erasure") == 0


def test_what_no_process_saw_is_found_at_the_next_start(hs: FakeHomeserver) -> None:
    hs.deactivated.add(ALICE)
    hs.erased.add(ALICE)
    hs.restart()
    assert count(hs, "superapp_contact", of_alice()) == 0
    assert count(hs, "superapp_erasure") == 1


def test_an_admin_erases_who_has_left_and_nobody_else(hs: FakeHomeserver) -> None:
    assert refused(hs, ALICE) == (409, "CONFLICT")
    assert refused(hs, UserId("@nobody:hs1.test")) == (404, "UNKNOWN_PAYEE")
    assert count(hs, "superapp_contact", of_alice()) == 1
    leaves(hs, ALICE, erase=False)
    first = hs.call("POST", f"admin/erasures/{ALICE}", OPERATOR)
    assert first["erased"] >= 2
    assert hs.query("SELECT count(*) FROM superapp_ledger_account WHERE owner = ?", first["owner"]) != [(0,)]
    # The one payment is written to again; nothing else is left to go.
    assert hs.call("POST", f"admin/erasures/{ALICE}", OPERATOR)["erased"] < first["erased"]


def test_the_money_of_who_left_is_paid_out_by_the_operator_and_by_nobody_else(hs: FakeHomeserver) -> None:
    """It stays blocked until its owner, or the law, claims it: burnt here, and issued or paid out elsewhere."""
    leaves(hs, ALICE, erase=True)
    order = {"payment_id": f"{3:032x}", "payee": ALICE, "amount": 1, "currency": "PTS"}
    with pytest.raises(SynapseError) as refusal:
        hs.call("POST", "payments", BOB, order)
    assert refusal.value.errcode == "ORG.SUPERAPP.PAYEE_GONE"
    burn = {"user_id": ALICE, "amount": 80, "currency": "PTS", "reference": "paid out"}
    assert hs.call("POST", "admin/burn", OPERATOR, burn)["amount"] == 80
    assert hs.call("GET", "admin/invariants", OPERATOR)["ok"]


def test_who_comes_back_can_be_erased_again(hs: FakeHomeserver) -> None:
    leaves(hs, ALICE, erase=True)
    hs.deactivated.discard(ALICE)
    hs.erased.discard(ALICE)
    for callback in hs.api.callbacks["on_user_deactivation_status_changed"]:
        hs.result(callback(ALICE, False, True))
    assert count(hs, "superapp_erasure") == 0
    hs.call("PUT", "contacts/@bob:hs1.test", ALICE)
    leaves(hs, ALICE, erase=True)
    assert count(hs, "superapp_contact", of_alice()) == 0


def test_each_package_says_what_it_erases_or_why_nothing(hs: FakeHomeserver) -> None:
    """A new package with tables must say so, or its data would outlive its people."""
    packages = {str(row[0]) for row in hs.query("SELECT DISTINCT package FROM superapp_migration")}
    assert len(packages) > 15
    assert packages == ERASERS.keys() | NOTHING_OF_A_PERSON.keys()
    assert not ERASERS.keys() & NOTHING_OF_A_PERSON.keys()


def refused(hs: FakeHomeserver, user_id: UserId) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refusal:
        hs.call("POST", f"admin/erasures/{user_id}", OPERATOR)
    return refusal.value.code, refusal.value.errcode.removeprefix("ORG.SUPERAPP.")
