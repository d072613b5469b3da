"""The shape of what operators do with a link: one unit of work of the writer, and the peer may have to hear of it."""

from collections.abc import Callable
from typing import LiteralString, TypeVar

from super_app.clearing.service import Clearing
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import ServerName
from synapse_super_app.http.routes import Call
from synapse_super_app.ledger.operator_routes import OperatorRoutes
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime

T = TypeVar("T")


class LinkOperatorRoutes(OperatorRoutes):
    """``changed`` hears of every peer to whom there may be something to say."""

    def __init__(
        self, runtime: Runtime, writer: LedgerWriter, clearing: Clearing, changed: Callable[[ServerName], None]
    ) -> None:
        super().__init__(runtime, writer)
        self._clearing = clearing
        self._changed = changed

    async def _write_towards(
        self, peer: ServerName, name: LiteralString, work: Callable[[Cursor], T | Refused]
    ) -> T | Refused:
        """What ``work`` gives. After anything but a refusal the peer is looked at."""
        done = await self._writer.run(name, work)
        if not isinstance(done, Refused):
            self._changed(peer)
        return done


def peer_of(call: Call) -> ServerName:
    """The homeserver that the path names."""
    return ServerName(call.path["peer"])
