"""The Merkle tree of RFC 6962: hashes, roots, and proofs of inclusion and of consistency, made and verified.

A tree over many leaves is never in memory. What a root or a proof is made of is named as ``Node``: a complete subtree
of ``2**level`` leaves, the ``number``-th of its level. Whoever keeps the tree gives their hashes; see ``tiles``.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256().digest()
_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_MAX_SIZE: Final = 1 << 63


class Node(NamedTuple):
    """A complete subtree: leaves ``number * 2**level`` to ``(number + 1) * 2**level``, the end excluded."""

    level: int
    number: int


Part = tuple[Node, ...]
"""Neighbouring complete subtrees, larger ones to the left; their hashes folded from the right are one of a proof."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()


# Made.


def frontier(size: int) -> Part:
    """The complete subtrees that a tree of ``size`` leaves consists of, from the left."""
    return tuple(_cover(0, size))


def inclusion_parts(index: int, size: int) -> tuple[Part, ...]:
    """What the proof is made of that leaf ``index`` is in the tree of ``size``: from the leaf upwards."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    parts: list[Part] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            parts.append(tuple(_cover(middle, end)))
            end = middle
        else:
            parts.append(tuple(_cover(begin, middle)))
            begin = middle
    return tuple(reversed(parts))


def consistency_parts(old_size: int, size: int) -> tuple[Part, ...]:
    """What the proof is made of that the tree of ``old_size`` is the beginning of the one of ``size``."""
    if not 0 <= old_size <= size:
        raise ValueError(f"a tree of {size} does not begin with one of {old_size}")
    if old_size in (0, size):
        return ()
    parts: list[Part] = []
    begin, end = 0, size
    while old_size < end:
        middle = begin + _split(end - begin)
        if old_size <= middle:
            parts.append(tuple(_cover(middle, end)))
            end = middle
        else:
            parts.append(tuple(_cover(begin, middle)))
            begin = middle
    if begin > 0:
        # What is left on the right border of the old tree; on the left border it is the old root, which is known.
        parts.append(tuple(_cover(begin, end)))
    return tuple(reversed(parts))


def batch_parts(indexes: Sequence[int], size: int) -> tuple[Part, ...]:
    """What the one proof is made of that several leaves are in the tree of ``size``: what lies between, from the left.

    Raises:
        ValueError: they do not ascend, or are not all in the tree.
    """
    if any(later <= earlier for earlier, later in pairwise(indexes)):
        raise ValueError("the leaves of one proof ascend")
    if indexes and not 0 <= indexes[0] <= indexes[-1] < size:
        raise ValueError(f"leaves {indexes[0]} to {indexes[-1]} are not in a tree of {size}")
    return tuple(_between(indexes, 0, len(indexes), 0, size))


def _between(indexes: Sequence[int], first: int, last: int, begin: int, end: int) -> Iterator[Part]:
    """For leaves ``begin`` to ``end``, among which are ``indexes[first:last]``."""
    if first == last:
        if begin < end:
            yield tuple(_cover(begin, end))
        return
    if end - begin == 1:
        return
    middle = begin + _split(end - begin)
    here = bisect_left(indexes, middle, first, last)
    yield from _between(indexes, first, here, begin, middle)
    yield from _between(indexes, here, last, middle, end)


def fold(part: Part, hash_of: Callable[[Node], bytes]) -> bytes:
    """The hash of neighbouring complete subtrees; of none it is that of the empty tree."""
    if not part:
        return EMPTY_ROOT
    hashes = [hash_of(node) for node in part]
    folded = hashes.pop()
    while hashes:
        folded = node_hash(hashes.pop(), folded)
    return folded


# Verified, as RFC 9162 (2.1.3.2 and 2.1.4.2) puts it.


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf with hash ``leaf`` is number ``index`` in the tree of ``size`` leaves with ``root``."""
    if not 0 <= index < size or not _are_hashes(proof):
        return False
    place, last = index, size - 1
    found = leaf
    for each in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(each, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_batch(leaves: Mapping[int, bytes], size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether all these leaves (their hashes by index) are in the tree of ``size`` leaves with ``root``."""
    indexes = sorted(leaves)
    if not _are_hashes(proof) or (indexes and not 0 <= indexes[0] <= indexes[-1] < size) or not 0 <= size < _MAX_SIZE:
        return False
    left = list(reversed(proof))

    def found(first: int, last: int, begin: int, end: int) -> bytes | None:
        if first == last:
            return left.pop() if left else None
        if end - begin == 1:
            return leaves[begin]
        middle = begin + _split(end - begin)
        here = bisect_left(indexes, middle, first, last)
        lower = found(first, here, begin, middle)
        upper = None if lower is None else found(here, last, middle, end)
        return None if lower is None or upper is None else node_hash(lower, upper)

    if size == 0:
        return not proof and root == EMPTY_ROOT
    return found(0, len(indexes), 0, size) == root and not left


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of ``old_size`` with ``old_root`` is the beginning of the tree of ``size`` with ``root``."""
    if not 0 <= old_size <= size or not _are_hashes(proof):
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if old_size == size:
        return not proof and old_root == root
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_found = found = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old_found, found = node_hash(each, old_found), node_hash(each, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    return last == 0 and old_found == old_root and found == root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes that are all at hand."""
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        level, found = 0, leaf
        while stack and stack[-1][0] == level:
            found = node_hash(stack.pop()[1], found)
            level += 1
        stack.append((level, found))
    if not stack:
        return EMPTY_ROOT
    folded = stack.pop()[1]
    while stack:
        folded = node_hash(stack.pop()[1], folded)
    return folded


def _split(size: int) -> int:
    """The largest power of two below ``size``, which is 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _cover(begin: int, end: int) -> Iterator[Node]:
    """The complete subtrees that make up these leaves; ``begin`` is where a subtree of the tree begins."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield Node(level, begin >> level)
        begin += 1 << level


def _are_hashes(proof: Sequence[bytes]) -> bool:
    return all(len(each) == HASH_BYTES for each in proof)
