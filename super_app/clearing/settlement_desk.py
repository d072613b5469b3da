"""What operators do with settlements: a link is named by its peer, and what there is no link for is refused.

Every method runs inside one transaction of the ledger's writer. A ``Refused`` has written nothing; every act may be
repeated and then changes nothing. All refuse with UNKNOWN_PEER, and acts with what ``Settlements`` says.
"""

from super_app.clearing import objects, settlement_store, store
from super_app.clearing.model import Link, SettlementId
from super_app.clearing.settlement_model import AutoSettle, Settlement
from super_app.clearing.settlements import OPEN_SHOWN, Settlements
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.money import AssetCode


class SettlementDesk:
    def __init__(self, server: ServerName, settlements: Settlements) -> None:
        self._server = server
        self._settlements = settlements

    def propose(
        self,
        cur: Cursor,
        peer: ServerName,
        currency: AssetCode,
        amount_minor: int | None,
        now_ms: int,
        *,
        settlement_id: SettlementId | None = None,
    ) -> Settlement | Refused:
        """Propose to pay the peer so much, None: all that we owe it net."""
        link = self._link(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._settlements.propose(cur, link, currency, amount_minor, settlement_id, now_ms)

    def cancel(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        link = self._link(cur, peer)
        return link if isinstance(link, Refused) else self._settlements.cancel(cur, link, settlement_id, reason, now_ms)

    def sent(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, bank_reference: str, now_ms: int
    ) -> Settlement | Refused:
        """We have paid; ``bank_reference`` is empty or what our bank calls the transfer."""
        link = self._link(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._settlements.sent(cur, link, settlement_id, bank_reference, now_ms)

    def agree(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, pay_to: str | None, now_ms: int
    ) -> Settlement | Refused:
        """Let the peer pay, to ``pay_to`` or to where our terms say."""
        link = self._link(cur, peer)
        return link if isinstance(link, Refused) else self._settlements.agree(cur, link, settlement_id, pay_to, now_ms)

    def refuse(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        link = self._link(cur, peer)
        return link if isinstance(link, Refused) else self._settlements.refuse(cur, link, settlement_id, reason, now_ms)

    def received(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, received_minor: int | None, now_ms: int
    ) -> Settlement | Refused:
        """So much has arrived, None: all of it. From here on the peer's credit is free again."""
        link = self._link(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._settlements.received(cur, link, settlement_id, received_minor, now_ms)

    def not_received(
        self, cur: Cursor, peer: ServerName, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        link = self._link(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._settlements.not_received(cur, link, settlement_id, reason, now_ms)

    def choose(self, cur: Cursor, peer: ServerName, chosen: AutoSettle, now_ms: int) -> AutoSettle | Refused:
        """What happens by itself with this peer in one currency from now on."""
        link = self._link(cur, peer)
        return link if isinstance(link, Refused) else self._settlements.choose(cur, link, chosen, now_ms)

    def chosen(self, cur: Cursor) -> tuple[tuple[ServerName, AutoSettle], ...]:
        """What happens by itself, by peer and currency."""
        return tuple(
            (link.peer, auto) for link in store.links(cur) for auto in settlement_store.autos(cur, link.link_id)
        )

    def open_ones(self, cur: Cursor) -> tuple[Settlement, ...]:
        """What is not ended, by peer."""
        return tuple(
            each for link in store.links(cur) for each in settlement_store.open_ones(cur, link.link_id, OPEN_SHOWN)
        )

    def newest(self, cur: Cursor, peer: ServerName | None, limit: int) -> tuple[Settlement, ...] | Refused:
        """The settlements with one peer or with all, newest first."""
        if peer is None:
            return settlement_store.newest(cur, None, limit)
        link = self._link(cur, peer)
        return link if isinstance(link, Refused) else settlement_store.newest(cur, link.link_id, limit)

    def _link(self, cur: Cursor, peer: ServerName) -> Link | Refused:
        link = store.link(cur, objects.link_id_of(self._server, peer))
        if link is None:
            return Refused(reason=Reason.UNKNOWN_PEER, message=f"There is no link with {peer[:255]!r}.")
        return link
