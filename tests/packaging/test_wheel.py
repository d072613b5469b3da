"""The wheel as a person installs it: built from the sdist, installed elsewhere, the sources out of reach."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = {"super_app": ROOT / "super_app", "synapse_super_app": ROOT / "modules" / "synapse_super_app"}

pytestmark = pytest.mark.timeout(120)


def build(source: Path, target: str, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it: from the unpacked sdist, which therefore has to be complete."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "--extract", "--file", str(sdist), "--directory", str(unpacked)], check=True)
    (source,) = unpacked.iterdir()
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel, and with the dependencies that this one has, but not our sources."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel],
        check=True,
        env=clean_environment(),
    )
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # A plain line in a .pth file adds a folder and does not read the .pth files in it, such as that of our sources.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}


def run_installed(installed: Path, folder: Path, *command: str) -> str:
    done = subprocess.run(
        [str(installed / "bin" / command[0]), *command[1:]],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shipped_files() -> Iterator[str]:
    """Every file of the two packages that git would commit, as a path in the wheel."""
    for name, folder in PACKAGES.items():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        for path in filter(None, listed.stdout.split("\0")):
            if (folder / path).exists():
                yield f"{name}/{path}"


def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {path for path in shipped_files() if path not in names} == set()


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        assert b"GNU AFFERO GENERAL PUBLIC LICENSE" in archive.read(licence)


def test_what_is_imported_is_declared() -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in requires("super-app-matrix") or []}
    providers = packages_distributions()
    undeclared: set[str] = set()
    for path in (path for folder in PACKAGES.values() for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = {alias.name.partition(".")[0] for alias in names}
                case ast.ImportFrom(module=str(module), level=0):
                    modules = {module.partition(".")[0]}
                case _:
                    continue
            for module in modules - PACKAGES.keys() - sys.stdlib_module_names:
                if declared.isdisjoint(map(canonicalize_name, providers.get(module, ["nobody"]))):
                    undeclared.add(f"{path.name} imports {module}")
    assert undeclared == set()


def test_the_installed_packages_do_not_come_from_the_sources(installed: Path, tmp_path: Path) -> None:
    places = run_installed(
        installed,
        tmp_path,
        "python",
        "-c",
        "import super_app, synapse_super_app; print(super_app.__file__, synapse_super_app.__file__)",
    )
    for place in places.split():
        assert Path(place).is_relative_to(installed)


def test_the_installed_module_reads_a_config(installed: Path, tmp_path: Path) -> None:
    mode = run_installed(
        installed,
        tmp_path,
        "python",
        "-c",
        "from synapse_super_app import SuperApp; print(SuperApp.parse_config({}).payments.mode)",
    )
    assert mode.strip() == "credits"


def test_the_installed_migrations_are_those_of_the_sources(installed: Path, tmp_path: Path) -> None:
    packages = sorted(f"super_app.{path.parent.name}" for path in PACKAGES["super_app"].glob("*/migrations"))
    assert "super_app.accounts" in packages
    counted = run_installed(
        installed,
        tmp_path,
        "python",
        "-c",
        "import json, sys; from super_app.db import Engine, migrations;"
        " print(json.dumps([[len(migrations.load(name, engine)) for engine in Engine] for name in sys.argv[1:]]))",
        *packages,
    )
    for name, (sqlite, postgresql) in zip(packages, json.loads(counted), strict=True):
        files = list((PACKAGES["super_app"] / name.partition(".")[2] / "migrations").glob("*.sql"))
        assert sqlite == len([path for path in files if ".postgresql." not in path.name])
        assert postgresql == len([path for path in files if ".sqlite." not in path.name])


def test_the_installed_command_says_what_it_can_do(installed: Path, tmp_path: Path) -> None:
    helped = run_installed(installed, tmp_path, "super-app", "--help")
    assert "up" in helped
    assert "demo" in helped
