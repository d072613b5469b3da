"""Guesses of a recovery PIN at a realm that has workers: whichever process each one reaches, it counts once.

The pair has two homeservers, and a set of shares three realms at least, so the third one of these is nobody. Each side
vouches for its database, as operators do where others are gone.
"""

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from signedjson.key import read_signing_keys
from signedjson.sign import sign_json
from workers_pair import NOBODY, WorkersPair

from super_app.ids import ServerName, UserId
from super_app.names import RECOVERY_PATH
from super_app.recovery import client as protocol
from super_app.recovery import group, voprf
from super_app.recovery.client import Purpose
from super_app.recovery.group import Element
from super_app.recovery.model import Version
from super_app.signing import from_b64, to_b64
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

_PIN = b"\7" * 32
_VERSION = Version(1)
_TOO_MANY = "ORG.SUPERAPP.TOO_MANY_REQUESTS"
_FREE = 3
"""Guesses before the next one has to wait."""

Json = dict[str, Any]


def guesses_are_counted_once_at_whichever_process(pair: WorkersPair) -> None:
    for admin in pair.admins:
        admin.superapp("POST", "admin/recovery/vouch", {})
    names = [ServerName(side.name) for side in pair.sides]
    with ExitStack() as stack:
        processes = [pair.sides[0].process, *pair.workers.values()]
        ours = [stack.enter_context(pair.client_at(process, "alice")) for process in processes]
        theirs = stack.enter_context(pair.client("bob"))
        _set_up(ours[0], names)
        _set_up(theirs, names)
        _all_at_once_count_exactly(pair, theirs, names[0], stack)
        _one_try_goes_on_at_other_processes(ours, names)


def _set_up(person: MatrixClient, names: Sequence[ServerName]) -> None:
    keys = {each["server"]: each.get("public_key") for each in person.superapp("GET", "recovery/realms")["realms"]}
    purpose = Purpose(user_id=UserId(person.user_id), version=_VERSION)
    deals, _, _ = protocol.deal(purpose, _PIN, _scalar(), [_scalar()], [*names, NOBODY])
    for name in names:
        sealed = protocol.sealed(deals[name], from_b64(str(keys[name])), secrets.token_bytes(32))
        person.superapp("PUT", f"recovery/realms/{name}/share", {"version": _VERSION, "sealed": sealed})
        person.superapp("POST", f"recovery/realms/{name}/use", {"version": _VERSION})


def _scalar() -> group.Scalar:
    return group.scalar_from_wide(secrets.token_bytes(64))


def _guess_body() -> Json:
    blinded = to_b64(group.base_times(_scalar()))
    return {"version": _VERSION, "attempt_id": secrets.token_hex(16), "blinded": blinded}


def _all_at_once_count_exactly(pair: WorkersPair, bob: MatrixClient, realm: ServerName, stack: ExitStack) -> None:
    """Two at each of three processes, of which three may be made before one has to wait."""

    def through_his_homeserver(client: MatrixClient) -> Json:
        # Federation arrives at the main process.
        return client.superapp("POST", f"recovery/realms/{realm}/guess", _guess_body())

    def at_worker(url: str) -> Json:
        return _federated(pair, url, "guess", {**_guess_body(), "user_id": bob.user_id})

    def asked(ask: Callable[[], Json]) -> Json | str:
        try:
            return ask()
        except MatrixError as error:
            return error.errcode

    connections = [stack.enter_context(pair.client("bob")) for _ in range(2)]
    urls = [process.client_url for process in pair.workers.values() for _ in range(2)]
    questions: list[Callable[[], Json]] = [
        *(partial(through_his_homeserver, each) for each in connections),
        *(partial(at_worker, each) for each in urls),
    ]
    with ThreadPoolExecutor(len(questions)) as threads:
        answers = list(threads.map(asked, questions))
    left = [each["guesses_left"] for each in answers if not isinstance(each, str)]
    assert sorted(left, reverse=True) == [9, 8, 7], answers
    assert [each for each in answers if isinstance(each, str)] == [_TOO_MANY] * (len(questions) - _FREE)
    assert bob.superapp("GET", f"recovery/realms/{realm}/state")["shares"][0]["guesses_left"] == 10 - _FREE


def _federated(pair: WorkersPair, url: str, what: str, body: Json) -> Json:
    """What the second homeserver asks, at a process of the first one that we choose."""
    here, there = pair.sides[1], pair.sides[0]
    with Path(here.folder / "signing.key").open(encoding="utf-8") as file:
        (key,) = read_signing_keys(file)
    uri = f"{RECOVERY_PATH}/{what}"
    request = {"method": "PUT", "uri": uri, "origin": here.name, "destination": there.name, "content": body}
    ((key_id, signature),) = sign_json(request, here.name, key)["signatures"][here.name].items()
    authorization = f'X-Matrix origin="{here.name}",destination="{there.name}",key="{key_id}",sig="{signature}"'
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    asked = urllib.request.Request(url + uri, method="PUT", headers=headers, data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(asked, timeout=60) as answered:
            return dict(json.load(answered))
    except urllib.error.HTTPError as refused:
        with refused:
            raise MatrixError(refused.code, json.load(refused)) from refused


def _one_try_goes_on_at_other_processes(alice: Sequence[MatrixClient], names: Sequence[ServerName]) -> None:
    """Begun at one, evaluated at another, and unlocked at a third; and the wrong one before it is told."""
    purpose = Purpose(user_id=UserId(alice[0].user_id), version=_VERSION)
    wrong, right = secrets.token_hex(16), secrets.token_hex(16)
    _evaluated(alice, wrong, purpose, b"\1" * 32, names)
    alice[2].superapp("POST", f"recovery/attempts/{wrong}/wrong", {})
    output, nonces = _evaluated(alice, right, purpose, _PIN, names)
    for name in names:
        assert _left(alice[0], name) == 8
        tag = to_b64(protocol.tag(purpose, output, name, right, from_b64(nonces[name])))
        body = {"version": _VERSION, "attempt_id": right, "tag": tag}
        assert alice[2].superapp("POST", f"recovery/realms/{name}/unlock", body) == {"changed": True}
        # The answer was lost, and it is asked again elsewhere.
        assert alice[1].superapp("POST", f"recovery/realms/{name}/unlock", body) == {"changed": False}
        assert _left(alice[0], name) == 10
    wait_until(lambda: _told(alice[0]) == 1, timeout_s=120, what="the assistant to tell of the wrong guess")


def _evaluated(
    alice: Sequence[MatrixClient], attempt_id: str, purpose: Purpose, pin: bytes, names: Sequence[ServerName]
) -> tuple[bytes, dict[ServerName, str]]:
    begin = {"version": _VERSION, "realms": list(names)}
    alice[0].superapp("POST", f"recovery/attempts/{attempt_id}/begin", begin)
    factor = _scalar()
    blinded = voprf.blind(protocol.oprf_input(purpose, pin), factor)
    body = {**begin, "blinded": to_b64(blinded), "enough": 2}
    found = alice[1].superapp("POST", f"recovery/attempts/{attempt_id}/evaluate", body)["evaluations"]
    elements: dict[int, Element] = {
        number: group.read_element(from_b64(found[name]["element"])) for number, name in enumerate(names, 1)
    }
    output = protocol.opened(purpose, pin, factor, elements)
    return output, {name: found[name]["nonce"] for name in names}


def _left(person: MatrixClient, realm: ServerName) -> int:
    return int(person.superapp("GET", f"recovery/realms/{realm}/state")["shares"][0]["guesses_left"])


def _told(person: MatrixClient) -> int:
    return sum(
        "tried the PIN of your recovery key" in str(event["content"].get("body", ""))
        for room_id in person.joined_rooms()
        for event in person.messages(room_id)
        if event["type"] == "m.room.message"
    )
