"""``super-app directory``: the whole chain behind a handle in plain words, and what is done about servers that lie."""

import argparse
import copy
import json
from collections.abc import Callable
from typing import Any, Self

import pytest
from fake_api import FakeHomeserver
from test_directory_evidence import evidence_of, grow, twin_of
from test_directory_module import HS1, HS2, Pair, refusal
from test_directory_module import _directory as directory_of

from super_app.directory.chain import check, holds
from super_app.ids import ServerName
from super_app.signing import generate_key, signed
from synapse_super_app.commands import directory as command
from synapse_super_app.commands.main import command_line


class ClientOf:
    """Stands for a signed-in ``MatrixClient`` of a fake homeserver."""

    def __init__(self, homeserver: FakeHomeserver, user_id: str) -> None:
        self._homeserver = homeserver
        self._user_id = user_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def superapp(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        path = path.replace("%40", "@").replace("%3A", ":")
        return json.loads(json.dumps(self._homeserver.call(method, path, self._user_id, body)))  # type: ignore[no-any-return]


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def run(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command on the first homeserver, at its time."""
    admin = pair.hs1.register("operator", admin=True)
    monkeypatch.setattr(command, "admin", lambda _: ClientOf(pair.hs1, admin))
    monkeypatch.setattr("time.time", lambda: pair.hs1.now_ms() / 1000)

    def run(*words: str) -> int:
        parsed: argparse.Namespace = command_line().parse_args(["directory", *words])
        return int(parsed.run(parsed))

    return run


def shown(pair: Pair, handle: str = "@bob:hs2.test") -> dict[str, Any]:
    return pair.hs1.call("GET", f"directory/verify/{handle}", pair.alice)


def broken(pair: Pair, chain: dict[str, Any]) -> list[str]:
    return [step.name for step in check(chain, pair.hs1.now_ms()) if step.holds is False]


def test_the_whole_chain_is_told_in_plain_words(
    pair: Pair, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    grow(pair.hs2, pair.carol, 3)
    pair.advance(130)
    grow(pair.hs2, pair.carol, 2)
    assert run("verify", "@bob:hs2.test") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "ok  record: @bob:hs2.test is @bob:hs2.test (active), record 1 of that name, issued 2023-"
    )
    assert lines[1].startswith("ok  signature: It is signed with the directory key ed25519:")
    assert lines[2].startswith("ok  matrix key: That key is certified by the Matrix key of hs2.test")
    assert lines[3].startswith("ok  pin: It is the key that your homeserver has known")
    assert lines[4].startswith("ok  checkpoint: hs2.test signed that its log had ")
    assert lines[5].startswith("ok  inclusion: The record is number ")
    assert lines[6].startswith("ok  consistency: It has grown out of the ")
    assert lines[7].startswith("ok  witness: hs1.test saw the same log, and that it only grew, at ")
    assert lines[-1] == "@bob:hs2.test is what it seems."


def test_it_is_told_to_programs_too(pair: Pair, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "--json", "@bob:hs2.test") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is True
    assert {step["link"] for step in told["chain"]} >= {"record", "matrix key", "inclusion", "consistency"}
    assert check(told["shown"], pair.hs1.now_ms())


def test_an_own_handle_has_a_chain_as_well(pair: Pair) -> None:
    chain = shown(pair, "@alice:hs1.test")
    assert broken(pair, chain) == []
    pair.hs1.call("PUT", "handles/alice", pair.alice, {"discover": "none"})
    dave = pair.hs1.register("dave")
    assert refusal(pair.hs1, "GET", "directory/verify/@alice:hs1.test", dave) == (404, "UNKNOWN_HANDLE")


def test_a_key_that_replaced_another_is_told_of(pair: Pair) -> None:
    pair.hs2.call("POST", "admin/directory/rotate-key", pair.hs2.register("operator", admin=True))
    said = {step.name: step.says for step in check(shown(pair), pair.hs1.now_ms())}
    assert said["pin"] == "Your homeserver knew another key before, and that one signed that this one follows it."


def test_somebody_of_a_server_that_was_never_seen_before_is_believed_with_a_word_about_it() -> None:
    pair = Pair(first={"peers": []}, second={"peers": []})
    steps = {step.name: step for step in check(shown(pair), pair.hs1.now_ms())}
    assert steps["pin"].holds is steps["consistency"].holds is None
    assert holds(tuple(steps.values()))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("record", "record"),
        ("certificate", "directory key"),
        ("matrix", "matrix key"),
        ("pin", "pin"),
        ("salt", "inclusion"),
        ("checkpoint", "checkpoint"),
        ("log", "log"),
        ("seen", "consistency"),
        ("fork", "consistency"),
        ("frozen", "evidence"),
    ],
)
def test_each_broken_link_is_named(pair: Pair, change: str, name: str) -> None:
    grow(pair.hs2, pair.carol, 3)
    chain = copy.deepcopy(shown(pair))
    assert broken(pair, chain) == []
    match change:
        case "record":
            chain["record"]["user_id"] = "@mallory:hs2.test"
        case "certificate":
            chain["certificate"]["server"] = "hs3.test"
        case "matrix":
            chain["matrix_key_signed"] = False
        case "pin":
            chain["pinned_before"] = "A" * 43
        case "salt":
            chain["log"]["salt"] = "A" * 43
        case "checkpoint":
            chain["log"]["checkpoint"] = chain["log"]["checkpoint"].replace("superapp", "another")
        case "log":
            del chain["log"]["inclusion"]
        case "seen":
            chain["seen_before"] = "something\n"
        case "fork":
            twin = twin_of(pair.hs2, "bob", "dora", "emil", "fred", "gina", "hugo", "iris")
            other = twin.result(directory_of(twin)._log.newest())
            chain["seen_before"] = other.note
        case _:
            chain["frozen"] = True
    assert name in broken(pair, chain)


def test_a_record_that_another_key_signed_is_no_record(pair: Pair) -> None:
    chain = shown(pair)
    chain["record"] = signed(chain["record"], generate_key(b"\x02" * 32))
    assert broken(pair, chain) == ["record"]


def test_a_witness_who_signed_another_log_is_none(pair: Pair) -> None:
    pair.advance(130)
    chain = shown(pair)
    assert any(step.name == "witness" and step.holds for step in check(chain, pair.hs1.now_ms()))
    for witness in chain["witnesses"]:
        witness["checkpoint"] = witness["checkpoint"].replace("\n2\n", "\n3\n")
    assert not any(step.name == "witness" and step.holds for step in check(chain, pair.hs1.now_ms()))


def test_evidence_is_listed_and_lifted(pair: Pair, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evidence") == 0
    assert capsys.readouterr().out == "No homeserver is known to have contradicted itself.\n"
    pair.advance(61)
    pair.hs1.reachable[HS2] = twin_of(pair.hs2, "bob", "dora")
    pair.resolve("@bob:hs2.test", max_age_ms=-1)
    run("evidence")
    assert capsys.readouterr().out.startswith("hs2.test  split, found 2023-")
    run("evidence", "--json")
    assert json.loads(capsys.readouterr().out)["evidence"] == evidence_of(pair.hs1)
    assert refusal(pair.hs1, "GET", "directory/verify/@bob:hs2.test", pair.alice) == (403, "SERVER_FROZEN")
    assert run("lift", HS2) == 0
    assert capsys.readouterr().out == "hs2.test is dealt with again, from the log that it shows next.\n"
    run("evidence")
    assert "lifted by @operator:hs1.test" in capsys.readouterr().out


def test_the_key_is_replaced_from_the_command_line(
    pair: Pair, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rotate-key") == 0
    key_id = pair.hs2.call("GET", f"directory/keys/{HS1}", pair.bob)["key_id"]
    told = capsys.readouterr().out
    assert told.startswith("The directory key is now ed25519:")
    assert key_id not in told
    pair.hs2.result(directory_of(pair.hs2)._peers.advance(ServerName(HS1)))
    assert pair.hs2.call("GET", f"directory/keys/{HS1}", pair.bob)["key_id"] in told
