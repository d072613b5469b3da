"""``super-app statement``: what happened to an account, for people, as CSV or as JSON."""

import argparse
import csv
import datetime as dt
import json
import sys
from typing import Final, cast

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.commands.admin_access import add_admin_options, admin, person_of, read_time
from synapse_super_app.commands.console import Commands, say
from synapse_super_app.commands.matrix_client import Json, MatrixClient

_PAGE: Final = 1_000
_OF_PEOPLE: Final = ("available", "held", "gift", "claim")
_COLUMNS: Final = (
    "entry",
    "time",
    "cause",
    "reference",
    "id",
    "counterparty",
    "counterparty_kind",
    "change",
    "balance",
    "currency",
)


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "statement",
        help="show what happened to an account",
        description="Entries of an account with the balances at the ends of the time range, oldest first.",
    )
    parser.add_argument("account", help="a user id or its part before the colon; house; or a peer's server name")
    parser.add_argument("currency", help="such as EUR")
    parser.add_argument("--kind", default="available", help="default: available; see docs/ledger.md")
    parser.add_argument("--from", dest="since", metavar="TIME", help="such as 2026-01-01 or 2026-01-01T12:00, in UTC")
    parser.add_argument("--until", metavar="TIME", help="before this time")
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text", help="default: text")
    add_admin_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    query: dict[str, str | int] = {"currency": arguments.currency, "kind": arguments.kind, "limit": _PAGE}
    if arguments.since is not None:
        query["from_ts"] = read_time(arguments.since)
    if arguments.until is not None:
        query["until_ts"] = read_time(arguments.until)
    with admin(arguments) as client:
        of_person = arguments.kind in _OF_PEOPLE and arguments.account != "house"
        query["account"] = person_of(client, arguments.account) if of_person else arguments.account
        found = _all_pages(client, query)
    asset = Asset(code=AssetCode(str(found["currency"])), scale=int(found["scale"]))
    archived = cast(Json | None, found.get("archived"))
    if archived is not None:
        say(f"Entries up to {archived['through_seq']} are in the archive {archived['file_name']} and not shown here.")
    match arguments.format:
        case "json":
            print(json.dumps(found, ensure_ascii=False, indent=2))
        case "csv":
            _print_csv(found, asset)
        case _:
            _print_text(found, asset)
    return 0


def _all_pages(client: MatrixClient, query: dict[str, str | int]) -> Json:
    """The statement with all its entries, oldest first; its ends as the first page had them."""
    found = client.superapp("GET", "admin/statement", None, query)
    entries = cast(list[Json], found["entries"])
    page = found
    while "next" in page:
        page = client.superapp("GET", "admin/statement", None, {**query, "since": int(page["next"])})
        entries += cast(list[Json], page["entries"])
    whole = {name: value for name, value in found.items() if name not in ("entries", "next")}
    return {**whole, "entries": entries[::-1]}


def _print_csv(found: Json, asset: Asset) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in cast(list[Json], found["entries"]):
        writer.writerow(
            (
                line["seq"],
                _time(line),
                line["cause"],
                line["reference"],
                line["id"],
                line["counterparty"],
                line["counterparty_kind"],
                _number(line["change"], asset),
                _number(line["balance"], asset),
                asset.code,
            )
        )


def _print_text(found: Json, asset: Asset) -> None:
    print(f"{found['account']}, {found['kind']}")
    print(f"{'':<29} {'opening balance':<24} {'':>20} {_number(found['opening'], asset):>20} {asset.code}")
    for line in cast(list[Json], found["entries"]):
        what = f"{line['cause']} {line['counterparty']}"
        change, balance = _number(line["change"], asset), _number(line["balance"], asset)
        print(f"{line['seq']:>8} {_time(line)} {what:<24} {change:>20} {balance:>20} {asset.code}")
    print(f"{'':<29} {'closing balance':<24} {'':>20} {_number(found['closing'], asset):>20} {asset.code}")


def _number(minor: object, asset: Asset) -> str:
    return format_money(int(cast(int, minor)), asset).removesuffix(f" {asset.code}")


def _time(line: Json) -> str:
    moment = dt.datetime.fromtimestamp(int(line["ts"]) / 1000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
