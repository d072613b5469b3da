"""Calls on a homeserver of several processes: limits are counted together, and rings silenced from any of them."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_calls_shell import EVERYONE, RING, ring, set_policy


def processes(**calls: Any) -> tuple[FakeHomeserver, FakeHomeserver]:
    """The main process and a worker."""
    config = {"features": {"directory": False, "payments": False, "web": False}, "calls": {**EVERYONE, **calls}}
    main = FakeHomeserver(config=config)
    worker = main.worker("worker1")
    main.start()
    worker.start()
    main.advance(2)
    return main, worker


def test_a_person_rings_so_often_whichever_process_they_ring_at() -> None:
    main, worker = processes(limits={"rings": 3})
    alice, bob = main.register("alice"), main.register("bob")
    for number, process in enumerate((main, worker, main)):
        process.send(alice, main.room(alice, bob), RING, ring(f"call-{number}"))
    wait_ms = 0
    for number, process in enumerate((main, worker)):
        with pytest.raises(SynapseError) as refused:
            process.send(alice, main.room(alice, bob), RING, ring(f"more-{number}"))
        assert refused.value.code == 429
        wait_ms = refused.value.error_dict(None)["retry_after_ms"]
        assert 0 < wait_ms <= 600_000
    main.send(bob, main.room(alice, bob), RING, ring("his"))
    main.advance(wait_ms / 1_000 + 30)
    worker.send(alice, main.room(alice, bob), RING, ring("later"))


def test_credentials_of_all_processes_come_out_of_one_quota(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("turn-secret")
    main, worker = processes(
        limits={"turn": 2}, turn_uris=["turn:turn.test"], turn_secret_path=str(tmp_path / "secret")
    )
    alice, bob = main.register("alice"), main.register("bob")
    main.send(alice, main.room(alice, bob), RING, ring())
    main.call("GET", "calls/call-1/turn", alice)
    worker.call("GET", "calls/call-1/turn", alice)
    with pytest.raises(SynapseError) as refused:
        main.call("GET", "calls/call-1/turn", alice)
    assert refused.value.code == 429


def test_a_ring_in_a_group_is_silenced_also_where_push_rules_are_not_written() -> None:
    main, worker = processes()
    alice, bob, carol = (main.register(name) for name in ("alice", "bob", "carol"))
    set_policy(main, bob, who=["nobody"])
    room = main.room(alice, bob, carol)
    worker.send(alice, room, RING, ring())
    assert [person for person, _ in main.push_rules] == [bob]
    assert ("main", "silence") in main.relayed
    main.advance(3_700)
    assert main.push_rules == {}


def test_who_cannot_be_silenced_is_rung_when_the_writer_is_away() -> None:
    main, worker = processes()
    alice, bob, carol = (main.register(name) for name in ("alice", "bob", "carol"))
    set_policy(main, bob, who=["nobody"])
    main.endpoints.clear()
    worker.send(alice, main.room(alice, bob, carol), RING, ring())
    assert main.push_rules == {}


def test_what_was_counted_is_forgotten() -> None:
    main, worker = processes(limits={"rings": 3})
    alice, bob = main.register("alice"), main.register("bob")
    worker.send(alice, main.room(alice, bob), RING, ring())
    assert main.query("SELECT COUNT(*) FROM superapp_calls_taken") != [(0,)]
    main.advance(2 * 3_700)
    assert main.query("SELECT COUNT(*) FROM superapp_calls_taken") == [(0,)]
