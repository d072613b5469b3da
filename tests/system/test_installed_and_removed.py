"""On a Synapse that people use already: the module comes, is used, and goes, and Synapse is as it was."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synapse_super_app.commands import loopback
from synapse_super_app.commands.homeserver_process import Homeserver, write_config
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

_MODULE = {
    "features": {"assistant": False, "cards": False},
    "payments": {"assets": [{"code": "PTS", "scale": 0}]},
    "web": {"sticker_menu": False},
}


def _homeserver(folder: Path, module: dict[str, Any] | None, port: int) -> Homeserver:
    config = loopback.synapse_config(
        folder=folder, client_port=port, database=loopback.sqlite(folder), module_config=module
    )
    write_config(folder / "homeserver.yaml", config)
    return Homeserver(
        config_path=folder / "homeserver.yaml",
        client_url=loopback.client_url(port),
        console_path=folder / f"{'with' if module else 'without'}.log",
        expects_our_api=module is not None,
    )


def _schema(folder: Path) -> dict[str, str]:
    """All tables, indices and triggers by name, as they were made."""
    connection = sqlite3.connect(f"file:{folder / 'homeserver.db'}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {str(name): str(sql) for name, sql in rows}


def _life(client: MatrixClient, room_id: str) -> dict[str, Any]:
    """What a person has: who they are, their rooms and what is said there, their data, and whom a search finds."""
    state: list[dict[str, Any]] = json.loads(client.request_raw("GET", f"/_matrix/client/v3/rooms/{room_id}/state")[1])
    return {
        "profile": client.matrix("GET", f"profile/{client.user_id}"),
        "rooms": sorted(client.joined_rooms()),
        "state": sorted((each["type"], each["state_key"], json.dumps(each["content"])) for each in state),
        "said": [(each["sender"], each["content"].get("body")) for each in client.messages(room_id) if _is_said(each)],
        "direct": client.account_data("m.direct"),
        "found": [each["user_id"] for each in client.search_people("bob")],
    }


def _is_said(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "m.room.message")


def test_it_comes_to_a_synapse_with_people_and_rooms_and_goes_again_without_a_trace(tmp_path: Path) -> None:
    port = loopback.free_ports(1)
    with _homeserver(tmp_path, None, port) as process:
        process.start()
        with MatrixClient(process.client_url) as anyone:
            register = anyone.register_with_secret
            sessions = {
                name: register(loopback.REGISTRATION_SECRET, name, name, admin=name == "operator")
                for name in ("alice", "bob", "operator")
            }
            clients = {name: anyone.signed_in(session) for name, session in sessions.items()}
        alice, bob = clients["alice"], clients["bob"]
        room_id = alice.create_room(preset="private_chat", invite=[bob.user_id], name="Before")
        bob.join(room_id)
        bob.set_display_name("Bob")
        alice.set_account_data("m.direct", {bob.user_id: [room_id]})
        alice.send_text(room_id, "long before")
        before = _life(alice, room_id)
    _hang_up(clients)
    schema_before = _schema(tmp_path)

    with _homeserver(tmp_path, _MODULE, port) as process:
        process.start()
        life = _life(alice, room_id)
        # Who was there before can be paid by their user id, and is found as before.
        assert life == before
        clients["operator"].issue(alice.user_id, 10, "PTS", "a start")
        paid = alice.pay(bob.user_id, 3, "PTS", room_id=room_id)
        assert alice.wait_for_payment(str(paid["payment_id"]))["state"] == "completed"
        alice.superapp("PUT", "handles/wonder")
    _hang_up(clients)
    added = _schema(tmp_path)
    assert all(name.startswith("superapp_") for name in added.keys() - schema_before.keys())
    assert {name: added[name] for name in schema_before} == schema_before

    with _homeserver(tmp_path, None, port) as process:
        process.start()
        life = _life(alice, room_id)
        assert {key: life[key] for key in ("rooms", "said", "direct", "found")} == {
            key: before[key] for key in ("rooms", "said", "direct", "found")
        }
        assert life["state"] == before["state"]
        for client, path in ((alice, "/_synapse/client/superapp/v1/wallet"), (alice, "/superapp/")):
            assert client.request_raw("GET", path)[0] == 404
        bob.send_text(room_id, "and after")
        wait_until(lambda: "and after" in str(alice.messages(room_id)), timeout_s=30, what="chat to go on")
        try:
            # What was ours is an event like any other to a Synapse that does not know it.
            alice.send(room_id, "org.superapp.payment", {"nonsense": 1})
        except MatrixError as refusal:
            raise AssertionError("something of ours still stands at the gate") from refusal
    assert _schema(tmp_path).keys() == added.keys()
    _drop_ours(tmp_path)
    assert _schema(tmp_path) == schema_before
    _hang_up(clients)


def _hang_up(clients: Mapping[str, MatrixClient]) -> None:
    """Their connections are to a homeserver that has stopped; the next request makes new ones."""
    for client in clients.values():
        client.close()


def _drop_ours(folder: Path) -> None:
    """As docs/admin.md says, for SQLite: virtual tables first, since these bring tables of their own."""
    connection = sqlite3.connect(folder / "homeserver.db")
    try:
        for kind in ("CREATE VIRTUAL", "CREATE TABLE"):
            for name, sql in _schema(folder).items():
                if name.startswith("superapp_") and sql.startswith(kind):
                    connection.execute(f'DROP TABLE IF EXISTS "{name}"')
            connection.commit()
    finally:
        connection.close()
