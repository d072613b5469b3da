"""``super-app link``: open links for payments with other homeservers, see how they stand, and end them."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import cast
from urllib.parse import quote

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.commands.admin_access import add_admin_options, admin, minor_units, scale_of
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import Json, MatrixClient

_Run = Callable[[argparse.Namespace], int]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "link",
        help="links for payments with other homeservers: open, show, suspend, close",
        description="A link lets people of two homeservers pay each other. Both operators open it.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    opening = actions.add_parser(
        "open",
        help="open a link, or change the credit that we grant",
        description="Grant another homeserver credit: how much it may owe us before it settles.",
    )
    opening.add_argument("--peer", required=True, metavar="NAME", help="server name of the other homeserver")
    _add_limits(opening)
    add_admin_options(opening)
    opening.set_defaults(run=open_link)
    limiting = _add(
        actions, "limit", set_limit, "change the credit that we grant", "Change the credit of a link that is there."
    )
    _add_limits(limiting)
    listing = actions.add_parser(
        "list", help="show all links", description="Where each link stands, what it waits for, and who owes what."
    )
    add_admin_options(listing)
    listing.set_defaults(run=list_links)
    _add(actions, "show", show, "show one link", "One link in full, with the fingerprints of both payment keys.")
    suspending = _add(
        actions,
        "suspend",
        suspend,
        "agree on nothing new for now",
        "No new payment over this link until it is resumed. What is under way ends normally.",
    )
    _add_reason(suspending)
    _add(actions, "resume", resume, "take back suspend or close", "Let payments go on, as far as this side says.")
    closing = _add(
        actions,
        "close",
        close,
        "end a link",
        "No new payment over this link. What is under way ends, what is owed stays visible and is settled.",
    )
    _add_reason(closing)
    _add(
        actions,
        "payments",
        show_payments,
        "payments to it that have not ended",
        "What our people have paid to the other homeserver's and what it has not answered, the oldest first.",
    )
    giving = _add(
        actions,
        "give-back",
        give_back,
        "give a payer the money back, at your own risk",
        "For a homeserver that is gone for good. If it comes back and has credited the payment, that is your loss.",
    )
    giving.add_argument("payment", metavar="ID", help="as super-app link payments shows it")
    giving.add_argument("--reason", required=True, metavar="TEXT", help="why, for the operators' log")
    fencing = _add(
        actions,
        "fence",
        fence,
        "bring a halted link back on an old database",
        "Let this database, an old copy, go on with a peer that knows more than it does. What the peer holds of this "
        "side comes back. A NEWER DATABASE OF THIS HOMESERVER MUST NEVER RUN AGAIN; if there is one, start that.",
    )
    fencing.add_argument(
        "--no-newer-database", action="store_true", required=True, help="I know that no newer database will ever run"
    )
    repinning = _add(
        actions,
        "repin",
        repin,
        "pin payment keys anew: lost, stolen, or a frozen link",
        "Both operators order this, each with the fingerprint that the other one reads out, on the telephone for "
        "instance. Then both keys count anew, and who holds an older one can do nothing with it. It is also the way "
        "back from a frozen link. Show your own fingerprint with super-app link show.",
    )
    repinning.add_argument("--fingerprint", required=True, metavar="HEX", help="of the peer's key: 8 groups of 4")
    repinning.add_argument(
        "--take-back",
        action="store_true",
        help="this database may lack what it signed; take what the peer holds. Not after a theft",
    )
    evidence = _add(
        actions,
        "evidence",
        show_evidence,
        "what is kept against a peer",
        "The signed objects of a peer that contradict each other, newest first.",
    )
    evidence.add_argument("--json", action="store_true", help="as the admin API answers, to hand on")
    rotating = actions.add_parser(
        "rotate-key",
        help="replace the payment key on all links",
        description="Make a new payment key. Every peer is told by the old one, which stays beside the new file.",
    )
    add_admin_options(rotating)
    rotating.set_defaults(run=rotate_key)


def open_link(arguments: argparse.Namespace) -> int:
    limits = _limits(arguments)
    with admin(arguments) as client:
        return _grant(client, arguments.peer, limits)


def set_limit(arguments: argparse.Namespace) -> int:
    limits = _limits(arguments)
    with admin(arguments) as client:
        client.superapp("GET", _path(arguments.peer))
        return _grant(client, arguments.peer, limits)


def list_links(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        links = cast(list[Json], client.superapp("GET", "admin/links")["links"])
    if not links:
        print("There is no link yet; open one with super-app link open.")
    for link in links:
        _print(link)
    return 0


def show(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        link = client.superapp("GET", _path(arguments.peer))
    _print(link)
    for whose, name in (("our", "our_fingerprint"), ("its", "their_fingerprint")):
        if link.get(name):
            print(f"  {whose} payment key: {link[name]}")
    if link.get("present_fingerprint") not in (None, link.get("our_fingerprint")):
        print(f"  the key in our key file: {link['present_fingerprint']}")
    if link.get("asked_fingerprint"):
        print(f"  the key that it wants pinned anew: {link['asked_fingerprint']}")
    evidence = cast(dict[str, int], link.get("evidence") or {})
    for kind, count in evidence.items():
        print(f"  evidence: {kind}, {count}; see super-app link evidence {link['peer']}")
    if link.get("unsent"):
        print(f"  not acknowledged: {link['unsent']} objects")
    if link.get("last_error"):
        print(f"  last error: {link['last_error']}")
    return 0


def suspend(arguments: argparse.Namespace) -> int:
    return _post(arguments, "suspend", _why(arguments))


def resume(arguments: argparse.Namespace) -> int:
    return _post(arguments, "resume", {})


def close(arguments: argparse.Namespace) -> int:
    return _post(arguments, "close", _why(arguments))


def show_payments(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        found = cast(list[Json], client.superapp("GET", f"{_path(arguments.peer)}/payments")["payments"])
    if not found:
        print(f"Every payment to {arguments.peer} has ended.")
    for each in found:
        _print_payment(each)
    return 0


def give_back(arguments: argparse.Namespace) -> int:
    path = f"{_path(arguments.peer)}/payments/{quote(arguments.payment, safe='')}/give-back"
    with admin(arguments) as client:
        _print_payment(client.superapp("POST", path, {"reason": arguments.reason}))
    return 0


def fence(arguments: argparse.Namespace) -> int:
    return _post(arguments, "fence", {})


def repin(arguments: argparse.Namespace) -> int:
    body = {"fingerprint": arguments.fingerprint, "take_back": arguments.take_back}
    return _post(arguments, "repin", body)


def show_evidence(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        answer = client.superapp("GET", f"{_path(arguments.peer)}/evidence")
    if arguments.json:
        print(json.dumps(answer, indent=1, ensure_ascii=False))
        return 0
    found = cast(list[Json], answer["evidence"])
    if not found:
        print(f"Nothing is kept against {arguments.peer}.")
    for each in found:
        print(f"{each['kind']}, recorded at {each['recorded_ms']} ms since 1970")
        for name in ("first", "second"):
            if each.get(name):
                print(f"  {each[name]}")
    return 0


def rotate_key(arguments: argparse.Namespace) -> int:
    with admin(arguments) as client:
        answer = client.superapp("POST", "admin/payment-key", {})
    print(f"The payment key is now {answer['key_id']}, fingerprint {answer['fingerprint']}.")
    for link in cast(list[Json], answer["links"]):
        told = "knows it as soon as it is reached" if link.get("our_fingerprint") == answer["fingerprint"] else "waits"
        print(f"  {link['peer']}  {told}")
    return 0


def _add(actions: Commands, name: str, run: _Run, summary: str, description: str) -> argparse.ArgumentParser:
    """An action on one link."""
    parser = actions.add_parser(name, help=summary, description=description)
    parser.add_argument("peer", metavar="PEER", help="server name of the other homeserver")
    add_admin_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--currency", required=True, action="append", metavar="CODE", help="once for each currency, with its --limit"
    )
    parser.add_argument("--limit", required=True, action="append", metavar="AMOUNT", help="such as 1000.00")
    parser.add_argument(
        "--max-in-flight", type=int, metavar="COUNT", help="payments that the peer may have under way at a time"
    )


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="WORD", help="small letters and _, which the other operator sees")


def _limits(arguments: argparse.Namespace) -> Sequence[tuple[str, str, int | None]]:
    currencies: list[str] = arguments.currency
    limits: list[str] = arguments.limit
    if len(currencies) != len(limits):
        raise CommandFailed(f"each --currency needs its --limit: there are {len(currencies)} and {len(limits)}")
    return [(code, limit, arguments.max_in_flight) for code, limit in zip(currencies, limits, strict=True)]


def _grant(client: MatrixClient, peer: str, limits: Sequence[tuple[str, str, int | None]]) -> int:
    grants = [
        {"currency": code, "credit_limit_minor": minor_units(limit, code, scale_of(client, code))}
        | ({} if in_flight is None else {"max_in_flight": in_flight})
        for code, limit, in_flight in limits
    ]
    _print(client.superapp("POST", "admin/links", {"peer": peer, "currencies": grants}))
    return 0


def _post(arguments: argparse.Namespace, act: str, body: Json) -> int:
    with admin(arguments) as client:
        _print(client.superapp("POST", f"{_path(arguments.peer)}/{act}", body))
    return 0


def _why(arguments: argparse.Namespace) -> Json:
    return {} if arguments.reason is None else {"reason": arguments.reason}


def _path(peer: str) -> str:
    return f"admin/links/{quote(peer, safe='')}"


def _print_payment(payment: Json) -> None:
    asset = Asset(code=AssetCode(str(payment["currency"])), scale=int(payment["scale"]))
    told = ", given back at your own risk" if payment["given_back"] else ""
    payer = payment.get("payer") or "somebody whose name was erased"
    print(f"{payment['wire_id']}  {format_money(int(payment['amount']), asset)} of {payer}: {payment['state']}{told}")


def _print(link: Json) -> None:
    print("\n".join(_described(link)))


def _described(link: Json) -> list[str]:
    reason = link.get("reason")
    lines = [f"{link['peer']}  {link['state']}" + (f": {reason}" if reason else "")]
    lines += [f"  {wait}" for wait in cast(list[str], link.get("waits") or [])]
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
        net_minor = int(each["due_from_minor"]) - int(each["due_to_minor"])
        whose = "it owes us" if net_minor >= 0 else "we owe it"
        lines.append("  " + ", ".join(told) + f"; net {whose} {format_money(abs(net_minor), asset)}")
    return lines
