"""The ``super-app`` command: which subcommands there are, and how a failure reaches the person."""

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final, cast

from synapse_super_app.commands import (
    archive,
    backup,
    demo,
    directory,
    dispute,
    doctor,
    handle,
    issue,
    lay_out,
    ledger,
    link,
    login,
    move,
    operations,
    recovery,
    register,
    restore,
    review,
    settle,
    statement,
    up,
    verify_gift,
    verify_receipt,
)
from synapse_super_app.commands.console import CommandFailed, say
from synapse_super_app.commands.matrix_client import MatrixError, UnreachableError

_COMMANDS: Final = (
    up,
    lay_out,
    doctor,
    demo,
    register,
    login,
    link,
    settle,
    issue,
    handle,
    directory,
    ledger,
    statement,
    dispute,
    review,
    archive,
    move,
    recovery,
    backup,
    restore,
    verify_gift,
    verify_receipt,
    operations,
)
_INTERRUPTED: Final = 130  # what a shell reports for SIGINT


def command_line() -> argparse.ArgumentParser:
    """What can be typed after ``super-app``."""
    parser = argparse.ArgumentParser(
        prog="super-app", description="Run a Matrix homeserver on which people find, call and pay each other."
    )
    parser.add_argument("--version", action="version", version=version("super-app-matrix"))
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code. 0 done, 1 it failed and said why, 2 the command line is wrong."""
    parsed = command_line().parse_args(arguments)
    run = cast(Callable[[argparse.Namespace], int], parsed.run)
    try:
        return run(parsed)
    except (CommandFailed, UnreachableError) as failure:
        for line in str(failure).splitlines():
            say(f"super-app: {line}")
    except MatrixError as refusal:
        say(f"super-app: {refusal.error} ({refusal.errcode})")
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 1
