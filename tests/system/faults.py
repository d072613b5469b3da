"""A pair of real homeservers to which a test does harm at named points: it cuts their network, or kills one of them.

``FaultyPair`` is the demo's pair, with two differences: its homeservers run under ``faulty_homeserver.py``, and reach
each other only by way of a ``Wire`` each, which passes on what comes, TLS and all, until it is told otherwise.

    rule = pair.points.arm("answering", "OFFER", amount_minor=17, do=pair.cut)
    …
    rule.wait()
"""

import asyncio
import json
import socketserver
import stat
import subprocess
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

from nursery import NURSERY

from super_app.db import Engine
from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.demo_pair import PORTS, DemoPair, Side
from synapse_super_app.commands.homeserver_process import SYNAPSE, Homeserver, write_config
from synapse_super_app.commands.postgres import PrivatePostgres

T = TypeVar("T")

LIMIT_S: Final = 120.0
"""For what takes a second here. Somebody may run the tests on a slow machine."""
_CHUNK_BYTES: Final = 65_536
_DISK_MIB: Final = 160
_TABLESPACE: Final = "space"
_PROGRAM: Final = Path(__file__).with_name("faulty_homeserver.py")


class Hit(NamedTuple):
    """A point that a homeserver has reached, where it waits. ``amount_minor`` is 0 where no payment is concerned."""

    pid: int
    point: str
    what: str
    amount_minor: int


class Rule:
    """What to do when a point is reached; once."""

    def __init__(self, point: str, what: str, amount_minor: int | None, do: Callable[[Hit], None]) -> None:
        self._wanted = (point, what, amount_minor)
        self._do = do
        self._done = threading.Event()
        self._taken = threading.Event()

    def fits(self, hit: Hit) -> bool:
        point, what, amount_minor = self._wanted
        return (
            not self._taken.is_set()
            and (hit.point, hit.what) == (point, what)
            and amount_minor in (None, hit.amount_minor)
        )

    def take(self) -> None:
        """A homeserver is there, and waits."""
        self._taken.set()

    def carry_out(self, hit: Hit) -> None:
        self._do(hit)
        self._done.set()

    def wait_until_taken(self) -> None:
        _wait(self._taken, self)

    def wait(self) -> None:
        """Until it has been carried out."""
        _wait(self._done, self)

    def __repr__(self) -> str:
        return f"Rule{self._wanted}"


def _wait(event: threading.Event, what: object) -> None:
    if not event.wait(LIMIT_S):
        raise TimeoutError(f"waited {LIMIT_S:g} s in vain for {what}")


class Points(socketserver.ThreadingTCPServer):
    """Hears which points the homeservers reach, and lets them go on."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Reached)
        self.port = int(self.server_address[1])
        self.hits: list[Hit] = []
        self.on_sending: Callable[[Hit], None] | None = None
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def arm(self, point: str, what: str, *, do: Callable[[Hit], None], amount_minor: int | None = None) -> Rule:
        rule = Rule(point, what, amount_minor, do)
        with self._lock:
            self._rules.append(rule)
        return rule

    def reached(self, hit: Hit) -> None:
        with self._lock:
            self.hits.append(hit)
            rule = next((each for each in self._rules if each.fits(hit)), None)
            if rule is not None:
                rule.take()
        if hit.point == "sending" and self.on_sending is not None:
            self.on_sending(hit)
        if rule is not None:
            rule.carry_out(hit)

    def seen(self) -> frozenset[tuple[str, str]]:
        """Every (point, what) until now."""
        with self._lock:
            return frozenset((hit.point, hit.what) for hit in self.hits)

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Reached(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        words = json.loads(self.rfile.readline())
        cast(Points, self.server).reached(Hit(**words))
        # Nobody hears it if the homeserver is dead by now.
        with suppress(OSError):
            self.wfile.write(b"\n")


class Wire:
    """Two TCP proxies, one before each homeserver, both open, cut or silent."""

    def __init__(self, routes: tuple[tuple[int, int], ...]) -> None:
        self._routes = routes
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []
        self._passing: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    def cut(self) -> None:
        """End all connections, and every new one as soon as it is made."""
        self._do(self._set(flowing=True, cut=True))

    def silence(self) -> None:
        """Pass nothing on, and say nothing; what comes is kept until ``heal``."""
        self._do(self._set(flowing=False, cut=False))

    def heal(self) -> None:
        self._do(self._set(flowing=True, cut=False))

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(LIMIT_S)

    async def _listen(self) -> None:
        for port, behind in self._routes:

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: int = behind) -> None:
                task = asyncio.current_task()
                if task is not None:
                    self._passing.add(task)
                    task.add_done_callback(self._passing.discard)
                await self._pass_on(reader, writer, behind)

            self._servers.append(await asyncio.start_server(accept, loopback.ADDRESS, port))

    async def _set(self, *, flowing: bool, cut: bool) -> None:
        self._is_cut = cut
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()
        if cut:
            for writer in self._open:
                writer.transport.abort()

    async def _end(self) -> None:
        await self._set(flowing=True, cut=True)
        for server in self._servers:
            server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: int) -> None:
        self._open.add(writer)
        try:
            if self._is_cut:
                return
            with suppress(OSError):
                inner_reader, inner_writer = await asyncio.open_connection(loopback.ADDRESS, behind)
                self._open.add(inner_writer)
                try:
                    await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))
                finally:
                    self._open.discard(inner_writer)
                    inner_writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        # The other way has nobody to speak to either.
        raise ConnectionResetError


class FaultyHomeserver(Homeserver):
    """Stops at the points that ``faulty_homeserver.py`` names, and hurries as it says."""

    def __init__(self, points: Points, *, config_path: Path, client_url: str, console_path: Path) -> None:
        super().__init__(config_path=config_path, client_url=client_url, console_path=console_path)
        self._points = points

    def spawn(self) -> None:
        if self.running:
            raise RuntimeError(f"the homeserver of {self.config_path} runs already, as process {self.pid}")
        with self.console_path.open("ab") as console:
            self._console_start_bytes = console.tell()
            forked = NURSERY.homeserver(
                (*SYNAPSE, "-c", str(self.config_path)),
                console=console.fileno(),
                folder=self.config_path.parent,
                prepare=(str(_PROGRAM.parent), _PROGRAM.stem, "stop_at_points", self._points.port),
            )
        self._process = cast("subprocess.Popen[bytes]", forked)


class SmallDisk:
    """A file system of its own (tmpfs) on a folder, which can be filled up. Needs the right to mount."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    def mount(self) -> bool:
        """Whether it could be."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = f"size={_DISK_MIB}m,mode={stat.S_IMODE(self._folder.stat().st_mode):o}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._folder)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False

    def unmount(self) -> None:
        # Lazily: who was killed a moment ago may still be leaving.
        subprocess.run(["umount", "--lazy", str(self._folder)], capture_output=True, check=True)

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as filler:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        filler.write(b"\0" * size)

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)


class FaultyPair(DemoPair):
    """See the top of this module. ``data`` must be a folder that exists.

    The database of the first homeserver has a disk of its own, ``disk``, where that can be had.
    """

    def __init__(self, data: Path, engine: Engine) -> None:
        # After those of the pair come the ports that the homeservers listen on behind their wires.
        self._port_base = loopback.free_ports(PORTS + 2)
        self.points = Points()
        self._reviving = threading.Lock()
        self._engine = engine
        place = data / ("homeserver1" if engine is Engine.SQLITE else _TABLESPACE)
        small = SmallDisk(place)
        self.disk = small if small.mount() else None
        super().__init__(data=data, port_base=self._port_base, engine=engine)
        self.wire = Wire(tuple(zip(self._federation_ports, self._hidden_ports, strict=True)))

    @property
    def _hidden_ports(self) -> tuple[int, int]:
        return (self._port_base + PORTS, self._port_base + PORTS + 1)

    @property
    def postgres(self) -> PrivatePostgres:
        if self._postgres is None:
            raise RuntimeError("these homeservers have no PostgreSQL")
        return self._postgres

    def __enter__(self) -> Self:
        return super().__enter__()

    def stop(self) -> None:
        for side in self.sides:
            # Ended in order they would wait for each other's connections.
            side.process.kill()
        super().stop()
        if self.disk is not None:
            self.disk.unmount()
        self.wire.close()
        self.points.close()

    def _side(self, index: int, client_port: int, federation_port: int) -> Side:
        side = super()._side(index, client_port, federation_port)
        process = FaultyHomeserver(
            self.points,
            config_path=side.process.config_path,
            client_url=side.client_url,
            # Not on the small disk: Synapse writes about every line that it cannot write.
            console_path=self._data / f"homeserver{index + 1}.log",
        )
        return Side(name=side.name, process=process, folder=side.folder)

    def _write_config(self, index: int, side: Side, ca: ThrowAwayCa) -> None:
        super()._write_config(index, side, ca)
        config = json.loads(side.process.config_path.read_text(encoding="utf-8"))
        for listener in config["listeners"]:
            if listener["port"] == self._federation_ports[index]:
                listener["port"] = self._hidden_ports[index]
        write_config(side.process.config_path, config)

    def _database(self, index: int, side: Side) -> dict[str, Any]:
        if index == 0 and self._postgres is not None and self.disk is not None:
            self._postgres.create_tablespace(_TABLESPACE, self._data / _TABLESPACE)
            self._postgres.create_database("homeserver1", tablespace=_TABLESPACE)
        return super()._database(index, side)

    # What to do at a point.

    def kill(self, hit: Hit) -> None:
        """End the homeserver that is there (SIGKILL), as a crash would."""
        self.side_of(hit).process.kill()

    def cut(self, hit: Hit) -> None:
        """Cut the wires, until a homeserver next wants to send something of this payment."""
        self.wire.cut()
        self._heal_at_next_sending(hit)

    def silence(self, hit: Hit) -> None:
        """Let nothing through from now on, so that who waits for an answer gives up; until as above."""
        self.wire.silence()
        self._heal_at_next_sending(hit)

    def _heal_at_next_sending(self, hit: Hit) -> None:
        def heal(later: Hit) -> None:
            if later.amount_minor == hit.amount_minor:
                self.points.on_sending = None
                self.wire.heal()

        self.points.on_sending = heal

    def side_of(self, hit: Hit) -> Side:
        return next(side for side in self.sides if side.process.pid == hit.pid)

    def revive(self) -> None:
        """Start whoever is dead. Any thread may call it."""
        with self._reviving:
            dead = [side for side in self.sides if not side.process.running]
            for side in dead:
                side.process.spawn()
                # Its connections are gone.
                self.admins[self.sides.index(side)].close()
            for side in dead:
                side.process.wait_until_healthy()
