"""``super-app demo``: what its ready file promises is true, and it leaves nothing behind however it ends."""

import os
import signal
from pathlib import Path

import pytest
from processes import Command, wait_until_gone
from running_demo import RunningDemo

from super_app.db import Engine
from super_app.names import AccountDataType
from synapse_super_app.commands.demo_pair import PORTS
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

OPENING_MINOR = 100_00
PEOPLE = {"alice": 0, "bob": 1, "carol": 1, "dave": 0}


def by_engine(engine: Engine) -> str:
    return engine.value


def database_server(demo: RunningDemo) -> int:
    """Its process."""
    pid_file = demo.folder / "demo" / "postgresql" / "cluster" / "postmaster.pid"
    return int(pid_file.read_text(encoding="ascii").splitlines()[0])


def test_the_ready_file_has_its_pinned_shape(demo: RunningDemo) -> None:
    assert set(demo.ready) == {"homeservers", "users", "room_id"}
    assert len(demo.homeservers) == 2
    for homeserver in demo.homeservers:
        assert set(homeserver) == {"name", "client_url", "pids", "admin"}
        assert set(homeserver["admin"]) == {"user_id", "access_token"}
        assert set(homeserver["pids"]) <= demo.command.children()
    for user in demo.ready["users"]:
        assert set(user) == {"user_id", "handle", "password", "access_token", "homeserver"}
    assert {name: person.homeserver for name, person in demo.people.items()} == PEOPLE
    ready_file = demo.folder / "ready.json"
    assert ready_file.stat().st_mode & 0o077 == 0
    assert [path.name for path in demo.folder.iterdir() if "ready" in path.name] == ["ready.json"]


def test_everyone_can_sign_in_with_token_and_password(demo: RunningDemo) -> None:
    for name, person in demo.people.items():
        with demo.client(name) as client:
            assert client.whoami() == person.user_id
            assert client.login(name, person.password).user_id == person.user_id
            assert person.handle == f"@{name}:{demo.names[person.homeserver]}"


def test_the_admins_are_admins(demo: RunningDemo) -> None:
    for admin in demo.admins:
        assert admin.request("GET", "/_synapse/admin/v2/users", None, {"limit": 1})["total"] >= 3
        assert admin.invariants()["ok"] is True


def test_alice_and_bob_share_a_direct_room_that_is_not_encrypted(demo: RunningDemo) -> None:
    pair = {demo.people["alice"].user_id, demo.people["bob"].user_id}
    for name in ("alice", "bob"):
        with demo.client(name) as client:
            assert client.joined_members(demo.room_id) == pair
            (other,) = pair - {client.user_id}
            assert (client.account_data("m.direct") or {})[other] == [demo.room_id]
            state = client.matrix("GET", f"rooms/{demo.room_id}/state/m.room.join_rules/")
            assert state == {"join_rule": "invite"}
            status, _ = client.request_raw("GET", f"/_matrix/client/v3/rooms/{demo.room_id}/state/m.room.encryption/")
            assert status == 404


def test_everybody_finds_and_resolves_everybody_over_there(demo: RunningDemo) -> None:
    for seeker in demo.people.values():
        with demo.client(seeker.name) as client:
            for other in demo.people.values():
                if other.homeserver != seeker.homeserver:
                    assert other.user_id in {found["user_id"] for found in client.search_people(f"@{other.name}")}
                    record = client.handle(other.handle)
                    assert (record["user_id"], record["status"]) == (other.user_id, "active")
                    assert record["discover"] == "public"


def test_calls_are_open_to_everyone(demo: RunningDemo) -> None:
    for name in demo.people:
        with demo.client(name) as client:
            assert client.account_data(AccountDataType.CALL_POLICY) == {"v": 1, "who": ["everyone"]}


def test_both_sides_of_the_link_are_open_for_a_million(demo: RunningDemo) -> None:
    for admin, peer in zip(demo.admins, reversed(demo.names), strict=True):
        (link,) = admin.superapp("GET", "admin/links")["links"]
        assert (link["peer"], link["state"]) == (peer, "open")
        (eur,) = link["currencies"]
        assert (eur["currency"], eur["granted_minor"], eur["received_minor"]) == ("EUR", 1_000_000_00, 1_000_000_00)


def test_a_later_change_reaches_the_peer_within_ten_seconds(demo: RunningDemo) -> None:
    with demo.client("dave") as dave, demo.client("carol") as carol:
        dave.superapp("PUT", "handles/davethelater", {"discover": "public", "as": "alias"})
        try:
            wait_until(
                lambda: [found for found in carol.search_people("@davethelater") if found["user_id"] == dave.user_id],
                timeout_s=10,
                what="carol to find dave by his new alias",
            )
        finally:
            dave.superapp("DELETE", "handles/davethelater")


def test_certificates_are_verified_and_the_federation_port_speaks_tls(demo: RunningDemo) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(demo.folder / "demo" / "ca.crt"))
    for name in demo.names:
        with MatrixClient(f"https://{name}", tls=context) as peer:
            assert peer.request("GET", "/_matrix/federation/v1/version")["server"]["name"] == "Synapse"
    for side in (1, 2):
        config = (demo.folder / "demo" / f"homeserver{side}" / "homeserver.yaml").read_text(encoding="utf-8")
        assert "federation_verify_certificates" not in config


def test_it_tells_a_person_what_to_try(demo: RunningDemo) -> None:
    told = demo.command.stdout
    for homeserver in demo.homeservers:
        assert homeserver["client_url"] in told
    for person in demo.people.values():
        assert person.password in told
        assert person.handle in told
    assert told.count("curl -H 'Authorization: Bearer ") == 2
    assert "play money" in told
    progress = demo.command.stderr.splitlines()
    assert all(line.startswith("demo: ") for line in progress)
    assert progress[-1].startswith("demo: ready after ")


@pytest.mark.parametrize("engine", [Engine.POSTGRESQL], ids=by_engine)
def test_killed_by_force_it_leaves_nothing_behind_and_starts_again_where_it_was(
    demo_folder: Path, engine: Engine
) -> None:
    first = RunningDemo(demo_folder, engine)
    try:
        with first.client("alice") as alice, first.client("bob") as bob:
            paid = alice.pay(first.people["bob"].handle, 500, "EUR", room_id=first.room_id)
            assert bob.wait_for_payment(paid["payment_id"], payer=alice.user_id)["state"] == "completed"
        running = first.command.children()
        assert len(running) >= 2
        first.command.signal(signal.SIGKILL)
        first.command.wait()
        assert wait_until_gone(running) == frozenset()
    finally:
        first.stop()

    second = RunningDemo(demo_folder, engine, port_base=first.port_base)
    try:
        assert second.room_id == first.room_id
        with second.client("alice") as alice, second.client("bob") as bob:
            assert alice.available("EUR") == OPENING_MINOR - 500
            assert bob.available("EUR") == OPENING_MINOR + 500
            memberships = [event for event in alice.messages(second.room_id) if event["type"] == "m.room.member"]
            assert len(memberships) == 3  # alice joins, invites bob, bob joins
        running = second.command.children()
        second.command.signal(signal.SIGTERM)
        assert second.command.wait() == 0
        assert wait_until_gone(running) == frozenset()
        assert "demo: stopped (SIGTERM)" in second.command.stderr
        assert not (demo_folder / "ready.json").exists()
    finally:
        second.stop()


def test_it_can_be_stopped_while_it_starts(demo_folder: Path) -> None:
    ports = str(free_ports(PORTS))
    options = ["--data", "demo", "--port-base", ports, "--ready-file", "not/yet/there"]
    with Command(["demo", *options], folder=demo_folder) as demo:
        wait_until(lambda: len(demo.children()) == 2, timeout_s=60, what="both homeservers to be started")
        running = demo.children()
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
        assert wait_until_gone(running) == frozenset()
        assert demo.stderr.endswith("demo: stopped (SIGINT)\n")
        assert not list((demo_folder / "not" / "yet").iterdir())


def test_when_one_homeserver_dies_everything_stops_with_an_error(demo_folder: Path) -> None:
    demo = RunningDemo(demo_folder, Engine.SQLITE, real=True)
    try:
        running = demo.command.children()
        os.kill(demo.homeservers[1]["pids"][0], signal.SIGKILL)
        assert demo.command.wait() == 1
        assert wait_until_gone(running) == frozenset()
        assert f"super-app: homeserver {demo.names[1]}: Synapse ended by signal SIGKILL" in demo.command.stderr
        assert "everything of the demo is stopped" in demo.command.stderr
    finally:
        demo.stop()


def test_when_one_homeserver_dies_while_the_demo_starts_it_is_named(demo_folder: Path) -> None:
    ports = free_ports(PORTS)
    with Command(["demo", "--data", "demo", "--port-base", str(ports)], folder=demo_folder) as demo:
        wait_until(lambda: "demo: making accounts" in demo.stderr, timeout_s=60, what="both homeservers to answer")
        running = demo.children()
        os.kill(max(running), signal.SIGKILL)
        assert demo.wait() == 1
        assert wait_until_gone(running) == frozenset()
        assert "Synapse ended by signal SIGKILL" in demo.stderr


def test_when_the_database_server_dies_everything_stops_with_an_error(demo_folder: Path) -> None:
    demo = RunningDemo(demo_folder, Engine.POSTGRESQL)
    try:
        running = demo.command.children()
        os.kill(database_server(demo), signal.SIGKILL)
        assert demo.command.wait() == 1
        assert wait_until_gone(running) == frozenset()
        assert "super-app: the PostgreSQL server has ended" in demo.command.stderr
    finally:
        demo.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could run the database server as root")
def test_the_database_server_does_not_run_as_root(demo: RunningDemo) -> None:
    if demo.engine is Engine.SQLITE:
        assert not (demo.folder / "demo" / "postgresql").exists()
        return
    assert Path(f"/proc/{database_server(demo)}").stat().st_uid != 0
    # Its files are in the demo's own folder, so that whoever deletes that has deleted all.
    assert not (demo.folder / "demo" / "postgresql" / "cluster").is_symlink()
