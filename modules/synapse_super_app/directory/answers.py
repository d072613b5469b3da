"""What this homeserver answers to other homeservers: who somebody is, and the feed of public records.

A hidden handle and one that does not exist get the same signed answer. Each origin has a budget, and a smaller one for
questions that lead to nobody, so that guessing names is slow.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client import Counter

from super_app.directory import heads, records, rules, service
from super_app.directory.guess_store import Allowance
from super_app.directory.model import FEED_PAGE, AskedBy, Discover, Holding, State
from super_app.errors import Reason, Refused
from super_app.ids import Handle, ServerName, UserId, localpart_of, server_of
from super_app.names import FederationQuery
from super_app.signing import digest_of, signed
from synapse_super_app.directory.budget import Budget, Guesses
from synapse_super_app.directory.description import SelfDescription
from synapse_super_app.directory.generations import OwnGenerations
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.log import OwnLog
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import Peers
from synapse_super_app.http.refusals import error_of
from synapse_super_app.runtime import Runtime

_MAX_ASKED: Final = 255
_TRIES: Final = 3
"""How often a record is looked up that is replaced before it is proved."""

_answered = Counter("superapp_directory_answered_total", "Questions of other servers by outcome.", ["outcome"])


class Answers:
    """The federation queries."""

    def __init__(
        self,
        runtime: Runtime,
        own: OwnHandles,
        peers: Peers,
        log: OwnLog,
        known: Heads,
        described: SelfDescription,
        generations: OwnGenerations,
    ) -> None:
        self._runtime = runtime
        self._peers = peers
        self._own = own
        self._log = log
        self._heads = known
        self._self = described
        self._generations = generations
        self._questions = Budget(burst=200, every_ms=50)
        self._guesses = Guesses(
            runtime,
            each=Allowance(name="resolve", burst=300, every_ms=2_000),
            everybody=Allowance(name="resolve_all", burst=1_000, every_ms=500),
            trusted=runtime.config.directory.peers,
        )
        self._heard: Callable[[ServerName], None] | None = None

    def register(self, heard: Callable[[ServerName], None]) -> None:
        """Answer from now on; ``heard`` is told of each server that asks."""
        self._heard = heard
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_RESOLVE, self.resolve)
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_FEED, self.feed)
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_HEAD, self.head)
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_PEERS, self.peers)

    async def resolve(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``handle`` or ``user_id`` of this homeserver, to a record, a services part, or "nobody".

        A record comes with the proof that it is in our log, and that the log of size ``from`` is its beginning.
        """
        origin = await self._begin(arguments)
        since = _number(arguments, "from", 0)
        own = self._own
        by = AskedBy.USER_ID if "user_id" in arguments else AskedBy.HANDLE
        asked = str(arguments.get(by.value, ""))
        if len(asked) > _MAX_ASKED or server_of(Handle(asked)) != self._runtime.server_name:
            raise error_of(
                Refused(
                    reason=Reason.INVALID_VALUE,
                    message=f"Ask for one handle or one user_id of {self._runtime.server_name}.",
                )
            )
        for _ in range(_TRIES):
            held = await own.find(localpart_of(Handle(asked)), by)
            answer = None if held is None else await self._seen(held, by, origin)
            if answer is None or answer["type"] != records.RECORD_TYPE:
                proof = None
                break
            proof = await self._log.proof_of(localpart_of(Handle(str(answer["handle"]))), answer, since)
            if proof is not None:
                break
        else:
            raise error_of(Refused(reason=Reason.STARTING, message="That handle changes in this moment; ask again."))
        now_ms = self._runtime.now_ms()
        spent = await self._guesses.judge(
            origin, now_ms, found=answer is not None, known_anyway=await self._knows_anyway(held, by, asked, origin)
        )
        if spent is not None:
            raise error_of(spent)
        if answer is None:
            answer = records.absent(own.issuer.server, asked, by, own.signer.key, issued_ms=now_ms)
        _answered.labels(str(answer["type"]).rpartition(".")[2]).inc()
        found = {"answer": answer, **await self._identity()}
        return found if proof is None else {**found, "log": proof}

    async def _knows_anyway(self, held: Holding | None, by: AskedBy, asked: str, origin: ServerName) -> bool:
        """Whether a server could know of somebody without asking: from our feed, or from a room.

        The room is looked for in any case, so that the time tells nothing.
        """
        meets = by is AskedBy.USER_ID and await self._runtime.private.shares_a_room(UserId(asked), origin)
        return meets or (held is not None and rules.in_feed(held))

    async def _seen(self, held: Holding, by: AskedBy, origin: ServerName) -> Mapping[str, Any] | None:
        # Whoever hides and moved is seen by the homeserver to which they moved: it has to know that they did.
        if held.state is State.MOVED and _went_to(held) == origin:
            return await self._own.record(held)
        # A contested name is frozen; its record says so whoever of the two is meant by the user id.
        hidden = by is AskedBy.USER_ID and held.discover is Discover.NONE
        shares_room = hidden and await self._runtime.private.shares_a_room(held.user_id, origin)
        match rules.sight_of(held, by, is_owner=False, shares_room=shares_room):
            case rules.Sight.RECORD:
                return await self._own.record(held)
            case rules.Sight.SERVICES:
                return await self._own.services(held)
            case rules.Sight.NOTHING:
                return None

    async def feed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Public records and withdrawals after ``since``, at most ``limit`` (500)."""
        await self._begin(arguments)
        since, limit = _number(arguments, "since", 0), _number(arguments, "limit", FEED_PAGE)
        known = _number(arguments, "from", 0)
        common = await self._common()
        if not self._runtime.config.directory.publish_feed:
            return {**common, "publishes": False, "entries": [], "next": 0, "head": 0}
        page = await self._runtime.database.run("directory_feed", lambda cur: service.feed(cur, since, limit))
        # All in one go, which takes half as long as one by one.
        entries = json.loads("[" + ",".join(page.entries) + "]")
        subjects = [_subject_of(entry, text) for entry, text in zip(entries, page.entries, strict=True)]
        proof = await self._log.page_proof(subjects, known)
        return {
            **common,
            "publishes": True,
            "entries": entries,
            "next": page.next_position,
            "head": page.head,
            "log": proof,
        }

    async def head(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Our log now, signed, with proofs that it grew out of the sizes in ``from``; and the server record."""
        await self._begin(arguments)
        sizes = _sizes(arguments)
        now, growths = await self._log.growths(sizes)
        issuer = self._own.issuer
        said = {
            "type": heads.HEAD_TYPE,
            "v": records.VERSION,
            "server": issuer.server,
            "issued": self._runtime.now_ms(),
            "checkpoint": now.note,
            "growths": growths,
        }
        cosigned = await self._log.cosigned(now)
        return {
            **await self._common(),
            "head": signed(said, issuer.key),
            "cosigned": cosigned,
            "record": await self._self.current(),
        }

    async def peers(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The heads of servers that we have seen, each with our cosignature."""
        await self._begin(arguments)
        return {**await self._common(), "peers": await self._heads.told()}

    async def _common(self) -> dict[str, Any]:
        return {"v": records.VERSION, "server": self._runtime.server_name, **await self._identity()}

    async def _identity(self) -> dict[str, Any]:
        """Our key, how it came to be, and the restore that our log has been through."""
        restored = await self._generations.statement()
        return {**await self._own.signer.identity(), **({} if restored is None else {"generation": restored})}

    def certificate(self) -> dict[str, Any]:
        """Our directory key, certified by our Matrix key."""
        return self._own.signer.certificate()

    async def _begin(self, arguments: Mapping[str, Any]) -> ServerName:
        if not self._own.ready or await self._generations.is_settling():
            raise error_of(Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment."))
        origin = ServerName(str(arguments["origin"]))
        spent = self._questions.take(origin, self._runtime.now_ms())
        if spent is not None:
            raise error_of(spent)
        await self._peers.meet(origin)
        if self._heard is not None:
            self._heard(origin)
        return origin


def _went_to(held: Holding) -> ServerName | None:
    return None if held.moved_to is None else server_of(UserId(held.moved_to["user_id"]))


def _subject_of(entry: Mapping[str, Any], text: str) -> tuple[str, str] | None:
    """The name and the hash of a record, which is kept as canonical JSON; None for a withdrawal, which is in no log."""
    if entry["type"] != records.RECORD_TYPE:
        return None
    return localpart_of(Handle(entry["handle"])), digest_of(text.encode())


def _sizes(arguments: Mapping[str, Any]) -> list[int]:
    """The sizes in ``from``, with commas between them."""
    texts = str(arguments.get("from", "0")).split(",")
    if len(texts) > heads.MAX_SIZES:
        raise error_of(
            Refused(reason=Reason.INVALID_VALUE, message=f"from names at most {heads.MAX_SIZES} sizes of the log.")
        )
    return sorted({_number({"from": text}, "from", 0) for text in texts})


def _number(arguments: Mapping[str, Any], name: str, default: int) -> int:
    text = str(arguments.get(name, default))
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise error_of(Refused(reason=Reason.INVALID_VALUE, message=f"{name} must be a whole number, 0 or more."))
    return int(text)
