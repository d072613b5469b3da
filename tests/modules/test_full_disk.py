"""A database that cannot grow: people get a refusal that says so, and go on under the same id once there is room."""

import pytest
from synapse.module_api.errors import SynapseError
from test_payments_feature import ADMIN, ALICE, BOB, PAYMENT, House, order, payment_id, refused

from synapse_super_app import full_disk


@pytest.fixture
def house() -> House:
    return House()


def pay_until_refused(house: House) -> int:
    """Fill what is left of the last pages; the number of the payment that found no room."""
    house.fill_disk()
    for number in range(1, 200):
        try:
            house.pay(number, 1)
        except SynapseError:
            return number
    raise AssertionError("the disk is not full")


def test_a_payment_is_refused_and_goes_through_once_there_is_room(house: House) -> None:
    refused_number = pay_until_refused(house)
    with refused("DISK_FULL", 503) as fields:
        house.pay(refused_number, 1)
    assert fields["retry_after_ms"] > 0
    house.make_room_on_disk()
    assert house.pay(refused_number, 1)["state"] == "completed"
    assert sum(house.wallet(ALICE)) + sum(house.wallet(BOB)) == 10_000
    assert house.wallet(BOB) == (refused_number, 0)
    assert house.is_sound()


def test_a_payment_event_is_refused_with_the_same_answer(house: House) -> None:
    number = pay_until_refused(house) + 1
    with refused("DISK_FULL", 503):
        house.send(ALICE, house.direct, PAYMENT, order(number, 1))
    house.make_room_on_disk()
    house.send(ALICE, house.direct, PAYMENT, order(number, 1))
    assert house.payment(ALICE, number)["payment_id"] == payment_id(number)
    assert house.call("GET", "admin/invariants", ADMIN)["ok"]


def test_other_errors_stay_what_they_are() -> None:
    assert not full_disk.is_full(ValueError("disk full"))
