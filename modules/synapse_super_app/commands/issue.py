"""``super-app issue``: issue money or points to a person of this homeserver."""

import argparse

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.commands.admin_access import add_admin_options, admin, minor_units, person_of, scale_of
from synapse_super_app.commands.console import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "issue",
        help="issue money to a person",
        description="Issue money to a person of this homeserver. The same reference again changes nothing.",
    )
    parser.add_argument("person", help="a user id, or its part before the colon")
    parser.add_argument("amount", help="such as 12.50")
    parser.add_argument("currency", help="such as EUR")
    parser.add_argument("--reference", required=True, help="why; it also makes sure that nothing is issued twice")
    add_admin_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        user_id = person_of(client, arguments.person)
        asset = Asset(code=AssetCode(arguments.currency), scale=scale_of(client, arguments.currency))
        amount_minor = minor_units(arguments.amount, asset.code, asset.scale)
        entry = client.issue(user_id, amount_minor, asset.code, arguments.reference)
    print(f"{entry['user_id']} got {format_money(int(entry['amount']), asset)} ({entry['reference']}).")
    return 0
