"""``super-app settle``: pay other homeservers what is owed to them, and confirm what they have paid."""

import argparse
import secrets
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import quote

from super_app.clearing.settlement_rules import is_reference
from super_app.money import Asset, AssetCode, format_money
from super_app.signing import to_b64
from synapse_super_app.commands.admin_access import add_admin_options, admin, minor_units, scale_of
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import Json, MatrixClient

_Run = Callable[[argparse.Namespace], int]
_SHOWN: Final = 1_000
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_OUT: Final = "out"


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "settle",
        help="settlements with other homeservers: propose, agree, pay, confirm",
        description="A settlement is a payment outside, by bank for instance, that cuts what one homeserver owes.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    listing = _add(actions, "list", list_settlements, "show settlements", "What waits for whom, newest first.")
    listing.add_argument("--peer", metavar="NAME", help="only those with this homeserver")
    listing.add_argument("--all", action="store_true", help="those that have ended too")
    proposing = _add(
        actions,
        "propose",
        propose,
        "propose to pay what we owe",
        "Propose to pay a homeserver, by default all we owe net.",
    )
    proposing.add_argument("peer", help="server name of the other homeserver")
    proposing.add_argument("currency", help="such as EUR")
    proposing.add_argument("amount", nargs="?", help="such as 120.00; default: all that we owe net")
    agreeing = _add_act(
        actions, "agree", agree, "agree that the peer pays", "Agree to a proposal of the other operator."
    )
    agreeing.add_argument(
        "--pay-to", metavar="URI", help="where to pay us, such as payto://iban/DE75512108001245126199"
    )
    for name, run, about in (
        ("refuse", refuse, "refuse a proposal of the peer"),
        ("cancel", cancel, "take back a settlement of ours that was not sent"),
        ("not-received", not_received, "say that nothing has arrived; the debt stands"),
    ):
        _add_act(actions, name, run, about, about.capitalize() + ".").add_argument(
            "--reason", metavar="WORD", help="small letters and underscores; the other operator sees it"
        )
    sending = _add_act(actions, "sent", sent, "say that we have paid", "Say that we have paid what was agreed.")
    sending.add_argument("--bank-reference", metavar="TEXT", help="what our bank calls the transfer")
    receiving = _add_act(
        actions,
        "received",
        received,
        "confirm what has arrived",
        "Confirm what has arrived; it frees the peer's credit.",
    )
    receiving.add_argument("--amount", help="such as 119.50; default: all of it")
    terms = _add(
        actions,
        "terms",
        set_terms,
        "what goes by itself",
        "Set what happens by itself with a homeserver in one currency. What is not named is switched off.",
    )
    terms.add_argument("peer", help="server name of the other homeserver")
    terms.add_argument("currency", help="such as EUR")
    terms.add_argument("--threshold", metavar="AMOUNT", help="propose as soon as we owe so much net")
    terms.add_argument("--every", choices=("day", *_WEEKDAYS), help="propose every day, or every week on this day")
    terms.add_argument("--at", metavar="HH:MM", default="00:00", help="the time of day for --every, UTC")
    terms.add_argument("--agree-up-to", metavar="AMOUNT", help="agree to proposals of the peer up to so much")
    terms.add_argument("--pay-to", metavar="URI", help="where to pay us, such as payto://iban/DE75512108001245126199")


def list_settlements(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = _all(client, arguments.peer)
    shown = [each for each in found if arguments.all or each.get("waits")]
    if not shown:
        print(
            "There is no settlement yet." if not found else "No settlement is open; --all shows those that have ended."
        )
    for each in shown:
        _print(each)
    return 0


def propose(arguments: argparse.Namespace) -> int:
    code: str = arguments.currency
    with admin(arguments) as client:
        body: Json = {"currency": code, "settlement_id": to_b64(secrets.token_bytes(32))}
        if arguments.amount is not None:
            body["amount_minor"] = minor_units(arguments.amount, code, scale_of(client, code))
        _print(client.superapp("POST", f"{_path(arguments.peer)}/settlements", body))
    return 0


def agree(arguments: argparse.Namespace) -> int:
    return _act(arguments, "agree", {"pay_to": arguments.pay_to})


def refuse(arguments: argparse.Namespace) -> int:
    return _act(arguments, "refuse", {"reason": arguments.reason})


def cancel(arguments: argparse.Namespace) -> int:
    return _act(arguments, "cancel", {"reason": arguments.reason})


def sent(arguments: argparse.Namespace) -> int:
    return _act(arguments, "sent", {"bank_reference": arguments.bank_reference})


def received(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        known = _find(client, arguments.settlement, "received")
        body: Json = {}
        if arguments.amount is not None:
            body["amount_minor"] = minor_units(arguments.amount, str(known["currency"]), int(known["scale"]))
        _print(client.superapp("POST", f"{_path_of(known)}/received", body))
    return 0


def not_received(arguments: argparse.Namespace) -> int:
    return _act(arguments, "not-received", {"reason": arguments.reason})


def set_terms(arguments: argparse.Namespace) -> int:
    code: str = arguments.currency
    every: str | None = arguments.every
    with admin(arguments) as client:
        scale = scale_of(client, code)
        body: Json = {"time": arguments.at}
        if arguments.threshold is not None:
            body["threshold_minor"] = minor_units(arguments.threshold, code, scale)
        if arguments.agree_up_to is not None:
            body["agree_up_to_minor"] = minor_units(arguments.agree_up_to, code, scale)
        if arguments.pay_to is not None:
            body["pay_to"] = arguments.pay_to
        if every == "day":
            body["every"] = "day"
        elif every is not None:
            body |= {"every": "week", "weekday": _WEEKDAYS.index(every) + 1}
        terms = client.superapp("PUT", f"{_path(arguments.peer)}/settlement-terms/{quote(code, safe='')}", body)
    print("\n".join(_terms_described(terms, Asset(code=AssetCode(code), scale=scale))))
    return 0


def _add(commands: Commands, name: str, run: _Run, about: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=description)
    add_admin_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add_act(commands: Commands, name: str, run: _Run, about: str, description: str) -> argparse.ArgumentParser:
    parser = _add(commands, name, run, about, description)
    parser.add_argument("settlement", help="its reference, such as RF43A3K92MXQ7TZB, or its id")
    return parser


def _act(arguments: argparse.Namespace, name: str, body: Json) -> int:
    said = {key: value for key, value in body.items() if value is not None}
    with admin(arguments) as client:
        known = _find(client, arguments.settlement, name)
        _print(client.superapp("POST", f"{_path_of(known)}/{name}", said))
    return 0


def _find(client: MatrixClient, which: str, act: str) -> Json:
    """The settlement that somebody means by its reference or its id, on the side that the act belongs to."""
    reference = which.replace(" ", "").upper()
    ours = act in ("sent", "cancel")
    for each in _all(client, None):
        if ((each["way"] == _OUT) is ours and which == each["settlement_id"]) or reference == each["reference"]:
            return each
    if reference.startswith("RF") and not is_reference(reference):
        raise CommandFailed(f"{which!r} is mistyped: its check digits are wrong")
    raise CommandFailed(f"there is no settlement {which!r}; super-app settle list --all shows those there are")


def _all(client: MatrixClient, peer: str | None) -> list[Json]:
    named = "" if peer is None else f"&peer={quote(peer, safe='')}"
    return cast(list[Json], client.superapp("GET", f"admin/settlements?limit={_SHOWN}{named}")["settlements"])


def _path(peer: str) -> str:
    return f"admin/links/{quote(peer, safe='')}"


def _path_of(settlement: Json) -> str:
    return f"{_path(str(settlement['peer']))}/settlements/{settlement['settlement_id']}"


def _print(settlement: Json) -> None:
    print("\n".join(_described(settlement)))


def _described(settlement: Json) -> list[str]:
    asset = Asset(code=AssetCode(str(settlement["currency"])), scale=int(settlement["scale"]))
    reference = str(settlement["reference"])
    grouped = " ".join(reference[start : start + 4] for start in range(0, len(reference), 4))
    who = "we pay" if settlement["way"] == _OUT else "it pays us"
    money = format_money(int(settlement["amount_minor"]), asset)
    state = str(settlement["state"]).replace("_", " ")
    lines = [f"{grouped}  {settlement['peer']}  {who} {money}  {state}"]
    if settlement.get("received_minor") is not None:
        lines.append(f"  {format_money(int(settlement['received_minor']), asset)} arrived")
    for name, label in (("waits", ""), ("reason", "reason: "), ("pay_to", "pay by: "), ("bank_reference", "bank: ")):
        if settlement.get(name):
            lines.append(f"  {label}{settlement[name]}")
    return lines


def _terms_described(terms: Json, asset: Asset) -> list[str]:
    told = [f"{terms['peer']}  {asset.code}"]
    if terms.get("threshold_minor"):
        told.append(f"  proposes as soon as we owe {format_money(int(terms['threshold_minor']), asset)} net")
    if terms["every"] == "day":
        told.append(f"  proposes every day at {terms['time']} UTC")
    elif terms["every"] == "week":
        told.append(f"  proposes every {_WEEKDAYS[int(terms['weekday']) - 1]} at {terms['time']} UTC")
    if terms["agree_up_to_minor"]:
        told.append(f"  agrees to proposals up to {format_money(int(terms['agree_up_to_minor']), asset)}")
    if terms.get("pay_to"):
        told.append(f"  is paid at {terms['pay_to']}")
    return told if len(told) > 1 else [*told, "  nothing goes by itself"]
