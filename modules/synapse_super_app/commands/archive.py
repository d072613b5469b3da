"""``super-app archive``: write old entries of the journal to a file, check it, and let them leave the database.

The file is complete, checked and on the disk before the homeserver hears of it. Broken off anywhere, the same command
goes on where it was.
"""

import argparse
import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from super_app.errors import Refused
from super_app.ledger.archive_file import check_lines, header_line
from super_app.ledger.model import Stretch
from synapse_super_app.commands.admin_access import add_admin_options, admin, read_time
from synapse_super_app.commands.console import CommandFailed, Commands, Progress
from synapse_super_app.commands.matrix_client import Json, MatrixClient

_PAGE: Final = 1_000


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "archive",
        help="write old entries of the ledger to a file",
        description=(
            "Write all entries from before a time to a file, at most a million, and let them leave the database. The "
            "file proves itself and is yours to keep: without it, old statements are gone."
        ),
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--before", metavar="TIME", help="such as 2026-01-01, in UTC")
    what.add_argument("--check", type=Path, metavar="FILE", help="only check an archive, without a homeserver")
    what.add_argument("--list", action="store_true", help="only show the archives that there are")
    parser.add_argument("--to", type=Path, metavar="FILE", help="the file to write; it must not exist")
    parser.add_argument("--copy", action="store_true", help="only write the file, for an audit; the entries stay here")
    parser.add_argument("--reason", help="why, for the operators' log")
    add_admin_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.check is not None:
        return check(arguments.check)
    with admin(arguments) as client:
        archives = cast(list[Json], client.superapp("GET", "admin/archives")["archives"])
        if arguments.list:
            return _list(archives)
        return _archive(client, archives, arguments)


def check(path: Path) -> int:
    stretch = _checked(path)
    print(f"{path} is whole: entries {stretch.after_seq + 1} to {stretch.through_seq}, which ends with")
    print(f"  {stretch.entry_hash}")
    print(f"and builds on {stretch.before_hash or 'nothing'}. Its SHA-256 is {_digest(path)}.")
    print("Compare both with super-app archive --list.")
    return 0


def _list(archives: list[Json]) -> int:
    if not archives:
        print("Nothing is archived.")
    for each in archives:
        print(f"entries {int(each['after_seq']) + 1} to {each['through_seq']}  {each['file_name']}")
        print(f"  ends with {each['hash']}, SHA-256 {each['file_digest']}")
    return 0


def _archive(client: MatrixClient, archives: list[Json], arguments: argparse.Namespace) -> int:
    path: Path | None = arguments.to
    reason: str | None = arguments.reason
    if path is None or not (reason or arguments.copy):
        raise CommandFailed("--before needs --to FILE, where the entries go, and --reason, why")
    if reason and not arguments.copy:
        for each in archives:
            if each["left"]:
                _record(client, each, reason)
    plan = client.superapp("GET", "admin/archive/plan", None, {"until_ts": read_time(arguments.before)})
    stretch = Stretch(
        after_seq=int(plan["after_seq"]),
        before_hash=str(plan["before_hash"]),
        through_seq=int(plan["through_seq"]),
        entry_hash=str(plan["hash"]),
        posted_ms=int(plan["posted_ts"]),
    )
    if path.exists():
        # Written whole by a run that was broken off before the homeserver heard of it, or it is something else.
        if _checked(path) != stretch:
            raise CommandFailed(f"{path} exists and holds other entries; name another file")
    else:
        _write(client, path, stretch)
    if arguments.copy or not reason:
        print(
            f"A copy of entries {stretch.after_seq + 1} to {stretch.through_seq} is in {path}; they stay here as well."
        )
        print(f"Its SHA-256 is {_digest(path)}. Whoever gets it checks it with super-app archive --check {path.name}.")
        return 0
    _record(client, {**plan, "file_name": path.name, "file_digest": _digest(path)}, reason)
    print(f"Entries {stretch.after_seq + 1} to {stretch.through_seq} are in {path} and no longer in the database.")
    print(f"Its SHA-256 is {_digest(path)}. Keep copies of it: old statements are only there.")
    return 0


def _write(client: MatrixClient, path: Path, stretch: Stretch) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    server = client.user_id.partition(":")[2]
    try:
        with Progress("entries written") as progress, part.open("x", encoding="utf-8", newline="\n") as file:
            part.chmod(0o600)
            file.write(header_line(server, stretch) + "\n")
            after = stretch.after_seq
            while after < stretch.through_seq:
                wanted = min(_PAGE, stretch.through_seq - after)
                page = client.superapp("GET", "admin/archive/lines", None, {"after": after, "limit": wanted})
                lines = cast(list[str], page["lines"])
                if not lines:
                    raise CommandFailed(
                        f"the homeserver gave no entry after {after}; run super-app verify-ledger --all"
                    )
                file.writelines(f"{line}\n" for line in lines)
                after += len(lines)
                progress.at(after - stretch.after_seq, stretch.through_seq - stretch.after_seq)
            file.flush()
            os.fsync(file.fileno())
        if _checked(part) != stretch:
            raise CommandFailed(f"{part} does not hold what the homeserver said; nothing was archived")
        part.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error}; nothing was archived") from None


def _record(client: MatrixClient, archive: Json, reason: str) -> None:
    names = ("after_seq", "before_hash", "through_seq", "hash", "posted_ts", "file_name", "file_digest")
    body = {**{name: archive[name] for name in names}, "reason": reason}
    of = int(archive["through_seq"]) - int(archive["after_seq"])
    with Progress("entries dropped from the database") as progress:
        while True:
            left = int(client.superapp("POST", "admin/archive", body)["left"])
            progress.at(of - left, of)
            if left == 0:
                return


def _checked(path: Path) -> Stretch:
    try:
        found = check_lines(_lines(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from None
    if isinstance(found, Refused):
        raise CommandFailed(f"{path}: {found.message}")
    return found


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
