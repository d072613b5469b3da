"""What an operator sees in the traces of Synapse: the steps of payments and calls, and nobody's name."""

from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.logging import opentracing as synapse_tracing
from synapse.module_api.errors import SynapseError

from super_app.ids import ServerName, UserId
from super_app.names import CLEARING_PATH
from synapse_super_app import private_api
from synapse_super_app.private_api import span

ALICE, BOB, OPERATOR = UserId("@alice:hs1.test"), UserId("@bob:hs1.test"), UserId("@operator:hs1.test")


class FakeTracer:
    """As much of an OpenTracing tracer as Synapse's own function asks of one."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, str]]] = []
        self.open = 0

    @contextmanager
    def start_active_span(self, name: str, *, tags: dict[str, str] | None = None, **_: Any) -> Generator[None]:
        self.spans.append((name, tags or {}))
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> FakeTracer:
    made = FakeTracer()
    monkeypatch.setattr(synapse_tracing, "opentracing", SimpleNamespace(tracer=made))
    return made


def homeserver(server: str = "hs1.test") -> FakeHomeserver:
    made = FakeHomeserver(server)
    made.start()
    made.register("operator", admin=True)
    for name in ("alice", "bob"):
        made.register(name)
    return made


def test_a_payment_and_a_ring_show_their_steps_and_name_nobody(tracer: FakeTracer) -> None:
    hs = homeserver()
    hs.call("POST", "admin/issue", OPERATOR, {"user_id": ALICE, "amount": 100, "currency": "PTS", "reference": "r"})
    hs.account_data[BOB, "org.superapp.call.policy"] = {"v": 1, "who": ["everyone"]}
    room = hs.room(ALICE, BOB)
    order = {"payment_id": f"{1:032x}", "payee": BOB, "amount": 30, "currency": "PTS"}
    hs.send(ALICE, room, "org.superapp.payment", order)
    hs.send(ALICE, room, "org.superapp.call.ring", {"call_id": "c1", "media": "audio"})
    hs.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
    hs.settle()
    for kind in ("org.superapp.payment", "org.superapp.call.ring"):
        assert ("superapp.gate", {"superapp.type": kind}) in tracer.spans
        assert ("superapp.follow", {"superapp.type": kind}) in tracer.spans
    told = str(tracer.spans)
    assert "m.room.message" not in told, "a plain message costs nothing here"
    for name in ("alice", "bob", room, order["payment_id"]):
        assert str(name) not in told
    assert tracer.open == 0


def test_what_a_peer_sends_of_clearing_shows_whose_it_is(tracer: FakeTracer) -> None:
    hs = homeserver()
    with pytest.raises(SynapseError):
        hs.result(hs.private.put_handlers[CLEARING_PATH](ServerName("hs2.test"), "A" * 43, {"object": {}}))
    assert ("superapp.clearing.receive", {"superapp.peer": "hs2.test"}) in tracer.spans


def test_a_step_that_fails_ends_in_the_trace(tracer: FakeTracer) -> None:
    with pytest.raises(ValueError, match="broken"), span("gate", type="x"):
        raise ValueError("broken")
    assert tracer.open == 0


def test_where_nobody_traces_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    with span("gate", type="x"):
        pass
    monkeypatch.setattr(private_api, "_module", lambda _: SimpleNamespace())
    with span("gate", type="x"):
        pass
