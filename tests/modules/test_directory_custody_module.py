"""Reservations, the pace of claims, and operators' acts on handles, through the routes and the command."""

from typing import Any
from urllib.parse import unquote

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_directory_module import refusal

from super_app.ids import Acct, Handle, UserId
from super_app.names import CLIENT_API_PREFIX
from super_app.signing import generate_key
from synapse_super_app.commands.admin_access import TOKEN_VARIABLE
from synapse_super_app.commands.main import main
from synapse_super_app.commands.matrix_client import Json, MatrixClient, MatrixError
from synapse_super_app.directory.addresses import keyed
from synapse_super_app.directory.takings import PaymentTakings
from synapse_super_app.http.resource import ApiResource, answer

ONLY_DIRECTORY = dict.fromkeys(["calls", "payments", "web"], False)
PAYING: dict[str, Any] = {
    "features": {"calls": False, "web": False},
    "payments": {"assets": [{"code": "PTS", "scale": 0}]},
}


class House(FakeHomeserver):
    """alice, bob and an admin."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config=config or {"features": ONLY_DIRECTORY, "directory": {"claims_per_account": 3}})
        self.start()
        self.alice, self.bob = self.register("alice"), self.register("bob")
        self.admin = self.register("admin", admin=True)

    def put_from(self, address: str, name: str, user_id: UserId) -> dict[str, Any]:
        resource = next(each for each in self.api.web_resources.values() if isinstance(each, ApiResource))
        route, variables = resource.match("PUT", f"handles/{name}")
        return self.result(answer(route, variables, user_id, {}, {"as": "alias"}, address))


@pytest.fixture
def house() -> House:
    return House()


def why(**more: str) -> dict[str, str]:
    return {"reason": "a letter", **more}


def test_a_reserved_handle_is_confirmed_by_claiming_it(house: House) -> None:
    reserved = house.call("POST", "handles/Wonder/reserve", house.alice)
    assert reserved == {"handle": "@wonder:hs1.test", "until": house.now_ms() + 600_000}
    assert refusal(house, "PUT", "handles/w0nder", house.bob) == (409, "HANDLE_LOOKALIKE")
    assert refusal(house, "POST", "handles/wonder/reserve", house.bob) == (409, "HANDLE_TAKEN")
    with pytest.raises(SynapseError, match="choose another user name"):
        house.register_as_synapse("wonder")
    assert house.call("PUT", "handles/wonder", house.alice)["user_id"] == house.alice


def test_an_account_that_takes_and_releases_names_has_to_stop(house: House) -> None:
    for name in ("mirror", "rabbit", "hatter"):
        house.call("PUT", f"handles/{name}", house.alice, {"as": "alias"})
        house.call("DELETE", f"handles/{name}", house.alice)
    with pytest.raises(SynapseError) as refused:
        house.call("PUT", "handles/walrus", house.alice, {"as": "alias"})
    assert (refused.value.code, refused.value.errcode) == (429, "ORG.SUPERAPP.TOO_MANY_REQUESTS")
    assert "3 new handles in seven days" in refused.value.msg


def test_the_accounts_of_one_network_share_a_limit_that_a_proxy_does_not_trip() -> None:
    house = House({"features": ONLY_DIRECTORY, "directory": {"claims_per_address": 1}})
    house.put_from("2a00:1450::1", "mirror", house.alice)
    with pytest.raises(SynapseError, match="from one network"):
        house.put_from("2a00:1450::2", "rabbit", house.bob)
    for name in ("rabbit", "hatter"):
        house.put_from("127.0.0.1", name, house.bob)


def test_an_address_is_kept_under_a_name_that_needs_the_key() -> None:
    one, other = generate_key(b"\x01" * 32), generate_key(b"\x02" * 32)
    assert keyed("8.8.8.8", one) == keyed("::ffff:8.8.8.8", one) != keyed("8.8.8.8", other)
    assert keyed("8.8.8.8", one) != keyed("8.8.4.4", one)
    assert keyed("2a00:1450::1", one) == keyed("2a00:1450::ffff:1", one) != keyed("2a00:1450:0:1::1", one)
    assert {keyed(address, one) for address in ("", "10.0.0.1", "::1", "/run/a.sock", "fe80::1%eth0")} == {""}


def test_whether_people_were_paid_under_a_handle_is_asked_of_payments_if_there_ever_were_any() -> None:
    house = House(PAYING)
    house.call("PUT", "handles/wonder", house.bob, {"discover": "public"})
    house.call("PUT", "handles/mirror", house.bob, {"as": "alias"})
    house.room(house.alice, house.bob)
    house.call("POST", "admin/issue", house.admin, _issue(house.alice))
    body = {"payment_id": "0" * 32, "payee": "@wonder:hs1.test", "amount": 1, "currency": "PTS"}
    assert house.call("POST", "payments", house.alice, body)["state"] == "completed"
    for name in ("wonder", "mirror"):
        house.call("DELETE", f"handles/{name}", house.bob)
    files = [house.call("GET", f"admin/handles/{name}", house.admin) for name in ("wonder", "mirror")]
    assert [file.get("kept_for") for file in files] == ["paid", None]
    house.advance(91 * 86_400)
    assert refusal(house, "PUT", "handles/wonder", house.alice) == (409, "HANDLE_TAKEN")
    assert house.call("PUT", "handles/mirror", house.alice)["user_id"] == house.alice

    never_on = House()
    runs = never_on.module.runtime.database.run
    takings = PaymentTakings()
    question = runs("a_question", lambda cur: takings.has_received(cur, Acct("an acct"), Handle("@wonder:hs1.test")))
    assert never_on.result(question) is False


def _issue(user_id: str) -> dict[str, Any]:
    return {"user_id": user_id, "amount": 100, "currency": "PTS", "reference": "a start"}


class TestActs:
    def test_an_operator_freezes_transfers_and_revokes(self, house: House) -> None:
        house.call("PUT", "handles/wonder", house.alice, {"discover": "public"})
        frozen = house.call("POST", "admin/handles/wonder/freeze", house.admin, why())
        assert (frozen["status"], frozen["frozen_for"]) == ("frozen", "operator")
        assert refusal(house, "POST", "admin/handles/wonder/freeze", house.admin, why()) == (403, "HANDLE_FROZEN")
        assert refusal(house, "PUT", "contacts/wonder", house.bob) == (403, "HANDLE_FROZEN")
        assert house.call("POST", "admin/handles/wonder/unfreeze", house.admin, why())["status"] == "active"
        assert refusal(house, "POST", "admin/handles/wonder/unfreeze", house.admin, why()) == (422, "INVALID_VALUE")
        to_bob = why(user_id=house.bob)
        assert house.call("POST", "admin/handles/wonder/transfer", house.admin, to_bob)["user_id"] == house.bob
        assert house.call("POST", "admin/handles/wonder/revoke", house.admin, why())["status"] == "released"
        assert refusal(house, "PUT", "handles/wonder", house.bob) == (409, "HANDLE_TAKEN")
        assert refusal(house, "POST", "admin/handles/bob/revoke", house.admin, why()) == (403, "NOT_ALLOWED")

    def test_a_dispute_names_who_claims_it(self, house: House) -> None:
        house.call("PUT", "handles/wonder", house.alice)
        house.call("POST", "admin/handles/wonder/dispute", house.admin, why(claimant=house.bob))
        file = house.call("GET", "admin/handles/@wonder:hs1.test", house.admin)
        assert (file["state"], file["frozen_for"], file["contested_by"]) == ("frozen", "dispute", house.bob)
        assert file["deeds"] == [
            {
                "number": 1,
                "at": house.now_ms(),
                "operator": house.admin,
                "act": "dispute",
                "handle": "@wonder:hs1.test",
                "from": house.alice,
                "reason": "a letter",
            }
        ]

    def test_what_is_no_name_no_account_or_no_reason_is_refused(self, house: House) -> None:
        house.call("PUT", "handles/wonder", house.alice)
        for method, path, body, refused in (
            ("PUT", "wonder", why(user_id="@nobody:hs1.test"), (422, "INVALID_VALUE")),
            ("POST", "wonder/transfer", why(user_id="bob"), (422, "INVALID_VALUE")),
            ("POST", "wonder/dispute", why(claimant="bob"), (422, "INVALID_VALUE")),
            ("POST", "wonder/revoke", {"reason": ""}, (422, "INVALID_VALUE")),
            ("POST", "wonder/revoke", {}, (422, "INVALID_VALUE")),
            ("POST", "@wonder:hs2.test/revoke", why(), (422, "HANDLE_INVALID")),
            ("POST", "nobody/freeze", why(), (404, "UNKNOWN_HANDLE")),
        ):
            assert refusal(house, method, f"admin/handles/{path}", house.admin, body) == refused

    def test_the_log_comes_in_pages_newest_first(self, house: House) -> None:
        for name in ("a1", "a2", "a3"):
            house.call("PUT", f"admin/handles/{name}", house.admin, why(user_id=house.alice))
        page = house.call("GET", "admin/handles", house.admin, query={"limit": "2"})
        assert ([deed["number"] for deed in page["deeds"]], page["next"]) == ([3, 2], 2)
        rest = house.call("GET", "admin/handles", house.admin, query={"limit": "2", "before": "2"})
        assert ([deed["handle"] for deed in rest["deeds"]], "next" in rest) == (["@a1:hs1.test"], False)
        assert house.call("GET", "admin/handles/nobody", house.admin)["held"] is False


class TestCommand:
    @pytest.fixture(autouse=True)
    def _no_socket(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        def request(_: MatrixClient, method: str, path: str, body: Any = None, query: Any = None) -> Json:
            if path.endswith("account/whoami"):
                return {"user_id": house.admin}
            route = path.removeprefix(f"{CLIENT_API_PREFIX}/")
            text = None if query is None else {name: str(value) for name, value in query.items()}
            try:
                return house.call(method, unquote(route), house.admin, body, text)
            except SynapseError as error:
                raise MatrixError(error.code, error.error_dict(None)) from None

        monkeypatch.setattr(MatrixClient, "request", request)
        monkeypatch.setenv(TOKEN_VARIABLE, "secret-token")

    def run(self, *words: str, code: int = 0) -> None:
        assert main(["handle", *words, "--url", "http://localhost:1"]) == code

    def test_each_act_says_what_the_name_is_now(self, house: House, capsys: pytest.CaptureFixture[str]) -> None:
        for words, told in (
            (["grant", "al", "alice"], f"@al:hs1.test of {house.alice}: active"),
            (["dispute", "al", "--claimant", house.bob], f"@al:hs1.test of {house.alice}: frozen"),
            (["transfer", "@al:hs1.test", house.bob], f"@al:hs1.test of {house.bob}: active"),
            (["freeze", "al"], f"@al:hs1.test of {house.bob}: frozen"),
            (["unfreeze", "al"], f"@al:hs1.test of {house.bob}: active"),
            (["revoke", "al"], f"@al:hs1.test of {house.bob}: released"),
        ):
            self.run(*words, "--reason", "a letter")
            assert capsys.readouterr().out == told + "\n"
        self.run("revoke", "bob", "--reason", "a whim", code=1)
        assert "NOT_ALLOWED" in capsys.readouterr().err

    def test_the_log_is_shown_newest_first(self, house: House, capsys: pytest.CaptureFixture[str]) -> None:
        self.run("log")
        assert capsys.readouterr().out == "No operator has done anything to a handle yet.\n"
        self.run("grant", "al", "alice", "--reason", "a friend")
        self.run("dispute", "al", "--reason", "a letter", "--claimant", house.bob)
        capsys.readouterr()
        self.run("log", "--limit", "1")
        newest, more = capsys.readouterr().out.splitlines()
        assert newest.endswith(f"{house.admin}  dispute @al:hs1.test from {house.alice}: a letter")
        assert more == "There is more: --before 2"
        self.run("log", "--before", "2")
        assert f"grant @al:hs1.test to {house.alice}: a friend" in capsys.readouterr().out
        self.run("show", "al")
        assert capsys.readouterr().out.splitlines()[:2] == [
            f"@al:hs1.test of {house.alice}: frozen, for dispute",
            f"  claimed by {house.bob}",
        ]
        self.run("show", "nobody")
        assert capsys.readouterr().out == "@nobody:hs1.test is nobody's.\n"
