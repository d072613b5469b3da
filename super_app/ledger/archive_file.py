"""The file that holds archived entries, and its check without a database. Pure: lines in, verdict out.

The first line says what the file holds. Each other line is the canonical JSON list of one entry, byte for byte what
its hash was computed of, and the second element of it is the hash of the entry before. So whoever has the file checks
it with SHA-256 alone: line by line against the line before, the first against ``before_hash`` and the last against
``hash``, which stand in the database too.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final, cast

from super_app.errors import Reason, Refused
from super_app.ledger.model import Stretch

FORMAT: Final = "superapp-ledger-archive-1"
_ENTRY: Final = "superapp-entry-1"
_FIELDS: Final = 17


def header_line(server: str, stretch: Stretch) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "server": server,
            "after_seq": stretch.after_seq,
            "before_hash": stretch.before_hash,
            "through_seq": stretch.through_seq,
            "hash": stretch.entry_hash,
            "posted_ms": stretch.posted_ms,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def line_hash(line: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(line.encode()).digest())[:43].decode("ascii")


def check_lines(lines: Iterable[str]) -> Stretch | Refused:
    """Check a whole file, its lines without their ends. What it holds, or ARCHIVE_MISMATCH with where it is wrong.

    Besides the chain it checks that no entry is missing and that each balance follows from the one before of the same
    account, as far as that is in the file.
    """
    each = iter(lines)
    stretch = _read_header(next(each, ""))
    if stretch is None:
        return _mismatch(f"its first line is not that of a {FORMAT}")
    books: dict[tuple[object, ...], tuple[int, int]] = {}
    seq, before, posted_ms = stretch.after_seq, stretch.before_hash, 0
    for line in each:
        seq += 1
        content = _read_entry(line)
        if content is None:
            return _mismatch(f"entry {seq} cannot be read")
        if content[1] != before or content[2] != seq:
            return _mismatch(f"entry {seq} does not follow the line before")
        for leg, sign in ((content[5:9], -1), (content[9:13], 1)):
            owner, kind, prev_seq, after_minor = leg
            account = (content[4], owner, kind)
            expected_seq, balance_minor = books.get(account, (None, 0))
            known = expected_seq is not None or prev_seq == 0
            if expected_seq not in (None, prev_seq) or (prev_seq > stretch.after_seq and expected_seq is None):
                return _mismatch(f"entry {seq} leaves out an entry of {owner}")
            if known and balance_minor + sign * content[13] != after_minor:
                return _mismatch(f"entry {seq} does not add up for {owner}")
            books[account] = (seq, after_minor)
        before, posted_ms = line_hash(line), content[16]
    if (seq, before, posted_ms) != (stretch.through_seq, stretch.entry_hash, stretch.posted_ms):
        return _mismatch(f"it ends at entry {seq}, and not as its first line says")
    return stretch


def _read_header(line: str) -> Stretch | None:
    try:
        header = json.loads(line)
        if header["format"] != FORMAT:
            return None
        return Stretch(
            after_seq=int(header["after_seq"]),
            before_hash=str(header["before_hash"]),
            through_seq=int(header["through_seq"]),
            entry_hash=str(header["hash"]),
            posted_ms=int(header["posted_ms"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def _read_entry(line: str) -> list[Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, list):
        return None
    fields = cast(list[Any], content)
    if len(fields) != _FIELDS or fields[0] != _ENTRY:
        return None
    numbers = (2, 7, 8, 11, 12, 13, 16)
    return fields if all(type(fields[each]) is int for each in numbers) else None


def _mismatch(why: str) -> Refused:
    return Refused(
        reason=Reason.ARCHIVE_MISMATCH, message=f"The archive's file is damaged: {why}. Use another copy of it."
    )
