"""``super-app move``: take an account to another homeserver; make a recovery key, and a claim with it."""

import argparse
import getpass
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, cast

from nacl.signing import SigningKey

from super_app.accounts.model import Genesis
from super_app.directory import moves
from super_app.ids import Acct, ServerName, parse_user_id
from super_app.signing import from_b64, generate_key, public_b64, to_b64
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import MatrixClient


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "move",
        help="take your account to another homeserver",
        description="Those who know you find you at the new homeserver. Your money, rooms and messages stay where they "
        "are; a move is final.",
    )
    actions = cast(Commands, parser.add_subparsers(required=True, metavar="ACTION"))
    moving = actions.add_parser(
        "account",
        help="move, with both homeservers up",
        description="Sign in at both homeservers, say at the new one who you were, and tell the old one to move you.",
    )
    moving.add_argument("old", help="your user id now, such as @alice:one.example")
    moving.add_argument("new", help="your user id at the new homeserver, where you have registered")
    moving.add_argument("--old-url", required=True, metavar="URL", help="where clients reach the old homeserver")
    moving.add_argument("--new-url", required=True, metavar="URL", help="where clients reach the new homeserver")
    moving.add_argument(
        "--password-stdin",
        action="store_true",
        help="read both passwords from standard input, the old one first",
    )
    moving.add_argument("--yes", action="store_true", help="do not ask whether it is meant")
    moving.set_defaults(run=move)
    making = actions.add_parser(
        "new-key",
        help="make a recovery key",
        description="Make a recovery key, to be set before the account is first used (PUT account/recovery-key).",
    )
    making.add_argument("file", type=Path, metavar="FILE", help="made; keep it where nobody else has it")
    making.set_defaults(run=new_key)
    claiming = actions.add_parser(
        "claim",
        help="speak for an account whose homeserver is gone",
        description="Sign with the recovery key that the account goes to another one. Asks no network. The new "
        "homeserver takes what is printed (PUT account/arrival).",
    )
    claiming.add_argument("--key", type=Path, required=True, metavar="FILE", help="the recovery key")
    claiming.add_argument(
        "--account", type=Path, required=True, metavar="FILE", help="what GET account answered, at the lost homeserver"
    )
    claiming.add_argument("--to", required=True, metavar="USER", help="your user id at the new homeserver")
    claiming.add_argument("--to-acct", required=True, metavar="ACCT", help="acct in what GET account answers there")
    claiming.set_defaults(run=claim)


def move(arguments: argparse.Namespace) -> int:
    if not arguments.yes and not arguments.password_stdin:
        print(f"{arguments.old} will lead to {arguments.new} from now on, for good.")
        if input("Type the new user id to go on: ").strip() != arguments.new:
            raise CommandFailed("nothing was moved")
    passwords = [_password(arguments, user_id) for user_id in (arguments.old, arguments.new)]
    with MatrixClient(arguments.new_url) as new, MatrixClient(arguments.old_url) as old:
        there = new.signed_in(new.login(_localpart(arguments.new), passwords[1]))
        here = old.signed_in(old.login(_localpart(arguments.old), passwords[0]))
        _check(there, arguments.new)
        _check(here, arguments.old)
        there.superapp("PUT", "account/arrival", {"from": arguments.old})
        gone = here.superapp("PUT", "account/departure", {"to": arguments.new})["departure"]
    until = time.strftime("%Y-%m-%d", time.gmtime(gone["forwarded_until"] / 1000))
    print(f"{arguments.old} moved to {gone['to_handle']}, and leads there until {until}.")
    if not gone["confirmed"]:
        print("The new homeserver has not confirmed it yet; it is told again every ten minutes.")
    print("Your money is where it was: pay it over. For three days nobody can pay you much.")
    return 0


def new_key(arguments: argparse.Namespace) -> int:
    key = generate_key(secrets.token_bytes(32))
    path: Path = arguments.file
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise CommandFailed(f"cannot make {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(to_b64(bytes(key)) + "\n")
    print(json.dumps({"recovery_key": public_b64(key)}))
    return 0


def claim(arguments: argparse.Namespace) -> int:
    key = _read_key(arguments.key)
    genesis = _read_genesis(arguments.account)
    acct = Genesis(
        server=ServerName(str(genesis.get("server"))),
        localpart=str(genesis.get("localpart")),
        created_ms=int(genesis.get("created_ms", 0)),
        nonce=str(genesis.get("nonce")),
        recovery_key=genesis.get("recovery_key"),
    ).acct()
    to = parse_user_id(arguments.to)
    if to is None:
        raise CommandFailed(f"--to: {arguments.to!r} is no user id, such as @alice:two.example")
    if genesis.get("recovery_key") != public_b64(key):
        raise CommandFailed(f"{arguments.key} is not the recovery key of the account {acct}")
    now_ms = int(time.time() * 1000)
    said = moves.claim(key, genesis, to_user_id=to, to_acct=Acct(arguments.to_acct), issued_ms=now_ms)
    come_from = f"@{genesis.get('localpart')}:{genesis.get('server')}"
    print(json.dumps({"from": come_from, "claim": said}, indent=1))
    return 0


def _password(arguments: argparse.Namespace, user_id: str) -> str:
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\n")
    return getpass.getpass(f"Password of {user_id}: ")


def _localpart(user_id: str) -> str:
    if parse_user_id(user_id) is None:
        raise CommandFailed(f"{user_id!r} is no user id, such as @alice:one.example")
    return user_id[1:].partition(":")[0]


def _check(client: MatrixClient, user_id: str) -> None:
    found = client.whoami()
    if found != user_id:
        raise CommandFailed(f"this homeserver knows you as {found}, not as {user_id}; nothing was moved")


def _read_key(path: Path) -> SigningKey:
    try:
        return generate_key(from_b64(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError) as error:
        raise CommandFailed(f"--key: {path} holds no recovery key ({type(error).__name__})") from None


def _read_genesis(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        genesis: Any = found.get("genesis", found)
    except (OSError, ValueError, AttributeError) as error:
        raise CommandFailed(f"--account: {path} cannot be read ({type(error).__name__})") from None
    if not isinstance(genesis, dict):
        raise CommandFailed(f"--account: {path} has no genesis; it is what GET account answered")
    return cast(dict[str, Any], genesis)
