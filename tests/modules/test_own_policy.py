"""Keys of one's own call policy, written through the API: alone, wrong, and by several at once."""

from typing import Any

import pytest
from fake_api import FakeAccountData, FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_calls_api import refusal_of
from test_calls_shell import POLICY, REMOTE, RING, STRANGER, calls, homeserver, is_hidden, ring
from test_calls_workers import processes
from twisted.internet import defer

from super_app.ids import UserId
from synapse_super_app.http.resource import ApiResource, answer


@pytest.fixture
def hs() -> FakeHomeserver:
    return homeserver()


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


def asked(process: FakeHomeserver, user_id: str, path: str, body: Any) -> "defer.Deferred[Any]":
    """A request that is under way, while others are."""
    resource = next(each for each in process.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("PUT", path)
    return defer.ensureDeferred(answer(route, variables, UserId(user_id), {}, body))


def test_keys_are_written_taken_out_and_left_alone_and_count_at_once(hs: FakeHomeserver, bob: str) -> None:
    hs.account_data[bob, POLICY] = {"v": 1, "deny": [STRANGER], "later": {"unknown": True}, "refusal": "silent"}
    quiet = {"time_zone": "Europe/Berlin", "windows": [{"from": "00:00", "to": "00:00"}], "repeat_ms": 0}
    shown = hs.call("PUT", "call_policy", bob, {"who": ["everyone"], "quiet": quiet, "refusal": None})
    assert (shown["who"], shown["quiet"], shown["refusal"], shown["deny"]) == (["everyone"], True, "polite", [STRANGER])
    written = {"v": 1, "deny": [STRANGER], "later": {"unknown": True}, "who": ["everyone"], "quiet": quiet}
    assert hs.account_data[bob, POLICY] == written
    assert is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), RING, ring()))
    assert calls(hs, bob)[0]["screened_by"] == "quiet"
    assert not hs.call("PUT", "call_policy", bob, {"quiet": None})["quiet"]
    assert not is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), RING, ring("again")))


def test_whoever_has_no_policy_begins_one(hs: FakeHomeserver, bob: str) -> None:
    hs.call("PUT", "call_policy", bob, {"rate": {"caller": 2}, "do_not_disturb": {}})
    assert hs.account_data[bob, POLICY] == {"v": 1, "rate": {"caller": 2}, "do_not_disturb": {}}


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"who": "nobody"}, (422, "INVALID_VALUE")),
        ({"who": ["friends"]}, (422, "INVALID_VALUE")),
        ({"deny": ["\0"]}, (422, "INVALID_VALUE")),
        ({"v": 2}, (422, "INVALID_VALUE")),
        ({"quiet": {"time_zone": "Mars/Olympus", "windows": []}}, (422, "INVALID_VALUE")),
        ({"quiet": {"time_zone": "UTC", "windows": [{"from": "25:00", "to": "1"}]}}, (422, "INVALID_VALUE")),
        ({"relay_only": "yes"}, (422, "INVALID_VALUE")),
        ({"price": {"amount": 1, "currency": "EUR"}}, (422, "UNKNOWN_FIELD")),
        ({"whom": []}, (422, "UNKNOWN_FIELD")),
    ],
)
def test_what_could_not_be_read_is_not_written(
    hs: FakeHomeserver, bob: str, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    hs.account_data[bob, POLICY] = {"v": 1, "who": ["contacts"]}
    assert refusal_of(hs, "PUT", "call_policy", bob, body) == refusal
    assert hs.account_data[bob, POLICY] == {"v": 1, "who": ["contacts"]}


@pytest.mark.parametrize("version", [2, True, 1.0, "1", None])
def test_a_policy_of_another_version_is_written_over_only_by_who_says_the_version(
    hs: FakeHomeserver, bob: str, version: object
) -> None:
    hs.account_data[bob, POLICY] = {"v": version, "deny": [STRANGER]}
    assert refusal_of(hs, "PUT", "call_policy", bob, {"who": ["nobody"]}) == (409, "CONFLICT")
    hs.call("PUT", "call_policy", bob, {"v": 1, "who": ["nobody"]})
    assert hs.account_data[bob, POLICY] == {"v": 1, "deny": [STRANGER], "who": ["nobody"]}


def test_of_several_who_write_keys_at_once_in_whichever_process_each_has_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main, worker = processes()
    bob = main.register("bob")
    at_once = FakeAccountData.put_global

    async def takes_a_while(self: FakeAccountData, user_id: str, data_type: str, new_data: dict[str, Any]) -> None:
        await main.api.sleep(0.2)
        await at_once(self, user_id, data_type, new_data)

    monkeypatch.setattr(FakeAccountData, "put_global", takes_a_while)
    under_way = [
        asked(main, bob, "call_policy", {"who": ["contacts"]}),
        asked(worker, bob, "call_policy/do_not_disturb", {"until_ms": 2}),
        asked(worker, bob, "call_policy", {"deny": [STRANGER]}),
        asked(main, bob, "call_policy", {"relay_only": True}),
    ]
    for each in under_way:
        main.result(each)
    assert main.account_data[bob, POLICY] == {
        "v": 1,
        "who": ["contacts"],
        "do_not_disturb": {"until_ms": 2},
        "deny": [STRANGER],
        "relay_only": True,
    }


def test_a_process_that_has_not_heard_of_a_change_yet_takes_none_back(monkeypatch: pytest.MonkeyPatch) -> None:
    main, worker = processes()
    bob = main.register("bob")
    old = {"v": 1, "who": ["nobody"]}

    async def behind(*_: object) -> dict[str, Any]:
        return old

    monkeypatch.setattr(worker.private, "account_data_of", behind)
    main.call("PUT", "call_policy", bob, {"who": ["contacts"]})
    shown = worker.call("PUT", "call_policy", bob, {"deny": [STRANGER]})
    assert (shown["who"], shown["deny"]) == (["contacts"], [STRANGER])
    assert main.account_data[bob, POLICY] == {"v": 1, "who": ["contacts"], "deny": [STRANGER]}


def test_one_who_fails_keeps_nobody_waiting(hs: FakeHomeserver, bob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise SynapseError(500, "the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(FakeAccountData, "put_global", fails)
        with pytest.raises(SynapseError):
            hs.call("PUT", "call_policy", bob, {"who": ["nobody"]})
    assert hs.call("PUT", "call_policy", bob, {"who": ["contacts"]})["who"] == ["contacts"]
