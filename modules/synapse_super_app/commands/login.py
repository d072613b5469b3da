"""``super-app login``: sign in, and keep the access token in a file for the commands that need one."""

import argparse
import os
from pathlib import Path

from synapse_super_app.commands.admin_access import add_url_options, url_of
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.matrix_client import MatrixClient
from synapse_super_app.commands.passwords import add_password_options, ask_once


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "login",
        help="write an access token to a file",
        description="Sign in with a password and write the access token to a file that only its owner can read.",
    )
    parser.add_argument("name", help="the part of the user id before the colon, or the whole user id")
    parser.add_argument("--token-file", type=Path, required=True, metavar="FILE", help="made, or written anew")
    add_password_options(parser)
    add_url_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.token_file
    with MatrixClient(url_of(arguments)) as client:
        session = client.login(arguments.name, ask_once(arguments))
    try:
        # Removed first, so that a file which others can read does not become the token's.
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise CommandFailed(f"--token-file: cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(session.access_token + "\n")
    print(f"{path} holds an access token of {session.user_id}.")
    return 0
