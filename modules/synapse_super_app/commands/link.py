"""``super-app link``: open links for payments with other homeservers, and see how they stand."""

import argparse
from typing import cast

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.commands.admin_access import add_admin_options, admin, minor_units, scale_of
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import Json

_ADVICE = {
    "checking": "its homeserver is asked what it knows",
    "waiting_for_peer": "the other operator opens it too, by super-app link open with us as the peer",
    "waiting_for_us": "open it here: super-app link open",
    "open": "",
    "frozen": "the peer contradicted itself; see docs/admin.md",
    "halted": "see docs/admin.md",
}


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "link",
        help="open and show links for payments with other homeservers",
        description="A link lets people of two homeservers pay each other. Both operators open it.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    opening = actions.add_parser(
        "open",
        help="open a link, or change the credit that we grant",
        description="Grant another homeserver credit: how much it may owe us before it settles.",
    )
    opening.add_argument("--peer", required=True, metavar="NAME", help="server name of the other homeserver")
    opening.add_argument(
        "--currency", required=True, action="append", metavar="CODE", help="once for each currency, with its --limit"
    )
    opening.add_argument("--limit", required=True, action="append", metavar="AMOUNT", help="such as 1000.00")
    add_admin_options(opening)
    opening.set_defaults(run=open_link)
    listing = actions.add_parser(
        "list", help="show all links", description="Where each link stands, and who owes what."
    )
    add_admin_options(listing)
    listing.set_defaults(run=list_links)


def open_link(arguments: argparse.Namespace) -> int:
    currencies: list[str] = arguments.currency
    limits: list[str] = arguments.limit
    if len(currencies) != len(limits):
        raise CommandFailed(f"each --currency needs its --limit: there are {len(currencies)} and {len(limits)}")
    with admin(arguments) as client:
        grants = [
            {"currency": code, "credit_limit_minor": minor_units(limit, code, scale_of(client, code))}
            for code, limit in zip(currencies, limits, strict=True)
        ]
        answer = client.superapp("POST", "admin/links", {"peer": arguments.peer, "currencies": grants})
    print("\n".join(_described(answer)))
    return 0


def list_links(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        links = cast(list[Json], client.superapp("GET", "admin/links")["links"])
    if not links:
        print("There is no link yet; open one with super-app link open.")
    for link in links:
        print("\n".join(_described(link)))
    return 0


def _described(link: Json) -> list[str]:
    state = str(link["state"])
    advice = link.get("reason") or _ADVICE.get(state, "")
    lines = [f"{link['peer']}  {state}" + (f": {advice}" if advice else "")]
    for each in cast(list[Json], link["currencies"]):
        asset = Asset(code=AssetCode(str(each["currency"])), scale=int(each["scale"]))
        granted, received = each.get("granted_minor"), each.get("received_minor")
        amounts = {
            "we grant": granted,
            "it grants us": received,
            "it owes us": each["due_from_minor"],
            "we owe it": each["due_to_minor"],
        }
        told = [f"{what} {format_money(int(minor), asset)}" for what, minor in amounts.items() if minor is not None]
        lines.append("  " + ", ".join(told))
    return lines
