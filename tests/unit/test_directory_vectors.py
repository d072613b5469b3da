"""The test vectors of docs/directory.md, against which others test their own implementation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from super_app.directory import records
from super_app.directory.model import Discover, Facts, Holding, Name, Origin, Record, State, Withdrawal
from super_app.errors import Refused
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import canonical, digest, generate_key, key_id_of, public_b64

SERVER = ServerName("hs1.test")
DOCUMENT = Path(__file__).parents[2] / "docs" / "directory.md"


@pytest.fixture(scope="module")
def vectors() -> list[dict[str, Any]]:
    blocks = DOCUMENT.read_text(encoding="utf-8").split("```json test-vector\n")[1:]
    return [json.loads(block.split("```")[0]) for block in blocks]


def test_the_documented_key_follows_from_its_seed(vectors: list[dict[str, Any]]) -> None:
    key = generate_key(bytes.fromhex(vectors[0]["seed"]))
    assert (public_b64(key), key_id_of(key)) == (vectors[0]["public_key"], vectors[0]["key_id"])


def test_the_documented_record_is_the_one_that_is_made_and_read(vectors: list[dict[str, Any]]) -> None:
    secret, documented, _ = vectors
    held = Holding(
        name=Name("alice"),
        acct=Acct(documented["acct"]),
        user_id=UserId(documented["user_id"]),
        origin=Origin.LOCALPART,
        state=State.ACTIVE,
        frozen_for=None,
        contested_by=None,
        discover=Discover.PUBLIC,
        chosen=True,
        primary=True,
        since_ms=documented["issued"],
        released_ms=None,
        seq=documented["seq"] - 1,
        digest=documented["prev"],
        record=None,
        renew_ms=0,
    )
    made = records.record(
        held,
        SERVER,
        Facts(msk=documented["msk"], services=documented["services"]),
        generate_key(bytes.fromhex(secret["seed"])),
        seq=documented["seq"],
        prev=documented["prev"],
        alias_of=None,
        issued_ms=documented["issued"],
    )
    assert made == documented
    assert canonical(documented).decode() == secret["canonical_record"]
    assert digest(documented) == secret["digest_of_record"]
    assert isinstance(records.read_record(documented, SERVER, secret["public_key"], documented["issued"]), Record)


def test_the_documented_withdrawal_is_the_one_that_is_made_and_read(vectors: list[dict[str, Any]]) -> None:
    secret, documented, gone = vectors
    key = generate_key(bytes.fromhex(secret["seed"]))
    assert records.withdrawal(Handle(documented["handle"]), gone["seq"], key, issued_ms=gone["issued"]) == gone
    read = records.read_feed_entry(gone, SERVER, secret["public_key"], gone["issued"])
    assert isinstance(read, Withdrawal)


def test_a_vector_that_is_changed_in_one_letter_does_not_verify(vectors: list[dict[str, Any]]) -> None:
    secret, documented, _ = vectors
    changed = {**documented, "user_id": "@alicf:hs1.test"}
    assert isinstance(records.read_record(changed, SERVER, secret["public_key"], documented["issued"]), Refused)


def test_the_tests_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text(encoding="utf-8").split("## What shows it")[1]))
    assert len(named) > 50
    sources = (path.read_text(encoding="utf-8") for path in (DOCUMENT.parents[1] / "tests").rglob("test_*.py"))
    there = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    assert named <= there, named - there
