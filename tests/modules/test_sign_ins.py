"""What takes a session that has just begun: with Synapse's own sign-in, and where it is delegated."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from synapse.types import UserID, create_requester
from twisted.web.http_headers import Headers

from super_app.names import ERRCODE_PREFIX
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Auth

ALICE, MALLORY = "@alice:hs1.test", "@mallory:hs1.test"
PAYMENTS = {
    "mode": "custodial",
    "acknowledge": {"operator": "a test", "licence": "none"},
    "assets": [{"code": "EUR"}],
}


class Request:
    """A request without any header, and whose it is."""

    def __init__(self, requester: Any) -> None:
        self.requester = requester
        self.requestHeaders = Headers({})
        self.args: dict[bytes, list[bytes]] = {}


@pytest.fixture
def house() -> FakeHomeserver:
    house = FakeHomeserver(config={"features": {"calls": False, "web": False}, "payments": PAYMENTS})
    house.start()
    house.register("alice")
    house.register("mallory")
    house.devices[ALICE] = {"PHONE"}
    return house


def is_let_in(house: FakeHomeserver, device: str | None, token_id: int | None = None, user_id: str = ALICE) -> bool:
    """Whether a request may drop the PIN."""
    resource = next(each for each in house.api.web_resources.values() if isinstance(each, ApiResource))
    route, _ = resource.match("DELETE", "wallet/pin")
    assert route.auth is Auth.FRESH

    async def get_user_by_req(request: Any, **_: Any) -> Any:
        return request.requester

    house.api.get_user_by_req = get_user_by_req  # type: ignore[attr-defined]
    requester = create_requester(UserID.from_string(user_id), access_token_id=token_id, device_id=device)
    try:
        house.result(resource._authenticate(Request(requester), route))  # type: ignore[arg-type]
    except SynapseError as error:
        if error.errcode != f"{ERRCODE_PREFIX}SIGN_IN_AGAIN":
            raise
        return False
    return True


def test_a_token_of_synapse_is_fresh_for_ten_minutes_and_not_when_it_is_unknown(house: FakeHomeserver) -> None:
    house.signed_in_ms[7] = house.now_ms()
    assert is_let_in(house, "PHONE", 7)
    assert not is_let_in(house, "PHONE", 8)
    house.advance(601)
    assert not is_let_in(house, "PHONE", 7)


def test_with_delegated_sign_in_only_a_device_that_came_after_the_word_is_fresh(house: FakeHomeserver) -> None:
    house.devices[ALICE].add("NEWER")
    # Whoever says nothing before cannot be told from whoever found the phone.
    assert not is_let_in(house, "NEWER")
    until = house.call("POST", "sign_ins", ALICE)["until"]
    assert until == house.now_ms() + 1_800_000
    for known in ("PHONE", "NEWER", None, ""):
        assert not is_let_in(house, known)
    house.devices[ALICE].add("NEWEST")
    assert is_let_in(house, "NEWEST")
    # What somebody else said is not about alice, nor the other way round.
    house.call("POST", "sign_ins", MALLORY)
    assert not is_let_in(house, "PHONE")
    assert is_let_in(house, "NEWEST")
    house.advance(1_801)
    assert not is_let_in(house, "NEWEST")


def test_the_word_of_one_is_no_word_of_another(house: FakeHomeserver) -> None:
    house.call("POST", "sign_ins", ALICE)
    assert not is_let_in(house, "NEWEST", user_id=MALLORY)


def test_a_second_word_counts_the_devices_anew(house: FakeHomeserver) -> None:
    house.call("POST", "sign_ins", ALICE)
    house.devices[ALICE].add("NEWEST")
    house.call("POST", "sign_ins", ALICE)
    assert not is_let_in(house, "NEWEST")


def test_a_token_of_synapse_that_was_refreshed_gains_nothing_by_the_word(house: FakeHomeserver) -> None:
    house.call("POST", "sign_ins", ALICE)
    assert not is_let_in(house, "NEWEST", 9)
