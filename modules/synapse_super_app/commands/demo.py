"""``super-app demo``: two federated homeservers in the foreground, to look at and to test against."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from super_app.db import Engine
from super_app.names import CLIENT_API_PREFIX, WEB_PREFIX
from synapse_super_app.commands import data_folder, start_checks
from synapse_super_app.commands.console import CommandFailed, Commands, Stopped, relative, say, stoppable
from synapse_super_app.commands.demo_pair import MODULE_CONFIG, PORTS, DemoPair, PartDied
from synapse_super_app.commands.postgres import PostgresError

_WATCH_PAUSE_S: Final = 0.2
_DEFAULT_DATA: Final = Path("data/demo")
_DEFAULT_PORT_BASE: Final = 18008


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="run two federated homeservers with four people",
        description="Run two homeservers that federate on this machine, with people, handles, money and a link.",
    )
    parser.add_argument(
        "--data", type=Path, default=_DEFAULT_DATA, metavar="DIR", help=f"default: {_DEFAULT_DATA}; kept between runs"
    )
    parser.add_argument(
        "--port-base",
        type=int,
        default=_DEFAULT_PORT_BASE,
        metavar="N",
        help=f"the first of {PORTS} ports; default: {_DEFAULT_PORT_BASE}",
    )
    parser.add_argument("--database", type=Engine, choices=list(Engine), default=Engine.SQLITE, help="default: sqlite")
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="write all addresses and tokens here when ready"
    )
    parser.add_argument("--turn-uri", metavar="URI", help="a TURN server for calls, such as turn:127.0.0.1:3478")
    parser.add_argument("--turn-secret", type=Path, metavar="FILE", help="holds its static-auth-secret")
    parser.add_argument("--turn-cli", metavar="HOST:PORT", help="where that coturn takes commands")
    parser.add_argument("--turn-cli-password", type=Path, metavar="FILE", help="holds its cli-password")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    began_s = time.monotonic()
    data: Path = arguments.data.absolute()
    try:
        with stoppable():
            # Others may pass through, but not look: root's database server runs as another account. What is not theirs
            # to read is in folders of its own.
            data_folder.make_writable(data, mode=0o711)
            with data_folder.locked(data):
                _run(arguments, data, began_s)
    except Stopped as stopped:
        say(f"demo: stopped ({stopped.signal_name})")
    except (PartDied, PostgresError, TimeoutError) as failure:
        raise CommandFailed(f"{failure}\neverything of the demo is stopped; the logs are in {relative(data)}") from None
    return 0


def _run(arguments: argparse.Namespace, data: Path, began_s: float) -> None:
    ready_file: Path | None = arguments.ready_file
    if ready_file is not None:
        data_folder.make_writable(ready_file.absolute().parent)
        # It is there while the demo is ready. One that a killed demo left would tell a lie until we are.
        ready_file.unlink(missing_ok=True)
    _check_engine(data, arguments.database)
    for port in range(arguments.port_base, arguments.port_base + PORTS):
        start_checks.check_port(port, "127.0.0.1", remedy="choose others with --port-base N", key="--port-base")
    if bool(arguments.turn_uri) != bool(arguments.turn_secret):
        raise CommandFailed("--turn-uri and --turn-secret belong together: name the server and the file of its secret")
    if bool(arguments.turn_cli) != bool(arguments.turn_cli_password) or (arguments.turn_cli and not arguments.turn_uri):
        raise CommandFailed("--turn-cli and --turn-cli-password belong together, and to --turn-uri: name all or none")
    pair = DemoPair(
        data=data,
        port_base=arguments.port_base,
        engine=arguments.database,
        module_config=None if arguments.turn_uri is None else _with_turn(arguments),
        progress=lambda line: say(f"demo: {line}"),
    )
    try:
        with pair:
            if ready_file is not None:
                _write_atomically(ready_file, json.dumps(pair.ready(), indent=2) + "\n")
            say(f"demo: ready after {time.monotonic() - began_s:.1f} s")
            print(_welcome(pair), flush=True)
            while True:
                pair.check()
                time.sleep(_WATCH_PAUSE_S)
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _with_turn(arguments: argparse.Namespace) -> dict[str, Any]:
    calls = {
        **MODULE_CONFIG["calls"],
        "turn_uris": [arguments.turn_uri],
        "turn_secret_path": str(arguments.turn_secret.absolute()),
    }
    if arguments.turn_cli:
        calls["turn_cli"] = [arguments.turn_cli]
        calls["turn_cli_password_path"] = str(arguments.turn_cli_password.absolute())
    return {**MODULE_CONFIG, "calls": calls}


def _check_engine(data: Path, engine: Engine) -> None:
    """A folder that was made for one database is not to be continued on the other, as if everything were lost."""
    mark = data / "database"
    made_for = mark.read_text(encoding="ascii").strip() if mark.exists() else engine.value
    if made_for != engine.value:
        raise CommandFailed(f"--database: {relative(data)} was made for {made_for}; use that, or another --data DIR")
    mark.write_text(f"{engine.value}\n", encoding="ascii")


def _write_atomically(path: Path, text: str) -> None:
    """Whoever waits for the file finds all of it. It holds access tokens, so only its owner may read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(temporary).replace(path)


def _welcome(pair: DemoPair) -> str:
    alice, bob = pair.people["alice"], pair.people["bob"]
    lines = ["", "Two homeservers are running, each on its own and in touch with the other.", ""]
    for index, side in enumerate(pair.sides):
        lines.append(
            f"  {side.client_url}  (enter it in Element as the homeserver; web page {side.client_url}{WEB_PREFIX}/)"
        )
        lines += [
            f"    {person.name:<6} password {person.password:<11} handle {person.handle}"
            for person in pair.people.values()
            if person.homeserver == index
        ]
        lines.append("")
    api = f"{pair.sides[0].client_url}{CLIENT_API_PREFIX}"
    token = f"-H 'Authorization: Bearer {alice.access_token}'"
    order = json.dumps({"payment_id": os.urandom(16).hex(), "payee": bob.handle, "amount": 500, "currency": "EUR"})
    lines += [
        "Everyone has 100.00 EUR of play money. As alice, look into the wallet, and pay bob 5.00 EUR:",
        "",
        f"  curl {token} {api}/wallet",
        f"  curl {token} {api}/payments -d '{order}'",
        "",
        "Ctrl-C stops it all; what happened is kept for the next time.",
        "",
    ]
    return "\n".join(lines)
