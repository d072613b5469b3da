"""Tiles: a tree that grows in steps of any size has the tiles, roots and proofs of the whole."""

import hashlib
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.transparency.tiles import (
    Tile,
    border_of,
    bundle,
    grown,
    hashes,
    of_size,
    path_of,
    read_bundle,
    read_path,
    root,
)
from super_app.transparency.tree import (
    consistency_parts,
    inclusion_parts,
    root_of,
    verify_consistency,
    verify_inclusion,
)

MANY = [hashlib.sha256(str(number).encode()).digest() for number in range(70_000)]


class Kept:
    """A ``TileStore`` in memory."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def tiles(self, places: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        return {place: self.found[place] for place in places}

    def append(self, leaves: list[bytes]) -> None:
        self.found.update(grown(self.size, self.tiles(border_of(self.size)), leaves))
        self.size += len(leaves)


@pytest.fixture(scope="module")
def whole() -> Kept:
    kept = Kept()
    kept.append(MANY)
    return kept


@given(steps=st.lists(st.sampled_from([1, 2, 255, 256, 257, 700]), min_size=1, max_size=8))
def test_however_it_grows_the_tiles_are_the_same(steps: list[int]) -> None:
    by_steps, at_once = Kept(), Kept()
    for step in steps:
        by_steps.append(MANY[by_steps.size : by_steps.size + step])
    at_once.append(MANY[: by_steps.size])
    assert by_steps.found == at_once.found
    assert {
        (tile.level, tile.number): len(at_once.found[tile.level, tile.number]) // 32 for tile in of_size(at_once.size)
    } == {(tile.level, tile.number): tile.width for tile in of_size(at_once.size)}
    assert root(by_steps, by_steps.size) == root_of(MANY[: by_steps.size])


def test_a_tree_of_70_000_has_the_tiles_that_the_form_says(whole: Kept) -> None:
    assert of_size(70_000) == (Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1))
    assert of_size(256) == (Tile(0, 0, 256), Tile(1, 0, 1))
    assert sum(level == 0 for level, _ in whole.found) == 274
    assert sum(level == 1 for level, _ in whole.found) == 2


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 70_000])
def test_proofs_from_tiles_verify_for_every_earlier_size_too(whole: Kept, size: int) -> None:
    found = root(whole, size)
    assert found == root_of(MANY[:size])
    for index in sorted({0, size // 3, size - 1}):
        proof = hashes(whole, inclusion_parts(index, size))
        assert verify_inclusion(MANY[index], index, size, proof, found)
    for old_size in sorted({0, 1, size // 2, size - 1, size}):
        proof = hashes(whole, consistency_parts(old_size, size))
        assert verify_consistency(old_size, root_of(MANY[:old_size]), size, found, proof)


def test_what_is_not_stored_is_not_guessed() -> None:
    kept = Kept()
    kept.append(MANY[:10])
    with pytest.raises(ValueError, match="not in the tiles"):
        root(kept, 11)
    with pytest.raises(ValueError, match="has not the 10 hashes"):
        grown(10, {(0, 0): MANY[0]}, MANY[10:12])


@pytest.mark.parametrize(
    ("path", "tile", "entries"),
    [
        ("tile/0/x001/x234/067", Tile(0, 1_234_067), False),
        ("tile/0/000", Tile(0, 0), False),
        ("tile/2/x001/000.p/5", Tile(2, 1_000, 5), False),
        ("tile/63/000.p/255", Tile(63, 0, 255), False),
        ("tile/entries/x273/000.p/112", Tile(0, 273_000, 112), True),
    ],
)
def test_paths_are_read_and_written(path: str, tile: Tile, entries: bool) -> None:
    assert read_path(path) == (tile, entries)
    assert path_of(tile, entries=entries) == path


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000/",
        "tile/-1/000",
        "tile/0/\u0660\u0660\u0660",
        "tile/entries/000\n",
        "tile/0/../000",
    ],
)
def test_other_spellings_are_no_paths(path: str) -> None:
    assert read_path(path) is None


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_entries_come_out_of_their_bundle(entries: list[bytes]) -> None:
    written = bundle(entries)
    assert read_bundle(written) == entries
    if written and entries[-1]:
        assert read_bundle(written[:-1]) is None


def test_an_entry_has_a_greatest_length() -> None:
    assert read_bundle(bundle([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(ValueError, match="at most 65535 bytes"):
        bundle([b"x" * 65_536])
