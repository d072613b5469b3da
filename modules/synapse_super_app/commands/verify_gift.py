"""``super-app verify-gift``: whether the shares of a gift are those that were committed to.

Needs no homeserver. Reads what anybody in the room has: the gift's first event and its last one, or what
``GET gifts/{gift_id}`` says.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from super_app.names import EventType
from super_app.pots.model import Split
from super_app.pots.rules import check_reveal
from synapse_super_app.commands.console import CommandFailed, Commands, say

_SUMMARY = "check that the shares of a gift are those that were drawn before anybody claimed"


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "verify-gift", help="check how a gift was drawn", description=_SUMMARY.capitalize() + ". Needs no homeserver."
    )
    parser.add_argument(
        "file",
        help="JSON: the answer of GET gifts/{gift_id}, or a list with the gift's event and the event of its end; "
        "- reads standard input",
    )
    parser.add_argument(
        "--got",
        metavar="USER=AMOUNT",
        action="append",
        default=[],
        help="also check that this person got that many minor units; may be given several times",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        text = sys.stdin.read() if arguments.file == "-" else Path(arguments.file).read_text(encoding="utf-8")
        gift = _gift_in(json.loads(text))
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{arguments.file} cannot be read as JSON: {error}") from error
    wrong = _wrong_with(gift, dict(map(_read_got, arguments.got)))
    if wrong is not None:
        raise CommandFailed(f"This is NOT what was committed to: {wrong}.")
    shares = ", ".join(map(str, gift["shares"]))
    say(f"Gift {gift['gift_id']} is as it was drawn: {shares} (minor units of {gift['currency']}).")
    return 0


def _gift_in(found: Any) -> Mapping[str, Any]:
    """The parts of a gift that are checked, from whichever form it came in."""
    match found:
        case {"reveal": {"salt": str() as salt, "shares": list() as shares}, "commitment": str(), "amount": int()}:
            claimed: dict[int, dict[str, Any]] = {each["number"]: each for each in found.get("claims", [])}
            if any(shares[number : number + 1] != [each["amount"]] for number, each in claimed.items()):
                raise CommandFailed("This is NOT what was committed to: somebody is said to have got what is no share.")
            got = {each["user_id"]: each["amount"] for each in claimed.values()}
            return {**found, "salt": salt, "shares": shares, "got": got}
        case [*events]:
            by_type: dict[str, Any] = {each.get("type"): each.get("content") for each in events}
            first: Any = by_type.get(EventType.GIFT.value)
            last: Any = by_type.get(EventType.GIFT_END.value)
            match first, last:
                case (
                    {"gift_id": str() as gift_id, "commitment": str(), "amount": int(), "split": str()},
                    {
                        "gift_id": str() as of,
                        "salt": str() as salt,
                        "shares": list() as shares,
                    },
                ) if gift_id == of:
                    got = dict(zip(last.get("claimers", []), shares, strict=False))
                    return {**first, "salt": salt, "shares": shares, "got": got}
                case _:
                    pass
        case _:
            pass
    raise CommandFailed(
        "the file holds no gift that is over: give it the answer of GET gifts/{gift_id} with its reveal, or a JSON "
        f"list of the events {EventType.GIFT.value} and {EventType.GIFT_END.value}"
    )


def _wrong_with(gift: Mapping[str, Any], got: Mapping[str, int]) -> str | None:
    shares: list[object] = gift["shares"]
    numbers = [share for share in shares if type(share) is int]
    if len(numbers) != len(shares):
        return "a share is no whole number"
    wrong = check_reveal(
        gift["gift_id"], gift["amount"], Split(gift["split"]), gift["commitment"], gift["salt"], numbers
    )
    if wrong is not None:
        return wrong
    for user_id, amount_minor in got.items():
        said = gift["got"].get(user_id)
        if said != amount_minor:
            return f"{user_id} got {amount_minor}, and the reveal says {said}"
    return None


def _read_got(text: str) -> tuple[str, int]:
    user_id, _, amount = text.rpartition("=")
    if not user_id or not amount.isdecimal():
        raise CommandFailed(f"--got {text!r}: write it as @alice:example.org=1250")
    return user_id, int(amount)
