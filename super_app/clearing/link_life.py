"""The life of a link between its opening and its end: SUSPEND, RESUME and CLOSE, ours and theirs.

What our operator wants holds here at once, also while nothing can be signed; it is said to the peer as soon as
something can be. On a link that is not ready nothing new is agreed on. What is under way ends as on any link, and
settlement goes on. Nothing here moves money.
"""

from dataclasses import replace
from typing import Final

from super_app.clearing import rules, store
from super_app.clearing.chain import Chain, Handled, Taken
from super_app.clearing.model import ChainObject, CurrencyLine, JsonObject, Link, LinkPhase, MessageType, Standing
from super_app.clearing.rules import MaySign
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import due_from, due_to, in_transit

_SAYS: Final[dict[MessageType, Standing]] = {
    MessageType.SUSPEND: Standing.SUSPENDED,
    MessageType.RESUME: Standing.READY,
    MessageType.CLOSE: Standing.CLOSING,
}
_SAID_BY: Final = {standing: kind for kind, standing in _SAYS.items()}


class LinkLife:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    # Our operator.

    def stand(self, cur: Cursor, link: Link, standing: Standing, why: str, now_ms: int) -> Link:
        """Our side is to stand so from now on. The same again changes nothing."""
        if (link.our_standing, link.our_standing_why) == (standing, why):
            return link
        link = replace(link, our_standing=standing, our_standing_why=why)
        store.put_link(cur, link)
        return self.say(cur, link, now_ms)

    def say(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """Tell the peer how we stand, if it does not know and something can be signed."""
        if link.said_standing is link.our_standing or link.our_open_ms == 0:
            return link
        if self._chain.may_sign(link) is not MaySign.ALL:
            return link
        why: JsonObject = {"reason": link.our_standing_why} if link.our_standing_why else {}
        link, _ = self._chain.append(
            cur,
            replace(link, said_standing=link.our_standing),
            _SAID_BY[link.our_standing],
            {} if link.our_standing is Standing.READY else why,
            due_ms=now_ms,
            now_ms=now_ms,
        )
        return link

    # Objects of the peer.

    def on_standing(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Handled:
        """SUSPEND, RESUME or CLOSE: of several the latest in the chain counts, whichever comes first."""
        if (found.epoch, found.seq) > (link.standing_epoch, link.standing_seq):
            link = replace(
                link,
                their_standing=_SAYS[found.type],
                their_standing_why=found.reason,
                standing_epoch=found.epoch,
                standing_seq=found.seq,
            )
        return Taken(link=self._chain.admit(cur, link, found, now_ms))

    # How it stands.

    def why_not_new(self, link: Link | None, peer: ServerName) -> Refused | None:
        """Why no new payment can be agreed on now; None if one can."""
        return self._chain.why_not(link, peer) or rules.why_not_ready(link, peer)

    def phase(self, cur: Cursor, link: Link) -> LinkPhase:
        phase = rules.phase_of(link, self._chain.me.boot)
        if phase is LinkPhase.CLOSING and not self.is_busy(cur, link):
            return LinkPhase.CLOSED
        return phase

    def waits(self, cur: Cursor, link: Link, phase: LinkPhase) -> tuple[str, ...]:
        """What has to happen before the link can be paid over, or has ended, and who must do it."""
        peer = link.peer
        match phase:
            case LinkPhase.OPEN | LinkPhase.CLOSED:
                return ()
            case LinkPhase.WAITING_FOR_US:
                return (f"waits for you: the operator of {peer} has opened its side, open yours",)
            case LinkPhase.WAITING_FOR_PEER:
                if link.our_open_ms == 0:
                    return (f"waits for {peer} to answer; your side opens then",)
                return (f"waits for the operator of {peer} to open its side",)
            case LinkPhase.CHECKING:
                return (f"waits for {peer} to say what it holds of ours, as after every start",)
            case LinkPhase.SUSPENDED:
                return _suspended_by(link)
            case LinkPhase.CLOSING:
                return self._closing_waits(cur, link)
            case LinkPhase.FROZEN:
                return (f"waits for you and the operator of {peer}: read the evidence and talk to each other",)
            case LinkPhase.RECOVERING:
                return (f"waits for {peer} to give back what a restore of this side has lost",)
            case LinkPhase.HALTED:
                return (f"waits for you: this side and {peer} do not agree on what was signed here",)

    def is_busy(self, cur: Cursor, link: Link) -> bool:
        """Whether something is under way on either side, as far as we know, or anything is owed."""
        return (
            sum(store.count_unended(cur, link.link_id)) > 0
            or store.outbox_size(cur, link.link_id) > 0
            or any(self._is_owed(cur, link, line) for line in store.lines(cur, link.link_id))
        )

    def _closing_waits(self, cur: Cursor, link: Link) -> tuple[str, ...]:
        waits: list[str] = []
        sent, received = store.count_unended(cur, link.link_id)
        if sent + received > 0:
            waits.append(f"waits for {sent + received} payments to end: {sent} to {link.peer} and {received} from it")
        owed = [line.currency for line in store.lines(cur, link.link_id) if self._is_owed(cur, link, line)]
        if owed:
            waits.append(f"waits for a settlement of what is owed in {', '.join(owed)}")
        unsent = store.outbox_size(cur, link.link_id)
        if unsent > 0 and not waits:
            waits.append(f"waits for {link.peer} to acknowledge what was sent to it")
        return tuple(waits)

    def _is_owed(self, cur: Cursor, link: Link, line: CurrencyLine) -> bool:
        """Whether anybody owes anything net, or a settlement is on its way. Debts of the same size cancel out."""
        net_minor = sum(
            ledger.balance(cur, account)
            for account in (due_to(link.peer, line.currency), due_from(link.peer, line.currency))
        )
        return net_minor != 0 or ledger.balance(cur, in_transit(link.peer, line.currency)) != 0


def _suspended_by(link: Link) -> tuple[str, ...]:
    waits: list[str] = []
    if link.our_standing is Standing.SUSPENDED:
        waits.append(f"waits for you to resume what you suspended{_because(link.our_standing_why)}")
    if link.their_standing is Standing.SUSPENDED:
        waits.append(f"waits for the operator of {link.peer} to resume{_because(link.their_standing_why)}")
    return tuple(waits)


def _because(why: str) -> str:
    return f" ({why})" if why else ""
