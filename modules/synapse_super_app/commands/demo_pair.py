"""Two homeservers that federate on this machine, with four people, money, and a link between them.

``super-app demo``, the system tests and the benchmarks run this same pair. Starting it again on the same folder finds
everything as it was. All parts end with the process that started them, see ``tied_child``.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, cast

from super_app.db import Engine
from super_app.names import WEB_PREFIX, AccountDataType
from synapse_super_app.commands import data_folder, loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.homeserver_process import Homeserver, HomeserverDied, write_config
from synapse_super_app.commands.matrix_client import Json, MatrixClient, MatrixError, UnreachableError, wait_until
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.config import AssistantConfig

CURRENCY: Final = "EUR"
_OPENING_BALANCE_MINOR: Final = 100_00
_CREDIT_LIMIT_MINOR: Final = 1_000_000_00
_OPERATOR: Final = "operator"
_ASSISTANT: Final = AssistantConfig().localpart
_PEOPLE: Final = (("alice", 0), ("bob", 1), ("carol", 1), ("dave", 0))
"""Who lives on which homeserver."""
PORTS: Final = 4
"""How many ports from the port base on are used: clients and federation of each homeserver."""
_REPLICATION_TIMEOUT_S: Final = 120.0
_DYING_S: Final = 3.0
_CHECK_PAUSE_S: Final = 0.05

MODULE_CONFIG: Final[dict[str, Any]] = {
    "requests": {"reads": 0, "writes": 0, "public": 0, "admin": 0},
    "features": {"directory": True, "calls": True, "payments": True, "web": True, "assistant": True},
    # A demo that quietly lacks a feature would show the wrong thing.
    "on_private_api_change": "refuse_start",
    "directory": {
        "existing_users": {"discover": "public"},
        "new_users": {"discover": "public"},
        "feed_interval": "1s",
    },
    "calls": {
        "default_who": ["everyone"],
        "default_rate": {"caller": 0, "server": 0, "strangers": 0},
        "limits": {"rings": 0, "server_rings": 0, "turn": 0},
    },
    "payments": {
        "mode": "custodial",
        "assets": [{"code": CURRENCY}],
        "acknowledge": {
            "operator": "nobody, this is a demo on one machine",
            "licence": "none, the money of this demo is not real",
        },
    },
}

Progress = Callable[[str], None]


class PartDied(Exception):
    """A process of the pair ended by itself. ``str()`` says which, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One of the four, signed in. ``homeserver`` is the index of theirs."""

    name: str
    user_id: str
    handle: str
    password: str
    access_token: str
    homeserver: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One homeserver of the pair."""

    name: str
    process: Homeserver
    folder: Path

    @property
    def client_url(self) -> str:
        return self.process.client_url

    def client(self) -> MatrixClient:
        return MatrixClient(self.client_url)


class DemoPair:
    """Use as a context, or call ``start`` and ``stop``. ``people``, ``admins`` and ``room_id`` are there once started.

    Start it on a thread that lives as long as the pair shall; Linux ends the processes when that thread ends.
    """

    def __init__(
        self,
        *,
        data: Path,
        port_base: int,
        engine: Engine = Engine.SQLITE,
        progress: Progress | None = None,
        module_config: dict[str, Any] | None = None,
    ) -> None:
        self._data = data.absolute()
        self._engine = engine
        self._progress: Progress = progress or (lambda _: None)
        self._module_config = module_config or MODULE_CONFIG
        self._postgres: PrivatePostgres | None = None
        client_ports = (port_base, port_base + 2)
        self._federation_ports = (port_base + 1, port_base + 3)
        self.sides = (
            self._side(0, client_ports[0], self._federation_ports[0]),
            self._side(1, client_ports[1], self._federation_ports[1]),
        )
        self._client_ports = client_ports
        self.people: dict[str, Person] = {}
        self.admins: list[MatrixClient] = []
        self.room_id = ""
        self._registered: set[str] = set()
        """Who registered just now, and not when this folder was first used."""

    def _side(self, index: int, client_port: int, federation_port: int) -> Side:
        folder = self._data / f"homeserver{index + 1}"
        process = Homeserver(
            config_path=folder / "homeserver.yaml",
            client_url=loopback.client_url(client_port),
            console_path=folder / "homeserver.log",
        )
        return Side(name=loopback.server_name(federation_port), process=process, folder=folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once everything that the ready file promises is true. If that fails, nothing is left running."""
        try:
            self._start_processes()
            try:
                self._provision()
            except (MatrixError, UnreachableError, TimeoutError):
                # If a part has died, that is what the person must hear.
                self._check_for(_DYING_S)
                raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all parts in order; the database last."""
        for admin in self.admins:
            admin.close()
        for side in self.sides:
            side.process.terminate()
        for side in self.sides:
            side.process.stop()
        if self._postgres is not None:
            self._postgres.stop()

    @property
    def postgres(self) -> PrivatePostgres | None:
        """The server of both databases, where they are in PostgreSQL."""
        return self._postgres

    def client(self, name: str) -> MatrixClient:
        """A client signed in as one of the four, on a connection of its own."""
        person = self.people[name]
        return MatrixClient(
            self.sides[person.homeserver].client_url, user_id=person.user_id, access_token=person.access_token
        )

    def check(self) -> None:
        """See whether all parts run.

        Raises:
            PartDied: one does not.
        """
        for side in self.sides:
            if not side.process.running:
                raise PartDied(f"homeserver {side.name}: {side.process.epitaph()}")
        if self._postgres is not None and _has_ended(self._postgres.pid):
            raise PartDied("the PostgreSQL server has ended")

    def _check_for(self, seconds: float) -> None:
        """Check until then: a dying process closes its connections a moment before the system says that it ended."""
        give_up_s = time.monotonic() + seconds
        self.check()
        while time.monotonic() < give_up_s:
            time.sleep(_CHECK_PAUSE_S)
            self.check()

    def ready(self) -> Json:
        """The content of the ready file."""
        homeservers = [
            {
                "name": side.name,
                "client_url": side.client_url,
                "pids": [side.process.pid],
                "admin": {"user_id": admin.user_id, "access_token": admin.access_token},
            }
            for side, admin in zip(self.sides, self.admins, strict=True)
        ]
        users = [
            {
                "user_id": person.user_id,
                "handle": person.handle,
                "password": person.password,
                "access_token": person.access_token,
                "homeserver": person.homeserver,
            }
            for person in self.people.values()
        ]
        return {"homeservers": homeservers, "users": users, "room_id": self.room_id}

    # Processes.

    def _start_processes(self) -> None:
        for side in self.sides:
            side.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._engine is Engine.POSTGRESQL:
            self._progress("starting a PostgreSQL server")
            self._postgres = PrivatePostgres(self._data / "postgresql")
            self._postgres.start()
        self._progress("making a throw-away certificate authority")
        ca = ThrowAwayCa(self._data)
        for index, side in enumerate(self.sides):
            self._write_config(index, side, ca)
            side.process.spawn()
            self._progress(f"starting {side.name}, its clients at {side.client_url}")
        began_s = time.monotonic()
        for side in self.sides:
            try:
                side.process.wait_until_healthy()
            except HomeserverDied as death:
                raise PartDied(f"homeserver {side.name}: {death}") from None
        self._progress(f"both answer after {time.monotonic() - began_s:.1f} s")

    def _write_config(self, index: int, side: Side, ca: ThrowAwayCa) -> None:
        peer = self.sides[1 - index]
        module = dict(self._module_config)
        module["directory"] = {**module.get("directory", {}), "peers": [peer.name]}
        config = loopback.synapse_config(
            folder=side.folder,
            client_port=self._client_ports[index],
            database=self._database(index, side),
            module_config=module,
            federation=loopback.Federation(
                port=self._federation_ports[index],
                certificate=ca.issue(f"homeserver{index + 1}", loopback.ADDRESS),
            ),
            more={"web_client_location": f"{side.client_url}{WEB_PREFIX}/"},
        )
        write_config(side.process.config_path, config)
        signing_key = Path(config["signing_key_path"])
        if not signing_key.exists():
            data_folder.make_signing_key(signing_key)

    def _database(self, index: int, side: Side) -> dict[str, Any]:
        if self._postgres is None:
            return loopback.sqlite(side.folder)
        name = f"homeserver{index + 1}"
        self._postgres.create_database(name)
        return loopback.postgresql(self._postgres.connection(name))

    # What is in them. Each step finds out what is there already.

    def _provision(self) -> None:
        with ExitStack() as connections:
            self._progress("making accounts")
            self.admins = [self._account(index, _OPERATOR, admin=True) for index in range(len(self.sides))]
            for admin in self.admins:
                # It answers once all features have started; who registers before then is greeted by nobody.
                admin.superapp("GET", "contacts")
            clients = {name: connections.enter_context(self._account(index, name)) for name, index in _PEOPLE}
            self._wait_for_greetings(clients)
            self._furnish(clients)

    def _furnish(self, clients: Mapping[str, MatrixClient]) -> None:
        for name, index in _PEOPLE:
            self.people[name] = self._person(clients[name], name, index)
        self._progress(f"opening the link, {_CREDIT_LIMIT_MINOR // 100} {CURRENCY} each way")
        self._open_links()
        self._progress(f"issuing {_OPENING_BALANCE_MINOR // 100} {CURRENCY} to everyone")
        for person in self.people.values():
            self.admins[person.homeserver].issue(
                person.user_id, _OPENING_BALANCE_MINOR, CURRENCY, f"demo opening balance of {person.name}"
            )
        self._progress("bringing alice and bob together in a room")
        self.room_id = _direct_room(clients["alice"], clients["bob"], via=self.sides[0].name)
        self._progress("waiting until each homeserver knows the other's handles")
        for person in self.people.values():
            for other in self.people.values():
                if person.homeserver != other.homeserver:
                    self._wait_until_found(clients[person.name], other)

    def _account(self, index: int, name: str, *, admin: bool = False) -> MatrixClient:
        with self.sides[index].client() as client:
            try:
                session = client.register_with_secret(loopback.REGISTRATION_SECRET, name, _password(name), admin=admin)
                self._registered.add(session.user_id)
            except MatrixError as error:
                if error.errcode != "M_USER_IN_USE":
                    raise
                session = client.login(name, _password(name))
            return client.signed_in(session)

    def _wait_for_greetings(self, clients: Mapping[str, MatrixClient]) -> None:
        """The assistant writes to who registers, and notes its room among their direct ones, as they do with others."""
        if not self._module_config.get("features", {}).get("assistant", False):
            return
        for name, index in _PEOPLE:
            client, assistant = clients[name], f"@{_ASSISTANT}:{self.sides[index].name}"
            if client.user_id in self._registered:
                wait_until(
                    partial(_has_direct_room, client, assistant),
                    timeout_s=_REPLICATION_TIMEOUT_S,
                    what=f"the assistant to greet {client.user_id}",
                )

    def _person(self, client: MatrixClient, name: str, index: int) -> Person:
        claimed = client.superapp("PUT", f"handles/{name}", {"discover": "public"})
        client.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["everyone"]})
        return Person(
            name=name,
            user_id=client.user_id,
            handle=str(claimed["handle"]),
            password=_password(name),
            access_token=str(client.access_token),
            homeserver=index,
        )

    def _open_links(self) -> None:
        towards = list(zip(self.admins, [self.sides[1].name, self.sides[0].name], strict=True))
        for admin, peer in towards:
            if not _is_open(admin, peer):
                terms = [{"currency": CURRENCY, "credit_limit_minor": _CREDIT_LIMIT_MINOR}]
                admin.superapp("POST", "admin/links", {"peer": peer, "currencies": terms})
        for admin, peer in towards:
            opened = partial(_is_open, admin, peer)
            try:
                wait_until(opened, timeout_s=_REPLICATION_TIMEOUT_S, what=f"the link to {peer} to open")
            except TimeoutError as late:
                raise TimeoutError(f"{late}; it says {_links(admin)}") from None

    def _wait_until_found(self, seeker: MatrixClient, other: Person) -> None:
        def found() -> bool:
            results = seeker.search_people(f"@{other.name}")
            return any(result["user_id"] == other.user_id for result in results)

        wait_until(
            found, timeout_s=_REPLICATION_TIMEOUT_S, what=f"{seeker.user_id} to find @{other.name} in the directory"
        )
        seeker.handle(other.handle)


def _has_direct_room(client: MatrixClient, other: str) -> bool:
    return other in (client.account_data("m.direct") or {})


def _is_open(admin: MatrixClient, peer: str) -> bool:
    return any(link["peer"] == peer and link["state"] == "open" for link in _links(admin))


def _links(admin: MatrixClient) -> list[Json]:
    return cast(list[Json], admin.superapp("GET", "admin/links")["links"])


def _direct_room(inviter: MatrixClient, invitee: MatrixClient, *, via: str) -> str:
    """The direct room of the two: invite only, not encrypted, both joined, and marked as direct by both."""
    direct = inviter.account_data("m.direct") or {}
    known = cast(list[str], direct.get(invitee.user_id, []))
    room_id = (
        known[0]
        if known
        else inviter.create_room(
            preset="trusted_private_chat", is_direct=True, invite=[invitee.user_id], visibility="private"
        )
    )
    inviter.set_account_data("m.direct", {**direct, invitee.user_id: [room_id]})
    # The invitation travels over federation, and a join by its room id needs it to have arrived.
    wait_until(lambda: _joined(invitee, room_id, via), timeout_s=_REPLICATION_TIMEOUT_S, what="bob to join the room")
    invitee.set_account_data("m.direct", {**(invitee.account_data("m.direct") or {}), inviter.user_id: [room_id]})
    both = frozenset({inviter.user_id, invitee.user_id})
    wait_until(
        lambda: inviter.joined_members(room_id) == both,
        timeout_s=_REPLICATION_TIMEOUT_S,
        what=f"both to be members of {room_id}",
    )
    return room_id


def _joined(client: MatrixClient, room_id: str, via: str) -> bool:
    if room_id in client.joined_rooms():
        # Joining again would put another event into the room at each start.
        return True
    try:
        client.join(room_id, via=via)
    except MatrixError:
        return False
    return True


def _password(name: str) -> str:
    # Fixed and printed: these homeservers listen on loopback and their money is not real.
    return f"{name}-demo"


def _has_ended(pid: int) -> bool:
    """Whether a child ended. It is left for its owner to reap."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
