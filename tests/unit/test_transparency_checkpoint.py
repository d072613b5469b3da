"""Checkpoints and cosignatures: the published example of the form, and what forgers would try."""

from dataclasses import replace

import pytest
from nacl.signing import SigningKey

from super_app.transparency.checkpoint import (
    Checkpoint,
    Cosignature,
    Note,
    NoteSignature,
    cosign,
    cosignature_of,
    is_name,
    is_signed_by,
    read_checkpoint,
    read_note,
    sign,
)

# The example of the cosignature's specification.
EXAMPLE = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9"
    "nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5"
    "nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
NAME = "hs1.example/superapp/log"
KEY, OTHER = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
PUBLIC, OTHER_PUBLIC = bytes(KEY.verify_key), bytes(OTHER.verify_key)
CHECKPOINT = Checkpoint(origin=NAME, size=7, root=b"\7" * 32)


def signed() -> Note:
    text = CHECKPOINT.text()
    return Note(text=text, signatures=(sign(text, NAME, KEY), cosign(text, "hs2.example", OTHER, 1_700_000_000)))


def test_the_example_of_the_specification_is_read_and_written_byte_for_byte() -> None:
    note = read_note(EXAMPLE)
    assert note is not None
    assert note.dump() == EXAMPLE
    checkpoint = read_checkpoint(note)
    assert checkpoint is not None
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.text() == note.text
    assert [each.name for each in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]


def test_what_was_signed_verifies_after_the_way_over_the_wire() -> None:
    note = read_note(signed().dump())
    assert note is not None
    assert read_checkpoint(note) == CHECKPOINT
    assert is_signed_by(note, NAME, PUBLIC)
    assert cosignature_of(note, "hs2.example", OTHER_PUBLIC) == Cosignature(name="hs2.example", time_s=1_700_000_000)


@pytest.mark.parametrize(
    "forged",
    [
        replace(signed(), text=replace(CHECKPOINT, size=8).text()),
        replace(signed(), text=replace(CHECKPOINT, root=b"\x08" * 32).text()),
        replace(signed(), text=CHECKPOINT.text() + "another line\n"),
    ],
)
def test_a_changed_checkpoint_is_signed_by_nobody(forged: Note) -> None:
    assert not is_signed_by(forged, NAME, PUBLIC)
    assert cosignature_of(forged, "hs2.example", OTHER_PUBLIC) is None


def test_another_key_or_name_or_kind_does_not_count() -> None:
    note = signed()
    assert not is_signed_by(note, NAME, OTHER_PUBLIC)
    assert not is_signed_by(note, "hs9.example", PUBLIC)
    assert cosignature_of(note, NAME, PUBLIC) is None, "a log's signature is no cosignature"
    assert not is_signed_by(note, "hs2.example", OTHER_PUBLIC), "a cosignature is no signature of a log"


def test_a_false_line_under_the_right_name_and_key_spoils_the_note() -> None:
    right = sign(CHECKPOINT.text(), NAME, KEY)
    false = NoteSignature(name=NAME, value=right.value[:-1] + bytes([right.value[-1] ^ 1]))
    assert not is_signed_by(Note(text=CHECKPOINT.text(), signatures=(right, false)), NAME, PUBLIC)
    short = NoteSignature(name=NAME, value=right.value[:20])
    assert not is_signed_by(Note(text=CHECKPOINT.text(), signatures=(short,)), NAME, PUBLIC)


def test_the_time_of_a_cosignature_is_signed_with_it_and_the_newest_counts() -> None:
    text = CHECKPOINT.text()
    old, new = cosign(text, "w", OTHER, 5), cosign(text, "w", OTHER, 9)
    found = cosignature_of(Note(text=text, signatures=(old, new)), "w", OTHER_PUBLIC)
    assert found == Cosignature(name="w", time_s=9)
    moved = NoteSignature(name="w", value=old.value[:4] + (6).to_bytes(8, "big") + old.value[12:])
    assert cosignature_of(Note(text=text, signatures=(moved,)), "w", OTHER_PUBLIC) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature\n",
        "no signature\n\n",
        "text\n\n\u2014 name AAAAAAAA",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n\u2014 name\n",
        "text\n\n\u2014 na+me AAAAAAAA\n",
        "text\n\n\u2014 name AAAAA\n",
        "text\n\n\u2014 name AAAA\n",
        "text\n\n\u2014 name AAAAAAB=\n",
        "te\txt\n\n\u2014 name AAAAAAAA\n",
        "\n\n\u2014 name AAAAAAAA\n",
        "x" * 70_000 + "\n\n\u2014 name AAAAAAAA\n",
        "text\n\n" + "\u2014 name AAAAAAAA\n" * 101,
    ],
)
def test_what_is_no_note_is_not_read(text: str) -> None:
    assert read_note(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "origin\n7\n",
        "\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n07\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n-7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "origin\n7\nAAAA\n",
        "origin\n\u0667\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
    ],
)
def test_what_is_no_checkpoint_is_not_read(text: str) -> None:
    assert read_checkpoint(Note(text=text, signatures=())) is None


def test_names_on_signature_lines_have_no_space_and_no_plus() -> None:
    assert is_name("hs1.example:8448/superapp/log")
    assert not is_name("a b")
    assert not is_name("a+b")
    assert not is_name("")
