"""Fixtures of the system tests: real homeservers, real federation, real time.

``demo``
    Two federated homeservers, started once per database by ``super-app demo`` and shared by all tests that only use
    them. Each test that takes it runs on SQLite and on PostgreSQL. It has ``client("alice")`` (also bob, carol, dave;
    close it or use it as a context), ``admins[index]``, ``people["bob"].handle``, ``names[index]`` of the homeservers
    and ``room_id`` of alice's and bob's room. Everybody had 100.00 EUR at first; other tests pay too, in random
    order, so compare balances before and after, and make rooms of your own where others' messages would disturb.

        def test_a_payment_arrives(demo: RunningDemo) -> None:
            with demo.client("alice") as alice, demo.client("bob") as bob:
                before = bob.available("EUR")
                payment = alice.pay(demo.people["bob"].handle, 500, "EUR")
                bob.wait_for_payment(payment["payment_id"], payer=alice.user_id)
                assert bob.available("EUR") == before + 500

``fresh_demo``
    A ``DemoPair`` of this test's own, in this process, for tests that kill and restart: ``sides[0].process.kill()``,
    ``.start()``, and the same ``client``, ``admins``, ``people`` and ``room_id``. On both databases too.

``lone``
    Makes a homeserver without federation from a module config, to be used as a context: see ``LoneHomeserver``.

A file whose SQL is tried on both databases by store tests runs on one of them here: ``pytestmark =
pytest.mark.on("sqlite")``.

Starting a demo takes some ten seconds. A test that changes what others rely on (policies of the four, links, handles)
changes it back, or uses ``fresh_demo``.
"""

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import turn_server
from lone import LoneHomeserver, MakeLone
from running_demo import RunningDemo

from super_app.db import Engine
from synapse_super_app.commands.demo_pair import PORTS, DemoPair
from synapse_super_app.commands.loopback import free_ports


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)
    items[:] = [item for item in items if _is_on_its_database(item)]


def _is_on_its_database(item: pytest.Item) -> bool:
    """Whether a test runs on this database: one that is marked ``on`` runs on that one only."""
    marker = item.get_closest_marker("on")
    if marker is None or not isinstance(item, pytest.Function):
        return True
    engines = [value for value in item.callspec.params.values() if isinstance(value, Engine)]
    return all(engine == marker.args[0] for engine in engines)


@contextmanager
def _folder() -> Generator[Path]:
    """A folder that the database server's account can pass through too, which pytest's own cannot be for root."""
    folder = Path(tempfile.mkdtemp(prefix="superapp-demo-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def demos() -> Iterator[Callable[[Engine], RunningDemo]]:
    """The demos that tests share, each started when the first test asks for it.

    A parametrised fixture of the whole run would be stopped and started at each change of database, which comes at
    every other test in a random order.
    """
    with ExitStack() as stack:
        running: dict[Engine, RunningDemo] = {}

        def get(engine: Engine) -> RunningDemo:
            if engine not in running:
                folder = stack.enter_context(_folder())
                # Nobody listens there but while a test starts a TURN server; on SQLite the demo has none.
                turn = turn_server.place(folder) if engine is Engine.POSTGRESQL else None
                running[engine] = RunningDemo(folder, engine, turn=turn)
                stack.callback(running[engine].stop)
            return running[engine]

        yield get


@pytest.fixture(params=list(Engine), ids=lambda engine: engine.value)
def demo(request: pytest.FixtureRequest, demos: Callable[[Engine], RunningDemo]) -> RunningDemo:
    return demos(request.param)


@pytest.fixture(params=list(Engine), ids=lambda engine: engine.value)
def fresh_demo(request: pytest.FixtureRequest) -> Iterator[DemoPair]:
    with _folder() as folder, DemoPair(data=folder, port_base=free_ports(PORTS), engine=request.param) as pair:
        yield pair


@pytest.fixture(scope="session")
def folders() -> Callable[[], AbstractContextManager[Path]]:
    """Makes folders as ``demo_folder``, for what lives longer than a test."""
    return _folder


@pytest.fixture
def demo_folder() -> Iterator[Path]:
    """Where a test that starts demos itself may keep one."""
    with _folder() as folder:
        yield folder


@pytest.fixture
def lone(tmp_path: Path) -> MakeLone:
    def make(module_config: dict[str, Any] | None, **more: Any) -> LoneHomeserver:
        return LoneHomeserver(tmp_path, module_config, **more)

    return make
