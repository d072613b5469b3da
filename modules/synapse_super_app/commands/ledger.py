"""``super-app burn``, ``pay-fees``, ``freeze``, ``unfreeze``, ``correct``, ``trial-balance`` and ``verify-ledger``."""

import argparse
from typing import cast

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.commands.admin_access import add_admin_options, admin, minor_units, person_of, scale_of
from synapse_super_app.commands.console import CommandFailed, Commands, Progress
from synapse_super_app.commands.matrix_client import Json, MatrixClient, quoted


def add_to(commands: Commands) -> None:
    burning = commands.add_parser(
        "burn",
        help="take money of a person out of the world",
        description="The reverse of issue, of a frozen person too. The same reference again changes nothing.",
    )
    burning.add_argument("person", help="a user id, or its part before the colon")
    burning.add_argument("amount", help="such as 12.50")
    burning.add_argument("currency", help="such as EUR")
    burning.add_argument("--reference", required=True, help="why; it also makes sure that nothing is burnt twice")
    add_admin_options(burning)
    burning.set_defaults(run=burn)
    paying = commands.add_parser(
        "pay-fees",
        help="give fees that the homeserver has earned to a person",
        description="Move fees that were earned into somebody's wallet. Without a person: say what there is.",
    )
    paying.add_argument("person", nargs="?", help="a user id, or its part before the colon")
    paying.add_argument("amount", nargs="?", help="such as 12.50")
    paying.add_argument("currency", nargs="?", help="such as EUR")
    paying.add_argument("--reference", help="why; it also makes sure that nothing is paid twice")
    add_admin_options(paying)
    paying.set_defaults(run=pay_fees)
    for name, run, what in (
        ("freeze", freeze, "let no payment touch a person's accounts"),
        ("unfreeze", unfreeze, "let a person pay and be paid again"),
    ):
        parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        parser.add_argument("person", help="a user id, or its part before the colon")
        parser.add_argument("--reason", required=True, help="why, for the operators' log; write no names into it")
        add_admin_options(parser)
        parser.set_defaults(run=run)
    correcting = commands.add_parser(
        "correct",
        help="take back what an entry moved",
        description="A new entry takes back an old one, or a part of it. The same reference again changes nothing.",
    )
    correcting.add_argument("entry", type=int, help="its number, as in a statement")
    correcting.add_argument("--amount", type=int, metavar="MINOR", help="minor units; default: all that is left")
    correcting.add_argument("--reference", required=True, help="makes sure that it is done once")
    correcting.add_argument("--reason", required=True, help="why, for the operators' log; write no names into it")
    add_admin_options(correcting)
    correcting.set_defaults(run=correct)
    trial = commands.add_parser(
        "trial-balance",
        help="sum all accounts by currency and kind",
        description="All accounts of the ledger, summed by currency and kind; each currency sums to zero.",
    )
    add_admin_options(trial)
    trial.set_defaults(run=trial_balance)
    verifying = commands.add_parser(
        "verify-ledger",
        help="compute the journal again",
        description="Compute hashes and balances again, from the newest snapshot on. Exits with 1 if any is wrong.",
    )
    verifying.add_argument("--all", action="store_true", help="from the first entry that is in the database")
    add_admin_options(verifying)
    verifying.set_defaults(run=verify)


def burn(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        entry, money, user_id = _moved(client, "admin/burn", arguments)
    print(f"{money} of {user_id} are burnt (entry {entry['seq']}).")
    return 0


def pay_fees(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        if arguments.person is None:
            found = client.superapp("GET", "admin/fees")["fees"]
            for each in found:
                asset = Asset(code=AssetCode(each["currency"]), scale=each["scale"])
                print(format_money(int(each["amount"]), asset))
            if not found:
                print("No fees were earned.")
            return 0
        if arguments.currency is None or not arguments.reference:
            raise CommandFailed("pay-fees: name a person, an amount, a currency and a --reference, or none of them")
        entry, money, user_id = _moved(client, "admin/fees/pay", arguments)
    print(f"{money} of fees are {user_id}'s now (entry {entry['seq']}).")
    return 0


def _moved(client: MatrixClient, path: str, arguments: argparse.Namespace) -> tuple[Json, str, str]:
    """Have money moved: its entry, how much it was, for people, and whose."""
    user_id = person_of(client, arguments.person)
    asset = Asset(code=AssetCode(arguments.currency), scale=scale_of(client, arguments.currency))
    body = {
        "user_id": user_id,
        "amount": minor_units(arguments.amount, asset.code, asset.scale),
        "currency": asset.code,
        "reference": arguments.reference,
    }
    entry = client.superapp("POST", path, body)
    return entry, format_money(int(entry["amount"]), asset), user_id


def freeze(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        user_id = person_of(client, arguments.person)
        client.superapp("POST", f"admin/accounts/{quoted(user_id)}/freeze", {"reason": arguments.reason})
    print(f"{user_id} is frozen: no payment from or to that account until super-app unfreeze.")
    return 0


def unfreeze(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        user_id = person_of(client, arguments.person)
        client.superapp("POST", f"admin/accounts/{quoted(user_id)}/unfreeze", {"reason": arguments.reason})
    print(f"{user_id} pays and is paid again.")
    return 0


def correct(arguments: argparse.Namespace) -> int:
    body: Json = {"seq": arguments.entry, "reference": arguments.reference, "reason": arguments.reason}
    if arguments.amount is not None:
        body["amount"] = arguments.amount
    with admin(arguments) as client:
        entry = client.superapp("POST", "admin/correct", body)
    moved = f"{entry['amount']} minor units of {entry['currency']}"
    print(f"Entry {entry['seq']} takes back {moved} of entry {arguments.entry}.")
    return 0


def trial_balance(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = client.superapp("GET", "admin/trial_balance")
    print(f"As of entry {found['seq']} {found['hash']}".rstrip())
    for currency in cast(list[Json], found["currencies"]):
        asset = Asset(code=AssetCode(str(currency["currency"])), scale=int(currency["scale"]))
        for line in cast(list[Json], currency["lines"]):
            whose = str(line["owner"]) or f"{line['accounts']} people"
            print(f"  {line['kind']:<12} {whose:<32} {format_money(int(line['balance']), asset):>24}")
        print(f"  {'sum':<12} {'':<32} {format_money(int(currency['total']), asset):>24}")
    return 0 if all(int(each["total"]) == 0 for each in cast(list[Json], found["currencies"])) else 1


def verify(arguments: argparse.Namespace) -> int:
    broken: list[Json] = []
    with admin(arguments) as client, Progress("entries verified") as progress:
        query: dict[str, str | int] = {"everything": "true"} if arguments.all else {}
        page = client.superapp("GET", "admin/verify", None, query)
        first = int(page["after"])
        while True:
            broken += cast(list[Json], page["broken"])
            progress.at(int(page["through"]) - first, int(page["head"]) - first)
            if page["done"]:
                break
            page = client.superapp("GET", "admin/verify", None, {"after": int(page["through"])})
    for each in broken:
        print(f"{each['invariant']}: {each['where']} is off by {each['off_by']}")
    if broken:
        print("The books are wrong: stop payments with the halt file, and see docs/admin.md.")
        return 1
    print(
        f"Entries {first + 1} to {page['head']} are right." if page["head"] != first else "There is nothing to verify."
    )
    return 0
