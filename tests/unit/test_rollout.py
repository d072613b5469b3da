"""For whom the modules act yet, as a file says that may change at any time."""

import os
from pathlib import Path

from synapse_super_app.config import RolloutConfig
from synapse_super_app.rollout import Rollout


def rollout(path: Path | None) -> Rollout:
    return Rollout(RolloutConfig(users_file=None if path is None else str(path)))


def test_without_a_file_everybody_is_in() -> None:
    assert rollout(None).includes("@anybody:example.org")
    assert rollout(None).is_for_everybody


def test_a_file_names_people_and_patterns(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text("# the first ones\n@alice:example.org  # she asked\n\n@staff-*:example.org\n", encoding="utf-8")
    found = rollout(path)
    assert found.includes("@alice:example.org")
    assert found.includes("@staff-7:example.org")
    for other in ("@alice:example.org.evil", "@bob:example.org", "@staff-7:elsewhere.org", "# the first ones", ""):
        assert not found.includes(other), other


def test_more_can_be_let_in_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text("@alice:example.org\n", encoding="utf-8")
    found = rollout(path)
    assert not found.includes("@bob:example.org")
    path.write_text("@alice:example.org\n@bob:example.org\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert found.includes("@bob:example.org")


def test_a_file_that_is_gone_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text("@*:example.org\n", encoding="utf-8")
    found = rollout(path)
    assert found.includes("@alice:example.org")
    path.unlink()
    assert not found.includes("@alice:example.org")
    path.write_bytes(b"@*:example.org\n\xff")
    assert not found.includes("@alice:example.org")


def test_brackets_in_a_pattern_mean_themselves(tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text("@a*:[::1]\n@question?mark*:example.org\n", encoding="utf-8")
    found = rollout(path)
    assert found.includes("@alice:[::1]")
    assert not found.includes("@questionXmark1:example.org")
