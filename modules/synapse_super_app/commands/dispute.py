"""``super-app dispute``: what people dispute about payments, and what the operator decides."""

import argparse
import datetime as dt
from typing import cast
from urllib.parse import quote

from super_app.money import Asset, AssetCode, format_money, iso_asset
from synapse_super_app.commands.admin_access import add_admin_options, admin, person_of
from synapse_super_app.commands.console import Commands
from synapse_super_app.commands.matrix_client import Json, MatrixClient

_STATES = ("open", "granted", "withdrawn", "rejected", "settled")


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "dispute",
        help="disputes about payments: list, show, decide, refund",
        description="What people dispute about payments. A decision moves no money; a refund is a payment of its own.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    listing = actions.add_parser("list", help="disputes of a state, oldest first", description="Disputes of a state.")
    listing.add_argument("--state", choices=_STATES, default="open", help="default: open")
    add_admin_options(listing)
    listing.set_defaults(run=list_them)
    showing = _add(actions, "show", "one dispute with its timeline", "One dispute, and all that was said and done.")
    showing.set_defaults(run=show)
    deciding = _add(
        actions, "decide", "grant or reject it", "Decide a dispute of a payer of this homeserver. Both sides read why."
    )
    what = deciding.add_mutually_exclusive_group(required=True)
    what.add_argument("--grant", metavar="MINOR", nargs="?", type=int, const=0, help="minor units; all if left out")
    what.add_argument("--reject", action="store_true")
    deciding.add_argument("--reason", required=True, metavar="TEXT", help="why, for both sides")
    deciding.set_defaults(run=decide)
    refunding = _add(
        actions,
        "refund",
        "give back what was granted",
        "Give back what a dispute granted, from a payee of this homeserver, as a refund.",
    )
    refunding.set_defaults(run=refund)


def _add(actions: Commands, name: str, short: str, description: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=short, description=description)
    parser.add_argument("payment_id")
    parser.add_argument("--payer", required=True, metavar="PERSON", help="who paid: a user id")
    add_admin_options(parser)
    return parser


def list_them(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = client.superapp("GET", "admin/disputes", query={"state": arguments.state})
    cases = cast(list[Json], found["disputes"])
    for case in cases:
        print(_headline(case))
    if not cases:
        print(f"No dispute is {arguments.state}.")
    return 0


def show(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        payer = _payer(client, arguments)
        for state in _STATES:
            found = client.superapp("GET", "admin/disputes", query={"state": state})
            for case in cast(list[Json], found["disputes"]):
                if (case["payment_id"], case["payer"]) == (arguments.payment_id, payer):
                    return _told(case)
    print(f"There is no dispute about payment {arguments.payment_id} of {payer}.")
    return 1


def decide(arguments: argparse.Namespace) -> int:
    body: Json = {"decision": "reject" if arguments.reject else "grant", "reason": arguments.reason}
    if arguments.grant:
        body["amount"] = arguments.grant
    return _act(arguments, "decide", body)


def refund(arguments: argparse.Namespace) -> int:
    return _act(arguments, "refund", None)


def _act(arguments: argparse.Namespace, deed: str, body: Json | None) -> int:
    path = f"admin/disputes/{quote(arguments.payment_id, safe='')}/{deed}"
    with admin(arguments) as client:
        return _told(client.superapp("POST", path, body, {"payer": _payer(client, arguments)}))


def _payer(client: MatrixClient, arguments: argparse.Namespace) -> str:
    return person_of(client, arguments.payer)


def _told(case: Json) -> int:
    print(_headline(case))
    for entry in cast(list[Json], case["timeline"]):
        amount = "" if entry.get("amount") is None else f" {_money(int(str(entry['amount'])), case)}"
        text = "" if entry.get("text") is None else f": {entry['text']}"
        moment = dt.datetime.fromtimestamp(int(str(entry["ts"])) / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        print(f"  {moment}  {entry['author']} {entry['act']}{amount}{text}")
    return 0


def _headline(case: Json) -> str:
    granted = "" if case.get("granted") is None else f", granted {_money(int(str(case['granted'])), case)}"
    wanted = _money(int(str(case["wanted"])), case)
    who = f"{case['payment_id']}  {case['payer']} -> {case['payee']}"
    return f"{who}  {wanted}, {case['ground']}: {case['state']}{granted}"


def _money(minor: int, case: Json) -> str:
    code = AssetCode(str(case["currency"]))
    # Of an asset of the operator's own the scale is not told here, so it stands in minor units.
    return format_money(minor, iso_asset(code) or Asset(code=code, scale=0))
