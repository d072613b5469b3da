"""A gift that five hundred people claim at once, beside as many plain messages by the same people to the same room.

Each has a connection of their own and begins at the same moment. The time is that from there to the last answer; that
to a claim comes when the money is in the wallet. Afterwards every share is with somebody else, their sum is the gift,
and the invariants hold, or there is no figure.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Barrier
from typing import Any, Final

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver, settle
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient

NAMES: Final = ("gift.claim",)
_PEOPLE: Final = 500
_TOGETHER: Final = 4
"""How many accounts are made at a time."""
_PATIENCE_S: Final = 600.0
_ROUNDS: Final = 3
_AMOUNT_MINOR: Final = 100_000
_ASSET: Final = "PTS"
_CONFIG: Final[dict[str, Any]] = {"payments": {"mode": "credits", "assets": [{"code": _ASSET, "scale": 0}]}}


def run(context: Context) -> Iterator[Row]:
    homeserver = LoneHomeserver(context.folder / "gift", loopback.free_ports(1), loopback.free_ports(1), _CONFIG)
    with homeserver, ExitStack() as stack:
        giver = stack.enter_context(homeserver.account("giver"))
        admin = stack.enter_context(homeserver.account("admin", admin=True))
        admin.issue(giver.user_id, _AMOUNT_MINOR * (_ROUNDS + 1), _ASSET, "benchmark")
        room_id = giver.create_room(preset="public_chat")
        context.say(f"gift.claim: {_PEOPLE} people are made and join a room")
        with ThreadPoolExecutor(_TOGETHER) as pool:
            people = list(pool.map(partial(_person, homeserver, room_id), range(_PEOPLE)))
        for person in people:
            stack.enter_context(person)
        messages: list[float] = []
        claims: list[float] = []
        for round_number in range(_ROUNDS + 1):
            settle(homeserver)
            sent_s = _at_once(people, lambda person: person.send_text(room_id, "hello"))
            settle(homeserver)
            gift_id = secrets.token_hex(16)
            gift = {
                "gift_id": gift_id,
                "room_id": room_id,
                "amount": _AMOUNT_MINOR,
                "currency": _ASSET,
                "shares": _PEOPLE,
            }
            giver.superapp("POST", "gifts", gift)
            claimed_s = _at_once(people, partial(_claim, giver.user_id, gift_id))
            _check(giver, admin, gift_id)
            if round_number:
                # The first round warms up.
                messages.append(sent_s)
                claims.append(claimed_s)
            context.say(f"gift.claim: {_PEOPLE} messages in {sent_s:.1f} s, {_PEOPLE} claims in {claimed_s:.1f} s")
        yield Row(
            name="gift.claim",
            value=statistics.median(claims),
            unit="s for 500 claims at once",
            yardstick="500 plain messages at once",
            yardstick_value=statistics.median(messages),
            goal="<= 1",
            n=_ROUNDS * _PEOPLE,
        )


def _person(homeserver: LoneHomeserver, room_id: str, number: int) -> MatrixClient:
    with homeserver.account(f"person{number}") as account:
        account.join(room_id)
    # The last of five hundred waits for all others, on a busy machine for minutes.
    return MatrixClient(
        account.base_url, user_id=account.user_id, access_token=account.access_token, timeout_s=_PATIENCE_S
    )


def _claim(giver: str, gift_id: str, person: MatrixClient) -> None:
    person.superapp("POST", f"gifts/{gift_id}/claim", query={"giver": giver})


def _at_once(people: Sequence[MatrixClient], act: Callable[[MatrixClient], object]) -> float:
    """Seconds from when all begin to the last answer. All have a connection by then."""
    # A listener keeps some fifty new connections waiting, so they are not all made at once.
    with ThreadPoolExecutor(_TOGETHER) as pool:
        list(pool.map(MatrixClient.versions, people))
    start = Barrier(len(people) + 1)

    def one(person: MatrixClient) -> None:
        start.wait()
        act(person)

    with ThreadPoolExecutor(len(people)) as pool:
        doing = [pool.submit(one, person) for person in people]
        start.wait()
        began_s = time.perf_counter()
        for each in doing:
            each.result()
        return time.perf_counter() - began_s


def _check(giver: MatrixClient, admin: MatrixClient, gift_id: str) -> None:
    gift = giver.superapp("GET", f"gifts/{gift_id}")
    amounts = [claim["amount"] for claim in gift["claims"]]
    claimers = {claim["user_id"] for claim in gift["claims"]}
    if (gift["state"], len(claimers), sum(amounts)) != ("emptied", _PEOPLE, _AMOUNT_MINOR):
        raise RuntimeError(f"the gift is {gift['state']}, {sum(amounts)} of it with {len(claimers)} people")
    found = admin.invariants()
    if not found["ok"]:
        raise RuntimeError(f"the books are wrong after the claims: {found}")
