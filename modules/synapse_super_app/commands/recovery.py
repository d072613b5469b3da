"""``super-app recovery``: this homeserver as a realm, which guards shares of recovery keys."""

import argparse
import datetime as dt
from typing import cast

from synapse_super_app.commands.admin_access import add_admin_options, admin
from synapse_super_app.commands.console import Commands
from synapse_super_app.commands.matrix_client import Json


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "recovery",
        help="shares of recovery keys that this homeserver guards",
        description="A realm holds shares of the recovery keys of its own and others' people (docs/recovery.md).",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    showing = actions.add_parser(
        "show",
        help="for whom it holds how many shares, and how its own realms are",
        description="Shares by homeserver, those that wait for other realms after a start, and who guards ours.",
    )
    add_admin_options(showing)
    showing.set_defaults(run=show)
    vouching = actions.add_parser(
        "vouch",
        help="say that this database is no restored one",
        description="After a start a realm asks the others whether they know of guesses that its database forgot. "
        "Where they are gone for good it answers nobody until you say, for an hour, that nothing was restored.",
    )
    vouching.add_argument(
        "--not-restored", action="store_true", required=True, help="I know that this database is the newest there was"
    )
    add_admin_options(vouching)
    vouching.set_defaults(run=vouch)


def show(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        _print(client.superapp("GET", "admin/recovery"))
    return 0


def vouch(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        _print(client.superapp("POST", "admin/recovery/vouch", {}))
    return 0


def _print(found: Json) -> None:
    leaving = ", which takes no new shares" if found["leaving"] else ""
    print(f"This realm is run by {found['operator']}{leaving}. Its key: {found['public_key']}")
    for each in cast(list[Json], found["shares"]):
        print(f"  {each['server']}: {each['held']} shares, {each['spent']} destroyed by guesses")
    if found["unchecked"]:
        print(f"  {found['unchecked']} of them wait for other realms to say that this database is the newest")
        if found["vouched_until"]:
            ends = dt.datetime.fromtimestamp(found["vouched_until"] / 1000, tz=dt.UTC)
            print(f"  you vouched for it until {ends:%Y-%m-%d %H:%M} UTC")
    print("Who guards shares of people here:")
    for each in cast(list[Json], found["realms"]):
        state = "no new shares" if each["leaving"] else "open"
        print(f"  {each['server']} ({each['operator']}): {state if each.get('public_key') else 'does not answer'}")
