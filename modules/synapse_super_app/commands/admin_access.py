"""How commands reach the admin API of a running homeserver: its URL, an admin's token, and amounts as people write."""

import argparse
import datetime as dt
import os
import re
from pathlib import Path
from typing import Final

from super_app.money import MAX_AMOUNT_MINOR
from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.matrix_client import MatrixClient

TOKEN_VARIABLE: Final = "SUPER_APP_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
_AMOUNT: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,8}))?")


def add_url_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the homeserver; default: its listener for clients, from the config")
    homeserver_config.add_option(parser)


def add_admin_options(parser: argparse.ArgumentParser) -> None:
    add_url_options(parser)
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"a server admin's access token, as super-app login writes it; default: the variable {TOKEN_VARIABLE}",
    )


def url_of(arguments: argparse.Namespace) -> str:
    url: str | None = arguments.url
    return url or homeserver_config.given(arguments).client_url()


def admin(arguments: argparse.Namespace) -> MatrixClient:
    """A client that is signed in as the token says."""
    client = MatrixClient(url_of(arguments), access_token=_token(arguments))
    client.user_id = client.whoami()
    return client


def _token(arguments: argparse.Namespace) -> str:
    path: Path | None = arguments.token_file
    if path is not None:
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"--token-file: cannot read {path}: {error}") from None
    else:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise CommandFailed(
            f"no access token: make one with super-app login NAME --token-file FILE, and give that file with "
            f"--token-file or the token in {TOKEN_VARIABLE}"
        )
    return token


def person_of(client: MatrixClient, person: str) -> str:
    """The user id of whom the operator means: it, or its part before the colon."""
    return person if person.startswith("@") else f"@{person}:{client.user_id.partition(':')[2]}"


def read_time(text: str) -> int:
    """A day or a moment, in UTC unless it says otherwise, in milliseconds since 1970.

    Raises:
        CommandFailed: it is neither, or before 1970.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"{text!r} is no time; write it as 2026-01-01 or 2026-01-01T12:00") from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    if moment.timestamp() < 0:
        raise CommandFailed(f"{text!r} is before 1970")
    return int(moment.timestamp() * 1000)


def scale_of(client: MatrixClient, currency: str) -> int:
    """How many decimals a currency of this homeserver has."""
    wallet = client.wallet()
    if currency not in wallet:
        raise CommandFailed(
            f"this homeserver does not pay in {currency!r}; it knows: {', '.join(sorted(wallet)) or 'nothing'}"
        )
    return int(wallet[currency]["scale"])


def minor_units(text: str, currency: str, scale: int) -> int:
    """``12.50`` of a currency with two decimals as 1250. No rounding, no grouping, a point before the decimals.

    Raises:
        CommandFailed: it is no such amount, or too large.
    """
    match = _AMOUNT.fullmatch(text)
    decimals = "" if match is None else match[2] or ""
    if match is None or len(decimals) > scale:
        example = f"12.{'50'.ljust(scale, '0')[:scale]}" if scale else "12"
        raise CommandFailed(f"{text!r} is no amount of {currency}, which has {scale} decimals; write it as {example}")
    amount_minor = int(match[1] + decimals.ljust(scale, "0"))
    if amount_minor > MAX_AMOUNT_MINOR:
        raise CommandFailed(f"{text} {currency} is more than can be held; the most is {MAX_AMOUNT_MINOR} minor units")
    return amount_minor
