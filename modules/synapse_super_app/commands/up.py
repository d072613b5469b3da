"""``super-app up``: check, prepare and run one homeserver in the foreground."""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from super_app.names import CLIENT_API_PREFIX, WEB_PREFIX
from synapse_super_app.commands import config_checks, data_folder, homeserver_config, start_checks, workers
from synapse_super_app.commands.config_checks import Weight
from synapse_super_app.commands.console import (
    CommandFailed,
    Commands,
    Stopped,
    program,
    relative,
    say,
    stoppable,
)
from synapse_super_app.commands.homeserver_config import DEFAULT_PATH, HomeserverConfig
from synapse_super_app.commands.homeserver_process import Homeserver, HomeserverDied
from synapse_super_app.commands.postgres import PostgresError
from synapse_super_app.commands.redis import RedisError
from synapse_super_app.config import Config

_CONSOLE: Final = "console.log"
_COPY: Final = "homeserver.yaml"


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "up",
        help="run a homeserver",
        description="Check the config, make what the first start needs, and run the homeserver in the foreground.",
    )
    homeserver_config.add_option(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep what the config keeps under data/ in DIR")
    parser.add_argument("--port", type=int, metavar="N", help="serve clients on this port")
    parser.add_argument("--server-name", metavar="NAME", help="be this homeserver; fixed at the first start")
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, workers.WORKERS_MAX + 1),
        metavar="N",
        help="run as many generic workers, and what belongs to them, on this machine",
    )
    parser.add_argument("--check", action="store_true", help="only check the config and its database; start nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        with stoppable():
            _up(arguments)
    except Stopped as stopped:
        say(f"stopped   ({stopped.signal_name})")
    except (PostgresError, RedisError) as missing:
        raise CommandFailed(str(missing)) from None
    return 0


def _up(arguments: argparse.Namespace) -> None:
    config = homeserver_config.given(arguments)
    overrides = (arguments.data, arguments.port, arguments.server_name)
    if overrides != (None, None, None):
        data = None if arguments.data is None else arguments.data.absolute()
        config = homeserver_config.overridden(config, data=data, port=arguments.port, server_name=arguments.server_name)
    say(f"config    {relative(config.path)}")
    module = _check(config)
    if arguments.check:
        start_checks.check_databases(config)
        say("checked   nothing to complain about; start it without --check")
        return
    folder = config.data_folder()
    data_folder.make_writable(folder)
    with data_folder.locked(folder):
        if arguments.workers is not None:
            _with_workers(config, module, folder, arguments.workers)
            return
        workers.refuse_one_process(config, folder)
        _prepare(config)
        if not config.is_one_file:
            config = homeserver_config.write_copy(config, folder / _COPY)
        _serve(config, module, folder)


def _prepare(config: HomeserverConfig) -> None:
    in_use = start_checks.check_databases(config)
    start_checks.check_ports(config)
    made = data_folder.prepare(config, has_accounts=in_use)
    if made:
        say(f"made      {', '.join(relative(path) for path in made)}")


def _with_workers(config: HomeserverConfig, module: Config, folder: Path, count: int) -> None:
    with workers.services(config, folder) as (served, redis):
        _prepare(served)
        redis.start()
        began_s = time.monotonic()
        try:
            homeserver = workers.WorkedHomeserver(
                served, count=count, folder=folder, redis=redis.socket_path, copy=folder / _COPY
            )
            with homeserver:
                told = f"Synapse and {len(homeserver.workers)} workers; their data and logs are in {relative(folder)}"
                say(f"starting  {told}")
                homeserver.start()
                say(f"ready     after {time.monotonic() - began_s:.1f} s")
                print(homeserver.told() + _next_steps(replace(served, path=folder / _COPY), module), flush=True)
                homeserver.watch(lambda name, how: say(f"replaced  {name}: {how}"))
        except (HomeserverDied, TimeoutError, OSError) as error:
            raise CommandFailed(str(error)) from None


def _check(config: HomeserverConfig) -> Config:
    found = config_checks.findings(config)
    refused = [finding.line for finding in found if finding.weight is Weight.REFUSE]
    for finding in found:
        if finding.weight is Weight.WARN:
            say(f"warning   {finding.line}")
    if refused:
        # One line each, so that an operator who mistyped twice corrects twice and starts once.
        raise CommandFailed("\n".join(refused))
    return config_checks.parsed_module_config(config)


def _serve(config: HomeserverConfig, module: Config, folder: Path) -> None:
    homeserver = Homeserver(
        config_path=config.path,
        client_url=config.client_url(),
        console_path=folder / _CONSOLE,
        folder=config.folder,
        expects_our_api=bool(module.features.enabled()),
    )
    say(f"starting  Synapse; it keeps its log and its data in {relative(folder)}")
    began_s = time.monotonic()
    try:
        with homeserver:
            homeserver.start()
            say(f"ready     after {time.monotonic() - began_s:.1f} s")
            print(_next_steps(config, module), flush=True)
            homeserver.wait()
            raise CommandFailed(homeserver.epitaph())
    except (HomeserverDied, TimeoutError) as error:
        raise CommandFailed(str(error)) from None


def _next_steps(config: HomeserverConfig, module: Config) -> str:
    url = config.client_url()
    command = program() + " register"
    if config.path != DEFAULT_PATH.absolute():
        command += f" --config {relative(config.path)}"
    lines = [
        "",
        f"The homeserver {config.content['server_name']} is running.",
        "",
        f"  Make an account   {command} alice",
        f"  Make an admin     {command} --admin operator",
        f"  Chat              in Element choose Sign in, Edit, and enter {url} as the homeserver;",
        "                    any other Matrix client asks for the same URL",
    ]
    if module.features.web:
        lines.append(f"  Web page          {url}{WEB_PREFIX}/")
    if module.features.enabled():
        lines.append(f"  API               {url}{CLIENT_API_PREFIX}/openapi.json")
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])
