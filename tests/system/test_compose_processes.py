"""docker-compose.yml without an engine: what it runs, with the configs that its layout writes, on this machine.

A container is a network address with a name. Here each has one of loopback, which stands in the configs for the name;
ports, duties, secrets as files and health checks are as they are there. nginx has the site that is in docker/.
"""

import json
import os
import secrets
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from synapse_super_app.commands import data_folder, homeserver_config, lay_out
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.homeserver_process import SYNAPSE, WORKER, Homeserver, launch
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.commands.redis import PrivateRedis

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PROCESSES: Final = tuple(
    name for name, service in COMPOSE["services"].items() if service["image"] == "super-app-matrix" and name != "layout"
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """``addresses`` by the names that the containers have."""

    addresses: dict[str, str]
    folder: Path
    secret: str

    def url(self, name: str) -> str:
        return f"http://{self.addresses[name]}:8008"

    def metrics(self, name: str) -> str:
        with urllib.request.urlopen(f"http://{self.addresses[name]}:9000/metrics", timeout=60) as answer:
            return str(answer.read().decode())


@pytest.fixture
def deployment(demo_folder: Path) -> Iterator[Deployment]:
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    addresses = {name: f"{net}.{place}" for place, name in enumerate((*PROCESSES, "proxy"), 10)}
    with ExitStack() as stack:
        redis = stack.enter_context(PrivateRedis(demo_folder / "redis"))
        # That of the tests forgets at a power cut, and payments are halted on such a one.
        postgres = stack.enter_context(PrivatePostgres(demo_folder / "postgresql"))
        postgres.create_database("synapse")
        configs = _laid_out(demo_folder / "homeserver", addresses, postgres.connection("synapse"), redis)
        processes = {name: _process(name, configs[name], addresses[name]) for name in PROCESSES}
        for process in processes.values():
            stack.callback(process.stop)
        # As depends_on has it: the main process first, since it makes the tables.
        processes["homeserver"].start()
        for name, process in processes.items():
            if name != "homeserver":
                process.spawn()
        for process in processes.values():
            process.wait_until_healthy()
        secret = (demo_folder / "homeserver" / "registration_secret").read_text(encoding="utf-8").strip()
        yield Deployment(addresses=addresses, folder=demo_folder, secret=secret)
        for process in processes.values():
            process.terminate()


def _laid_out(
    folder: Path, addresses: dict[str, str], database: dict[str, Any], redis: PrivateRedis
) -> dict[str, Path]:
    """What ``super-app lay-out`` writes for the containers, with addresses for their names."""
    folder.mkdir(mode=0o700)
    read = homeserver_config.load(ROOT / "docker" / "homeserver.yaml")
    for name in ("turn_secret", "turn_cli_password", "livekit_secret"):
        (folder / name).write_text(secrets.token_hex(32), encoding="ascii")
    content = json.loads(
        json.dumps(lay_out.with_name(read.content, "example.org")).replace("/run/secrets", str(folder))
    )
    content["database"]["args"] |= database
    content["redis"] = {"enabled": True, "path": str(redis.socket_path)}
    config = homeserver_config.overridden(replace(read, content=content), data=folder, server_name="example.org")
    data_folder.prepare(config, has_accounts=False)
    paths = {path.stem: path for path in lay_out.write_all(config, folder, 2)}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8").replace('"0.0.0.0"', f'"{addresses[name]}"')
        for other, address in addresses.items():
            text = text.replace(f'"host": "{other}"', f'"host": "{address}"')
        path.write_text(text, encoding="utf-8")
    return paths


def _process(name: str, config: Path, address: str) -> Homeserver:
    """What the container runs."""
    command = COMPOSE["services"][name]["command"]
    assert command[:2] == ["python", "-m"]
    program = {"synapse.app.homeserver": SYNAPSE, "synapse.app.generic_worker": WORKER}[command[2]]
    assert command[3:] == ["-c", f"/homeserver/{config.name}"]
    return Homeserver(
        config_path=config,
        client_url=f"http://{address}:8008",
        console_path=config.with_suffix(".console"),
        program=program,
        serves_clients=name == "homeserver" or name.startswith("worker"),
    )


@pytest.mark.timeout(600)
def test_the_processes_of_compose_are_one_homeserver(deployment: Deployment) -> None:
    for name in PROCESSES:
        url = COMPOSE["services"][name]["healthcheck"]["test"][-1].replace("localhost", deployment.addresses[name])
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read() == b"OK"
    with ExitStack() as stack:
        people: dict[str, MatrixClient] = {}
        with MatrixClient(deployment.url("homeserver")) as anybody:
            for name in ("operator", "alice", "bob"):
                session = anybody.register_with_secret(deployment.secret, name, name, admin=name == "operator")
                # Each at another worker.
                at = deployment.url("worker2" if name == "bob" else "worker1")
                client = MatrixClient(at, user_id=session.user_id, access_token=session.access_token, timeout_s=120)
                people[name] = stack.enter_context(client)
        operator, alice, bob = people.values()
        operator.issue(alice.user_id, 10, "PTS", "welcome")
        payment = alice.pay(bob.user_id, 3, "PTS")
        assert alice.wait_for_payment(payment["payment_id"], timeout_s=120)["state"] == "completed"
        assert bob.available("PTS") == 3
        alice.superapp("PUT", "handles/wonder", {"discover": "public"})
        assert [found["user_id"] for found in bob.search_people("wonder")] == [alice.user_id]
        assert operator.invariants()["ok"]
        # The worker for it writes the ledger, not the main process, and what Prometheus scrapes says so.
        wait_until(lambda: _writers(deployment) == {"ledger1"}, timeout_s=120, what="ledger1 to write the ledger")
        if NGINX is not None:
            proxy = _proxy(deployment)
            stack.callback(proxy.wait)
            stack.callback(proxy.terminate)
            _the_proxy_serves_all_of_it(deployment, alice)


def _writers(deployment: Deployment) -> set[str]:
    return {name for name in PROCESSES if _value(deployment.metrics(name), "superapp_ledger_writer")}


def _value(metrics: str, name: str) -> float:
    return next((float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(f"{name} ")), 0.0)


def _proxy(deployment: Deployment) -> Any:
    """nginx with the site of docker/, in the foreground as in its image."""
    folder = deployment.folder / "nginx"
    folder.mkdir()
    address = deployment.addresses["proxy"]
    issued = ThrowAwayCa(deployment.folder).issue("proxy", address)
    site = (ROOT / "docker" / "nginx" / "default.conf.template").read_text(encoding="utf-8")
    shutil.copy(ROOT / "docker" / "nginx" / "workers.conf", folder)
    for here, there in {
        "/tmp/": f"{folder}/",  # before those that bring paths of this machine
        "${SERVER_NAME}": "example.org",
        "/run/secrets/tls_certificate": str(issued.certificate_path),
        "/run/secrets/tls_key": str(issued.key_path),
        "/etc/nginx/": f"{folder}/",
        "/dev/stdout": f"{folder}/access.log",
        "listen ": f"listen {address}:",
        **{f"server {name}:8008": f"server {place}:8008" for name, place in deployment.addresses.items()},
    }.items():
        site = site.replace(here, there)
    head = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    (folder / "nginx.conf").write_text(f"{head} http {{ {site} }}", encoding="utf-8")
    with (folder / "console").open("wb") as console:
        command = [str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        return launch(command, console=console.fileno(), folder=folder, environment={})


def _the_proxy_serves_all_of_it(deployment: Deployment, alice: MatrixClient) -> None:
    believing = ssl.create_default_context(cafile=str(deployment.folder / "ca.crt"))
    site = f"https://{deployment.addresses['proxy']}:8443"

    def ask(path: str, token: str | None = None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        asked = urllib.request.Request(site + path, headers=headers)
        with urllib.request.urlopen(asked, context=believing, timeout=120) as answer:
            return json.load(answer)

    def healthy() -> bool:
        try:
            return bool(ask("/.well-known/matrix/server"))
        except OSError:
            return False

    wait_until(healthy, timeout_s=60, what="nginx to answer")
    assert ask("/.well-known/matrix/server") == {"m.server": "example.org:443"}
    assert ask("/.well-known/matrix/client")["m.homeserver"] == {"base_url": "https://example.org"}
    assert ask("/_matrix/client/v3/account/whoami", alice.access_token)["user_id"] == alice.user_id
    assert ask("/_synapse/client/superapp/v1/wallet", alice.access_token)["accounts"][0]["available"] == 7
    assert "verify_keys" in ask("/_matrix/key/v2/server")
    with pytest.raises(urllib.error.HTTPError) as hidden:
        ask("/_synapse/admin/v2/users", alice.access_token)
    with hidden.value as refused:
        assert refused.code == 404
