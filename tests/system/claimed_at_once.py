"""Names that are claimed at several processes of one homeserver at the same time: each is one account's, everywhere."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote

from test_directory import fresh_name
from workers_pair import WorkersPair

from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until


def names_are_claimed_once_at_whichever_process(pair: WorkersPair) -> None:
    """Two at each of three processes want names that look alike. Who has it is the same at all, and elsewhere."""
    name = f"{fresh_name()[:12]}w0lm"
    spellings = [name, name.replace("0", "o"), name.replace("w", "vv"), f"{name[:3]}.{name[3:]}", name, name]
    with ExitStack() as stack:
        processes = [pair.sides[0].process, *pair.workers.values()] * 2
        people = [_newcomer_at(stack, pair, process.client_url) for process in processes]

        def claim(person: MatrixClient, spelling: str) -> dict[str, Any] | str:
            try:
                found: dict[str, Any] = person.superapp("PUT", f"handles/{spelling}", {"discover": "public"})
            except MatrixError as refused:
                return refused.errcode
            return found

        claims: list[Callable[[], dict[str, Any] | str]] = [
            partial(claim, person, spelling) for person, spelling in zip(people, spellings, strict=True)
        ]
        with ThreadPoolExecutor(len(claims)) as threads:
            outcomes = list(threads.map(lambda each: each(), claims))
        (won,) = [each for each in outcomes if not isinstance(each, str)]
        refused = {each for each in outcomes if isinstance(each, str)}
        assert refused <= {"ORG.SUPERAPP.HANDLE_TAKEN", "ORG.SUPERAPP.HANDLE_LOOKALIKE"}, outcomes
        path = f"handles/{quote(won['handle'], safe='')}"
        for person in people[:3]:
            assert person.superapp("GET", path)["acct"] == won["acct"]
        bob = stack.enter_context(pair.client("bob"))
        # The record that one process issued has its proof in the log that all of them write.
        wait_until(lambda: _found(bob, won["handle"]), timeout_s=120, what="the handle to be found elsewhere")
        # What is changed at one process is seen at the others, and elsewhere.
        owner = next(each for each in people if each.user_id == won["user_id"])
        other = next(each for each in people if each.base_url != owner.base_url)
        owner.superapp("PUT", path, {"discover": "none"})
        wait_until(lambda: not _found(other, won["handle"]), timeout_s=120, what="the handle to be hidden here")
        wait_until(lambda: not _found(bob, won["handle"]), timeout_s=120, what="the handle to be hidden elsewhere")


def _newcomer_at(stack: ExitStack, pair: WorkersPair, url: str) -> MatrixClient:
    with MatrixClient(pair.sides[0].process.client_url) as nobody:
        account = nobody.register_with_secret(loopback.REGISTRATION_SECRET, fresh_name(), secrets.token_hex(8))
    client = MatrixClient(url, user_id=account.user_id, access_token=account.access_token, timeout_s=60)
    return stack.enter_context(client)


def _found(asker: MatrixClient, handle: str) -> bool:
    """By the name alone, for which no other homeserver is asked."""
    name = handle.removeprefix("@").partition(":")[0]
    results = asker.superapp("POST", "search", {"term": name})["results"]
    return any(each["handle"] == handle for each in results)
