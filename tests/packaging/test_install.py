"""tools/install, as far as it can be tried without a network: when it works, when it need not, what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What tools/install reads, in a folder of its own."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("tools", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def install(checkout: Path, what: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(checkout / "tools" / "install"), what],
        cwd=checkout.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def pretend_installed(checkout: Path, level: str) -> None:
    """Make .venv look as a run of tools/install leaves it."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    lock = f"requirements/{level}.txt"
    digest = subprocess.run(
        f"{{ pwd && cat requirements/installer.txt {lock} pyproject.toml; }} | sha256sum | cut -d' ' -f1",
        shell=True,
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    (checkout / ".venv" / "installed").write_text(f"{level} {digest.stdout}", encoding="utf-8")


def fake_python(folder: Path, version: str) -> Path:
    """A program that describes itself as tools/install asks it to, and can do nothing else."""
    path = folder / f"python-{version}"
    path.write_text(f"#!/bin/sh\necho {version} complete venv {path}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_without_a_python_it_says_which_it_needs(checkout: Path) -> None:
    done = install(checkout, "run", PYTHON="/nonexistent/python")
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr


def test_a_python_that_is_too_old_or_too_new_is_named(checkout: Path, tmp_path: Path) -> None:
    for version in ("3.10", "3.14"):
        done = install(checkout, "run", PYTHON=str(fake_python(tmp_path, version)))
        assert done.returncode == 1
        assert f"python-{version} ({version}, complete)" in done.stderr


@pytest.mark.parametrize(("installed", "asked"), [("run", "run"), ("dev", "dev"), ("dev", "run")])
def test_what_is_installed_is_not_installed_again(checkout: Path, installed: str, asked: str) -> None:
    pretend_installed(checkout, installed)
    # Any attempt to do something would stop at this Python.
    done = install(checkout, asked, PYTHON="/nonexistent/python")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/run.txt", "requirements/installer.txt"])
def test_a_changed_lock_is_installed(checkout: Path, changed: str) -> None:
    pretend_installed(checkout, "run")
    with (checkout / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    done = install(checkout, "run", PYTHON="/nonexistent/python")
    assert (done.returncode, "is needed" in done.stderr) == (1, True)


def test_tests_need_more_than_a_homeserver(checkout: Path) -> None:
    pretend_installed(checkout, "run")
    assert install(checkout, "dev", PYTHON="/nonexistent/python").returncode == 1


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Path) -> None:
    pretend_installed(checkout, "run")
    (checkout / ".venv" / "bin" / "python").unlink()
    assert install(checkout, "run", PYTHON="/nonexistent/python").returncode == 1


def test_anything_else_is_told_how_to_use_it(checkout: Path) -> None:
    done = install(checkout, "everything")
    assert (done.returncode, done.stderr) == (
        1,
        "super-app: usage: tools/install run|dev|postgresql|redis|coturn|chromium|nodejs|livekit\n",
    )
