"""``super-app lay-out``: write what the processes of a homeserver read where each is a machine or container of its own.

It starts nothing. docker-compose.yml runs it before the homeserver; on several machines it runs once, where all of them
can read the folder. What it finds it keeps: keys and secrets are made at the first time only.
"""

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from synapse_super_app.commands import config_checks, data_folder, homeserver_config, start_checks
from synapse_super_app.commands.config_checks import Weight
from synapse_super_app.commands.console import CommandFailed, Commands, relative, say
from synapse_super_app.commands.homeserver_config import MODULE, HomeserverConfig
from synapse_super_app.commands.homeserver_process import write_config
from synapse_super_app.commands.workers import LEDGER, PERSISTER, SENDER, WORKERS_MAX

_NAME: Final = "SERVER_NAME"
"""What stands for the server name in a config that is written before it is known."""
MAIN: Final = "homeserver"
CLIENTS_PORT: Final = 8008
REPLICATION_PORT: Final = 9093
METRICS_PORT: Final = 9000
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - each process has a network address of its own, and nobody else comes to it
_WITH_REPLICATION: Final = (PERSISTER, LEDGER)


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "lay-out",
        help="write the configs of a homeserver with workers",
        description="Write the configs, keys and secrets of a homeserver of many processes, and start nothing.",
    )
    homeserver_config.add_option(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="where all processes read them")
    parser.add_argument("--server-name", required=True, metavar="NAME", help="be this homeserver")
    parser.add_argument("--workers", type=int, choices=range(1, WORKERS_MAX + 1), default=2, metavar="N")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    data: Path = arguments.data.absolute()
    read = homeserver_config.given(arguments)
    named = replace(read, content=cast(Mapping[str, Any], with_name(read.content, arguments.server_name)))
    config = homeserver_config.overridden(named, data=data, server_name=arguments.server_name)
    refused = [each.line for each in config_checks.findings(config) if each.weight is Weight.REFUSE]
    if refused:
        raise CommandFailed("\n".join(refused))
    if config.sqlite_files():
        raise CommandFailed("database: SQLite serves one process only; write the database of a PostgreSQL server there")
    data_folder.make_writable(data)
    with data_folder.locked(data):
        made = data_folder.prepare(config, has_accounts=start_checks.check_databases(config))
        made += write_all(config, data, arguments.workers)
    say(f"wrote     {', '.join(relative(path) for path in made)}")
    return 0


def with_name(value: object, server_name: str) -> object:
    """The config with the server name where it says so."""
    match value:
        case dict():
            return {key: with_name(item, server_name) for key, item in cast(dict[str, object], value).items()}
        case list():
            return [with_name(item, server_name) for item in cast(list[object], value)]
        case str():
            return value.replace(_NAME, server_name)
        case _:
            return value


def write_all(config: HomeserverConfig, folder: Path, count: int) -> list[Path]:
    """One config for each process, by its name, and how each logs: to its output, as container engines want it."""
    secret = folder / "replication_secret"
    if not secret.exists():
        data_folder.write_private(secret, secrets.token_urlsafe(48) + "\n")
    log = folder / "log.console.yaml"
    log.write_text(_LOG, encoding="utf-8")
    names = [MAIN, *(f"worker{number}" for number in range(1, count + 1)), SENDER, PERSISTER, LEDGER]
    made: list[Path] = []
    for name in names:
        path = folder / f"{name}.yaml"
        copy = homeserver_config.write_copy(
            replace(config, content=content_of(config, name, secret, log), is_one_file=False), path
        )
        write_config(path, copy.content)
        made.append(path)
    return made


def content_of(config: HomeserverConfig, name: str, secret: Path, log: Path) -> dict[str, Any]:
    """The whole config of one process."""
    workers: dict[str, Any] = {
        "worker_replication_secret_path": str(secret),
        "instance_map": {
            "main": {"host": MAIN, "port": REPLICATION_PORT},
            **{each: {"host": each, "port": REPLICATION_PORT} for each in _WITH_REPLICATION},
        },
        "federation_sender_instances": [SENDER],
        "stream_writers": {"events": [PERSISTER]},
        "enable_metrics": True,
        "log_config": str(log),
        "modules": [_with_writers(entry) for entry in config.content["modules"]],
    }
    is_main = name == MAIN
    serves = is_main or name.startswith("worker")
    listeners = [_http(CLIENTS_PORT, *(["client", "federation"] if serves else ["health"]))]
    if is_main or name in _WITH_REPLICATION:
        listeners.append(_http(REPLICATION_PORT, "replication"))
    listeners.append({"port": METRICS_PORT, "type": "metrics", "bind_addresses": [_EVERYWHERE]})
    content = {**config.content, **workers, "listeners": listeners if is_main else []}
    if is_main:
        return content
    return {
        **content,
        "worker_app": "synapse.app.generic_worker",
        "worker_name": name,
        "worker_listeners": listeners,
        "worker_log_config": str(log),
    }


def _http(port: int, *names: str) -> dict[str, Any]:
    return {
        "port": port,
        "type": "http",
        "bind_addresses": [_EVERYWHERE],
        # The reverse proxy in front sets X-Forwarded-For; nobody else reaches these ports.
        "x_forwarded": True,
        "resources": [{"names": list(names)}],
    }


def _with_writers(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("module") != MODULE:
        return dict(entry)
    module = dict(entry.get("config") or {})
    return {
        **entry,
        "config": {**module, "payments": {**(module.get("payments") or {}), "ledger_writers": [LEDGER, "main"]}},
    }


_LOG: Final = """\
version: 1
disable_existing_loggers: false
formatters:
  structured:
    class: synapse.logging.TerseJsonFormatter
handlers:
  console:
    class: logging.StreamHandler
    formatter: structured
loggers:
  # DEBUG here would write access tokens into the log.
  synapse.storage.SQL:
    level: INFO
root:
  level: INFO
  handlers: [console]
"""
