"""``super-app halt``, ``resume``, ``migrate``, ``erase``, ``leavers``, ``audit``, ``proposal``: one homeserver."""

import argparse
import datetime as dt
import json
import secrets
from typing import Any

from super_app.money import Asset, format_money
from synapse_super_app.commands import admin_access
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import quoted


def add_to(commands: Commands) -> None:
    halt = commands.add_parser(
        "halt", help="let no new payment start", description="Halt payments in all processes; what is held stays held."
    )
    halt.add_argument("--reason", required=True, help="why, for the audit log and other admins")
    halt.set_defaults(run=_halt)
    resume = commands.add_parser(
        "resume", help="let payments start again", description="End what super-app halt began."
    )
    resume.set_defaults(run=_resume)
    migrate = commands.add_parser(
        "migrate",
        help="end an upgrade",
        description="Apply the migrations that waited until no process of the version before ran any more.",
    )
    migrate.set_defaults(run=_migrate)
    erase = commands.add_parser(
        "erase",
        help="forget somebody whose account is deactivated",
        description="Erase what need not be kept of somebody who has left; the books keep entries under a pseudonym.",
    )
    erase.add_argument("person")
    erase.set_defaults(run=_erase)
    leavers = commands.add_parser(
        "leavers",
        help="money of people who left",
        description="Show deactivated accounts in which there is money, longest gone first, and when "
        "payments.deactivated takes it.",
    )
    leavers.set_defaults(run=_leavers)
    audit = commands.add_parser(
        "audit", help="what admins did", description="Show the audit log, newest first, or check that it is whole."
    )
    audit.add_argument("--limit", type=int, default=20, metavar="N", help="so many lines; default: 20")
    audit.add_argument("--verify", action="store_true", help="look for lines that were changed or taken away")
    audit.set_defaults(run=_audit)
    proposal = commands.add_parser(
        "proposal",
        help="issue, burn and pay fees out with the consent of two admins",
        description="Propose, approve and reject money that is issued, burnt or paid out of the fees.",
    )
    acts = proposal.add_subparsers(required=True, metavar="ACT")
    listing = acts.add_parser("list", help="all proposals, open ones first", description="Show all proposals.")
    listing.set_defaults(run=_proposals)
    for kind, what in (
        ("issue", "issue money for a person"),
        ("burn", "burn money of a person"),
        ("pay-fees", "give fees that were earned to a person"),
    ):
        one = acts.add_parser(kind, help=f"propose to {what}", description=f"Propose to {what}.")
        one.add_argument("person")
        one.add_argument("amount")
        one.add_argument("currency")
        one.add_argument("--reference", required=True, help="why; that of the entry which it becomes")
        one.add_argument("--id", metavar="ID", help="what to call it; default: random")
        one.set_defaults(run=_propose, kind=kind.replace("-", "_"))
        admin_access.add_admin_options(one)
    for act in ("approve", "reject"):
        one = acts.add_parser(act, help=f"{act} one", description=f"{act.capitalize()} what an admin proposed.")
        one.add_argument("id")
        one.set_defaults(run=_decide, act=act)
        admin_access.add_admin_options(one)
    for parser in (halt, resume, migrate, erase, leavers, audit, listing):
        admin_access.add_admin_options(parser)


def _halt(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        found = admin.superapp("PUT", "admin/payments/halt", {"reason": arguments.reason})
    print(f"Payments are halted since {_time(found['since_ms'])}: {found['reason']}")
    return 0


def _resume(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        found = admin.superapp("DELETE", "admin/payments/halt")
    if found["halted"]:
        raise CommandFailed("payments stay halted by payments.halt_file, or because of what the log says; see doctor")
    print("Payments start again.")
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        waiting = admin.superapp("GET", "admin/overview")["waiting_migrations"]
        admin.superapp("POST", "admin/migrate")
    print("\n".join(f"applied {name}" for name in waiting) or "Nothing waited.")
    return 0


def _erase(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        user_id = admin_access.person_of(admin, arguments.person)
        found = admin.superapp("POST", f"admin/erasures/{quoted(user_id)}")
    print(f"Erased what need not be kept of {user_id}. Entries in the books are in the name of {found['owner']}.")
    return 0


def _leavers(arguments: argparse.Namespace) -> int:
    since: str | None = None
    count = 0
    with admin_access.admin(arguments) as admin:
        while True:
            found = admin.superapp("GET", "admin/leavers", None, {} if since is None else {"since": since})
            for each in found["leavers"]:
                count += 1
                print(_left(each, found["then"]))
            since = found.get("next")
            if since is None:
                break
    if not count:
        print("Nobody who left has money here.")
    return 0


def _left(leaver: dict[str, Any], then: str) -> str:
    money = ", ".join(
        f"{format_money(each['amount'], Asset(code=each['currency'], scale=each['scale']))} {each['kind']}"
        for each in leaver["money"]
    )
    due = leaver.get("due_ms")
    rule = "it stays" if due is None else f"{then} at {_time(due)}"
    return f"{leaver['user_id']} left by {_time(leaver['left_ms'])}: {money}; {'frozen' if leaver['frozen'] else rule}"


def _audit(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        if arguments.verify:
            found = admin.superapp("GET", "admin/audit/verify")
            print(f"{found['seq']} lines; the hash of the last one: {found['hash'] or 'none'}")
            if not found["ok"]:
                raise CommandFailed(f"line {found['broken_at']} was changed or taken away, or one before it")
            return 0
        lines = admin.superapp("GET", "admin/audit", None, {"limit": arguments.limit})["lines"]
    for line in lines:
        answers = "" if line.get("asked_seq") is None else f" (of {line['asked_seq']})"
        what = "" if line["what"] == "{}" else f" {line['what']}"
        when, outcome = _time(line["at_ms"]), line["outcome"] + answers
        print(f"{line['seq']} {when} {line['operator']} {line['act']}{what}: {outcome}")
    return 0


def _proposals(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        found = admin.superapp("GET", "admin/proposals")
    for each in found["proposals"]:
        print(_line(each))
    if not found["proposals"]:
        print("There are none.")
    return 0


def _propose(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        scale = admin_access.scale_of(admin, arguments.currency)
        body = {
            "proposal_id": arguments.id or secrets.token_hex(8),
            "kind": arguments.kind,
            "user_id": admin_access.person_of(admin, arguments.person),
            "amount": admin_access.minor_units(arguments.amount, arguments.currency, scale),
            "currency": arguments.currency,
            "reference": arguments.reference,
        }
        print(_line(admin.superapp("POST", "admin/proposals", body)))
    return 0


def _decide(arguments: argparse.Namespace) -> int:
    with admin_access.admin(arguments) as admin:
        print(_line(admin.superapp("POST", f"admin/proposals/{quoted(arguments.id)}/{arguments.act}")))
    return 0


def _line(proposal: dict[str, Any]) -> str:
    what = f"{proposal['kind']} {proposal['amount']} minor units of {proposal['currency']}, {proposal['user_id']}"
    decided = proposal.get("decided_by")
    by = proposal["proposed_by"] + (f", {proposal['state']} by {decided}" if decided else "")
    return f"{proposal['proposal_id']} {proposal['state']}: {what}, {json.dumps(proposal['reference'])} ({by})"


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
