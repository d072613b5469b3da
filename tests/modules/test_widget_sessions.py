"""What a widget may do with the session that an OpenID token opens: read. A stolen token moves no money."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from twisted.web.http_headers import Headers

from super_app.ids import UserId
from super_app.names import ERRCODE_PREFIX
from super_app.sessions.model import LIFETIME_MS
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Auth, Route, Sessions

OPENID = "an-openid-token"


class Request:
    """As much of a request as authentication looks at."""

    def __init__(self, authorization: str | None, args: dict[bytes, list[bytes]] | None = None) -> None:
        self.requestHeaders = Headers({} if authorization is None else {"Authorization": [authorization]})
        self.args = args or {}


@pytest.fixture
def homeserver() -> FakeHomeserver:
    homeserver = FakeHomeserver("hs1.test")
    homeserver.start()
    homeserver.register("alice")
    homeserver.register("bob")
    homeserver.openid_tokens[OPENID] = (UserId("@alice:hs1.test"), homeserver.now_ms() + 3_600_000)
    return homeserver


def resource_of(homeserver: FakeHomeserver) -> ApiResource:
    return next(each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource))


def opened(homeserver: FakeHomeserver, server: str = "hs1.test", token: str = OPENID) -> dict[str, Any]:
    body = {"access_token": token, "matrix_server_name": server, "token_type": "Bearer", "expires_in": 3600}
    return homeserver.call("POST", "sessions/openid", body=body)


def user_of(homeserver: FakeHomeserver, route: Route, token: str) -> UserId:
    resource = resource_of(homeserver)
    user_id, _ = homeserver.result(resource._authenticate(Request(f"Bearer {token}"), route))  # type: ignore[arg-type]
    return user_id


def route(homeserver: FakeHomeserver, method: str, path: str) -> Route:
    return resource_of(homeserver).match(method, path)[0]


def refusal(error: pytest.ExceptionInfo[SynapseError]) -> tuple[int, str]:
    return error.value.code, error.value.errcode.removeprefix(ERRCODE_PREFIX)


def test_an_openid_token_of_this_homeserver_opens_a_session_of_its_person(homeserver: FakeHomeserver) -> None:
    session = opened(homeserver)

    assert session["user_id"] == "@alice:hs1.test"
    assert session["expires_ts"] == homeserver.now_ms() + LIFETIME_MS
    assert user_of(homeserver, route(homeserver, "GET", "wallet"), session["token"]) == "@alice:hs1.test"


@pytest.mark.parametrize(
    ("server", "token"), [("hs1.test", "made-up"), ("hs2.test", OPENID)], ids=["unknown", "of another homeserver"]
)
def test_any_other_openid_token_opens_nothing(homeserver: FakeHomeserver, server: str, token: str) -> None:
    with pytest.raises(SynapseError) as refused:
        opened(homeserver, server, token)
    assert refusal(refused) == (401, "OPENID_REFUSED")


def test_an_openid_token_whose_time_is_over_opens_nothing(homeserver: FakeHomeserver) -> None:
    homeserver.openid_tokens[OPENID] = (UserId("@alice:hs1.test"), homeserver.now_ms() - 1)
    with pytest.raises(SynapseError) as refused:
        opened(homeserver)
    assert refusal(refused) == (401, "OPENID_REFUSED")


def test_a_stolen_token_does_nothing_but_read_on_every_route_that_there_is(homeserver: FakeHomeserver) -> None:
    token = opened(homeserver)["token"]
    readable: set[tuple[str, str]] = set()
    refused_count = 0
    for _, each in resource_of(homeserver)._routes:
        if each.auth is Auth.PUBLIC:
            continue
        if each.sessions is Sessions.READ:
            readable.add((each.method, each.path))
            assert user_of(homeserver, each, token) == "@alice:hs1.test"
            continue
        with pytest.raises(SynapseError) as refused:
            user_of(homeserver, each, token)
        assert refusal(refused) == (403, "SESSION_READS_ONLY")
        refused_count += 1
    # The list is written out, so that a route which is opened to widgets is looked at here.
    assert readable == {
        ("GET", "wallet"),
        ("GET", "payments"),
        ("GET", "payments/{payment_id}"),
        ("GET", "payments/{payment_id}/receipt"),
        ("GET", "payments/{payment_id}/receipt/file"),
        ("GET", "activity"),
        ("GET", "statements/{month}"),
        ("GET", "statements/{month}/file"),
        ("GET", "summaries/{year}"),
        ("GET", "schedules"),
        ("GET", "schedules/{schedule_id}"),
        ("GET", "disputes"),
        ("GET", "disputes/{payment_id}"),
        ("GET", "gifts"),
        ("GET", "gifts/{gift_id}"),
        ("GET", "call_price"),
        ("GET", "paid_calls"),
        ("GET", "deposits"),
        ("GET", "deposit_policy"),
        ("GET", "paid_calls/{fare_id}"),
        ("GET", "handles/{handle}/badges"),
        ("GET", "requests"),
        ("GET", "requests/{request_id}"),
        ("GET", "contacts"),
        ("GET", "handles"),
        ("GET", "handles/{handle}"),
        ("POST", "payments/quote"),
        ("POST", "search"),
    }
    assert refused_count > 20


def test_an_admins_session_is_no_admins(homeserver: FakeHomeserver) -> None:
    homeserver.admins.add("@alice:hs1.test")
    token = opened(homeserver)["token"]
    with pytest.raises(SynapseError) as refused:
        user_of(homeserver, route(homeserver, "GET", "admin/invariants"), token)
    assert refusal(refused) == (403, "SESSION_READS_ONLY")


def test_a_session_ends_with_its_hour(homeserver: FakeHomeserver) -> None:
    token = opened(homeserver)["token"]
    homeserver.advance(LIFETIME_MS / 1000 + 1)
    with pytest.raises(SynapseError) as refused:
        user_of(homeserver, route(homeserver, "GET", "wallet"), token)
    assert refusal(refused) == (401, "UNKNOWN_SESSION")


def test_a_session_ends_with_its_account(homeserver: FakeHomeserver) -> None:
    token = opened(homeserver)["token"]
    homeserver.deactivated.add("@alice:hs1.test")
    with pytest.raises(SynapseError) as refused:
        user_of(homeserver, route(homeserver, "GET", "wallet"), token)
    assert refusal(refused) == (401, "UNKNOWN_SESSION")
    with pytest.raises(SynapseError) as refused:
        opened(homeserver)
    assert refusal(refused) == (401, "OPENID_REFUSED")


def test_its_person_ends_it_from_elsewhere_and_nobody_else_does(homeserver: FakeHomeserver) -> None:
    token = opened(homeserver)["token"]
    assert homeserver.call("DELETE", "sessions", "@bob:hs1.test") == {"ended": 0}
    assert user_of(homeserver, route(homeserver, "GET", "wallet"), token) == "@alice:hs1.test"
    assert homeserver.call("DELETE", "sessions", "@alice:hs1.test") == {"ended": 1}
    with pytest.raises(SynapseError) as refused:
        user_of(homeserver, route(homeserver, "GET", "wallet"), token)
    assert refusal(refused) == (401, "UNKNOWN_SESSION")


def test_with_the_feature_off_no_token_is_one_of_ours(homeserver: FakeHomeserver) -> None:
    token = opened(homeserver)["token"]
    without = FakeHomeserver("hs1.test", config={"features": {"web": False}})
    without.start()
    with pytest.raises(SynapseError) as refused:
        user_of(without, route(without, "GET", "wallet"), token)
    assert refusal(refused) == (401, "UNKNOWN_SESSION")


def test_a_token_in_the_address_is_not_looked_at(homeserver: FakeHomeserver) -> None:
    from synapse_super_app.http.resource import session_token

    token = opened(homeserver)["token"]
    assert session_token(Request(f"Bearer {token}")) == token
    assert session_token(Request(None, {b"access_token": [token.encode()]})) is None
    assert session_token(Request("Bearer syt_something")) is None
    assert session_token(Request(f"Basic {token}")) is None


def test_the_document_says_which_routes_take_a_session(homeserver: FakeHomeserver) -> None:
    paths = resource_of(homeserver).document["paths"]
    assert paths["/wallet"]["get"]["security"] == [{"accessToken": []}, {"session": []}]
    assert paths["/payments"]["post"]["security"] == [{"accessToken": []}]
    assert paths["/sessions/openid"]["post"]["security"] == []
