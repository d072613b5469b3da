"""Tiles of the C2SP form (tlog-tiles): how a tree that grows is kept and served as files that never change.

A tile has up to 256 hashes that are neighbours on a level whose subtrees have ``256**level`` leaves. Full tiles are
final. Everything here is arithmetic on values; ``TileStore`` is what it asks of whoever keeps them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from super_app.transparency.tree import HASH_BYTES, Node, Part, fold, frontier, root_of

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
MAX_LEVEL: Final = 63
_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9]\d?)/(?P<index>(x\d{3}/)*\d{3})(\.p/(?P<width>[1-9]\d{0,2}))?", re.ASCII
)
MAX_ENTRY_BYTES: Final = (1 << 16) - 1
_LENGTH_BYTES: Final = 2


class Tile(NamedTuple):
    """Where a tile is: the ``number``-th of its level, with ``width`` hashes (1 to 256)."""

    level: int
    number: int
    width: int = WIDTH


class TileStore(Protocol):
    """Hashes of tiles by level and index, each as concatenated bytes; there may be more than is asked for."""

    def tiles(self, places: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]: ...


def of_size(size: int) -> tuple[Tile, ...]:
    """The tiles on the right border of a tree: on each level the last, as wide as it then is."""
    found: list[Tile] = []
    level, width = 0, size
    while width > 0:
        found.append(Tile(level, (width - 1) // WIDTH, (width - 1) % WIDTH + 1))
        level, width = level + 1, width // WIDTH
    return tuple(found)


def grown(size: int, border: Mapping[tuple[int, int], bytes], leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles that change when ``leaves`` (their hashes) are appended to a tree of ``size``.

    ``border`` has what is stored of the tiles that a tree of ``size`` ends with and that are not full.
    """
    changed: dict[tuple[int, int], bytes] = {}
    level, begin, fresh = 0, size, list(leaves)
    while fresh:
        above: list[bytes] = []
        place = begin
        while fresh:
            index, at = divmod(place, WIDTH)
            before = border[level, index][: at * HASH_BYTES] if at else b""
            if len(before) != at * HASH_BYTES:
                raise ValueError(f"tile {index} of level {level} has not the {at} hashes that a tree of {size} has")
            taken, fresh = fresh[: WIDTH - at], fresh[WIDTH - at :]
            tile = before + b"".join(taken)
            changed[level, index] = tile
            if len(tile) == WIDTH * HASH_BYTES:
                above.append(root_of(_split(tile)))
            place += len(taken)
        level, begin, fresh = level + 1, begin // WIDTH, above
    return changed


def border_of(size: int) -> tuple[tuple[int, int], ...]:
    """The places of the tiles that a tree of ``size`` ends with and that are not full: what ``grown`` needs."""
    return tuple((tile.level, tile.number) for tile in of_size(size) if tile.width < WIDTH)


def hashes(store: TileStore, parts: Iterable[Part]) -> list[bytes]:
    """The hashes of a proof (or of a root, by its frontier), from the tiles in which they are."""
    wanted = list(parts)
    stored = store.tiles(sorted({_place(node) for part in wanted for node in part}))
    return [fold(part, lambda node: _hash_in(stored, node)) for part in wanted]


def root(store: TileStore, size: int) -> bytes:
    return hashes(store, [frontier(size)])[0]


def _place(node: Node) -> tuple[int, int]:
    """In which tile a complete subtree is."""
    level, rest = divmod(node.level, HEIGHT)
    return level, node.number << rest >> HEIGHT


def _hash_in(stored: Mapping[tuple[int, int], bytes], node: Node) -> bytes:
    rest = node.level % HEIGHT
    begin = (node.number << rest) % WIDTH
    tile = stored[_place(node)]
    found = _split(tile[begin * HASH_BYTES : (begin + (1 << rest)) * HASH_BYTES])
    if len(found) != 1 << rest:
        raise ValueError(f"{node} is not in the tiles that are stored")
    return root_of(found)


def _split(tile: bytes) -> list[bytes]:
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


# Paths.


def path_of(tile: Tile, *, entries: bool = False) -> str:
    """``tile/0/x001/x234/067`` and the like; ``entries`` for the entries of a tile of level 0."""
    groups = [tile.number % 1000]
    rest = tile.number // 1000
    while rest:
        groups.append(rest % 1000)
        rest //= 1000
    names = [f"x{group:03}" for group in reversed(groups[1:])] + [f"{groups[0]:03}"]
    partial = "" if tile.width == WIDTH else f".p/{tile.width}"
    return f"tile/{'entries' if entries else tile.level}/{'/'.join(names)}{partial}"


def read_path(path: str) -> tuple[Tile, bool] | None:
    """The tile of a path and whether its entries are meant; None for a path that is none, or not its one spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    entries = match["level"] == "entries"
    tile = Tile(
        level=0 if entries else int(match["level"]),
        number=int(match["index"].replace("x", "").replace("/", "")),
        width=WIDTH if match["width"] is None else int(match["width"]),
    )
    one_spelling = path_of(tile, entries=entries) == path
    return (tile, entries) if one_spelling and tile.level <= MAX_LEVEL and tile.width <= WIDTH else None


# Entries.


def bundle(entries: Iterable[bytes]) -> bytes:
    """The entries of a tile, each after its length.

    Raises:
        ValueError: one is longer than 65 535 bytes.
    """
    written = bytearray()
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise ValueError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, not {len(entry)}")
        written += len(entry).to_bytes(_LENGTH_BYTES, "big") + entry
    return bytes(written)


def read_bundle(text: bytes) -> list[bytes] | None:
    """The entries of a bundle; None if it is cut short."""
    found: list[bytes] = []
    at = 0
    while at < len(text):
        length = int.from_bytes(text[at : at + _LENGTH_BYTES], "big")
        begin = at + _LENGTH_BYTES
        if begin + length > len(text):
            return None
        found.append(text[begin : begin + length])
        at = begin + length
    return found
