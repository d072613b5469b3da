"""``super-app directory``: check what stands behind a handle, and deal with homeservers that contradict themselves."""

import argparse
import json
import time
from typing import cast
from urllib.parse import quote

from super_app.directory.chain import check, holds
from synapse_super_app.commands.admin_access import add_admin_options, admin
from synapse_super_app.commands.console import Commands
from synapse_super_app.commands.matrix_client import Json

_MARKS = {True: "ok", False: "NO", None: "--"}


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "directory",
        help="check what stands behind a handle; evidence against other homeservers; our directory key",
        description="What this homeserver believes of others' directories, and why.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    verifying = actions.add_parser(
        "verify",
        help="check a handle from its record down to the Matrix key",
        description="Ask for a handle now and check the whole chain here: record, keys, log, witnesses. "
        "The exit code is 1 if anything does not hold.",
    )
    verifying.add_argument("handle", help="such as @bob:example.org")
    verifying.add_argument("--json", action="store_true", help="each link of the chain, and all that it was checked by")
    add_admin_options(verifying)
    verifying.set_defaults(run=verify)
    evidence = actions.add_parser(
        "evidence",
        help="proofs that homeservers contradicted themselves",
        description="Homeservers that signed two histories of their directory. Those that nobody lifted are frozen.",
    )
    evidence.add_argument("--json", action="store_true", help="with the proofs, to hand on")
    add_admin_options(evidence)
    evidence.set_defaults(run=show_evidence)
    lifting = actions.add_parser(
        "lift",
        help="deal with a frozen homeserver again",
        description="Believe a homeserver again, from the log that it shows now; ask its operator first what happened. "
        "The evidence is kept.",
    )
    lifting.add_argument("server", help="its server name")
    add_admin_options(lifting)
    lifting.set_defaults(run=lift)
    rotating = actions.add_parser(
        "rotate-key",
        help="replace the directory key",
        description="Make a new directory key, which the old one signs; other homeservers follow by themselves. "
        "The old one stays beside the new file.",
    )
    add_admin_options(rotating)
    rotating.set_defaults(run=rotate_key)


def verify(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        shown = client.superapp("GET", f"directory/verify/{quote(arguments.handle, safe='')}")
    steps = check(shown, int(time.time() * 1000))
    good = holds(steps)
    if arguments.json:
        told = [{"link": step.name, "holds": step.holds, "says": step.says} for step in steps]
        print(json.dumps({"handle": arguments.handle, "holds": good, "chain": told, "shown": shown}, indent=1))
        return 0 if good else 1
    for step in steps:
        print(f"{_MARKS[step.holds]}  {step.name}: {step.says}")
    print(f"{arguments.handle} is what it seems." if good else f"Do not trust {arguments.handle}.")
    return 0 if good else 1


def show_evidence(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        shown = client.superapp("GET", "admin/directory/evidence")
    found, restores = cast(list[Json], shown["evidence"]), cast(list[Json], shown["restores"])
    if arguments.json:
        print(json.dumps(shown, indent=1))
        return 0
    for each in restores:
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each["begun"] / 1000))
        print(
            f"{each['server']}  restored from a backup of {each['kept']} records, and declared it; believed since {at}"
        )
    if not found:
        print("No homeserver is known to have contradicted itself.")
    for each in found:
        lifted = f"lifted by {each['lifted_by']}" if each.get("lifted_by") else "frozen"
        if each["kind"] == "rewrite":
            lifted = f"{each['evidence']['first']['handle']} is refused"
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each["found"] / 1000))
        print(f"{each['server']}  {each['kind']}, found {at}, {lifted}")
    return 0


def lift(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        client.superapp("DELETE", f"admin/directory/evidence/{quote(arguments.server, safe='')}")
    print(f"{arguments.server} is dealt with again, from the log that it shows next.")
    return 0


def rotate_key(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        rotated = client.superapp("POST", "admin/directory/rotate-key", {})
    print(f"The directory key is now {rotated['key_id']}; the one before has signed that it follows.")
    return 0
