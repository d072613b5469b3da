"""The layout of ``super-app up --workers``: which process has which duty, port and requests; and the door to them."""

from dataclasses import replace
from pathlib import Path

import pytest

from synapse_super_app.commands import worker_routes
from synapse_super_app.commands.entrance import Entrance, Head, parse_head, passed_on
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.workers import LEDGER, PERSISTER, SENDER, Layout, ports_of, shared_config, worker_config

CONFIG = HomeserverConfig(
    path=Path("/srv/homeserver.yaml"),
    folder=Path("/srv"),
    content={
        "server_name": "example.org",
        "listeners": [
            {"port": 8008, "type": "http", "bind_address": "::", "resources": [{"names": ["client", "federation"]}]},
            {"port": 9000, "type": "metrics"},
        ],
        "enable_metrics": True,
        "modules": [
            {"module": "another.Module", "config": {}},
            {"module": "synapse_super_app.SuperApp", "config": {"payments": {"mode": "credits"}}},
        ],
    },
)
LAYOUT = Layout.of(8008, 3)
SHARED = shared_config(CONFIG, LAYOUT, redis=Path("/r.sock"), secret=Path("/secret"))


def head(path: str, **headers: str) -> Head:
    return Head(method="GET", target=path, version="HTTP/1.1", headers=tuple(headers.items()))


def test_no_port_is_used_twice_and_all_follow_that_of_the_clients() -> None:
    assert sorted(LAYOUT.ports()) == list(range(8009, 8009 + ports_of(3)))


def test_every_duty_has_a_process_that_others_can_reach() -> None:
    assert SHARED["stream_writers"] == {"events": [PERSISTER]}
    assert SHARED["federation_sender_instances"] == [SENDER]
    assert SHARED["modules"][1]["config"]["payments"] == {"mode": "credits", "ledger_writers": [LEDGER, "main"]}
    assert SHARED["modules"][0] == {"module": "another.Module", "config": {}}
    assert SHARED["instance_map"].keys() == {"main", PERSISTER, LEDGER}


def test_clients_are_served_inside_and_other_listeners_stay_as_they_were() -> None:
    inner, metrics, replication = SHARED["listeners"]
    assert (inner["port"], inner["bind_addresses"], inner["x_forwarded"]) == (LAYOUT.main_port, ["127.0.0.1"], True)
    assert "bind_address" not in inner
    assert metrics == {"port": 9000, "type": "metrics"}
    assert replication["resources"] == [{"names": ["replication"]}]


def test_federation_over_tls_comes_in_by_a_door_and_is_served_where_clients_are() -> None:
    federation = {"port": 8448, "type": "http", "tls": True, "resources": [{"names": ["federation"]}]}
    content = {**CONFIG.content, "listeners": [*CONFIG.content["listeners"], federation]}
    shared = shared_config(replace(CONFIG, content=content), LAYOUT, redis=Path("/r.sock"), secret=Path("/secret"))
    assert 8448 not in [listener["port"] for listener in shared["listeners"]]
    inner = shared["listeners"][0]
    assert [name for part in inner["resources"] for name in part["names"]] == ["client", "federation", "federation"]
    assert not inner.get("tls")


def test_only_generic_workers_serve_people() -> None:
    served = {
        process.name: [
            name
            for listener in worker_config(SHARED, process, Path("/w"))["worker_listeners"]
            for resource in listener["resources"]
            for name in resource["names"]
        ]
        for process in LAYOUT.workers
    }
    generic = ["client", "federation", "metrics"]
    assert served == {
        **{f"worker{number}": generic for number in (1, 2, 3)},
        SENDER: ["health", "metrics"],
        PERSISTER: ["health", "metrics", "replication"],
        LEDGER: ["health", "metrics", "replication"],
    }


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/client/v3/rooms/!a:b/messages",
        "/_matrix/client/v3/keys/upload",
        "/_matrix/client/v3/sendToDevice/m.x/1",
        "/_matrix/client/v3/user/@a:b/account_data/m.direct",
        "/_matrix/client/v3/logout",
        "/_synapse/admin/v1/register",
        "/_matrix/media/v3/upload",
    ],
)
def test_what_only_one_process_may_answer_stays_with_the_main_one(path: str) -> None:
    door = Entrance(addresses=["127.0.0.1"], port=1, main=10, workers=[11, 12])
    assert door.candidates(head(path)) == (10,)


def test_a_session_syncs_at_one_worker_and_other_requests_go_round() -> None:
    door = Entrance(addresses=["127.0.0.1"], port=1, main=10, workers=[11, 12])
    syncs = {door.candidates(head("/_matrix/client/v3/sync?since=1", Authorization="Bearer x")) for _ in range(9)}
    assert len(syncs) == 1
    others = [door.candidates(head("/_synapse/client/superapp/v1/wallet"))[0] for _ in range(4)]
    assert others == [12, 11, 12, 11]


def test_when_no_worker_answers_the_main_process_is_asked() -> None:
    door = Entrance(addresses=["127.0.0.1"], port=1, main=10, workers=[11, 12])
    assert door.candidates(head("/_matrix/client/versions"))[-1] == 10


def test_where_a_client_is_says_the_door_and_not_the_client() -> None:
    asked = head("/x", **{"X-Forwarded-For": "10.0.0.1", "Connection": "keep-alive"})
    said = passed_on(asked, "192.0.2.7", trusts_forwarded=False)
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in said
    assert b"10.0.0.1" not in said
    assert said.endswith(b"Connection: close\r\n\r\n")
    assert said.count(b"onnection:") == 1


def test_who_comes_over_tls_is_said_to_have_come_over_https() -> None:
    assert b"X-Forwarded-Proto: https\r\n" in passed_on(head("/x"), "192.0.2.7", trusts_forwarded=False, is_secure=True)
    assert b"X-Forwarded-Proto: http\r\n" in passed_on(head("/x"), "192.0.2.7", trusts_forwarded=False)


def test_a_proxy_that_is_trusted_says_where_the_client_is() -> None:
    said = passed_on(
        head("/x", **{"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https"}), "127.0.0.1", trusts_forwarded=True
    )
    assert b"X-Forwarded-For: 10.0.0.1\r\n" in said
    assert b"X-Forwarded-Proto: https\r\n" in said


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET /\r\n\r\n",
        b"GET http://elsewhere/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_no_request(raw: bytes) -> None:
    assert parse_head(raw) is None


def test_our_routes_and_no_others_below_our_prefixes_go_to_workers() -> None:
    assert worker_routes.is_for_workers("/_synapse/client/superapp/v1/payments")
    assert worker_routes.is_for_workers("/superapp/")
    assert not worker_routes.is_for_workers("/superappendix")
    assert not worker_routes.is_for_workers("/_synapse/client/oidc/callback")
