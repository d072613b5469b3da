"""``super-app review``: payments that wait for the operator because a name of the list is in them."""

import argparse
import datetime as dt
from collections.abc import Callable
from typing import cast
from urllib.parse import quote

from super_app.money import Asset, AssetCode, format_money, iso_asset
from synapse_super_app.commands.admin_access import add_admin_options, admin, person_of
from synapse_super_app.commands.console import Commands
from synapse_super_app.commands.matrix_client import Json


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "review",
        help="payments that wait for you because of a name: list, release, deny",
        description="Payments with a name of payments.screening in them. Their money is set aside until you decide.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    listing = actions.add_parser("list", help="those that wait, oldest first", description="Payments under review.")
    listing.add_argument("--state", choices=("open", "released", "denied"), default="open", help="default: open")
    add_admin_options(listing)
    listing.set_defaults(run=list_them)
    for name, short in (("release", "let it go on"), ("deny", "give its money back")):
        deciding = actions.add_parser(name, help=short, description=f"Decide about one payment: {short}.")
        deciding.add_argument("payment_id")
        deciding.add_argument("--payer", required=True, metavar="PERSON", help="who pays: a user id")
        deciding.add_argument("--reason", required=True, metavar="TEXT", help="why, for the record")
        add_admin_options(deciding)
        deciding.set_defaults(run=_deciding(name))


def list_them(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = client.superapp("GET", "admin/reviews", query={"state": arguments.state})
    reviews = cast(list[Json], found["reviews"])
    for review in reviews:
        print(_line(review))
    if not reviews:
        print("No payment waits for you." if arguments.state == "open" else f"No payment was {arguments.state}.")
    return 0


def _deciding(decision: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        body: Json = {"decision": decision, "reason": arguments.reason}
        with admin(arguments) as client:
            query = {"payer": person_of(client, arguments.payer)}
            path = f"admin/reviews/{quote(arguments.payment_id, safe='')}"
            print(_line(client.superapp("POST", path, body, query)))
        return 0

    return run


def _line(review: Json) -> str:
    code = AssetCode(str(review["currency"]))
    # Of an asset of the operator's own the scale is not told here, so it stands in minor units.
    amount = format_money(int(str(review["amount"])), iso_asset(code) or Asset(code=code, scale=0))
    moment = dt.datetime.fromtimestamp(int(str(review["since_ts"])) / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    who = f"{review['payment_id']}  {moment}  {review['payer']} -> {review['payee']}  {amount}"
    memo = "" if review.get("memo") is None else f" ({review['memo']})"
    decided = "" if review.get("reason") is None else f" by {review['operator']}: {review['reason']}"
    return f"{who}{memo}, for {review['matched']!r}: {review['state']}{decided}"
