"""Handles on real homeservers: resolved, found, hidden, renamed and defended over real federation."""

import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from lone import LoneHomeserver, MakeLone
from processes import super_app
from running_demo import RunningDemo
from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from unpaddedbase64 import decode_base64

from super_app.names import LOG_PREFIX
from super_app.signing import verify
from super_app.transparency import checkpoint, tree
from super_app.transparency.tiles import WIDTH, Tile, path_of, read_bundle
from synapse_super_app.commands import loopback
from synapse_super_app.commands.homeserver_process import write_config
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

PROMISE_S = 10.0
"""Within this time a change reaches the peer."""


def newcomer(demo: RunningDemo, index: int) -> MatrixClient:
    """A new account of one of the demo's homeservers, whose names nobody else uses."""
    with MatrixClient(str(demo.homeservers[index]["client_url"])) as nobody:
        return nobody.signed_in(
            nobody.register_with_secret(loopback.REGISTRATION_SECRET, fresh_name(), secrets.token_hex(8))
        )


def fresh_name() -> str:
    """A name that looks like no other: letters that have no look-alikes."""
    return "".join(secrets.choice("abcefghjk") for _ in range(16))


def handles(client: MatrixClient, method: str, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = client.superapp(method, f"handles/{quote(name, safe='')}", body)
    return answer


def errcode(client: MatrixClient, method: str, path: str, body: Any = None) -> str:
    with pytest.raises(MatrixError) as refused:
        client.superapp(method, path, body)
    return refused.value.errcode.removeprefix("ORG.SUPERAPP.")


def is_registered_as_taken(demo: RunningDemo, index: int, name: str) -> bool:
    """Whether Synapse says that a user name is taken, both when asked and when it is registered."""
    admin = demo.admins[index]
    with pytest.raises(MatrixError) as asked:
        admin.request("GET", "/_synapse/admin/v1/username_available", None, {"username": name})
    with MatrixClient(admin.base_url) as nobody, pytest.raises(MatrixError) as registered:
        nobody.register_with_secret(loopback.REGISTRATION_SECRET, name, secrets.token_hex(8))
    path = f"/_synapse/admin/v2/users/{quote(f'@{name}:{demo.names[index]}', safe='')}"
    with pytest.raises(MatrixError) as made:
        admin.request("PUT", path, {"password": secrets.token_hex(8)})
    return {asked.value.errcode, registered.value.errcode, made.value.errcode} == {"M_USER_IN_USE"}


def test_bobs_handle_resolves_from_alices_server_with_a_verified_signature(demo: RunningDemo) -> None:
    bob = demo.people["bob"]
    server = demo.names[1]
    with demo.client("alice") as alice:
        record = alice.handle(bob.handle)
        certificate = alice.superapp("GET", f"directory/keys/{quote(server, safe='')}")
    assert (record["handle"], record["user_id"], record["status"]) == (bob.handle, bob.user_id, "active")
    assert verify(record, certificate["public_key"])
    assert not verify({**record, "user_id": "@mallory:" + server}, certificate["public_key"])

    # The whole chain: the key that alice's server trusts is certified by the Matrix key that bob's server publishes.
    context = ssl.create_default_context(cafile=str(demo.folder / "demo" / "ca.crt"))
    with urllib.request.urlopen(f"https://{server}/_matrix/key/v2/server", context=context) as answer:
        keys: dict[str, Any] = json.load(answer)["verify_keys"]
    for key_id in certificate["signatures"][server]:
        key = decode_verify_key_bytes(key_id, decode_base64(keys[key_id]["key"]))
        verify_signed_json(certificate, server, key)


def test_a_hidden_handle_resolves_when_it_is_known_exactly(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person, demo.client("alice") as alice:
        name = person.user_id.partition(":")[0]
        handles(person, "PUT", name, {"discover": "exact"})
        record = alice.handle(person.user_id)
        assert (record["user_id"], record["discover"]) == (person.user_id, "exact")
        handles(person, "PUT", name, {"discover": "none"})
        stranger = f"@{fresh_name()}:{demo.names[1]}"
        # A minute later at most, the hidden handle is answered as one that never was.
        assert errcode(alice, "GET", f"handles/{quote(stranger, safe='')}") == "UNKNOWN_HANDLE"
        with newcomer(demo, 1) as neighbour:
            assert errcode(neighbour, "GET", f"handles/{name}") == "UNKNOWN_HANDLE"


def test_the_start_chat_dialog_finds_people_of_the_other_server(demo: RunningDemo) -> None:
    bob = demo.people["bob"]
    with demo.client("alice") as alice:
        for term in ("@bob", "bob", bob.handle):
            found = alice.search_people(term)
            assert found[0]["user_id"] == bob.user_id
            assert [row["user_id"] for row in found].count(bob.user_id) == 1
        results = alice.superapp("POST", "search", {"term": "@bob", "limit": 5})["results"]
        assert results[0]["handle"] == bob.handle
        assert set(results[0]) == {"handle", "user_id", "display_name", "badges", "contact"}


def test_what_elements_start_chat_dialog_sends_finds_somebody_elsewhere_and_opens_the_chat(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person, demo.client("alice") as alice:
        name = person.user_id.partition(":")[0]

        def typed() -> dict[str, Any] | None:
            # Element names no limit.
            rows = alice.matrix("POST", "user_directory/search", {"search_term": name})["results"]
            return next((row for row in rows if row["user_id"] == person.user_id), None)

        chosen = wait_until(typed, timeout_s=60, what=f"{name} to be found from the other homeserver")
        alice.matrix("POST", "keys/query", {"device_keys": {chosen["user_id"]: []}})
        room_id = alice.create_room(
            preset="trusted_private_chat",
            visibility="private",
            invite=[chosen["user_id"]],
            is_direct=True,
            initial_state=[
                {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "can_join"}},
            ],
        )
        directs = dict(alice.account_data("m.direct") or {})
        alice.set_account_data("m.direct", {**directs, chosen["user_id"]: [room_id]})
        wait_until(
            lambda: room_id in person.sync().get("rooms", {}).get("invite", {}),
            timeout_s=60,
            what="the invitation to arrive",
        )
        person.join(room_id)
        wait_until(
            lambda: alice.joined_members(room_id) == frozenset({alice.user_id, person.user_id}),
            timeout_s=60,
            what="both to be in the chat",
        )


def test_somebody_whom_one_ignores_is_not_found(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as seeker:
        bob = demo.people["bob"]
        assert bob.user_id in {row["user_id"] for row in seeker.search_people("@bob")}
        seeker.set_account_data("m.ignored_user_list", {"ignored_users": {bob.user_id: {}}})
        assert bob.user_id not in {row["user_id"] for row in seeker.search_people("@bob")}


def test_a_change_of_who_finds_one_reaches_the_peer_in_time(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person, demo.client("alice") as alice:
        name = person.user_id.partition(":")[0].removeprefix("@")

        def is_found(shown: bool) -> bool:
            return bool(alice.superapp("POST", "search", {"term": name})["results"]) is shown

        for discover, shown in (("public", True), ("none", False), ("public", True)):
            began_s = time.monotonic()
            handles(person, "PUT", name, {"discover": discover})
            wait_until(partial(is_found, shown), timeout_s=PROMISE_S, what=f"{name} to be {discover}")
            assert time.monotonic() - began_s <= PROMISE_S


def test_a_claimed_handle_leads_to_its_account_from_the_other_server(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person, demo.client("alice") as alice:
        name = fresh_name()
        claimed = handles(person, "PUT", f"@{name.upper()}", {"discover": "public"})
        assert claimed["handle"] == f"@{name}:{demo.names[1]}"
        assert handles(person, "PUT", name) == claimed
        assert alice.handle(claimed["handle"]) == claimed
        rows = wait_until(lambda: alice.search_people(f"@{name}"), timeout_s=PROMISE_S, what="the feed")
        assert rows[0]["user_id"] == person.user_id
        assert claimed["handle"] in rows[0]["display_name"]


def test_a_rename_followed_by_a_registration_of_the_old_name_is_refused(demo: RunningDemo) -> None:
    with newcomer(demo, 1) as person:
        first, second = fresh_name(), fresh_name()
        handles(person, "PUT", first)
        assert handles(person, "PUT", second)["handle"] == f"@{second}:{demo.names[1]}"
        assert errcode(person, "PUT", f"handles/{fresh_name()}") == "RENAMED_RECENTLY"
        assert is_registered_as_taken(demo, 1, first)
        assert handles(person, "DELETE", first)["status"] == "released"
        assert is_registered_as_taken(demo, 1, first)
        assert handles(person, "PUT", first, {"as": "alias"})["status"] == "active"


def test_a_registration_of_somebodys_current_handle_is_refused(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as person:
        name = fresh_name()
        handles(person, "PUT", name)
        assert is_registered_as_taken(demo, 0, name)


def test_mixed_scripts_reserved_words_and_look_alikes_are_refused(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as owner, newcomer(demo, 0) as rival:
        name = f"f{fresh_name()}o"
        handles(owner, "PUT", name)
        own = rival.user_id.partition(":")[0].removeprefix("@")
        for wrong, reason in {
            name: "HANDLE_TAKEN",
            name[0] + "." + name[1:]: "HANDLE_LOOKALIKE",
            name[:-1] + "0": "HANDLE_LOOKALIKE",
            name[:-1] + "\u043e": "HANDLE_INVALID",
            "\u0430\u043b\u0438\u0441\u0430": "HANDLE_INVALID",
            "ali\u200bce": "HANDLE_INVALID",
            "postmaster": "HANDLE_RESERVED",
            "adrnin": "HANDLE_RESERVED",
            "abc": "HANDLE_INVALID",
            demo.people["dave"].handle.partition(":")[0]: "HANDLE_TAKEN",
        }.items():
            assert errcode(rival, "PUT", f"handles/{quote(wrong, safe='')}") == reason, wrong
        assert errcode(rival, "DELETE", f"handles/{own}") == "NOT_ALLOWED"
        assert errcode(rival, "DELETE", f"handles/{name}") == "UNKNOWN_HANDLE"


def test_a_contact_of_another_server_is_kept_and_mirrored_for_clients(demo: RunningDemo) -> None:
    with newcomer(demo, 0) as person:
        bob = demo.people["bob"]
        path = f"contacts/{quote(bob.handle, safe='')}"
        added = person.superapp("PUT", path)
        assert (added["handle"], added["user_id"], len(added["acct"])) == (bob.handle, bob.user_id, 43)
        assert person.superapp("GET", "contacts") == {"contacts": [added]}
        assert person.account_data("org.superapp.contacts") == {"contacts": [added]}
        assert person.superapp("POST", "search", {"term": "bob"})["results"][0]["contact"] is True
        assert person.superapp("DELETE", path) == added
        assert errcode(person, "DELETE", path) == "UNKNOWN_CONTACT"


def test_an_account_that_comes_to_exist_all_the_same_freezes_the_handle_and_nobody_is_paid_under_it(
    lone: MakeLone,
) -> None:
    homeserver = lone(
        {
            "payments": {
                "mode": "custodial",
                "assets": [{"code": "EUR"}],
                "acknowledge": {"operator": "a test", "licence": "none"},
            }
        }
    )
    with homeserver:
        server = loopback.server_name(int(homeserver.process.client_url.rpartition(":")[2]))
        operator = homeserver.account("operator", admin=True)
        alice, bob = homeserver.account("alice"), homeserver.account("bobby")
        handles(bob, "PUT", "wonder")
        operator.issue(alice.user_id, 1_000, "EUR", "to begin with")
        assert alice.pay(f"@wonder:{server}", 100, "EUR")["state"] == "completed"
    # Connections do not outlive the homeserver; the next request opens a new one.
    for client in (operator, alice, bob):
        client.close()
    switched(homeserver, directory=False)
    with homeserver:
        homeserver.account("wonder").close()
    switched(homeserver, directory=True)
    with homeserver:
        record = wait_until(
            lambda: frozen(alice, "wonder"), timeout_s=30, what="the account to be found and the handle frozen"
        )
        assert record["frozen_for"] == "ambiguous"
        with pytest.raises(MatrixError) as refused:
            alice.pay(f"@wonder:{server}", 100, "EUR")
        assert (refused.value.status, refused.value.errcode) == (409, "ORG.SUPERAPP.AMBIGUOUS_PAYEE")
        assert alice.available("EUR") == 900
        settled = operator.superapp(
            "PUT", "admin/handles/wonder", {"user_id": f"@wonder:{server}", "reason": "their user id"}
        )
        assert settled["user_id"] == f"@wonder:{server}"
        assert alice.pay(f"@wonder:{server}", 100, "EUR")["state"] == "completed"
        assert bob.available("EUR") == 100
        for client in (operator, alice, bob):
            client.close()


def frozen(client: MatrixClient, name: str) -> dict[str, Any] | None:
    record = handles(client, "GET", name)
    return record if record["status"] == "frozen" else None


def switched(homeserver: LoneHomeserver, *, directory: bool) -> None:
    """Switch the directory on or off for the next start."""
    path = homeserver.process.config_path
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["modules"][0]["config"]["features"] = {"directory": directory}
    write_config(path, content)


def test_the_log_can_be_read_and_checked_by_everybody_from_its_files(demo: RunningDemo) -> None:
    base = f"{demo.homeservers[1]['client_url']}{LOG_PREFIX}"

    def file(path: str) -> tuple[bytes, str]:
        with urllib.request.urlopen(f"{base}/{path}") as answer:
            return answer.read(), answer.headers["Cache-Control"]

    noted, cached = file("checkpoint")
    note = checkpoint.read_note(noted.decode())
    assert note is not None
    now = checkpoint.read_checkpoint(note)
    assert now is not None
    assert (now.origin, cached) == (f"{demo.names[1]}/superapp/directory", "no-cache")
    leaves: list[bytes] = []
    for tile in range(-(-now.size // WIDTH)):
        width = min(WIDTH, now.size - tile * WIDTH)
        content, cached = file(path_of(Tile(0, tile, width), entries=True))
        assert "immutable" in cached
        leaves += [tree.leaf_hash(entry) for entry in read_bundle(content) or []]
    assert tree.root_of(leaves) == now.root
    with pytest.raises(urllib.error.HTTPError, match="404"):
        file("tile/0/999")
    described = json.loads(file("server.json")[0])
    assert described["features"]["payments"] is True
    assert demo.names[0] in [link["server"] for link in described["payments"]["links"]]


def test_the_whole_chain_behind_a_remote_handle_holds_and_is_told(demo: RunningDemo, tmp_path: Path) -> None:
    access = ("--url", str(demo.homeservers[0]["client_url"]))
    token = str(demo.homeservers[0]["admin"]["access_token"])
    told = super_app(tmp_path, "directory", "verify", demo.people["bob"].handle, *access, token=token)
    assert told.splitlines()[-1] == f"{demo.people['bob'].handle} is what it seems."
    assert "NO  " not in told
    for link in ("record", "signature", "matrix key", "pin", "checkpoint", "inclusion", "consistency", "witness"):
        assert f"ok  {link}: " in told
    assert super_app(tmp_path, "directory", "evidence", *access, token=token).startswith("No homeserver is known")
