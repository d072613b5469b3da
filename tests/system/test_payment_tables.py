"""What payments read from Synapse's own tables, against the tables of a running homeserver."""

import secrets
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg2
import yaml
from engines import _PostgresCursor, _SqliteCursor
from running_demo import RunningDemo

from super_app.db import Cursor
from super_app.ids import EventId, RoomId, UserId
from super_app.names import AccountDataType, EventType
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until
from synapse_super_app.private_api import CommonRoom, PrivateApi

PRIVATE: Final = PrivateApi.__new__(PrivateApi)  # the methods under test need a cursor and no homeserver


@contextmanager
def tables_of(demo: RunningDemo, index: int) -> Generator[Cursor]:
    """A second connection to the database of a homeserver of the demo."""
    database = _database(demo.folder, demo.names[index])
    if database["name"] == "sqlite3":
        connection = sqlite3.connect(f"file:{database['args']['database']}?mode=ro", uri=True)
        yield _SqliteCursor(connection.cursor())
        connection.close()
        return
    args = {name: value for name, value in database["args"].items() if not name.startswith("cp_")}
    with psycopg2.connect(**args) as connected:
        yield _PostgresCursor(connected.cursor())
    connected.close()


def _database(folder: Path, server_name: str) -> dict[str, Any]:
    for path in folder.rglob("*.yaml"):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if config.get("server_name") == server_name:
            database: dict[str, Any] = config["database"]
            return database
    raise AssertionError(f"no homeserver.yaml of {server_name} below {folder}")


def user(demo: RunningDemo, name: str) -> UserId:
    return UserId(demo.people[name].user_id)


def test_who_exists_and_who_is_deactivated(demo: RunningDemo) -> None:
    admin = demo.admins[0]
    gone = UserId(f"@gone{secrets.token_hex(4)}:{demo.names[0]}")
    admin.request("PUT", f"/_synapse/admin/v2/users/{gone}", {"password": secrets.token_hex(8)})
    with tables_of(demo, 0) as cur:
        assert PRIVATE.is_deactivated(cur, user(demo, "alice")) is False
        assert PRIVATE.is_deactivated(cur, gone) is False
        assert PRIVATE.is_deactivated(cur, UserId(f"@nobody:{demo.names[0]}")) is None
    admin.request("PUT", f"/_synapse/admin/v2/users/{gone}", {"deactivated": True})
    with tables_of(demo, 0) as cur:
        assert PRIVATE.is_deactivated(cur, gone) is True
        assert PRIVATE.resident(cur, gone, AccountDataType.PAYMENT_POLICY) == (True, None)


def test_the_policy_in_account_data(demo: RunningDemo) -> None:
    with demo.client("carol") as carol:
        carol.set_account_data(AccountDataType.PAYMENT_POLICY, {"v": 1, "from": ["everyone"]})
    with tables_of(demo, 1) as cur:
        found = PRIVATE.resident(cur, user(demo, "carol"), AccountDataType.PAYMENT_POLICY)
        assert found == (False, {"v": 1, "from": ["everyone"]})
        assert PRIVATE.resident(cur, UserId(f"@nobody:{demo.names[1]}"), AccountDataType.PAYMENT_POLICY) is None


def test_rooms_that_two_people_share(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("dave") as dave:
        first = alice.create_room(invite=[dave.user_id])
        secret = alice.create_room(
            invite=[dave.user_id],
            initial_state=[{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}],
        )
        dave.join(first)
        crowd = alice.create_room(invite=[dave.user_id, user(demo, "bob"), user(demo, "carol")])
        left = alice.create_room(invite=[dave.user_id])
        dave.leave(left)
        with tables_of(demo, 0) as cur:
            found = PRIVATE.common_rooms(cur, UserId(alice.user_id), UserId(dave.user_id))
            ours = [room for room in found if room.room_id in (first, secret, crowd, left)]
            assert ours == [
                CommonRoom(room_id=RoomId(first), other_joined=True, only_two=True, encrypted=False),
                CommonRoom(room_id=RoomId(secret), other_joined=False, only_two=True, encrypted=True),
                CommonRoom(room_id=RoomId(crowd), other_joined=False, only_two=False, encrypted=False),
            ]
            assert PRIVATE.share_a_room(cur, UserId(alice.user_id), user(demo, "bob"))
            assert not PRIVATE.share_a_room(cur, UserId(alice.user_id), UserId(f"@nobody:{demo.names[1]}"))
            assert PRIVATE.is_joined(cur, UserId(dave.user_id), RoomId(first))
            assert not PRIVATE.is_joined(cur, UserId(dave.user_id), RoomId(secret))
            assert not PRIVATE.is_joined(cur, UserId(dave.user_id), RoomId(left))


def test_the_names_that_people_show_in_profiles_and_in_rooms(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("dave") as dave:
        room = alice.create_room(invite=[dave.user_id])
        dave.join(room)
        shown = f"Dave {secrets.token_hex(4)}"
        dave.matrix(
            "PUT",
            f"rooms/{room}/state/m.room.member/{dave.user_id}",
            {"membership": "join", "displayname": shown},
        )
        with tables_of(demo, 0) as cur:
            names = PRIVATE.display_names(cur, UserId(dave.user_id))
            assert shown in names
            assert PRIVATE.display_names(cur, UserId(f"@nobody:{demo.names[1]}")) == ()
        dave.leave(room)
        with tables_of(demo, 0) as cur:
            assert shown not in PRIVATE.display_names(cur, UserId(dave.user_id))


def test_events_of_an_order_and_receipts_that_refer_to_them(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("dave") as dave:
        room_id = alice.create_room(invite=[dave.user_id])
        dave.join(room_id)
        first = _pay(alice, demo, room_id)
        second = _pay(alice, demo, room_id)
        sender, room = UserId(alice.user_id), RoomId(room_id)
        with tables_of(demo, 0) as cur:
            assert PRIVATE.events_of(cur, room, sender, EventType.PAYMENT, 0) == (first, second)
            assert PRIVATE.events_of(cur, room, UserId(dave.user_id), EventType.PAYMENT, 0) == ()
            cur.execute("SELECT stream_ordering FROM events WHERE event_id = ?", (first,))
            row = cur.fetchone()
            assert row is not None
            assert PRIVATE.events_of(cur, room, sender, EventType.PAYMENT, int(row[0] or 0)) == (second,)
            ((_, poster),) = PRIVATE.references_to(cur, first, EventType.PAYMENT_RECEIPT)
            assert poster == dave.user_id
            assert PRIVATE.references_to(cur, first, EventType.PAYMENT) == ()


def _pay(payer: MatrixClient, demo: RunningDemo, room_id: str) -> EventId:
    payment_id = secrets.token_hex(16)
    order = {"payment_id": payment_id, "payee": demo.people["dave"].handle, "amount": 1, "currency": "EUR"}
    event_id = payer.send(room_id, EventType.PAYMENT, order)
    wait_until(
        lambda: any(
            event["type"] == EventType.PAYMENT_RECEIPT and event["content"]["payment_id"] == payment_id
            for event in payer.messages(room_id)
        ),
        timeout_s=20,
        what="the receipt",
    )
    return EventId(event_id)
