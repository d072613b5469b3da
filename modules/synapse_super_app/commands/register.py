"""``super-app register``: make an account with the homeserver's registration secret."""

import argparse
import getpass
import sys
from pathlib import Path

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.homeserver_config import DEFAULT_PATH, HomeserverConfig
from synapse_super_app.commands.matrix_client import MatrixClient


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "register",
        help="make an account on a running homeserver",
        description="Make an account. The password is asked for, or read from standard input or a file.",
    )
    parser.add_argument("name", help="the part of the user id before the colon, such as alice; also the first handle")
    parser.add_argument("--admin", action="store_true", help="make the account a server admin")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="a file whose first line is the password")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help="default: homeserver.yaml")
    parser.add_argument("--url", help="the homeserver; default: its listener for clients, from the config")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    config = homeserver_config.load(arguments.config.absolute())
    secret = _secret(config)
    with MatrixClient(arguments.url or config.client_url()) as client:
        session = client.register_with_secret(secret, arguments.name, _password(arguments), admin=arguments.admin)
    print(f"{session.user_id} can sign in now." + (" It is a server admin." if arguments.admin else ""))
    return 0


def _secret(config: HomeserverConfig) -> str:
    key = "registration_shared_secret_path"
    inline = config.content.get("registration_shared_secret")
    if isinstance(inline, str) and inline:
        return inline
    path = config.path_at(key)
    if path is None:
        raise CommandFailed(f"{key}: not set in {config.path}; write {key}: data/registration_secret and restart")
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CommandFailed(f"{key}: there is no {path}; the homeserver makes it at its first start") from None
    except OSError as error:
        raise CommandFailed(f"{key}: cannot read {path}: {error.strerror}; run this as the homeserver's user") from None


def _password(arguments: argparse.Namespace) -> str:
    if arguments.password_file is not None:
        try:
            lines = arguments.password_file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise CommandFailed(f"--password-file: cannot read {arguments.password_file}: {error.strerror}") from None
        password = lines[0] if lines else ""
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password for {arguments.name}: ")
        if password != getpass.getpass("The same again: "):
            raise CommandFailed("the two passwords differ; nothing was done, try again")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise CommandFailed("the password is empty; type one, or give a file whose first line it is (--password-file)")
    return password
