"""The life of a link between its opening and its end: SUSPEND, RESUME, CLOSE and KEY, ours and theirs.

What our operator wants holds here at once, also while nothing can be signed; it is said to the peer as soon as
something can be. On a link that is not ready nothing new is agreed on. What is under way ends as on any link, and
settlement goes on. Nothing here moves money.
"""

from dataclasses import replace
from typing import Final

from super_app.clearing import objects, recovery_store, rules, store
from super_app.clearing.chain import Chain, Handled, Stopped, Taken
from super_app.clearing.model import (
    ChainObject,
    CurrencyLine,
    EvidenceKind,
    JsonObject,
    Link,
    LinkPhase,
    MessageType,
    Sender,
    Standing,
)
from super_app.clearing.rules import MaySign
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import due_from, due_to, in_transit
from super_app.money import MAX_AMOUNT_MINOR
from super_app.signing import public_b64

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
        recovery_store.stand(cur, link.link_id)
        if (link.our_standing, link.our_standing_why) == (standing, why):
            return link
        link = replace(link, our_standing=standing, our_standing_why=why)
        store.put_link(cur, link)
        return self.say(cur, link, now_ms)

    def say(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """Tell the peer our newest key and how we stand, if it does not know and something can be signed."""
        if link.our_open_ms == 0 or self._chain.may_sign(link) is not MaySign.ALL:
            return link
        return self._say_standing(cur, self._say_key(cur, link, now_ms), now_ms)

    def _say_standing(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        if link.said_standing is link.our_standing:
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

    def _say_key(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """KEY, signed by the key that it replaces, if the link still signs with an older one than this server."""
        me = self._chain.me
        # A key is never taken up again: a file of an older key that was put back signs nothing new here.
        if link.our_key_id == me.key_id or me.key_id in store.keys(cur, link.link_id, Sender.OURS):
            return link
        public = public_b64(me.key)
        link, _ = self._chain.append(
            cur,
            link,
            MessageType.KEY,
            {"key": objects.key_fields(public, me.certificate)},
            due_ms=now_ms,
            now_ms=now_ms,
        )
        store.put_key(
            cur, link.link_id, Sender.OURS, me.key_id, public, me.certificate, link.our_epoch, link.our_seq + 1
        )
        link = replace(link, our_key_id=me.key_id, key_unsent_seq=link.our_seq)
        store.put_link(cur, link)
        return link

    # Objects of the peer.

    def on_key(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Handled:
        """The peer signs with another key behind this object. Its certificate has been verified."""
        key = found.key
        if key is None:
            raise RuntimeError("KEY is parsed with its key")
        key_id = objects.public_key_id(key.public_key)
        if key_id is None or key_id in store.keys(cur, link.link_id, Sender.THEIRS):
            return Refused(
                reason=Reason.INVALID_VALUE, message="KEY must bring a public key that this link has not had before."
            )
        # What stands behind it was signed by the key that it retires: no other could be verified.
        behind = store.objects_between(
            cur, link.link_id, Sender.THEIRS, found.epoch, found.seq + 1, MAX_AMOUNT_MINOR, limit=1
        )
        if behind:
            return self._chain.freeze(cur, link, EvidenceKind.RETIRED_KEY, behind[0], found, now_ms)
        store.put_key(
            cur, link.link_id, Sender.THEIRS, key_id, key.public_key, key.certificate, found.epoch, found.seq + 1
        )
        return Taken(link=self._chain.admit(cur, link, found, now_ms))

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

    def replay(self, cur: Cursor, link: Link, found: ChainObject, *, ours: bool) -> Link:
        """SUSPEND, RESUME, CLOSE or our KEY, which a restored database had lost. Each chain comes in its order."""
        if not ours:
            taken = self.on_standing(cur, link, found, 0)
            link = taken.link if isinstance(taken, Taken) else link
        elif found.type is MessageType.KEY and found.key is not None:
            key_id = objects.public_key_id(found.key.public_key)
            if key_id is not None:
                public, certificate = found.key.public_key, found.key.certificate
                seq = found.seq + 1
                store.put_key(cur, link.link_id, Sender.OURS, key_id, public, certificate, found.epoch, seq)
                link = replace(link, our_key_id=key_id)
        else:
            link = replace(link, said_standing=_SAYS[found.type])
            known = recovery_store.recovery(cur, link.link_id)
            if known is None or not known.stood:
                link = replace(link, our_standing=link.said_standing, our_standing_why=found.reason)
        store.put_link(cur, link)
        return link

    def by_retired_key(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Stopped | None:
        """Stops the link if an object is signed by the key that a KEY before it retired. None if it is not.

        Only within the epoch of that KEY: in a later one the old key may be what a server had to go on with, and such
        an object is refused like any other that the present key has not signed.
        """
        pinned = {each.key_id: each for each in store.pins(cur, link.link_id, Sender.THEIRS)}
        key = pinned.get(found.key_id)
        present = store.key_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
        if key is None or present is None or not objects.is_signed_by(found, key.public_key):
            return None
        since = pinned[present[0]]
        if since.epoch != found.epoch or (key.epoch, key.seq) >= (since.epoch, since.seq):
            return None
        by = store.object_at(cur, link.link_id, Sender.THEIRS, since.epoch, since.seq - 1)
        if by is None or by.type is not MessageType.KEY:
            return None
        stopped = self._chain.freeze(cur, link, EvidenceKind.RETIRED_KEY, by, found, now_ms)
        return stopped if isinstance(stopped, Stopped) else None

    # How it stands.

    def fingerprint(self, cur: Cursor, link: Link, sender: Sender) -> str:
        """Of the newest key of one side."""
        newest = store.key_at(cur, link.link_id, sender, MAX_AMOUNT_MINOR, 0)
        return "" if newest is None else objects.fingerprint_of(newest[1])

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
            or store.is_unsent(cur, link.link_id)
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
