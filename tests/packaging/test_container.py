"""The container files, as far as they can be proved without a container engine."""

import shlex
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from synapse.config.homeserver import HomeServerConfig

from synapse_super_app.commands import config_checks, data_folder, homeserver_config
from synapse_super_app.commands.config_checks import Weight

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
CONFIG = ROOT / "docker" / "homeserver.yaml"


def instructions(name: str) -> list[str]:
    return [line.partition(" ")[2] for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_the_image_is_that_of_the_synapse_that_we_pin() -> None:
    (pinned,) = [
        line.split("==")[1].split()[0]
        for line in (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("matrix-synapse==")
    ]
    assert instructions("ARG") == [f"SYNAPSE=matrixdotorg/synapse:v{pinned}"]


def test_each_file_that_the_image_is_built_from_exists_and_is_not_ignored() -> None:
    admitted = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    for copied in instructions("COPY"):
        *sources, _target = shlex.split(copied)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(Path(source).is_relative_to(each) for each in admitted), source


def test_the_image_adds_what_synapse_does_not_bring() -> None:
    # The stock image installs Synapse with all its extras.
    brought = {Requirement(line).name.lower() for line in requires("matrix-synapse") or []} | {"matrix-synapse"}
    # And that what it stands on itself.
    brought |= {Requirement(line).name.lower() for line in requires("jinja2") or []}
    ours = {Requirement(line) for line in requires("super-app-matrix") or []}
    needed = {each.name.lower() for each in ours if each.marker is None or each.marker.evaluate({"extra": ""})}
    (install,) = [line for line in instructions("RUN") if "--find-links" in line]
    assert {name for name in needed - brought if f" {name} " not in f" {install} "} == set()


def test_each_service_is_watched_and_comes_back() -> None:
    assert set(COMPOSE["services"]) == {"homeserver", "postgres"}
    for service in COMPOSE["services"].values():
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"


def test_services_secrets_and_volumes_that_are_named_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])


def test_no_secret_stands_in_a_file_of_ours() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for secret in COMPOSE["secrets"].values():
        assert f"/{Path(secret['file']).parent.name}/" in ignored
    assert "password" not in read_yaml(CONFIG)["database"]["args"]
    assert COMPOSE["services"]["postgres"]["environment"].keys() >= {"POSTGRES_PASSWORD_FILE"}


def test_the_homeserver_looks_for_the_database_that_compose_makes() -> None:
    database = read_yaml(CONFIG)["database"]["args"]
    environment = COMPOSE["services"]["postgres"]["environment"]
    assert database["host"] in COMPOSE["services"]
    assert (database["user"], database["dbname"]) == (environment["POSTGRES_USER"], environment["POSTGRES_DB"])


def test_what_compose_runs_is_what_the_image_holds() -> None:
    (config_in_image,) = [line.split()[1] for line in instructions("COPY") if line.startswith("docker/homeserver.yaml")]
    command = COMPOSE["services"]["homeserver"]["command"]
    assert f"--config={config_in_image}" in command
    (volume,) = COMPOSE["services"]["homeserver"]["volumes"]
    assert f"--data={volume.partition(':')[2]}" in command


def test_the_config_differs_from_the_explained_one_in_listeners_and_database_only() -> None:
    explained, ours = read_yaml(ROOT / "homeserver.yaml"), read_yaml(CONFIG)
    different = {key for key in explained.keys() | ours.keys() if explained.get(key) != ours.get(key)}
    assert different == {"listeners", "database"}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """The config as ``super-app up`` hands it to Synapse."""
    config = homeserver_config.overridden(
        homeserver_config.load(CONFIG), data=tmp_path / "homeserver", server_name="example.org"
    )
    data_folder.make_writable(config.data_folder())
    data_folder.prepare(config, has_accounts=False)
    return homeserver_config.write_copy(config, tmp_path / "homeserver" / "homeserver.yaml").path


def test_synapse_loads_the_config(prepared: Path) -> None:
    loaded = HomeServerConfig.load_config("test", ["--config-path", str(prepared)])
    assert loaded.server.server_name == "example.org"
    assert [module.__name__ for module, _ in loaded.modules.loaded_modules] == ["SuperApp"]


def test_our_own_checks_find_nothing_against_the_config() -> None:
    found = config_checks.findings(homeserver_config.load(CONFIG))
    assert [finding.line for finding in found if finding.weight is Weight.REFUSE] == []
