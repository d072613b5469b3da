"""The wallet behind the sticker button: in a person's widgets, beside what others put there."""

from typing import Any

import pytest
from fake_api import FakeHomeserver

ALICE = "@alice:hs1.test"
OTHERS = {"stickers": {"type": "m.widget", "content": {"type": "m.stickerpicker", "url": "https://x.test/"}}}


def started(**config: Any) -> FakeHomeserver:
    homeserver = FakeHomeserver("hs1.test", config=config)
    homeserver.start()
    return homeserver


def widgets(homeserver: FakeHomeserver) -> dict[str, Any]:
    return dict(homeserver.account_data.get((ALICE, "m.widgets"), {}))


def test_a_new_person_finds_the_wallet_there() -> None:
    homeserver = started()
    homeserver.register_as_synapse("alice")
    (entry,) = widgets(homeserver).values()
    assert entry["content"]["type"] == "m.stickerpicker"
    assert entry["content"]["creatorUserId"] == entry["sender"] == ALICE
    assert entry["content"]["url"].startswith("https://hs1.test/superapp/widget/?widgetId=$matrix_widget_id&")
    assert widgets(homeserver) == {entry["id"]: entry}
    assert homeserver.call("GET", "widget", ALICE) == {"installed": True}


@pytest.mark.parametrize(
    "config", [{"web": {"sticker_menu": False}}, {"features": {"payments": False}}], ids=["unwanted", "no wallet"]
)
def test_where_the_operator_does_not_want_it_nobody_has_it_unasked(config: dict[str, Any]) -> None:
    homeserver = started(**config)
    homeserver.register_as_synapse("alice")
    assert widgets(homeserver) == {}


def test_who_was_here_before_has_it_on_request_beside_their_own_widgets() -> None:
    homeserver = started()
    homeserver.register("alice")
    homeserver.account_data[(ALICE, "m.widgets")] = OTHERS
    assert homeserver.call("GET", "widget", ALICE) == {"installed": False}
    assert homeserver.call("PUT", "widget", ALICE) == {"installed": True}
    assert len(widgets(homeserver)) == 2
    assert widgets(homeserver)["stickers"] == OTHERS["stickers"]


def test_taken_away_it_is_gone_and_the_others_stay() -> None:
    homeserver = started()
    homeserver.register("alice")
    homeserver.account_data[(ALICE, "m.widgets")] = OTHERS
    homeserver.call("PUT", "widget", ALICE)
    assert homeserver.call("DELETE", "widget", ALICE) == {"installed": False}
    assert widgets(homeserver) == OTHERS
    assert homeserver.call("DELETE", "widget", ALICE) == {"installed": False}
