"""PIN, lock and limits as people meet them: over the API, and at the gate."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import ConfigError, SynapseError

from synapse_super_app.module import SuperApp

ALICE, BOB, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "admin"))
PAYMENT = "org.superapp.payment"
PAYMENTS: dict[str, Any] = {
    "mode": "custodial",
    "acknowledge": {"operator": "a test", "licence": "none"},
    "assets": [{"code": "EUR"}],
    "pin": {"above": {"EUR": 1_000}},
    "limits": {
        "default_tier": "basic",
        "tiers": {"basic": {"sent": {"EUR": {"day": 5_000}}}, "plus": {}},
        "after_lock": {"EUR": 200},
    },
}
MINUTE_S = 60.0


class House(FakeHomeserver):
    """alice, who has 100.00 EUR, and bob, in a direct room."""

    def __init__(self) -> None:
        super().__init__(config={"features": {"directory": False, "calls": False, "web": False}, "payments": PAYMENTS})
        self.start()
        for name in ("alice", "bob"):
            self.register(name)
        self.register("admin", admin=True)
        self.direct = self.room(ALICE, BOB)
        body = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "first"}
        self.call("POST", "admin/issue", ADMIN, body)

    def pay(self, number: int, minor: int, **more: Any) -> dict[str, Any]:
        return self.call("POST", "payments", ALICE, {**order(number, minor), **more})

    def set_pin(self, pin: str, **more: str) -> dict[str, Any]:
        return self.call("PUT", "wallet/pin", ALICE, {"pin": pin, **more})


def order(number: int, minor: int) -> dict[str, Any]:
    return {"payment_id": f"{number:032x}", "payee": BOB, "amount": minor, "currency": "EUR"}


@pytest.fixture
def house() -> House:
    return House()


def code_of(refusal: pytest.ExceptionInfo[SynapseError]) -> str:
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def test_a_payment_above_the_threshold_takes_the_pin_that_was_set(house: House) -> None:
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 1_001)
    assert (refusal.value.code, code_of(refusal)) == (403, "PIN_NOT_SET")
    assert house.set_pin("2580")["pin_set"] is True
    house.call("PUT", "wallet/safeguards", ALICE, {"pin": "2580", "above": {"EUR": 1_000}})
    assert house.pay(2, 1_000)["state"] == "completed"
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 1_001)
    assert code_of(refusal) == "PIN_REQUIRED"
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 1_001, pin="2581")
    assert code_of(refusal) == "PIN_WRONG"
    # The refused order had spent neither the money nor its id.
    assert house.pay(1, 1_001, pin="2580")["state"] == "completed"


def test_the_event_itself_cannot_carry_a_pin_and_says_where_to_pay(house: House) -> None:
    house.set_pin("2580")
    with pytest.raises(SynapseError) as refusal:
        house.send(ALICE, house.direct, PAYMENT, order(1, 1_001))
    assert code_of(refusal) == "PIN_REQUIRED"
    assert "from your wallet" in refusal.value.msg
    with pytest.raises(SynapseError) as refusal:
        house.send(ALICE, house.direct, PAYMENT, {**order(2, 1_001), "pin": "2580"})
    assert code_of(refusal) == "UNKNOWN_FIELD"


def test_after_five_wrong_tries_the_right_one_waits_too(house: House) -> None:
    house.set_pin("2580")
    codes: list[str] = []
    for number in range(5):
        with pytest.raises(SynapseError) as refusal:
            house.pay(number, 100, pin="1357")
        codes.append(code_of(refusal))
    assert codes == [*["PIN_WRONG"] * 4, "PIN_LOCKED"]
    with pytest.raises(SynapseError) as refusal:
        house.pay(7, 100, pin="2580")
    assert code_of(refusal) == "PIN_LOCKED"
    assert house.call("GET", "wallet/safeguards", ALICE)["pin_locked_until"] > 0
    house.advance(15 * MINUTE_S)
    assert house.pay(7, 100, pin="2580")["state"] == "completed"
    assert "pin_locked_until" not in house.call("GET", "wallet/safeguards", ALICE)


def test_a_replay_is_answered_without_a_pin(house: House) -> None:
    house.set_pin("2580")
    done = house.pay(1, 100, pin="2580")
    assert house.pay(1, 100) == done


def test_a_pin_is_changed_with_the_one_until_now_only(house: House) -> None:
    house.set_pin("2580")
    for more, code in (({}, "PIN_REQUIRED"), ({"current": "1357"}, "PIN_WRONG")):
        with pytest.raises(SynapseError) as refusal:
            house.set_pin("864203", **more)
        assert code_of(refusal) == code
    house.set_pin("864203", current="2580")
    assert house.pay(1, 100, pin="864203")["state"] == "completed"
    with pytest.raises(SynapseError) as refusal:
        house.set_pin("1234", current="864203")
    assert (refusal.value.code, code_of(refusal)) == (422, "PIN_UNFIT")


def test_a_lost_phone_sends_nothing_until_the_wallet_is_unlocked_and_then_little(house: House) -> None:
    house.set_pin("2580")
    assert house.call("POST", "wallet/lock", ALICE)["locked_since"] > 0
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 100, pin="2580")
    assert (refusal.value.code, code_of(refusal)) == (403, "WALLET_LOCKED")
    with pytest.raises(SynapseError) as refusal:
        house.call("POST", "wallet/unlock", ALICE, {"pin": "1357"})
    assert code_of(refusal) == "PIN_WRONG"
    unlocked = house.call("POST", "wallet/unlock", ALICE, {"pin": "2580"})
    assert "locked_since" not in unlocked
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 201, pin="2580")
    assert (refusal.value.code, code_of(refusal)) == (429, "LIMIT_EXCEEDED")
    assert house.pay(1, 200, pin="2580")["state"] == "completed"


def test_a_forgotten_pin_is_dropped_from_a_new_session_or_by_the_operator(house: House) -> None:
    house.set_pin("2580")
    dropped = house.call("DELETE", "wallet/pin", ALICE)
    assert dropped["pin_set"] is False
    assert dropped["careful_until"] > 0
    house.set_pin("864203")
    assert house.call("DELETE", f"admin/people/{ALICE}/pin", ADMIN) == {"user_id": ALICE, "tier": "basic"}
    assert house.call("GET", "wallet/safeguards", ALICE)["pin_set"] is False


def test_limits_are_those_of_the_tier_that_the_operator_chose(house: House) -> None:
    house.set_pin("2580")
    with pytest.raises(SynapseError) as refusal:
        house.pay(1, 5_001, pin="2580")
    assert code_of(refusal) == "LIMIT_EXCEEDED"
    assert house.call("PUT", f"admin/people/{ALICE}/tier", ADMIN, {"tier": "plus"})["tier"] == "plus"
    assert house.pay(1, 5_001, pin="2580")["state"] == "completed"
    with pytest.raises(SynapseError):
        house.call("PUT", f"admin/people/{ALICE}/tier", ADMIN, {"tier": "gold"})
    with pytest.raises(SynapseError) as refusal:
        house.call("PUT", "admin/people/@nobody:hs1.test/tier", ADMIN, {"tier": "plus"})
    assert code_of(refusal) == "UNKNOWN_PAYEE"


def test_no_answer_holds_a_pin_or_its_hash(house: House) -> None:
    answers = [
        house.set_pin("86420397"),
        house.call("GET", "wallet/safeguards", ALICE),
        house.pay(1, 100, pin="86420397"),
        house.call("POST", "wallet/lock", ALICE),
    ]
    assert "86420397" not in str(answers)
    assert "argon2" not in str(answers)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pin": {"above": {"USD": 1}}}, "pin.above names USD"),
        ({"limits": {"tiers": {"basic": {}}}}, "default_tier"),
        ({"limits": {"tiers": {"basic": {}}, "default_tier": "gold"}}, "default_tier"),
        ({"limits": {"default_tier": "b", "tiers": {"b": {"sent": {"EUR": {"year": 1}}}}}}, "limits"),
        ({"limits": {"default_tier": "b", "tiers": {"b": {"balance": {"USD": 1}}}}}, "limits names USD"),
    ],
)
def test_a_config_that_cannot_be_meant_stops_the_start(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SuperApp.parse_config({"payments": {**PAYMENTS, **wrong}})
    assert named in str(refused.value)
