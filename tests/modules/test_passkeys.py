"""A passkey confirms a payment in the place of the PIN: just that one, just once, and while the wallet has it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from authenticator import Authenticator
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.safeguards.passkeys import CHALLENGE_MS, CHALLENGES_MAX, PASSKEYS_MAX

ALICE, BOB, CAROL, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "carol", "admin"))
PIN = "2580"
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False, "assistant": False, "cards": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
        "fees": [{"currency": "EUR", "fixed": 2}],
    },
}


class House(FakeHomeserver):
    """alice has 100.00 EUR, a PIN for every payment, and a device with a passkey; bob and carol can be paid."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.start()
        for name in ("alice", "bob", "carol"):
            self.register(name)
        self.register("admin", admin=True)
        self.room(ALICE, BOB)
        self.room(ALICE, CAROL)
        body = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "first"}
        self.call("POST", "admin/issue", ADMIN, body)
        self.call("PUT", "wallet/pin", ALICE, {"pin": PIN})
        self.device = self.add("phone")

    def new_device(self) -> Authenticator:
        parts = urlsplit(self.api.public_baseurl)
        return Authenticator(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")

    def add(self, name: str) -> Authenticator:
        device = self.new_device()
        options = self.call("POST", "wallet/passkeys/begin", ALICE, {"pin": PIN})["public_key"]
        body = {"name": name, "credential": device.create(options)}
        self.call("POST", "wallet/passkeys", ALICE, body)
        return device

    def names(self) -> list[str]:
        return [each["name"] for each in self.call("GET", "wallet/passkeys", ALICE)["passkeys"]]

    def challenge(self, payee: str = BOB, amount: int = 500, fee: int = 2, currency: str = "EUR") -> dict[str, Any]:
        about = {"payee": payee, "amount": amount, "currency": currency, "fee": fee}
        found: dict[str, Any] = self.call("POST", "payments/challenge", ALICE, about)["public_key"]
        return found

    def pay(self, number: int, passkey: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        order = {"payment_id": f"{number:032x}", "payee": BOB, "amount": 500, "currency": "EUR", "fee": 2, **more}
        return self.call("POST", "payments", ALICE, order if passkey is None else {**order, "passkey": passkey})

    def refused(self, do: Callable[[], object]) -> tuple[int, str]:
        with pytest.raises(SynapseError) as refusal:
            do()
        return refusal.value.code, refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


@pytest.fixture
def house() -> House:
    return House()


NO = (403, "PASSKEY_REFUSED")


def test_it_confirms_the_payment_that_was_asked_about_once(house: House) -> None:
    assert house.refused(lambda: house.pay(1, None)) == (403, "PIN_REQUIRED")
    answer = house.device.get(house.challenge())
    assert house.pay(1, answer)["state"] == "completed"
    # The same order again tells how it stands; the same answer confirms nothing else.
    assert house.pay(1, answer)["state"] == "completed"
    assert house.refused(lambda: house.pay(2, answer)) == NO
    assert house.call("GET", "wallet", BOB)["accounts"][0]["available"] == 500
    (passkey,) = house.call("GET", "wallet/passkeys", ALICE)["passkeys"]
    assert passkey["used_ts"] >= passkey["created_ts"]


def test_it_confirms_no_other_amount_payee_or_fee_and_is_spent_by_the_try(house: House) -> None:
    for other in ({"amount": 501}, {"payee": CAROL}):
        answer = house.device.get(house.challenge())
        assert house.refused(lambda given=answer, wanted=other: house.pay(1, given, **wanted)) == NO  # type: ignore[misc]
        assert house.refused(lambda given=answer: house.pay(1, given)) == NO  # type: ignore[misc]
    cheaper = house.device.get(house.challenge(fee=1))
    assert house.refused(lambda: house.pay(1, cheaper)) == NO
    assert house.call("GET", "wallet", ALICE)["accounts"][0] == {
        "currency": "EUR",
        "scale": 2,
        "available": 10_000,
        "held": 0,
    }


def test_a_prompt_is_over_after_its_time_and_with_a_lost_phone(house: House) -> None:
    late = house.device.get(house.challenge())
    house.advance(CHALLENGE_MS / 1000)
    assert house.refused(lambda: house.pay(1, late)) == NO
    waiting = house.device.get(house.challenge())
    house.devices[ALICE] = {"PHONE", "LAPTOP"}
    assert house.call("POST", "wallet/lost", ALICE)["sessions_ended"] is True
    assert (house.devices[ALICE], house.names()) == (set(), [])
    assert house.refused(lambda: house.pay(1, waiting)) == (403, "WALLET_LOCKED")
    house.call("POST", "wallet/unlock", ALICE, {"pin": PIN})
    assert house.refused(lambda: house.pay(1, waiting)) == NO
    # For a day small amounts alone go out, whoever asks.
    assert house.refused(lambda: house.pay(2, None, amount=5_001, pin=PIN)) == (429, "LIMIT_EXCEEDED")
    assert house.pay(3, None, pin=PIN)["state"] == "completed"


def test_where_sign_in_is_delegated_a_lost_phone_locks_and_says_that_sessions_go_on(house: House) -> None:
    house.delegates_sign_in = True
    assert house.call("POST", "wallet/lost", ALICE)["sessions_ended"] is False
    assert house.refused(lambda: house.pay(1, None, pin=PIN)) == (403, "WALLET_LOCKED")


@pytest.mark.parametrize("how", ["origin", "rp", "person", "count", "stranger", "signature", "nonsense"])
def test_an_answer_that_is_not_right_confirms_nothing(house: House, how: str) -> None:
    device = house.device
    house.pay(1, device.get(house.challenge()))
    if how == "origin":
        device.origin = "https://evil.test"
    elif how == "rp":
        device.rp_id = "evil.test"
    elif how == "person":
        device.verifies = False
    elif how == "count":
        # A copy of the device that has signed less often than the device itself.
        device.count = 0
    options = house.challenge()
    if how == "stranger":
        device = house.new_device()
        options["allowCredentials"] = [{"id": device.create(options)["id"]}]
    answer: dict[str, Any] = device.get(options)
    if how == "signature":
        answer["response"]["signature"] = house.device.get(house.challenge(amount=1))["response"]["signature"]
    elif how == "nonsense":
        answer["response"]["authenticatorData"] = "AAAA"
        answer["id"] = "\x00"
    assert house.refused(lambda: house.pay(2, answer)) == NO


def test_adding_one_takes_the_pin_and_the_devices_own_signature_data(house: House) -> None:
    begin = {"pin": "2581"}
    assert house.refused(lambda: house.call("POST", "wallet/passkeys/begin", ALICE, begin)) == (403, "PIN_WRONG")
    assert house.refused(lambda: house.call("POST", "wallet/passkeys/begin", BOB, {"pin": PIN})) == (403, "PIN_NOT_SET")
    options = house.call("POST", "wallet/passkeys/begin", ALICE, {"pin": PIN})["public_key"]
    stranger = house.new_device()
    stranger.origin = "https://evil.test"
    body = {"name": "x", "credential": stranger.create(options)}
    assert house.refused(lambda: house.call("POST", "wallet/passkeys", ALICE, body)) == NO
    # What was asked to confirm a payment adds no passkey.
    mixed = {"name": "x", "credential": house.new_device().create(house.challenge())}
    assert house.refused(lambda: house.call("POST", "wallet/passkeys", ALICE, mixed)) == NO
    assert house.names() == ["phone"]


def test_one_that_is_taken_away_and_one_of_a_dropped_pin_confirm_nothing(house: House) -> None:
    laptop = house.add("laptop")
    (phone,) = (each for each in house.call("GET", "wallet/passkeys", ALICE)["passkeys"] if each["name"] == "phone")
    answer = house.device.get(house.challenge())
    house.call("DELETE", f"wallet/passkeys/{phone['credential_id']}", ALICE)
    assert house.refused(lambda: house.pay(1, answer)) == NO
    assert house.pay(1, laptop.get(house.challenge()))["state"] == "completed"
    waiting = laptop.get(house.challenge())
    house.call("DELETE", "wallet/pin", ALICE)
    assert house.names() == []
    house.call("PUT", "wallet/pin", ALICE, {"pin": PIN})
    assert house.refused(lambda: house.pay(2, waiting)) == NO


def test_there_are_only_so_many_passkeys_and_open_prompts(house: House) -> None:
    for number in range(1, PASSKEYS_MAX):
        house.add(f"device {number}")
    assert house.refused(lambda: house.add("one too many")) == NO
    for _ in range(CHALLENGES_MAX):
        house.challenge()
    assert house.refused(house.challenge) == NO
    house.advance(CHALLENGE_MS / 1000)
    assert house.pay(1, house.device.get(house.challenge()))["state"] == "completed"


def test_a_schedule_and_a_link_are_confirmed_by_it_as_well(house: House) -> None:
    first = (datetime.fromtimestamp(house.now_ms() / 1000, UTC) + timedelta(days=2)).date().isoformat()
    plan = {"payee": BOB, "amount": 500, "currency": "EUR", "every": "daily", "first": first, "fee": 2}
    answer = house.device.get(house.challenge())
    made = house.call("POST", "schedules", ALICE, {**plan, "schedule_id": "a" * 32, "passkey": answer})
    assert made["state"] == "active"
    options = house.call("POST", "payments/challenge", ALICE, {"amount": 700, "currency": "EUR"})["public_key"]
    link = {"claim_id": "b" * 32, "amount": 700, "currency": "EUR", "passkey": house.device.get(options)}
    assert house.call("POST", "claims", ALICE, link)["state"] == "open"
