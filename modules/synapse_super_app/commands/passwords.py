"""Where a command gets a password from: a terminal, a file, or standard input.

Never from the command line itself, which every user of the machine can read.
"""

import argparse
import getpass
import sys
from pathlib import Path

from synapse_super_app.commands.console import CommandFailed


def add_password_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="a file whose first line is the password")


def ask_once(arguments: argparse.Namespace) -> str:
    """A password that exists."""
    return _read(arguments, again=False)


def ask_for_new(arguments: argparse.Namespace) -> str:
    """A password that is being chosen, so a person types it twice."""
    return _read(arguments, again=True)


def _read(arguments: argparse.Namespace, *, again: bool) -> str:
    path: Path | None = arguments.password_file
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise CommandFailed(f"--password-file: cannot read {path}: {error.strerror}") from None
        password = lines[0] if lines else ""
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password for {arguments.name}: ")
        if again and password != getpass.getpass("The same again: "):
            raise CommandFailed("the two passwords differ; nothing was done, try again")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise CommandFailed("the password is empty; type one, or give a file whose first line it is (--password-file)")
    return password
