"""``super-app handle``: what an operator does to handles of this homeserver, each act with its reason in the log."""

import argparse
import datetime as dt
from collections.abc import Callable
from typing import cast
from urllib.parse import quote

from synapse_super_app.commands.admin_access import add_admin_options, admin, person_of
from synapse_super_app.commands.console import Commands
from synapse_super_app.commands.matrix_client import Json

_Run = Callable[[argparse.Namespace], int]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "handle",
        help="handles of this homeserver: grant, revoke, freeze, transfer, disputes, the log",
        description="Act on a handle of this homeserver. Each act is kept for good: who, when, why.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    granting = _add(
        actions,
        "grant",
        grant,
        "give a name, short or reserved ones too",
        "Give a name to an account, as an alias, or settle an ambiguous one for the account whose user id it is.",
    )
    granting.add_argument("person", help="a user id, or its part before the colon")
    _add(
        actions,
        "revoke",
        _acting("revoke"),
        "take a name away",
        "Take a name away from whoever has it. Nobody gets it again, unless you transfer it.",
    )
    _add(
        actions,
        "freeze",
        _acting("freeze"),
        "nobody is found or paid under it",
        "Freeze a name: nobody is found, paid or rung under it until you unfreeze it.",
    )
    _add(actions, "unfreeze", _acting("unfreeze"), "undo freeze or dispute", "Whoever had the name has it again.")
    transferring = _add(
        actions,
        "transfer",
        transfer,
        "give somebody's name to another account",
        "Give a name to another account, as an alias, whoever has it and in whatever state it is.",
    )
    transferring.add_argument("person", help="a user id, or its part before the colon")
    disputing = _add(
        actions,
        "dispute",
        dispute,
        "freeze it until you have decided whose it is",
        "Freeze a name that two people want. Then unfreeze it, transfer it or revoke it.",
    )
    disputing.add_argument("--claimant", metavar="USER_ID", help="who says that the name is theirs, if they have one")
    verifying = _add(
        actions,
        "verify",
        verify,
        "put this homeserver's badge on it",
        "Vouch for the owner of a name. The badge goes when they change their handle.",
    )
    verifying.add_argument("--days", type=int, default=365, help="how long the badge holds")
    _add(actions, "unverify", _acting("unverify"), "take this homeserver's badge off it", "Vouch for it no more.")
    showing = actions.add_parser(
        "show", help="what a name is, and what was done to it", description="A name, its holder, and its log."
    )
    showing.add_argument("handle")
    add_admin_options(showing)
    showing.set_defaults(run=show)
    log = actions.add_parser(
        "log", help="what operators did to names, newest first", description="The log of all acts, newest first."
    )
    log.add_argument("--limit", type=int, default=50, help="how many, 500 at most")
    log.add_argument("--before", type=int, metavar="NUMBER", help="only those before this one")
    add_admin_options(log)
    log.set_defaults(run=show_log)


def grant(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        body: Json = {"user_id": person_of(client, arguments.person), "reason": arguments.reason}
        record = client.superapp("PUT", _path(arguments.handle), body)
    return _told(record)


def transfer(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        body: Json = {"user_id": person_of(client, arguments.person), "reason": arguments.reason}
        record = client.superapp("POST", f"{_path(arguments.handle)}/transfer", body)
    return _told(record)


def dispute(arguments: argparse.Namespace) -> int:
    claimant: Json = {} if arguments.claimant is None else {"claimant": arguments.claimant}
    with admin(arguments) as client:
        record = client.superapp("POST", f"{_path(arguments.handle)}/dispute", {"reason": arguments.reason, **claimant})
    return _told(record)


def verify(arguments: argparse.Namespace) -> int:
    body: Json = {"reason": arguments.reason, "days": arguments.days}
    with admin(arguments) as client:
        record = client.superapp("POST", f"{_path(arguments.handle)}/verify", body)
    return _told(record)


def show(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = client.superapp("GET", _path(arguments.handle))
    if not found["held"]:
        print(f"{found['handle']} is nobody's.")
    else:
        why = found.get("frozen_for")
        print(f"{found['handle']} of {found['user_id']}: {found['state']}" + (f", for {why}" if why else ""))
        if found.get("contested_by"):
            print(f"  claimed by {found['contested_by']}")
        if found.get("kept_for"):
            print(f"  never free again ({found['kept_for']})")
    for deed in cast(list[Json], found["deeds"]):
        print(_line(deed))
    return 0


def show_log(arguments: argparse.Namespace) -> int:
    query = {"limit": arguments.limit} | ({} if arguments.before is None else {"before": arguments.before})
    with admin(arguments) as client:
        found = client.superapp("GET", "admin/handles", query=query)
    for deed in cast(list[Json], found["deeds"]):
        print(_line(deed))
    if not found["deeds"]:
        print("No operator has done anything to a handle yet.")
    elif found.get("next") is not None:
        print(f"There is more: --before {found['next']}")
    return 0


def _acting(act: str) -> _Run:
    def run(arguments: argparse.Namespace) -> int:
        with admin(arguments) as client:
            record = client.superapp("POST", f"{_path(arguments.handle)}/{act}", {"reason": arguments.reason})
        return _told(record)

    return run


def _add(actions: Commands, name: str, run: _Run, short: str, description: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=short, description=description)
    parser.add_argument("handle", help="such as bob, or @bob:example.org")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the log")
    add_admin_options(parser)
    parser.set_defaults(run=run)
    return parser


def _path(handle: str) -> str:
    return f"admin/handles/{quote(handle, safe='')}"


def _told(record: Json) -> int:
    print(f"{record['handle']} of {record['user_id']}: {record['status']}")
    return 0


def _line(deed: Json) -> str:
    moment = dt.datetime.fromtimestamp(int(deed["at"]) / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    whose = {"from": deed.get("from"), "to": deed.get("to")}
    parties = "".join(f" {word} {user_id}" for word, user_id in whose.items() if user_id is not None)
    return (
        f"{deed['number']:>5}  {moment}  {deed['operator']}  {deed['act']} {deed['handle']}{parties}: {deed['reason']}"
    )
