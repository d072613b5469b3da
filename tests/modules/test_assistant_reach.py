"""The assistant about prices of calls and deposits of strangers."""

import copy

import pytest
from test_assistant import CONFIG, SERVER, Town

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"


@pytest.fixture
def town() -> Town:
    config = copy.deepcopy(CONFIG)
    town = Town(config)
    for name in (ALICE, BOB):
        town.meet(name)
        town.advance(4)
    return town


def test_a_price_is_set_asked_for_and_confirmed_by_naming_it(town: Town) -> None:
    assert "no price" in town.tell(BOB, "call price")
    assert "0.60" in town.tell(BOB, "call price 0.60 EUR")
    town.tell(BOB, "call policy contacts")
    asked = town.tell(ALICE, f"call price {BOB}")
    assert "0.60" in asked
    assert f"call price {BOB}" in asked
    assert "Another amount" in town.tell(ALICE, f"call price {BOB} 0.50 EUR")
    assert town.available(ALICE) == 10_000
    assert "Confirmed" in town.tell(ALICE, f"call price {BOB} 0.60 EUR")
    assert town.available(ALICE) == 10_000 - 180
    assert "verlangst nichts" in town.tell(BOB, "anrufpreis aus")
    assert "nothing" in town.tell(ALICE, f"call price {BOB}")


def test_a_deposit_is_asked_put_down_and_decided(town: Town) -> None:
    assert "no deposit" in town.tell(ALICE, f"deposit {BOB}")
    assert "2.00" in town.tell(BOB, "deposit 2 EUR")
    assert "2.00" in town.tell(ALICE, f"deposit {BOB}")
    assert "put down" in town.tell(ALICE, f"deposit {BOB} 2 EUR")
    assert town.available(ALICE) == 9_800
    assert f"deposit spam {ALICE}" in town.tell(BOB, "deposit")
    assert "goes back" in town.tell(BOB, f"deposit accept {ALICE}")
    assert town.available(ALICE) == 10_000
    assert "No deposit" in town.tell(BOB, f"deposit spam {ALICE}")
    assert "no deposit" in town.tell(BOB, "deposit off")


def test_whoever_gets_a_deposit_hears_of_it_and_what_to_say_and_not_that_they_were_paid(town: Town) -> None:
    town.tell(BOB, "deposit 2 EUR")
    before = len(town.heard(BOB))
    town.call("POST", "deposits", ALICE, {"deposit_id": "c" * 32, "recipient": BOB, "amount": 200, "currency": "EUR"})
    town.advance(10)
    (told,) = town.heard(BOB)[before:]
    assert f"deposit spam {ALICE}" in told["body"]
    assert "2.00" in told["body"]
    assert "paid you" not in told["body"]
    # What was kept is theirs, and that they have said themselves.
    assert "kept" in town.tell(BOB, f"deposit spam {ALICE}")
    assert town.available(BOB) == 10_200


def test_both_hear_of_the_end_of_a_call_half_a_minute_before_it(town: Town) -> None:
    town.tell(BOB, "call policy nobody")
    town.tell(BOB, "call price 0.60 EUR")
    body = {"fare_id": "a" * 32, "callee": BOB, "amount": 60, "currency": "EUR", "minutes": 1}
    town.call("POST", "paid_calls", ALICE, body)
    room = town.room(ALICE, BOB)
    town.send(ALICE, room, "org.superapp.call.ring", {"call_id": "c", "media": "audio"})
    town.send(BOB, room, "m.call.answer", {"call_id": "c", "version": "1", "answer": {}})
    town.send(ALICE, room, "m.call.select_answer", {"call_id": "c", "version": "1"})
    town.advance(25)
    assert not any("ends in" in each["body"] for each in town.heard(ALICE))
    town.advance(10)
    for person in (ALICE, BOB):
        assert sum("ends in" in each["body"] for each in town.heard(person)) == 1


def test_a_link_with_a_price_is_made_shown_and_confirmed_by_naming_it(town: Town) -> None:
    assert "what a minute costs" in town.tell(BOB, "paid call link lesson")
    made = town.tell(BOB, "paid call link 0.60 EUR lesson")
    assert "0.60" in made
    (link,) = town.call("GET", "call_links", BOB)["links"]
    assert (link["title"], link["price"]) == ("lesson", {"amount": 60, "currency": "EUR"})
    assert "0.60" in town.tell(BOB, "call links")
    # The address of the page does as well as the link itself.
    (address,) = [word for word in made.split() if "/call-link/" in word]
    asked = town.tell(ALICE, f"enter call {address}")
    assert f"enter call {link['link']} " in asked
    assert "0.60" in asked
    assert "Another amount" in town.tell(ALICE, f"enter call {link['link']} 0.50 EUR")
    assert town.available(ALICE) == 10_000
    assert "Confirmed" in town.tell(ALICE, f"enter call {address} 0.60 EUR")
    assert town.available(ALICE) == 10_000 - 180
    assert "kostet dich nichts" in town.tell(BOB, f"anruf betreten {address}")
    assert "Say which call" in town.tell(ALICE, "enter call")
