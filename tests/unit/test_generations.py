"""A declared restore: what makes it believable, and whose a name is across one."""

from dataclasses import replace
from typing import Any

import pytest

from super_app.directory import generations
from super_app.directory.generations import Begun, Generation
from super_app.directory.heads import Growth, SeenHead
from super_app.directory.model import DAY_MS, DirectoryKey
from super_app.errors import Reason
from super_app.ids import ServerName
from super_app.signing import generate_key, public_b64, signed, to_b64
from super_app.transparency import tree

KEY, OTHER = generate_key(b"\x01" * 32), generate_key(b"\x02" * 32)
SERVER = ServerName("hs1.test")
NOW = 1_700_000_000_000
LEAVES = [tree.leaf_hash(bytes([number])) for number in range(8)]


def root_of(size: int) -> bytes:
    found = LEAVES[:size]
    while len(found) > 1:
        # Sizes here are powers of two, so the tree is full.
        found = [tree.node_hash(left, right) for left, right in zip(found[::2], found[1::2], strict=True)]
    return found[0]


def head(size: int, root: bytes, time_s: int) -> SeenHead:
    key = DirectoryKey(server=SERVER, key_id="", public_key=public_b64(KEY), certificate={})
    return SeenHead(server=SERVER, size=size, root=root, note="", time_s=time_s, key=key)


KNOWN = head(7, b"\x07" * 32, NOW // 1000 - 60)
FRESH = head(8, root_of(8), NOW // 1000)
GROWTH = Growth.model_validate(
    {
        "from": 4,
        "from_root": to_b64(root_of(4)),
        "consistency": [
            to_b64(tree.node_hash(tree.node_hash(LEAVES[4], LEAVES[5]), tree.node_hash(LEAVES[6], LEAVES[7])))
        ],
    }
)


def declared(**changes: Any) -> Generation:
    content = generations.statement(
        KEY,
        SERVER,
        number=1,
        base=(4, root_of(4)),
        base_s=NOW // 1000 - 600,
        declared_ms=NOW - 1_000,
        given_up=[(KNOWN.size, KNOWN.root)],
    )
    found = generations.read(content, SERVER, public_b64(KEY))
    assert found is not None
    return replace(found, **changes)


def test_a_restore_that_names_what_was_known_goes_on() -> None:
    assert generations.judge(declared(), KNOWN, FRESH, GROWTH, None, NOW) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"given_up": frozenset({(7, b"\x08" * 32)})},
        {"given_up": frozenset({(6, KNOWN.root)})},
        {"given_up": frozenset[tuple[int, bytes]]()},
        {"base_root": b"\x04" * 32},
        {"base_size": 8},
        {"base_s": KNOWN.time_s + 1},
    ],
    ids=str,
)
def test_anything_else_is_none(changes: dict[str, Any]) -> None:
    refused = generations.judge(declared(**changes), KNOWN, FRESH, GROWTH, None, NOW)
    assert refused is not None
    assert refused.reason is Reason.BAD_RECORD


def test_a_log_that_does_not_begin_with_the_backup_is_none() -> None:
    assert generations.judge(declared(), KNOWN, FRESH, Growth(), None, NOW) is not None


def test_generations_are_counted_and_rare() -> None:
    last = Begun(generation=declared(), before_note="", begun_ms=NOW)
    later = NOW + 30 * DAY_MS
    assert generations.judge(declared(), KNOWN, FRESH, GROWTH, last, later) is not None
    assert generations.judge(declared(number=2), KNOWN, FRESH, GROWTH, last, later - 1) is not None
    assert generations.judge(declared(number=2), KNOWN, FRESH, GROWTH, last, later) is None


def test_only_the_directory_key_of_that_server_declares_one() -> None:
    content = dict(declared().content)
    assert generations.read(content, SERVER, public_b64(OTHER)) is None
    assert generations.read(content, ServerName("hs2.test"), public_b64(KEY)) is None
    body = {name: value for name, value in content.items() if name not in ("key_id", "signature")}
    for wrong in ({"number": 0}, {"base": {"size": 4, "root": "no root"}}, {"v": 2}, {"declared": -1}):
        assert generations.read(signed({**body, **wrong}, KEY), SERVER, public_b64(KEY)) is None


def test_a_declaration_that_does_not_name_one_is_excused_for_a_week() -> None:
    assert generations.is_excused(NOW, NOW + 7 * DAY_MS - 1)
    assert not generations.is_excused(NOW, NOW + 7 * DAY_MS)
