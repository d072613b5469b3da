"""The container files, as far as they can be proved without a container engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from synapse.config.homeserver import HomeServerConfig
from synapse.config.server import TCPListenerConfig

from super_app.names import LIVEKIT_PREFIX
from synapse_super_app.calls.coturn import Coturn
from synapse_super_app.commands import (
    config_checks,
    data_folder,
    homeserver_config,
    lay_out,
    loopback,
    tied_child,
    worker_routes,
)
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.config_checks import Weight
from synapse_super_app.commands.main import command_line, main
from synapse_super_app.commands.matrix_client import wait_until
from synapse_super_app.commands.postgres import PrivatePostgres

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


SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SYNAPSE = {name for name, service in SERVICES.items() if service["image"] == "super-app-matrix"}
PROCESSES = SYNAPSE - {"layout"}


def test_there_is_all_that_a_homeserver_for_people_takes() -> None:
    others = {"postgres", "redis", "proxy", "coturn", "livekit", "element", "prometheus", "grafana"}
    assert set(SERVICES) - SYNAPSE == others
    assert {"homeserver", "worker1", "worker2", "federation_sender1", "event_persister1", "ledger1"} == PROCESSES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_is_held_short(name: str) -> None:
    """Not root, nothing to write but its own, no capability, so much of the machine; watched, and back after a fall."""
    service = SERVICES[name]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert "privileged" not in service
    if name == "layout":
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"]
        assert service["restart"] == "unless-stopped"


def test_images_have_versions() -> None:
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert name in SYNAPSE or (tag and tag != "latest"), image


def test_element_web_is_one_that_loads_our_module_and_has_its_buttons() -> None:
    """Its module API is 1.4, which the module wants, since 1.11.110, and knows of the header of rooms since 1.12.13."""
    _, _, version = SERVICES["element"]["image"].partition(":v")
    assert tuple(map(int, version.split("."))) >= (1, 12, 13)


def test_services_secrets_networks_and_volumes_that_are_named_are_declared() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", []):
            source, _, _ = volume.partition(":")
            assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], volume
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])


def test_each_secret_file_that_a_service_reads_is_given_to_it() -> None:
    for name, service in SERVICES.items():
        text = yaml.safe_dump({key: service[key] for key in service if key != "volumes"}, width=10_000)
        text += "".join(
            (ROOT / volume.partition(":")[0]).read_text(encoding="utf-8")
            for volume in service.get("volumes", [])
            if volume.startswith("./")
        )
        text += CONFIG.read_text(encoding="utf-8") if name in SYNAPSE else ""
        assert set(re.findall(r"/run/secrets/(\w+)", text)) == set(service.get("secrets", [])), name


def test_only_what_the_internet_needs_is_open_to_it() -> None:
    open_ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert open_ports.keys() == {"proxy", "coturn", "livekit", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in open_ports["grafana"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "redis", "prometheus", "element"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_the_commands_that_make_secrets_make_all_of_them() -> None:
    head = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").partition("\nname:")[0]
    for name in COMPOSE["secrets"]:
        assert re.search(rf"\b{name}\b", head), name


def test_no_secret_stands_in_a_file_of_ours() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for secret in COMPOSE["secrets"].values():
        assert f"/{Path(secret['file']).parent.name}/" in ignored
    assert "password" not in read_yaml(CONFIG)["database"]["args"]
    assert SERVICES["postgres"]["environment"].keys() >= {"POSTGRES_PASSWORD_FILE"}


def test_the_homeserver_looks_for_the_database_that_compose_makes() -> None:
    database = read_yaml(CONFIG)["database"]["args"]
    environment = SERVICES["postgres"]["environment"]
    assert database["host"] in SERVICES
    assert (database["user"], database["dbname"]) == (environment["POSTGRES_USER"], environment["POSTGRES_DB"])


def test_what_compose_runs_is_what_the_image_holds() -> None:
    (config_in_image,) = [line.split()[1] for line in instructions("COPY") if line.startswith("docker/homeserver.yaml")]
    command = SERVICES["layout"]["command"]
    assert command[:2] == ["super-app", "lay-out"]
    assert f"--config={config_in_image}" in command
    (volume,) = SERVICES["layout"]["volumes"]
    assert f"--data={volume.partition(':')[2]}" in command
    filled_in = [each.replace("${SERVER_NAME:?set SERVER_NAME in .env}", "a.b") for each in command[1:]]
    assert command_line().parse_args(filled_in).server_name == "a.b"


def test_the_config_differs_from_the_explained_one_in_what_its_head_says() -> None:
    explained, ours = read_yaml(ROOT / "homeserver.yaml"), read_yaml(CONFIG)
    different = {key for key in explained.keys() | ours.keys() if explained.get(key) != ours.get(key)}
    named = {"server_name", "public_baseurl", "web_client_location", "listeners", "database", "redis", "modules"}
    assert different == named
    theirs, own = explained["modules"][0]["config"], ours["modules"][0]["config"]
    assert {key for key in theirs.keys() | own.keys() if theirs.get(key) != own.get(key)} == {"calls"}
    added = ("turn_uris", "turn_secret_path", "turn_cli", "turn_cli_password_path", "livekit")
    assert {key: value for key, value in own["calls"].items() if key not in added} == theirs["calls"]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The configs as ``super-app lay-out`` writes them for the containers, by name of the process."""
    folder = tmp_path_factory.mktemp("laid-out")
    read = homeserver_config.load(CONFIG)
    # Where the secrets of containers are.
    for name in ("turn_secret", "turn_cli_password", "livekit_secret"):
        (folder / name).write_text("secret", encoding="ascii")
    content = json.loads(
        json.dumps(lay_out.with_name(read.content, "example.org")).replace("/run/secrets", str(folder))
    )
    config = homeserver_config.overridden(replace(read, content=content), data=folder, server_name="example.org")
    data_folder.prepare(config, has_accounts=False)
    return {path.stem: path for path in lay_out.write_all(config, folder, 2)}


def test_each_process_has_a_config_and_each_config_a_process(laid_out: dict[str, Path]) -> None:
    assert laid_out.keys() == PROCESSES
    for name in PROCESSES:
        assert SERVICES[name]["command"][-1] == f"/homeserver/{name}.yaml"


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_synapse_loads_the_config_of_each_process(laid_out: dict[str, Path], name: str) -> None:
    loaded = HomeServerConfig.load_config("test", ["--config-path", str(laid_out[name])])
    assert loaded.server.server_name == "example.org"
    assert loaded.server.public_baseurl == "https://example.org/"
    assert [module.__name__ for module, _ in loaded.modules.loaded_modules] == ["SuperApp"]
    assert loaded.redis.redis_enabled
    worker = loaded.worker
    assert worker.worker_name == (None if name == "homeserver" else name)
    assert worker.send_federation is (name == "federation_sender1")
    assert worker.writers.events == ["event_persister1"]
    map_ = json.loads(laid_out[name].read_text(encoding="utf-8"))["instance_map"]
    assert {place["host"] for place in map_.values()} <= set(SERVICES)
    listening = worker.worker_listeners if worker.worker_app else loaded.server.listeners
    ports = {listener.port for listener in listening if isinstance(listener, TCPListenerConfig)}
    assert {8008, 9000} <= ports
    assert (9093 in ports) is (name in {"homeserver", "event_persister1", "ledger1"})
    ours: Any = loaded.modules.loaded_modules[0][1]
    assert ours.payments.ledger_writers == ("ledger1", "main")


def test_the_command_writes_them_once_and_keeps_keys_and_secrets(
    tmp_path: Path, postgres_server: PrivatePostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres_server.create_database("laid_out")
    content = read_yaml(CONFIG)
    content["database"]["args"] = postgres_server.connection("laid_out")
    (tmp_path / "homeserver.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    data = tmp_path / "data"
    command = ["lay-out", f"--config={tmp_path / 'homeserver.yaml'}", f"--data={data}", "--server-name=example.org"]
    assert main(command) == 0
    first = {name: (data / name).read_bytes() for name in ("signing.key", "replication_secret", "worker2.yaml")}
    assert main([*command, "--workers=2"]) == 0
    assert {name: (data / name).read_bytes() for name in first} == first
    assert (data / "replication_secret").stat().st_mode & 0o077 == 0
    assert "ledger1.yaml" in capsys.readouterr().err


def test_the_command_refuses_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ROOT / "homeserver.yaml"
    assert main(["lay-out", f"--config={config}", f"--data={tmp_path}", "--server-name=example.org"]) == 1
    assert "SQLite serves one process only" in capsys.readouterr().err


def test_our_own_checks_find_nothing_against_the_config() -> None:
    found = config_checks.findings(homeserver_config.load(CONFIG))
    assert [finding.line for finding in found if finding.weight is Weight.REFUSE] == []


class TestProxy:
    ROUTES = (ROOT / "docker" / "nginx" / "workers.conf").read_text(encoding="utf-8")
    SITE = (ROOT / "docker" / "nginx" / "default.conf.template").read_text(encoding="utf-8")

    def test_workers_get_what_they_may_answer_and_nothing_else(self) -> None:
        line = re.compile(r'^location ~ "\^(.*)\$" \{ proxy_pass http://(\w+); \}$', re.MULTILINE)
        wanted = {pattern: "syncs" if pattern in worker_routes.SYNC else "workers" for pattern in worker_routes.ALL}
        assert dict(line.findall(self.ROUTES)) == wanted

    def test_each_process_behind_it_is_a_service(self) -> None:
        for place in re.findall(r"(?:server |http://)([a-z]+\d?):\d+", self.SITE):
            assert place in SERVICES, place
        upstreams = set(re.findall(r"^upstream (\w+)", self.SITE, re.MULTILINE))
        assert set(re.findall(r"proxy_pass http://(\w+);", self.ROUTES)) == upstreams

    def test_synapses_admin_api_is_not_passed_on(self) -> None:
        assert "location /_synapse/admin { return 404; }" in self.ROUTES

    def test_nginx_takes_it(self, tmp_path: Path) -> None:
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if nginx is None:
            pytest.skip("nginx is not installed")
        issued = ThrowAwayCa(tmp_path).issue("proxy", "127.0.0.1")
        (tmp_path / "workers.conf").write_text(self.ROUTES, encoding="utf-8")
        site = self.SITE.replace("${SERVER_NAME}", "example.org").replace("/tmp/", f"{tmp_path}/")
        site = site.replace("/etc/nginx/", f"{tmp_path}/")
        site = site.replace("/run/secrets/tls_certificate", str(issued.certificate_path))
        site = site.replace("/run/secrets/tls_key", str(issued.key_path))
        # Names of containers are not known here.
        site = re.sub(r"server [a-z]+\d?:8008", "server 127.0.0.1:8008", site)
        whole = f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}} http {{ {site} }}"
        (tmp_path / "nginx.conf").write_text(whole, encoding="utf-8")
        command = [nginx, "-t", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr


def test_what_is_scraped_are_the_processes() -> None:
    scraped = read_yaml(ROOT / "docker" / "monitoring" / "prometheus.yml")["scrape_configs"][0]["static_configs"]
    targets = {target.removesuffix(":9000") for each in scraped for target in each["targets"]}
    assert targets == PROCESSES


def test_the_livekit_of_compose_is_the_one_that_the_tests_use() -> None:
    (tested,) = re.findall(r"livekit_version=(\S+)", (ROOT / "tools" / "install").read_text(encoding="utf-8"))
    assert SERVICES["livekit"]["image"] == f"livekit/livekit-server:v{tested}"


def test_only_the_main_process_gives_coturn_commands() -> None:
    place = read_yaml(CONFIG)["modules"][0]["config"]["calls"]["turn_cli"]
    ((name, network),) = (
        (alias, network)
        for network, known_as in SERVICES["coturn"]["networks"].items()
        for alias in known_as["aliases"]
        if place == [f"{alias}:5766"]
    )
    assert COMPOSE["networks"][network] == {"internal": True}
    assert {service for service in SERVICES if network in SERVICES[service]["networks"]} == {"coturn", "homeserver"}
    assert not any("5766" in port for port in SERVICES["coturn"]["ports"])
    assert f"getent ahostsv4 {name})" in SERVICES["coturn"]["entrypoint"][-1]


def test_coturn_starts_as_compose_starts_it_and_takes_commands_with_the_password_of_the_secret(tmp_path: Path) -> None:
    binary = shutil.which("turnserver")
    if binary is None:
        pytest.skip("there is no coturn; on Debian: apt-get install coturn")
    for name in ("turn_secret", "turn_cli_password"):
        (tmp_path / name).write_text(f"the-{name}\n", encoding="ascii")
    programs = tmp_path / "bin"
    programs.mkdir()
    # Docker's names of this container on its networks; here it has one address.
    resolver = programs / "getent"
    resolver.write_text('#!/bin/sh\necho "127.0.0.1 STREAM $2"\n', encoding="ascii")
    resolver.chmod(0o755)
    listening = loopback.free_ports(3)
    commands = listening + 2
    here = f"{binary} --listening-port={listening} --listening-ip=127.0.0.1 --cli-port={commands} --no-tls --no-dtls"
    script = SERVICES["coturn"]["entrypoint"][-1].replace("$$", "$")
    script = script.replace("/tmp/", f"{tmp_path}/").replace("exec turnserver", f"exec {here} --userdb={tmp_path}/db")
    script = script.replace("/etc/coturn/super-app.conf", str(ROOT / "docker" / "turnserver.conf"))
    script = script.replace("/run/secrets/", f"{tmp_path}/")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SERVER_NAME": "example.org", "EXTERNAL_IP": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        tied = [sys.executable, tied_child.__file__, str(os.getpid()), "/bin/sh", "-c", script]
        process = subprocess.Popen(tied, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        server = Coturn(f"127.0.0.1:{commands}", "the-turn_cli_password")

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8", errors="replace")
            try:
                return server.show_out(()).removed == 0
            except OSError:
                return False

        wait_until(answers, timeout_s=60, what="coturn to take commands")
        written = (tmp_path / "turnserver.conf").read_text(encoding="utf-8")
        assert "realm=turn.example.org" in written
        assert "static-auth-secret=the-turn_secret\n" in written
        with pytest.raises(ValueError, match="refuses the password"):
            Coturn(server.place, "CHANGE-ME").show_out(())
    finally:
        process.terminate()
        process.wait(20)


def test_livekit_has_the_values_that_compose_fills_in() -> None:
    livekit = read_yaml(ROOT / "docker" / "livekit.yaml")
    assert livekit["room"]["auto_create"] is False
    key = read_yaml(CONFIG)["modules"][0]["config"]["calls"]["livekit"]["key"]
    assert f'"{key}: ' in SERVICES["livekit"]["entrypoint"][-1]
    assert livekit["webhook"]["api_key"] == key
    assert livekit["webhook"]["urls"] == [f"http://homeserver:8008{LIVEKIT_PREFIX}/sfu_webhook"]
