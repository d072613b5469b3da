"""``super-app doctor``: look at a homeserver and what it stands on, and say in plain words what is wrong."""

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Final

from synapse_super_app.commands import config_checks, homeserver_config
from synapse_super_app.commands.admin_access import TOKEN_VARIABLE, add_admin_options, admin
from synapse_super_app.commands.checkup.findings import Finding, Verdict, unseen, worst
from synapse_super_app.commands.config_checks import Weight
from synapse_super_app.commands.console import CommandFailed, Commands, say
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.matrix_client import MatrixError, UnreachableError

_MARKS: Final = {Verdict.GOOD: "ok", Verdict.WARNING: "warning", Verdict.BAD: "WRONG", Verdict.UNSEEN: "not seen"}


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="find out what is wrong with a homeserver",
        description="Look at the config, its files and disk, the databases, the running homeserver, how clients "
        "and others reach it, TURN, LiveKit, links, books. It changes nothing. The exit code is 1 if something is bad.",
    )
    add_admin_options(parser)
    parser.add_argument("--json", action="store_true", help="a list of findings, for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    config = homeserver_config.given(arguments)
    found: list[Finding] = []
    for finding in _look(config, arguments):
        found.append(finding)
        if not arguments.json:
            _print(finding)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=1, ensure_ascii=False))
    else:
        _sum_up(found)
    return int(worst(found) is Verdict.BAD)


def _look(config: HomeserverConfig, arguments: argparse.Namespace) -> Iterator[Finding]:
    # They import Synapse, which takes seconds that the other commands need not spend.
    from synapse_super_app.commands.checkup import configuration, databases, federation, livekit, running, turn

    yield from configuration.look(config)
    if any(each.weight is Weight.REFUSE for each in config_checks.findings(config)):
        # What follows goes by the config.
        yield unseen("everything", "the rest was not looked at, since the config does not hold")
        return
    module = config_checks.parsed_module_config(config)
    yield from configuration.look_at_files(config, module)
    yield from databases.look(config)
    yield from running.look(arguments.url or config.client_url(), module)
    yield from running.look_at_public_url(config)
    yield from federation.look(config)
    yield from turn.look(config, module)
    yield from livekit.look(config, module)
    if arguments.token_file is None and not os.environ.get(TOKEN_VARIABLE):
        if module.features.payments:
            yield unseen(
                "books", "links and books were not looked at: that takes a server admin's token (--token-file)"
            )
        return
    try:
        with admin(arguments) as client:
            yield from running.look_inside(client, config, module)
    except (CommandFailed, MatrixError, UnreachableError) as failure:
        yield unseen("books", f"links and books cannot be looked at: {failure}")


def _print(finding: Finding) -> None:
    print(f"{_MARKS[finding.verdict]:<9} {finding.sentence}", flush=True)
    if finding.remedy:
        print(f"{'':<9}   {finding.remedy}", flush=True)


def _sum_up(found: list[Finding]) -> None:
    count = {verdict: sum(each.verdict is verdict for each in found) for verdict in Verdict}
    say(
        f"\n{count[Verdict.GOOD]} ok, {count[Verdict.WARNING]} warnings, {count[Verdict.BAD]} wrong, "
        f"{count[Verdict.UNSEEN]} not seen"
    )
