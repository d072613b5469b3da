"""Files of signing keys: made once, replaced without ever losing a key, whatever a crash leaves."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from synapse_super_app import key_files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "hs1.test:8448.superapp.payment.key"
    key_files.make_if_missing(found)
    return found


def test_a_key_is_made_once_and_for_its_owner_alone(path: Path) -> None:
    key = key_files.read(path)
    key_files.make_if_missing(path)
    assert key_files.read(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_key_that_is_replaced_is_kept(path: Path) -> None:
    first = key_files.read(path)
    second = key_files.replace(path)
    third = key_files.replace(path)
    assert key_files.read(path) == third
    assert set(map(bytes, key_files.read_retired(path))) == {bytes(first), bytes(second)}
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


def test_a_request_that_is_asked_again_replaces_nothing_more(path: Path) -> None:
    first = key_files.read(path)
    second = key_files.replace(path, "one")
    assert key_files.replace(path, "one") == second == key_files.read(path) != first
    third = key_files.replace(path, "other")
    assert third != second
    assert key_files.replace(path, "other") == third
    assert set(map(bytes, key_files.read_retired(path))) == {bytes(first), bytes(second)}
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("step", ["link", "replace"])
def test_a_request_whose_answer_a_crash_took_away_is_carried_out_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = key_files.read(path)

    def crash(*_: object, **__: object) -> None:
        raise OSError("the machine stops here")

    with monkeypatch.context() as patched:
        patched.setattr(Path if step == "replace" else os, step, crash)
        with pytest.raises(OSError, match="stops here"):
            key_files.replace(path, "one")
    after = key_files.replace(path, "one")
    assert key_files.replace(path, "one") == after != before
    assert key_files.read_retired(path) == (before,)


def test_the_retired_keys_of_another_file_are_not_ours(path: Path) -> None:
    other = path.with_name("hs1.test:8448.superapp.payment.key.old")
    key_files.make_if_missing(other)
    key_files.replace(other)
    assert key_files.read_retired(path) == ()


@pytest.mark.parametrize("step", ["link", "open", "replace"])
def test_a_crash_at_any_step_leaves_a_key_in_place_and_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = key_files.read(path)

    def crash(*_: object, **__: object) -> None:
        raise OSError("the machine stops here")

    with monkeypatch.context() as patched:
        patched.setattr(Path if step == "replace" else os, step, crash)
        with pytest.raises(OSError, match="stops here"):
            key_files.replace(path)
    assert key_files.read(path) == before
    after = key_files.replace(path)
    assert key_files.read(path) == after != before
    assert key_files.read_retired(path) == (before,)


def test_a_file_that_is_no_key_file_is_named(path: Path) -> None:
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"payment\.key is not a key file"):
        key_files.read(path)


def test_keys_that_are_replaced_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    """A key that was said to peers and then overwritten would leave links that nobody can sign for."""
    path = tmp_path / "one.example.superapp.payment.key"
    key_files.make_if_missing(path)
    together = Barrier(8)

    def replace(_: int) -> None:
        together.wait(timeout=60)
        key_files.replace(path)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(replace, range(8)))
    assert len({bytes(key) for key in (key_files.read(path), *key_files.read_retired(path))}) == 9
