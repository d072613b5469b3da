"""Contact cards through the client API and the gate: to make one, and to check one that somebody shared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from synapse.module_api import NOT_SPAM

from super_app.directory import cards
from super_app.directory.model import Discover, Record, Status
from super_app.directory.naming import split
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import EventType
from super_app.signing import public_b64
from super_app.wire import WireModel
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import Peers
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.directory.routes import HandleRecord
from synapse_super_app.gate import Verdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.runtime import Runtime

if TYPE_CHECKING:
    from synapse.module_api import EventBase

_ELSEWHERE: Final = (Reason.PEER_UNREACHABLE, Reason.BAD_RECORD, Reason.TOO_MANY_REQUESTS)


class ContactCard(BaseModel):
    """The content of an ``org.superapp.contact`` event (docs/directory.md)."""

    v: int
    record: HandleRecord
    certificate: dict[str, Any]


class CardToCheck(WireModel):
    card: dict[str, Any]
    """The content of the event."""


class CheckedCard(BaseModel):
    """``valid`` says that the card's own homeserver signed it, and the rest is what it says."""

    valid: bool
    why: str | None = None
    """What is wrong with a card that is not valid."""
    handle: str | None = None
    user_id: str | None = None
    acct: str | None = None
    server: str | None = None
    status: str | None = None
    issued: int | None = None
    expires: int | None = None


class CardRoutes:
    """Handlers, and the gate for cards of our own people."""

    def __init__(self, runtime: Runtime, own: OwnHandles, peers: Peers, people: DirectoryPeople) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._people = people
        runtime.gate.register({EventType.CONTACT: self.judge})

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="handles/{handle}/card",
                handler=self.make,
                response=ContactCard,
                summary="A contact card of yourself, or of somebody with a public handle, to share in any room",
                reasons=(Reason.HANDLE_INVALID, Reason.UNKNOWN_HANDLE, Reason.NOT_ALLOWED, *_ELSEWHERE),
            ),
            Route(
                method="POST",
                path="cards/check",
                handler=self.check,
                response=CheckedCard,
                body=CardToCheck,
                summary="Whether a contact card is what its homeserver signed; asks no other server that is known here",
            ),
        )

    async def make(self, call: Call) -> ContactCard | Refused:
        parts = split(call.path["handle"], self._runtime.server_name)
        if isinstance(parts, Refused):
            return parts
        name, server = parts
        record = await self._people.record(name, server, asker=call.user_id)
        if isinstance(record, Refused):
            return record
        if record["user_id"] != call.user_id and record["discover"] != Discover.PUBLIC.value:
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"{record['handle']} is not public, so only its owner can share it; ask them for a card.",
            )
        certificate = await self._certificate(server)
        if certificate is None:
            return Refused(
                reason=Reason.PEER_UNREACHABLE, message=f"The key of {server} is not known here yet; try again later."
            )
        return ContactCard.model_validate(cards.card(record, certificate))

    async def check(self, call: Call) -> CheckedCard:
        body: CardToCheck = call.body
        found = await self.read(body.card)
        if isinstance(found, Refused):
            return CheckedCard(valid=False, why=found.message)
        return CheckedCard(
            valid=True,
            handle=found.handle,
            user_id=found.user_id,
            acct=found.acct,
            server=found.server,
            status=found.status.value,
            issued=found.issued_ms,
            expires=found.expires_ms,
        )

    async def read(self, content: dict[str, Any]) -> Record | Refused:
        """The record of a card, verified."""
        server = cards.server_of_card(content)
        if isinstance(server, Refused):
            return server
        if server == self._runtime.server_name:
            public_key = public_b64(self._own.signer.key)
        else:
            key = await self._peers.trusted_key(server, content)
            if isinstance(key, Refused):
                return key
            public_key = key.public_key
        return cards.read(content, server, public_key, self._runtime.now_ms())

    async def judge(self, event: "EventBase") -> Verdict:
        """The gate: our people share no card that is forged. What others send is in the room whatever we think."""
        if not self._runtime.api.is_mine(event.sender):
            return NOT_SPAM
        if event.is_state():
            raise error_of(Refused(reason=Reason.NOT_A_MESSAGE, message="A contact card is a message and no state."))
        content = event.get_dict()["content"]
        found = await self.read({key: value for key, value in content.items() if not key.startswith("m.")})
        if isinstance(found, Refused):
            raise error_of(Refused(reason=Reason.INVALID_VALUE, message=f"This is no contact card: {found.message}"))
        if found.status is not Status.ACTIVE:
            raise error_of(
                Refused(reason=Reason.INVALID_VALUE, message=f"{found.handle} is {found.status.value}; share no card.")
            )
        return NOT_SPAM

    async def _certificate(self, server: ServerName) -> dict[str, Any] | None:
        if server == self._runtime.server_name:
            return self._own.signer.certificate()
        peer = await self._peers.peer(server)
        return None if peer is None or peer.key is None else dict(peer.key.certificate)
