"""Statements, payments to come and disputes by talking to the assistant, in both languages."""

from typing import Any

import pytest
from test_assistant import ALICE, BOB, Town

from super_app.names import CARD_KEY

DAY_S = 86_400.0


@pytest.fixture
def town() -> Town:
    made = Town()
    for user_id in (ALICE, BOB):
        made.meet(user_id)
    return made


def pay(town: Town) -> str:
    """alice pays bob 5.00 EUR; the event of what the assistant told bob of it."""
    order = {"payment_id": f"{1:032x}", "payee": BOB, "amount": 500, "currency": "EUR", "memo": "lunch"}
    town.call("POST", "payments", ALICE, order)
    town.advance(4)
    return news_of(town, BOB)


def news_of(town: Town, user_id: str) -> str:
    """The newest message with a card in the room of the assistant and somebody."""
    room = town.own_room(user_id)
    events = [event for event in town.sent(room, "m.room.message") if event.get_dict()["content"].get(CARD_KEY)]
    return str(events[-1].event_id)


def schedules(town: Town) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = town.call("GET", "schedules", ALICE)["schedules"]
    return found


def test_a_statement_is_told_and_where_its_files_are(town: Town) -> None:
    pay(town)
    said = town.tell(ALICE, "statement")
    assert "€100.00 came in, €5.00 went out, €95.00 at the end" in said
    assert "/superapp/" in said
    assert "wurde nichts gebucht" in town.tell(ALICE, "auszug 2020-01")
    assert "Kontoauszug" not in said


def test_a_lost_phone_is_locked_out_after_a_yes_and_not_before(town: Town) -> None:
    town.devices[ALICE] = {"PHONE", "LAPTOP"}
    assert "`yes`" in town.tell(ALICE, "I lost my phone")
    assert "nothing was done" in town.tell(ALICE, "no")
    assert town.devices[ALICE] == {"PHONE", "LAPTOP"}
    town.tell(ALICE, "lost phone")
    said = town.tell(ALICE, "yes")
    assert "signed out everywhere" in said
    assert "only small amounts" in said
    assert town.devices[ALICE] == set()
    assert town.call("GET", "wallet/safeguards", ALICE)["locked_since"] is not None
    assert "Geldbeutel" in town.tell(ALICE, "handy verloren")


def test_a_payment_is_scheduled_listed_skipped_and_ended(town: Town) -> None:
    said = town.tell(ALICE, "schedule @bob 50 monthly 2023-12-31 rent for december")
    assert "€50.00" in said
    assert "2023-12-31" in said
    (made,) = schedules(town)
    assert (made["every"], made["first"], made["memo"]) == ("monthly", "2023-12-31", "rent for december")
    assert (made["amount"], made["payee"]) == (5_000, BOB)
    assert "monatlich" in town.tell(ALICE, "dauerauftrag")
    town.tell(ALICE, "schedule skip 1")
    assert schedules(town)[0]["past"][0]["outcome"] == "skipped"
    town.tell(ALICE, "schedule pause")
    assert schedules(town)[0]["state"] == "paused"
    town.tell(ALICE, "dauerauftrag fortsetzen 1")
    assert schedules(town)[0]["state"] == "active"
    town.tell(ALICE, "schedule cancel")
    assert schedules(town)[0]["state"] == "cancelled"
    assert "no payments to come" in town.tell(ALICE, "schedule")


def test_the_payer_hears_when_a_scheduled_payment_is_made_and_when_it_is_not(town: Town) -> None:
    town.tell(ALICE, "schedule @bob 60 daily tomorrow")
    before = len(town.heard(ALICE))
    town.advance(2 * DAY_S)
    heard = [each["body"] for each in town.heard(ALICE)[before:]]
    assert any("As scheduled" in each and "€60.00" in each for each in heard)
    assert sum("I try again" in each for each in heard) == 1
    assert sum("do not try again" in each for each in heard) == 1
    assert town.available(BOB) == 16_000


@pytest.mark.parametrize("text", ["schedule @nobody 5", "schedule @bob 0", "schedule @bob 5 2023-02-30"])
def test_what_cannot_be_scheduled_is_said(town: Town, text: str) -> None:
    assert town.tell(ALICE, text)
    assert schedules(town) == []


def test_a_dispute_is_opened_and_answered_by_replies(town: Town) -> None:
    told_bob = pay(town)
    # alice has the card of her payment from what she asked for.
    content = {"v": 1, "kind": "payment", "payment_id": f"{1:032x}", "payer": ALICE}
    card = town.send(
        ALICE, town.own_room(ALICE), "m.room.message", {"msgtype": "m.text", "body": "?", CARD_KEY: content}
    )
    town.advance(4)
    said = town.tell(ALICE, "dispute it was cold", reply_to=card)
    assert "Noted in the dispute with @bob:hs1.test about €5.00" in said
    town.advance(2)
    assert "disputes €5.00" in town.heard(BOB)[-1]["body"]
    assert "it was cold" in town.heard(BOB)[-1]["body"]
    town.tell(BOB, "reklamation es war Gazpacho", reply_to=told_bob)
    town.advance(2)
    assert "es war Gazpacho" in town.heard(ALICE)[-1]["body"]
    town.tell(ALICE, "dispute still cold", reply_to=news_of(town, ALICE))
    timeline = town.call("GET", f"disputes/{1:032x}", ALICE)["timeline"]
    assert [(each["author"], each["text"]) for each in timeline] == [
        ("payer", "it was cold"),
        ("payee", "es war Gazpacho"),
        ("payer", "still cold"),
    ]
    assert "open, both sides are heard" in town.tell(ALICE, "disputes")
    assert town.tell(BOB, "reklamation").startswith("Deine Reklamationen")
