"""``super-app register``: make an account with the homeserver's registration secret."""

import argparse

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.admin_access import add_url_options, url_of
from synapse_super_app.commands.console import CommandFailed, Commands
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.matrix_client import MatrixClient
from synapse_super_app.commands.passwords import add_password_options, ask_for_new


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "register",
        help="make an account on a running homeserver",
        description="Make an account. The password is asked for, or read from standard input or a file.",
    )
    parser.add_argument("name", help="the part of the user id before the colon, such as alice; also the first handle")
    parser.add_argument("--admin", action="store_true", help="make the account a server admin")
    add_password_options(parser)
    add_url_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    config = homeserver_config.given(arguments)
    secret = _secret(config)
    with MatrixClient(url_of(arguments)) as client:
        session = client.register_with_secret(secret, arguments.name, ask_for_new(arguments), admin=arguments.admin)
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
