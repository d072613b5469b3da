"""SQL of the homeserver's own log: its leaves, its tiles and its newest checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from super_app.db import Cursor, Row
from super_app.signing import from_b64, to_b64

_STEP: Final = 400
"""Rows are asked for so many at a time, below SQLite's limit of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """``size`` leaves were appended, ``tree_size`` of them are in the tiles and under ``root``, as ``note`` says."""

    size: int
    tree_size: int
    root: bytes
    note: str
    key_id: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """The leaf of a subject's newest record."""

    digest: str
    number: int
    salt: str


class Tiles:
    """``super_app.transparency.tiles.TileStore`` on the database."""

    def __init__(self, cur: Cursor) -> None:
        self._cur = cur

    def tiles(self, places: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        by_level: dict[int, list[int]] = {}
        for level, number in places:
            by_level.setdefault(level, []).append(number)
        found: dict[tuple[int, int], bytes] = {}
        for level, numbers in by_level.items():
            for at in range(0, len(numbers), _STEP):
                for number, hashes in _tiles_of(self._cur, level, numbers[at : at + _STEP]):
                    found[level, number] = hashes
        return found


def read(cur: Cursor) -> Log:
    cur.execute("SELECT size, tree_size, root, note, key_id, time_s FROM superapp_directory_log")
    row = _one(cur)
    return Log(
        size=_int(row[0]),
        tree_size=_int(row[1]),
        root=from_b64(str(row[2])),
        note=str(row[3]),
        key_id=str(row[4]),
        time_s=_int(row[5]),
    )


def lock(cur: Cursor) -> Log:
    """The log; until the transaction ends, nobody else appends or signs."""
    cur.execute("UPDATE superapp_directory_log SET size = size")
    return read(cur)


def append(cur: Cursor, entry: bytes) -> int:
    """Append a leaf; its number. Others wait until the transaction ends, so numbers have no gaps."""
    cur.execute("UPDATE superapp_directory_log SET size = size + 1")
    cur.execute(
        "INSERT INTO superapp_directory_leaf (number, entry) SELECT size - 1, ? FROM superapp_directory_log",
        (to_b64(entry),),
    )
    cur.execute("SELECT size - 1 FROM superapp_directory_log")
    return _int(_one(cur)[0])


def set_logged(cur: Cursor, subject: str, digest: str, number: int, salt: bytes) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_logged (subject, digest, number, salt) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (subject) DO UPDATE SET digest = excluded.digest, number = excluded.number, salt = excluded.salt",
        (subject, digest, number, to_b64(salt)),
    )


def logged(cur: Cursor, subjects: Sequence[str]) -> dict[str, Logged]:
    """The leaves of the newest records of some subjects; one that has none is left out."""
    found: dict[str, Logged] = {}
    for at in range(0, len(subjects), _STEP):
        asked = subjects[at : at + _STEP]
        cur.execute(
            "SELECT subject, digest, number, salt FROM superapp_directory_logged WHERE subject IN "
            + _marks(len(asked)),
            tuple(asked),
        )
        for row in cur.fetchall():
            found[str(row[0])] = Logged(digest=str(row[1]), number=_int(row[2]), salt=str(row[3]))
    return found


def entries(cur: Cursor, begin: int, end: int) -> list[bytes]:
    """Leaves ``begin`` to ``end``, the end excluded."""
    cur.execute(
        "SELECT entry FROM superapp_directory_leaf WHERE number >= ? AND number < ? ORDER BY number", (begin, end)
    )
    return [from_b64(str(row[0])) for row in cur.fetchall()]


def put_tiles(cur: Cursor, tiles: Mapping[tuple[int, int], bytes]) -> None:
    cur.execute_many(
        "INSERT INTO superapp_directory_tile (level, number, hashes) VALUES (?, ?, ?)"
        " ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
        [(level, number, to_b64(hashes)) for (level, number), hashes in sorted(tiles.items())],
    )


def set_checkpoint(cur: Cursor, log: Log) -> None:
    cur.execute(
        "UPDATE superapp_directory_log SET tree_size = ?, root = ?, note = ?, key_id = ?, time_s = ?",
        (log.tree_size, to_b64(log.root), log.note, log.key_id, log.time_s),
    )


def _tiles_of(cur: Cursor, level: int, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
    cur.execute(
        "SELECT number, hashes FROM superapp_directory_tile WHERE level = ? AND number IN " + _marks(len(numbers)),
        (level, *numbers),
    )
    return [(_int(row[0]), from_b64(str(row[1]))) for row in cur.fetchall()]


def _marks(count: int) -> LiteralString:
    marks: list[LiteralString] = ["?"] * count
    return "(" + ", ".join(marks) + ")"


def _one(cur: Cursor) -> Row:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("the log's row, which its migration makes, is missing")
    return row


def _int(value: object) -> int:
    return int(str(value))
