"""The lock: complete, hashed, in step with pyproject.toml, and true to where it came from, which is nowhere."""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("installer", "run", "dev", "mutation", "image")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text_of(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")


def pinned(lock: str) -> dict[str, str]:
    entries = (Requirement(line.rstrip("\\ ")) for line in text_of(lock).splitlines() if re.match(r"[A-Za-z0-9]", line))
    return {canonicalize_name(entry.name): str(entry.specifier).removeprefix("==") for entry in entries}


def group(name: str) -> list[str]:
    found: list[str] = []
    for entry in PROJECT["dependency-groups"][name]:
        found += group(entry["include-group"]) if isinstance(entry, dict) else [entry]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_each_entry_has_one_version_and_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[a-z])", text_of(lock))[1:]
    assert len(entries) == len(pinned(lock)) > 0
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+ (; [^\\]+ )?\\\n", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("lock", LOCKS)
def test_no_registry_is_named(lock: str) -> None:
    assert "://" not in text_of(lock)
    assert "index-url" not in text_of(lock)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("run", [*PROJECT["project"]["dependencies"], *chain(*PROJECT["project"]["optional-dependencies"].values())]),
        ("run", group("build")),
        ("dev", [*PROJECT["project"]["dependencies"], *group("dev")]),
        ("mutation", group("mutation")),
        ("image", group("image")),
    ],
    ids=["homeserver", "build", "dev", "mutation", "image"],
)
def test_what_pyproject_asks_for_is_what_the_lock_gives(lock: str, wanted: list[str]) -> None:
    versions = pinned(lock)
    for requirement in map(Requirement, wanted):
        version = versions.get(canonicalize_name(requirement.name), "absent")
        assert version != "absent", f"{requirement} is not in requirements/{lock}.txt; run make lock"
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is locked; run make lock"


def test_what_is_tested_is_what_runs() -> None:
    run, dev, image = pinned("run"), pinned("dev"), pinned("image")
    assert run.items() <= dev.items()
    assert image.items() <= run.items()
    for name, version in pinned("mutation").items():
        assert dev.get(name, version) == version, name


def test_uv_is_the_one_that_was_asked_for() -> None:
    asked = (ROOT / "requirements" / "installer.in").read_text(encoding="utf-8").strip()
    assert asked == f"uv=={pinned('installer')['uv']}"
