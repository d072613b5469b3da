"""The tree of RFC 6962: known roots, and proofs that verify exactly what they prove."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.transparency.tree import (
    EMPTY_ROOT,
    Node,
    batch_parts,
    consistency_parts,
    fold,
    frontier,
    inclusion_parts,
    leaf_hash,
    root_of,
    verify_batch,
    verify_consistency,
    verify_inclusion,
)

# The tree of eight leaves that implementations of RFC 6962 are checked with.
LEAVES = [
    leaf_hash(bytes.fromhex(leaf))
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
MANY = [hashlib.sha256(str(number).encode()).digest() for number in range(130)]
OTHER = hashlib.sha256(b"another").digest()


def hash_in(leaves: list[bytes], node: Node) -> bytes:
    return root_of(leaves[node.number << node.level : (node.number + 1) << node.level])


def inclusion(index: int, size: int) -> list[bytes]:
    return [fold(part, lambda node: hash_in(MANY, node)) for part in inclusion_parts(index, size)]


def consistency(old_size: int, size: int) -> list[bytes]:
    return [fold(part, lambda node: hash_in(MANY, node)) for part in consistency_parts(old_size, size)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_known_ones(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]
    assert fold(frontier(size), lambda node: hash_in(LEAVES, node)).hex() == ROOTS[size]


def test_the_proofs_of_rfc_6962_section_2_1_3_have_its_nodes() -> None:
    # Its example has seven leaves, and names the nodes a to l.
    assert inclusion_parts(0, 7) == ((Node(0, 1),), (Node(1, 1),), (Node(1, 2), Node(0, 6)))
    assert inclusion_parts(3, 7) == ((Node(0, 2),), (Node(1, 0),), (Node(1, 2), Node(0, 6)))
    assert inclusion_parts(4, 7) == ((Node(0, 5),), (Node(0, 6),), (Node(2, 0),))
    assert inclusion_parts(6, 7) == ((Node(1, 2),), (Node(2, 0),))
    assert consistency_parts(3, 7) == ((Node(0, 2),), (Node(0, 3),), (Node(1, 0),), (Node(1, 2), Node(0, 6)))
    assert consistency_parts(4, 7) == ((Node(1, 2), Node(0, 6)),)
    assert consistency_parts(6, 7) == ((Node(1, 2),), (Node(0, 6),), (Node(2, 0),))


@given(size=st.integers(1, 130), data=st.data())
def test_every_leaf_is_proved_and_no_other_leaf_place_size_or_root(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root, proof = root_of(MANY[:size]), inclusion(index, size)
    assert verify_inclusion(MANY[index], index, size, proof, root)
    assert not verify_inclusion(OTHER, index, size, proof, root)
    assert not verify_inclusion(MANY[index], index, size, proof, OTHER)
    assert not verify_inclusion(MANY[index], index, size, [*proof, OTHER], root)
    other = data.draw(st.integers(0, size + 2).filter(lambda each: each != index))
    assert not verify_inclusion(MANY[index], other, size, proof, root)
    for at in range(len(proof)):
        assert not verify_inclusion(MANY[index], index, size, [*proof[:at], OTHER, *proof[at + 1 :]], root)
        assert not verify_inclusion(MANY[index], index, size, proof[:at] + proof[at + 1 :], root)


@given(size=st.integers(0, 130), data=st.data())
def test_every_beginning_is_proved_and_no_other_tree_is_one(size: int, data: st.DataObject) -> None:
    old_size = data.draw(st.integers(0, size))
    old_root, root, proof = root_of(MANY[:old_size]), root_of(MANY[:size]), consistency(old_size, size)
    assert verify_consistency(old_size, old_root, size, root, proof)
    assert not verify_consistency(old_size, OTHER, size, root, proof)
    if old_size > 0:
        assert not verify_consistency(old_size, old_root, size, OTHER, proof)
    assert not verify_consistency(old_size, old_root, size, root, [*proof, OTHER])
    for at in range(len(proof)):
        assert not verify_consistency(old_size, old_root, size, root, [*proof[:at], OTHER, *proof[at + 1 :]])
        assert not verify_consistency(old_size, old_root, size, root, proof[:at] + proof[at + 1 :])


def batch(indexes: list[int], size: int) -> list[bytes]:
    return [fold(part, lambda node: hash_in(MANY, node)) for part in batch_parts(indexes, size)]


@given(size=st.integers(0, 130), data=st.data())
def test_several_leaves_are_proved_at_once_and_no_other_ones(size: int, data: st.DataObject) -> None:
    indexes = sorted(data.draw(st.sets(st.integers(0, size - 1)))) if size else []
    leaves, root, proof = {index: MANY[index] for index in indexes}, root_of(MANY[:size]), batch(indexes, size)
    assert verify_batch(leaves, size, proof, root)
    assert not verify_batch(leaves, size, [*proof, OTHER], root)
    assert not verify_batch(leaves, size, proof, OTHER)
    for index in indexes:
        assert not verify_batch({**leaves, index: OTHER}, size, proof, root)
        assert not verify_batch({each: leaf for each, leaf in leaves.items() if each != index}, size, proof, root)
    for at in range(len(proof)):
        assert not verify_batch(leaves, size, [*proof[:at], OTHER, *proof[at + 1 :]], root)
        assert not verify_batch(leaves, size, proof[:at] + proof[at + 1 :], root)


def test_a_proof_of_one_leaf_has_the_hashes_of_its_inclusion_proof() -> None:
    for size in range(1, 40):
        for index in range(size):
            assert sorted(batch([index], size)) == sorted(inclusion(index, size))


def test_neighbours_need_few_hashes_and_leaves_outside_the_tree_none() -> None:
    assert len(batch(list(range(100)), 130)) <= 7
    with pytest.raises(ValueError, match="leaves 3 to 7 are not in a tree of 7"):
        batch([3, 7], 7)
    with pytest.raises(ValueError, match="ascend"):
        batch([3, 3], 7)
    assert not verify_batch({7: MANY[7]}, 7, [], root_of(MANY[:7]))
    assert not verify_batch({-1: MANY[7]}, 7, [], root_of(MANY[:7]))
    assert not verify_batch({0: MANY[7]}, 1 << 80, [], root_of(MANY[:7]))


def test_a_tree_with_one_leaf_changed_is_not_consistent() -> None:
    for size in range(2, 40):
        for old_size in range(1, size):
            changed = [*MANY[: old_size - 1], OTHER, *MANY[old_size:size]]
            assert not verify_consistency(
                old_size, root_of(changed[:old_size]), size, root_of(MANY[:size]), consistency(old_size, size)
            )


def test_hashes_of_another_length_prove_nothing() -> None:
    assert not verify_inclusion(MANY[0], 0, 2, [MANY[1][:31]], root_of(MANY[:2]))
    assert not verify_consistency(1, MANY[0], 2, root_of(MANY[:2]), [MANY[1] + b"\0"])


def test_the_empty_tree_is_the_beginning_of_every_tree_and_needs_no_proof() -> None:
    assert verify_consistency(0, EMPTY_ROOT, 7, root_of(MANY[:7]), [])
    assert not verify_consistency(0, MANY[0], 7, root_of(MANY[:7]), [])
    assert not verify_consistency(8, root_of(MANY[:8]), 7, root_of(MANY[:7]), [])


def test_there_is_no_proof_of_what_is_not_in_the_tree() -> None:
    with pytest.raises(ValueError, match="leaf 7 is not in a tree of 7"):
        inclusion_parts(7, 7)
    with pytest.raises(ValueError, match="a tree of 7 does not begin with one of 8"):
        consistency_parts(8, 7)
