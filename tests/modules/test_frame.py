"""The frame of the shell: start, gate, follower, routes, private API."""

import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_api import FakeAccountData, FakeHomeserver, FakeModuleApi, FakePrivateApi
from pydantic import BaseModel
from synapse.events import EventBase
from synapse.federation.federation_base import FederationBase
from synapse.module_api import NOT_SPAM, AccountDataManager, ModuleApi
from synapse.module_api.errors import ConfigError, SynapseError
from twisted.internet import defer

from super_app.errors import Reason, Refused
from super_app.wire import WireModel
from synapse_super_app import module as module_under_test
from synapse_super_app import private_api
from synapse_super_app.config import FeatureName
from synapse_super_app.http.openapi import document
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.module import build_features
from synapse_super_app.private_api import PrivateApi, PrivateUse
from synapse_super_app.runtime import Feature, Runtime

MOVED = PrivateUse(
    symbol="synapse.notifier:Notifier.no_such_method", features=frozenset({FeatureName.CALLS}), reason="a test"
)


@pytest.mark.parametrize(
    ("fake", "real"),
    [(FakeModuleApi, ModuleApi), (FakeAccountData, AccountDataManager), (FakePrivateApi, PrivateApi)],
    ids=["ModuleApi", "AccountDataManager", "PrivateApi"],
)
def test_the_fake_has_no_method_that_the_real_one_lacks_and_takes_what_it_takes(
    fake: type[Any], real: type[Any]
) -> None:
    own_to_the_fake = {"replicate"}
    for name, member in vars(fake).items():
        if name.startswith("_") or name in own_to_the_fake or not callable(inspect.unwrap(member)):
            continue
        assert hasattr(real, name), f"{real.__name__} has no {name}"
        wanted = inspect.signature(getattr(real, name)).parameters
        taken = inspect.signature(getattr(fake, name)).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values()):
            continue
        assert list(taken) == list(wanted), name


def test_every_private_symbol_is_where_we_look_for_it() -> None:
    assert private_api.missing() == {}


def test_a_moved_private_symbol_switches_off_only_its_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_api, "USES", (*private_api.USES, MOVED))
    homeserver = FakeHomeserver()
    module = homeserver.start()
    names = [feature.name for feature in module.features]
    assert "calls" not in names
    assert {"directory", "payments", "web"} <= set(names)


def test_a_moved_private_symbol_refuses_the_start_when_so_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_api, "USES", (*private_api.USES, MOVED))
    with pytest.raises(ConfigError, match="no_such_method"):
        FakeHomeserver(config={"on_private_api_change": "refuse_start"}).start()


@pytest.mark.parametrize("feature", ["directory", "calls", "payments", "web"])
def test_a_feature_that_is_off_leaves_no_tables_and_no_routes(feature: str) -> None:
    everything = FakeHomeserver()
    everything.start()
    without = FakeHomeserver(config={"features": {feature: False}})
    without.start()
    assert _tables(without) <= _tables(everything)
    gone = _tables(everything) - _tables(without)
    # Calls by the minute need both calls and payments.
    also = "superapp_fare" if feature == "calls" else feature
    assert all(feature in table or also in table or feature == "payments" for table in gone), gone
    assert _paths(without) <= _paths(everything)


def test_with_all_features_off_nothing_is_registered_and_no_table_is_made() -> None:
    homeserver = FakeHomeserver(config={"features": dict.fromkeys(["directory", "calls", "payments", "web"], False)})
    homeserver.start()
    assert _tables(homeserver) == {"events", "event_json"}
    assert homeserver.api.web_resources == {}
    assert not homeserver.api.callbacks


def test_the_hot_path_callbacks_that_load_room_state_are_never_registered() -> None:
    homeserver = FakeHomeserver()
    homeserver.start()
    assert "check_event_allowed" not in homeserver.api.callbacks
    assert "on_new_event" not in homeserver.api.callbacks


def test_ordinary_chat_passes_the_gate_without_a_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    homeserver = FakeHomeserver()
    homeserver.start()
    alice = homeserver.register("alice")
    room = homeserver.room(alice)

    def no_statement(*_: object, **__: object) -> None:
        raise AssertionError("the gate asked the database about a chat message")

    monkeypatch.setattr(homeserver, "transact", no_statement)
    homeserver.gate_only(alice, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})


def test_before_the_tables_exist_a_local_sender_is_told_to_wait_and_a_remote_event_passes() -> None:
    homeserver = FakeHomeserver()
    module = homeserver.start()
    module.runtime.gate.register({"org.superapp.test": _says_yes})
    module.runtime.gate._ready = False
    alice = homeserver.register("alice")
    room = homeserver.room(alice, "@bob:hs2.test")
    with pytest.raises(SynapseError) as refusal:
        homeserver.send(alice, room, "org.superapp.test", {})
    assert (refusal.value.code, refusal.value.errcode) == (503, "ORG.SUPERAPP.STARTING")
    homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})


def test_an_error_in_the_gate_refuses_a_local_sender_and_lets_a_remote_event_pass() -> None:
    homeserver = FakeHomeserver()
    module = homeserver.start()
    module.runtime.gate.register({"org.superapp.test": _breaks})
    alice = homeserver.register("alice")
    room = homeserver.room(alice, "@bob:hs2.test")
    with pytest.raises(ZeroDivisionError):
        homeserver.send(alice, room, "org.superapp.test", {})
    event_id = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
    assert not homeserver.events[event_id].internal_metadata.is_soft_failed()


def test_an_event_of_our_own_people_that_comes_back_from_another_homeserver_passes() -> None:
    """It was decided when it was made. An error would make Synapse drop what refers to it."""
    homeserver = FakeHomeserver()
    module = homeserver.start()
    module.runtime.gate.register({"org.superapp.test": _breaks})
    alice = homeserver.register("alice")
    room = homeserver.room(alice, "@bob:hs2.test")
    for ready in (True, False):
        module.runtime.gate._ready = ready
        event_id = homeserver.receive(alice, room, "org.superapp.test", {})
        assert not homeserver.events[event_id].internal_metadata.is_soft_failed()


def test_it_is_known_of_the_event_that_is_being_checked_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    private = object.__new__(PrivateApi)
    checked, other = (cast(Any, SimpleNamespace(event_id=event_id)) for event_id in ("$checked", "$other"))
    said: list[tuple[bool, bool]] = []

    async def check(_base: object, _version: object, pdu: Any, _record: object = None) -> Any:
        said.append((private.came_over_federation(pdu), private.came_over_federation(other)))
        return pdu

    monkeypatch.setattr(FederationBase, "_check_sigs_and_hash", check)
    for _ in range(2):
        private.tell_apart_what_came_over_federation()
    marked = FederationBase._check_sigs_and_hash
    done: list[Any] = []
    defer.ensureDeferred(marked(cast(Any, None), cast(Any, None), checked)).addCallback(done.append)
    assert done == [checked]
    assert said == [(True, False)]
    assert not private.came_over_federation(checked)


class TestFollower:
    def test_an_event_is_handled_once_persisted_and_at_once_when_expected(self) -> None:
        homeserver, seen, room = _followed()
        homeserver.module.runtime.follower.expect()
        event_id = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
        assert seen == [event_id]

    def test_an_unexpected_event_is_handled_within_two_seconds(self) -> None:
        homeserver, seen, room = _followed()
        event_id = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
        assert seen == []
        homeserver.advance(2.1)
        assert seen == [event_id]

    def test_events_that_came_while_it_was_down_are_handled_after_a_restart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        homeserver, _, room = _followed()
        event_id = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
        seen: list[str] = []

        def build(runtime: Runtime, enabled: tuple[FeatureName, ...]) -> list[Feature]:
            _follow(runtime, seen)
            return build_features(runtime, enabled)

        monkeypatch.setattr(module_under_test, "build_features", build)
        homeserver.restart()
        homeserver.advance(2.1)
        assert seen == [event_id]

    def test_a_soft_failed_event_is_not_handled(self) -> None:
        homeserver, seen, room = _followed()
        event_id = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
        homeserver.events[event_id].internal_metadata.soft_failed = True
        homeserver.advance(2.1)
        assert seen == []

    def test_a_failing_event_is_retried_and_holds_up_no_other(self) -> None:
        homeserver = FakeHomeserver()
        module = homeserver.start()
        seen: list[str] = []
        broken = {"yes"}

        async def handle(event: EventBase) -> None:
            if event.content.get("bad") and broken:
                raise RuntimeError("the world is broken")
            seen.append(event.event_id)

        module.runtime.follower.register({"org.superapp.test": handle})
        homeserver.result(module.runtime.follower.start())
        room = homeserver.room(homeserver.register("alice"), "@bob:hs2.test")
        bad = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {"bad": True})
        good = homeserver.receive("@bob:hs2.test", room, "org.superapp.test", {})
        homeserver.advance(3)
        assert seen == [good]
        broken.clear()
        homeserver.advance(10)
        assert seen == [good, bad]

    def test_a_flood_of_chat_costs_at_most_one_sweep_every_two_seconds(self) -> None:
        homeserver, _, room = _followed()
        alice = "@alice:hs1.test"
        homeserver.statements.clear()
        for _ in range(100):
            homeserver.send(alice, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
        homeserver.advance(2.1)
        sweeps = [name for name in homeserver.statements if name.startswith("superapp_follower_read")]
        assert len(sweeps) == 1


class Greeting(WireModel):
    name: str


class Greeted(BaseModel):
    text: str


async def _greet(call: Call) -> Greeted | Refused:
    if call.body.name == "nobody":
        return Refused(reason=Reason.UNKNOWN_HANDLE, message="There is nobody.", fields={"near": ["somebody"]})
    return Greeted(text=f"hello {call.body.name} from {call.path['place']}")


GREET = Route(
    method="POST",
    path="greetings/{place}",
    handler=_greet,
    response=Greeted,
    summary="Greet",
    body=Greeting,
    auth=Auth.PUBLIC,
    reasons=(Reason.UNKNOWN_HANDLE,),
)


class TestRoutes:
    def test_a_route_gets_its_path_and_body_and_answers_its_model(self) -> None:
        homeserver = _with_route()
        assert homeserver.call("POST", "greetings/here", body={"name": "bob"}) == {"text": "hello bob from here"}

    def test_a_refusal_becomes_a_matrix_error_with_its_fields(self) -> None:
        homeserver = _with_route()
        with pytest.raises(SynapseError) as refusal:
            homeserver.call("POST", "greetings/here", body={"name": "nobody"})
        assert refusal.value.code == 404
        assert refusal.value.error_dict(None) == {
            "errcode": "ORG.SUPERAPP.UNKNOWN_HANDLE",
            "error": "There is nobody.",
            "near": ["somebody"],
        }

    @pytest.mark.parametrize(
        ("body", "errcode"),
        [
            ({"name": 1}, "ORG.SUPERAPP.INVALID_VALUE"),
            ({}, "ORG.SUPERAPP.INVALID_VALUE"),
            ({"name": "bob", "age": 7}, "ORG.SUPERAPP.UNKNOWN_FIELD"),
        ],
    )
    def test_a_body_of_another_shape_is_refused_by_the_model_that_documents_it(self, body: Any, errcode: str) -> None:
        homeserver = _with_route()
        with pytest.raises(SynapseError) as refusal:
            homeserver.call("POST", "greetings/here", body=body)
        assert (refusal.value.code, refusal.value.errcode) == (422, errcode)

    def test_the_document_describes_each_route_with_its_refusals(self) -> None:
        described = document([GREET], "1.2.3")
        operation = described["paths"]["/greetings/{place}"]["post"]
        assert described["info"]["version"] == "1.2.3"
        assert operation["requestBody"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/Greeting"
        }
        assert "ORG.SUPERAPP.UNKNOWN_HANDLE" in operation["responses"]["404"]["description"]
        assert operation["parameters"] == [
            {"name": "place", "in": "path", "required": True, "schema": {"type": "string"}}
        ]

    def test_every_reference_in_the_whole_document_resolves(self) -> None:
        homeserver = FakeHomeserver()
        homeserver.start()
        resource = next(each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource))
        schemas = resource.document["components"]["schemas"]
        for reference in _references(resource.document):
            assert reference.removeprefix("#/components/schemas/") in schemas


async def _says_yes(_event: EventBase) -> str:
    return NOT_SPAM


async def _breaks(_event: EventBase) -> str:
    raise ZeroDivisionError


def _follow(runtime: Runtime, seen: list[str]) -> None:
    async def handle(event: EventBase) -> None:
        seen.append(event.event_id)

    runtime.follower.register({"org.superapp.test": handle})


def _followed() -> tuple[FakeHomeserver, list[str], str]:
    homeserver = FakeHomeserver()
    seen: list[str] = []
    _follow(homeserver.start().runtime, seen)
    room = homeserver.room(homeserver.register("alice"), "@bob:hs2.test")
    homeserver.advance(3)
    return homeserver, seen, room


def _with_route() -> FakeHomeserver:
    homeserver = FakeHomeserver()
    homeserver.start()
    resource = next(each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource))
    resource.add([GREET])
    return homeserver


def _tables(homeserver: FakeHomeserver) -> set[str]:
    return {row[0] for row in homeserver.query("SELECT name FROM sqlite_master WHERE type = 'table'")} - {
        "sqlite_sequence"
    }


def _paths(homeserver: FakeHomeserver) -> set[str]:
    resources = [each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource)]
    return {path for resource in resources for path in resource.document.get("paths", {})}


def _references(value: Any) -> list[str]:
    match value:
        case dict():
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in _references(item)]
        case list():
            return [found for item in value for found in _references(item)]
        case _:
            return []
