"""The money of people whose accounts are deactivated goes where the operator's rule says, and the books balance."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import ConfigError

from super_app.ids import UserId

ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")
OPERATOR = UserId("@operator:hs1.test")
ROUND_S = 3_600
"""How often the homeserver looks who has left."""
AFTER_S = 10 * ROUND_S
"""How long the rule waits."""


def homeserver(then: str, **payments: Any) -> FakeHomeserver:
    made = FakeHomeserver(config={"payments": {"deactivated": {"then": then, "after": "10h"}, **payments}})
    made.start()
    made.register("operator", admin=True)
    for name in ("alice", "bob"):
        made.register(name)
    made.call("POST", "admin/issue", OPERATOR, {"user_id": ALICE, "amount": 100, "currency": "PTS", "reference": "r"})
    return made


def wait(hs: FakeHomeserver, seconds: float) -> None:
    """Few steps, as only the rounds matter here."""
    for _ in range(4):
        hs.clock.advance(seconds / 4)
        hs.settle()


def leave(hs: FakeHomeserver) -> None:
    hs.deactivated.add(ALICE)
    wait(hs, ROUND_S)


def come_back(hs: FakeHomeserver) -> None:
    hs.deactivated.discard(ALICE)
    wait(hs, ROUND_S)


def kinds(hs: FakeHomeserver, user_id: UserId = ALICE) -> dict[str, int]:
    """What is in somebody's accounts, empty ones left out."""
    rows = hs.query(
        "SELECT kind, balance_minor FROM superapp_ledger_account WHERE balance_minor <> 0"
        " AND owner = (SELECT acct FROM superapp_account WHERE user_id = ?)",
        user_id,
    )
    return {str(kind): int(balance) for kind, balance in rows}


def balance(hs: FakeHomeserver) -> bool:
    return bool(hs.call("GET", "admin/invariants", OPERATOR)["ok"])


def test_by_default_money_stays_blocked_and_operators_see_whose_it_is() -> None:
    hs = FakeHomeserver()
    hs.start()
    hs.register("operator", admin=True)
    hs.register("alice")
    hs.call("POST", "admin/issue", OPERATOR, {"user_id": ALICE, "amount": 7, "currency": "PTS", "reference": "r"})
    assert hs.call("GET", "admin/leavers", OPERATOR)["leavers"] == []
    leave(hs)
    wait(hs, 1_000 * AFTER_S)
    assert kinds(hs) == {"available": 7}
    (gone,) = hs.call("GET", "admin/leavers", OPERATOR)["leavers"]
    assert (gone["user_id"], gone["money"], gone["frozen"]) == (
        ALICE,
        [{"currency": "PTS", "scale": 0, "kind": "available", "amount": 7}],
        False,
    )
    assert "due_ms" not in gone


def test_what_is_burnt_is_burnt_when_its_time_has_come_and_not_before() -> None:
    hs = homeserver("burn")
    leave(hs)
    (gone,) = hs.call("GET", "admin/leavers", OPERATOR)["leavers"]
    assert gone["due_ms"] == gone["left_ms"] + AFTER_S * 1_000
    wait(hs, AFTER_S - 2 * ROUND_S)
    assert kinds(hs) == {"available": 100}
    wait(hs, 3 * ROUND_S)
    assert kinds(hs) == {}
    assert balance(hs)
    acts = hs.call("GET", "admin/acts", OPERATOR)["acts"]
    assert [(each["deed"], each["operator"]) for each in acts] == [
        ("burn", "payments.deactivated"),
        ("issue", OPERATOR),
    ]
    assert hs.call("GET", "admin/leavers", OPERATOR)["leavers"] == []


def test_what_is_put_by_waits_for_its_owner_and_an_operator_can_pay_it_out() -> None:
    hs = homeserver("claim")
    leave(hs)
    wait(hs, AFTER_S + ROUND_S)
    assert kinds(hs) == {"claim": 100}
    burn = {"user_id": ALICE, "amount": 40, "currency": "PTS", "reference": "paid out"}
    for _ in range(2):
        assert hs.call("POST", "admin/burn", OPERATOR, burn)["amount"] == 40
    assert kinds(hs) == {"claim": 60}
    come_back(hs)
    assert kinds(hs) == {"available": 60}
    # A replay stays one, though what it took is elsewhere now.
    assert hs.call("POST", "admin/burn", OPERATOR, burn)["amount"] == 40
    assert hs.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 60
    assert balance(hs)


def test_who_leaves_again_has_their_time_anew() -> None:
    hs = homeserver("claim")
    for _ in range(2):
        leave(hs)
        wait(hs, AFTER_S - 2 * ROUND_S)
        assert kinds(hs) == {"available": 100}
        wait(hs, 3 * ROUND_S)
        assert kinds(hs) == {"claim": 100}
        come_back(hs)
    assert kinds(hs) == {"available": 100}
    assert balance(hs)


def test_what_is_under_way_ends_as_it_would_have_and_what_comes_back_is_taken_later() -> None:
    hs = homeserver("burn")
    hs.account_data[BOB, "org.superapp.payment.policy"] = {"v": 1, "accept": "ask"}
    order = {"payment_id": f"{1:032x}", "payee": BOB, "amount": 30, "currency": "PTS"}
    assert hs.call("POST", "payments", ALICE, order)["state"] == "awaiting_acceptance"
    leave(hs)
    wait(hs, AFTER_S)
    assert kinds(hs) == {"held": 30}
    hs.call("POST", f"payments/{1:032x}/decline", BOB)
    assert kinds(hs) == {"available": 30}
    wait(hs, ROUND_S)
    assert kinds(hs) == {}
    assert balance(hs)


def test_the_money_of_a_frozen_account_stays_until_it_is_free() -> None:
    hs = homeserver("burn")
    hs.call("POST", f"admin/accounts/{ALICE}/freeze", OPERATOR, {"reason": "a court says so"})
    leave(hs)
    wait(hs, 2 * AFTER_S)
    assert kinds(hs) == {"available": 100}
    (gone,) = hs.call("GET", "admin/leavers", OPERATOR)["leavers"]
    assert gone["frozen"]
    hs.call("POST", f"admin/accounts/{ALICE}/unfreeze", OPERATOR, {"reason": "it is over"})
    wait(hs, ROUND_S)
    assert kinds(hs) == {}


def test_nothing_is_taken_while_payments_are_halted() -> None:
    hs = homeserver("burn")
    leave(hs)
    hs.call("PUT", "admin/payments/halt", OPERATOR, {"reason": "looking into the books"})
    wait(hs, 2 * AFTER_S)
    assert kinds(hs) == {"available": 100}
    hs.call("DELETE", "admin/payments/halt", OPERATOR)
    wait(hs, ROUND_S)
    assert kinds(hs) == {}


def test_who_left_while_nobody_ran_is_found_at_the_start() -> None:
    hs = homeserver("burn")
    hs.deactivated.add(ALICE)
    hs.restart()
    assert [each["user_id"] for each in hs.call("GET", "admin/leavers", OPERATOR)["leavers"]] == [ALICE]


def test_pages_of_leavers_have_everybody_once() -> None:
    hs = homeserver("keep")
    people = [ALICE]
    for number in range(4):
        people.append(hs.register(f"person{number}"))
        issue = {"user_id": people[-1], "amount": 5, "currency": "PTS", "reference": f"r{number}"}
        hs.call("POST", "admin/issue", OPERATOR, issue)
    hs.deactivated |= set(people)
    wait(hs, ROUND_S)
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        page = hs.call("GET", "admin/leavers", OPERATOR, query=query)
        seen += [each["user_id"] for each in page["leavers"]]
        if page.get("next") is None:
            break
        query = {"limit": "2", "since": page["next"]}
    assert sorted(seen) == sorted(people)
    assert len(seen) == len(set(seen))


def test_a_rule_that_does_not_exist_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"payments\.deactivated\.then"):
        homeserver("forfeit")
