"""The two chains of a link: appending to ours, admitting what belongs on theirs, and noticing contradictions.

Every chain operation runs inside the caller's transaction. What is appended here is sent only after that transaction
has committed, from the outbox.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from nacl.signing import SigningKey

from super_app.clearing import objects, recovery_store, rules, store
from super_app.clearing.model import (
    FIRST_EPOCH,
    VERSION,
    Alarm,
    ChainObject,
    EvidenceKind,
    Fence,
    JsonObject,
    KeyId,
    Link,
    LinkId,
    LinkState,
    MessageType,
    Seen,
    Sender,
    Stored,
    WireId,
)
from super_app.clearing.rules import MaySign, SeenVerdict
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.signing import canonical, key_id_of, public_b64

MAX_LIES: Final = 100
"""False claims that are kept for each link; the counter of alarms goes on."""
_EPOCHS_AHEAD: Final = 8
_ADVANCE_PAGE: Final = 200
_RESTORING: Final = frozenset({MessageType.FENCE, MessageType.FENCED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who signs. ``boot`` is a nonce of this tenure of the writer; ``certificate`` is signed by the Matrix key.

    ``key`` is the one to sign with from now on; with a ``retired`` one signs a link whose KEY is still to be said.
    """

    server: ServerName
    key: SigningKey
    certificate: JsonObject
    boot: str
    retired: Sequence[SigningKey] = ()

    @property
    def key_id(self) -> KeyId:
        return KeyId(key_id_of(self.key))

    def signer(self, key_id: KeyId) -> SigningKey | None:
        """The private key of that name, if it is here."""
        return next((key for key in (self.key, *self.retired) if key_id_of(key) == key_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An object was stored and acted upon; ``link`` is how its link now is, ``alarm`` what the operator must know."""

    link: Link
    alarm: Alarm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The link was stopped instead, with evidence; ``refused`` is what the peer is told."""

    link: Link
    alarm: Alarm
    refused: Refused


Handled = Taken | Stopped | Refused


class Chain:
    """Signs, appends and admits for one server."""

    def __init__(self, me: Identity) -> None:
        self.me = me
        self._replayed: LinkId | None = None

    @contextmanager
    def replaying(self, link: Link) -> Generator[None]:
        """While the books of a restored link follow its objects, which stand in their chain already.

        What they ask of us may be signed: our new epoch is open, and the peer has said all that it holds of the others.
        """
        self._replayed = link.link_id
        try:
            yield
        finally:
            self._replayed = None

    def is_ours(self, cur: Cursor, link: Link, found: ChainObject) -> bool:
        """Whether we have signed it, whatever our database remembers."""
        head = objects.head_of(link.link_id, self.me.server, found.epoch, found.seq, found.message_id)
        here = (public_b64(key) for key in (self.me.key, *self.me.retired))
        ours = {*store.keys(cur, link.link_id, Sender.OURS).values(), *here}
        return any(objects.verify_head(head, found.signature, public) for public in ours)

    def may_sign(self, link: Link) -> MaySign:
        # With another key than the link's, whatever we signed would look forged to the peer.
        if link.our_open_ms > 0 and self.me.signer(link.our_key_id) is None:
            return MaySign.NOTHING
        if link.link_id == self._replayed:
            return MaySign.ALL
        return rules.may_sign(link, self.me.boot)

    def why_not(self, link: Link | None, peer: ServerName) -> Refused | None:
        """Why nothing new can be agreed on a link now."""
        if link is not None and link.our_open_ms > 0 and self.me.signer(link.our_key_id) is None:
            return Refused(
                reason=Reason.LINK_HALTED,
                message=lost_key(peer),
            )
        return rules.why_not(link, peer, self.me.boot)

    # Our chain.

    def append(
        self,
        cur: Cursor,
        link: Link,
        kind: MessageType,
        fields: JsonObject,
        *,
        due_ms: int,
        now_ms: int,
        wire_id: WireId | None = None,
    ) -> tuple[Link, JsonObject]:
        """Sign the next object of our chain and put it into the outbox, to be sent from ``due_ms`` on.

        Raises:
            RuntimeError: nothing may be signed on this link now; the caller should have asked.
        """
        key = self.me.signer(link.our_key_id)
        restores = kind in _RESTORING and link.state is LinkState.RECOVERING
        if key is None or (self.may_sign(link) is MaySign.NOTHING and not restores):
            raise RuntimeError(f"nothing may be signed on the link with {link.peer}")
        content = objects.seal(
            {
                "v": VERSION,
                "type": kind.value,
                "link_id": link.link_id,
                "epoch": link.our_epoch,
                "seq": link.our_seq + 1,
                "prev_hash": link.our_hash,
                "from_server": self.me.server,
                "to_server": link.peer,
                "seen": {"seq": link.their_seq, "hash": link.their_hash, "signature": link.their_signature},
                **fields,
            },
            key,
        )
        stored = Stored(
            sender=Sender.OURS,
            epoch=link.our_epoch,
            seq=link.our_seq + 1,
            message_id=objects.message_id_of(content),
            type=kind,
            wire_id=wire_id,
            prev_hash=link.our_hash,
            signature=content["signature"],
            body=canonical(content).decode(),
        )
        store.add_object(cur, link.link_id, stored, now_ms)
        store.send_at(cur, link.link_id, stored, due_ms)
        link = replace(link, our_seq=stored.seq, our_hash=stored.message_id)
        store.put_link(cur, link)
        return link, content

    def answers(self, cur: Cursor, link: Link, found: ChainObject) -> tuple[JsonObject, ...]:
        """Our stored objects that answer one of theirs, byte for byte."""
        kinds = rules.ANSWERED_BY.get(found.type, frozenset())
        if found.type is MessageType.LINK_OPEN:
            ours = store.object_at(cur, link.link_id, Sender.OURS, FIRST_EPOCH, 1)
            return () if ours is None or ours.type not in kinds else (store.content_of(ours.body),)
        if found.type is MessageType.FENCE:
            pages = store.fenced_pages(cur, link.link_id, Sender.OURS, found.message_id)
            return tuple(map(store.content_of, pages))
        if found.subject is None or not kinds:
            return ()
        return tuple(
            store.content_of(each.body)
            for each in store.objects_of(cur, link.link_id, found.subject)
            if each.sender is Sender.OURS and each.type in kinds
        )

    # Their chain.

    def place(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Stored | Stopped | Refused | None:
        """Whether an object fits its place: None if it does, or what stands there already if that is the same.

        Another object in that place, or a prev_hash that contradicts a neighbour, stops the link.
        """
        before, here, after = self._neighbours(cur, link, found)
        if here is not None and here.message_id == found.message_id:
            return here
        refused = self._judge_epoch(cur, link, found, is_taken=here is not None)
        if refused is not None:
            return refused
        if here is not None:
            return self.freeze(cur, link, EvidenceKind.EQUIVOCATION, here, found, now_ms)
        if before is not None and before.message_id != found.prev_hash:
            return self.freeze(cur, link, EvidenceKind.BROKEN_CHAIN, before, found, now_ms)
        if after is not None and after.prev_hash != found.message_id:
            return self.freeze(cur, link, EvidenceKind.BROKEN_CHAIN, after, found, now_ms)
        return None

    def _judge_epoch(self, cur: Cursor, link: Link, found: ChainObject, *, is_taken: bool) -> Refused | None:
        """Whether the epoch of an object is one in which this chain may still, or may now, have it."""
        if found.type is MessageType.FENCE:
            # Of two FENCEs for one epoch the first counts: a server that was restored twice cannot know of the other.
            if found.epoch <= link.their_epoch or is_taken:
                return closed(link, found.epoch)
            if found.epoch > link.their_epoch + rules.MAX_EPOCHS_AHEAD:
                return _invalid(f"epoch {found.epoch} is too far ahead of {link.their_epoch}.")
            return None
        if found.epoch > link.their_epoch:
            return _invalid(f"epoch must be {link.their_epoch}, the one that this link is in; a FENCE opens a new one.")
        if found.epoch < link.their_epoch:
            fences = store.fences(cur, link.link_id, Sender.THEIRS)
            if not rules.is_in_force(fences, found.epoch, found.seq):
                return closed(link, found.epoch)
            anew_epoch = max(
                (pin.epoch for pin in store.pins(cur, link.link_id, Sender.THEIRS) if pin.is_anew), default=FIRST_EPOCH
            )
            # Whoever has the key that was replaced signs what they like for these places.
            is_open = found.epoch >= anew_epoch or (not is_taken and self._is_named(cur, link, fences, found))
            return None if is_open else closed(link, found.epoch)
        if found.seq > link.their_seq + rules.MAX_SEQ_AHEAD:
            # Of what has no gap, so that nobody can walk ahead and leave ever more to be asked for.
            return Refused(
                reason=Reason.TOO_MANY_REQUESTS,
                message=f"seq {found.seq} is too far ahead of {link.their_seq}, behind which something is missing.",
                fields={"retry_after_ms": rules.GAP_PATIENCE_MS},
            )
        return None

    def _is_named(self, cur: Cursor, link: Link, fences: Sequence[Fence], found: ChainObject) -> bool:
        """Whether the object behind it in its chain, or a FENCE behind that, names it by its hash."""
        after = store.object_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq + 1)
        if after is not None and after.prev_hash == found.message_id:
            return True
        for fence in fences:
            if (fence.after_epoch, fence.after_seq) == (found.epoch, found.seq):
                begins = store.object_at(cur, link.link_id, Sender.THEIRS, fence.epoch, 1)
                if begins is not None and store.content_of(begins.body)["after"]["hash"] == found.message_id:
                    return True
        return False

    def admit(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Link:
        """Store an object of theirs in its place, which is free."""
        if link.link_id == self._replayed:
            return link
        stored = Stored(
            sender=Sender.THEIRS,
            epoch=found.epoch,
            seq=found.seq,
            message_id=found.message_id,
            type=found.type,
            wire_id=found.subject,
            prev_hash=found.prev_hash,
            signature=found.signature,
            body=canonical(found.content).decode(),
        )
        store.add_object(cur, link.link_id, stored, now_ms)
        if found.epoch < link.their_epoch:
            # Left from before their restore: not part of the chain that now grows.
            return link
        if found.epoch > link.their_epoch:
            link = replace(link, their_epoch=found.epoch, their_seq=0, their_newest=0)
        link = replace(link, their_newest=max(link.their_newest, found.seq))
        if found.seq == link.their_seq + 1:
            link = self._advance(cur, link, stored)
        if link.their_newest == link.their_seq:
            link = replace(link, gap_due_ms=None, gap_attempts=0)
        elif link.gap_due_ms is None:
            link = replace(link, gap_due_ms=now_ms + rules.GAP_PATIENCE_MS)
        store.put_link(cur, link)
        return link

    def judge_seen(self, cur: Cursor, link: Link, seen: Seen) -> tuple[SeenVerdict, int, Stored | None]:
        """What a ``seen`` shows, the epoch of ours that it speaks of, and what we have in that place."""
        if seen.seq == 0:
            return SeenVerdict.TRUE, link.our_epoch, None
        ours = None
        for epoch in range(link.our_epoch, 0, -1):
            there = store.object_at(cur, link.link_id, Sender.OURS, epoch, seen.seq)
            if there is not None and there.message_id == seen.hash:
                return SeenVerdict.TRUE, epoch, there
            ours = ours or there
        for epoch in range(link.our_epoch, link.our_epoch + _EPOCHS_AHEAD):
            # What is of an epoch that we closed and not here was lost by us and not listed by them, so that it is void:
            # to have it after all is a lie of theirs.
            head = objects.head_of(link.link_id, self.me.server, epoch, seen.seq, seen.hash)
            if self._signed_by_us(cur, link, head, seen.signature):
                there = store.object_at(cur, link.link_id, Sender.OURS, epoch, seen.seq)
                stored_hash = None if there is None else there.message_id
                verdict = rules.judge_claim(is_ours=True, stored_hash=stored_hash, claimed_hash=seen.hash)
                return verdict, epoch, there
        return SeenVerdict.LIE, link.our_epoch, ours

    def judge_own(self, cur: Cursor, link: Link, found: ChainObject) -> tuple[SeenVerdict, Stored | None]:
        """What an object shows that a peer says is ours."""
        there = store.object_at(cur, link.link_id, Sender.OURS, found.epoch, found.seq)
        head = objects.head_of(link.link_id, self.me.server, found.epoch, found.seq, found.message_id)
        verdict = rules.judge_claim(
            is_ours=self._signed_by_us(cur, link, head, found.signature),
            stored_hash=None if there is None else there.message_id,
            claimed_hash=found.message_id,
        )
        return verdict, there

    def freeze(
        self, cur: Cursor, link: Link, kind: EvidenceKind, first: Stored | None, second: ChainObject, now_ms: int
    ) -> Stopped | Refused:
        """The peer has contradicted itself: freeze the link, with both objects kept as evidence.

        What is kept already stops nothing again: operators who pinned the keys anew went on in spite of it.
        """
        if self._keep(cur, link, kind, first, second, now_ms) or link.state is LinkState.FROZEN:
            return self._stop(cur, link, kind)
        return Refused(
            reason=Reason.CONFLICT, message=f"This object is known as one that contradicts another ({kind.value})."
        )

    def halt(
        self, cur: Cursor, link: Link, kind: EvidenceKind, first: Stored | None, second: ChainObject, now_ms: int
    ) -> Stopped:
        """The peer knows more of us than we do: nothing is signed until that is cured. Both objects are kept."""
        self._keep(cur, link, kind, first, second, now_ms)
        return self._stop(cur, link, kind)

    def _keep(
        self, cur: Cursor, link: Link, kind: EvidenceKind, first: Stored | None, second: ChainObject, now_ms: int
    ) -> bool:
        """Whether it is new."""
        return store.add_evidence(
            cur,
            link.link_id,
            kind,
            ("", "") if first is None else (first.message_id, first.body),
            (second.message_id, canonical(second.content).decode()),
            now_ms,
        )

    def _stop(self, cur: Cursor, link: Link, kind: EvidenceKind) -> Stopped:
        why = _WHY[kind].format(peer=link.peer)
        # A halt outranks a freeze: on a halted link not even an ABORT is signed.
        if link.state is LinkState.RECOVERING and not kind.halts:
            recovery_store.freeze_then(cur, link.link_id, why)
        if kind.halts or link.state is LinkState.ACTIVE:
            link = replace(link, state=LinkState.HALTED if kind.halts else LinkState.FROZEN, stopped_why=why)
        store.put_link(cur, link)
        return Stopped(
            link=link,
            alarm=Alarm(kind=kind, peer=link.peer, message=why),
            refused=Refused(
                reason=Reason.LINK_HALTED,
                message=f"This link is stopped until the operators have looked into it ({kind.value}).",
            ),
        )

    def note_lie(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Alarm:
        """Record a false ``seen``; the link goes on."""
        if store.evidence_counts(cur, link.link_id).get(EvidenceKind.FALSE_SEEN, 0) < MAX_LIES:
            body = canonical(found.content).decode()
            store.add_evidence(cur, link.link_id, EvidenceKind.FALSE_SEEN, ("", ""), (found.message_id, body), now_ms)
        kind = EvidenceKind.FALSE_SEEN
        return Alarm(kind=kind, peer=link.peer, message=_WHY[kind].format(peer=link.peer))

    def _neighbours(
        self, cur: Cursor, link: Link, found: ChainObject
    ) -> tuple[Stored | None, Stored | None, Stored | None]:
        near = store.objects_between(
            cur, link.link_id, Sender.THEIRS, found.epoch, found.seq - 1, found.seq + 1, limit=3
        )
        by_seq = {each.seq: each for each in near}
        return by_seq.get(found.seq - 1), by_seq.get(found.seq), by_seq.get(found.seq + 1)

    def _advance(self, cur: Cursor, link: Link, newest: Stored) -> Link:
        """Move the end of what we have without a gap to ``newest`` and past what had come before it."""
        page: Sequence[Stored] = (newest,)
        while page:
            for each in page:
                if each.seq != link.their_seq + 1:
                    return link
                link = replace(link, their_seq=each.seq, their_hash=each.message_id, their_signature=each.signature)
            if link.their_seq >= link.their_newest:
                return link
            page = store.objects_between(
                cur,
                link.link_id,
                Sender.THEIRS,
                link.their_epoch,
                link.their_seq + 1,
                link.their_seq + _ADVANCE_PAGE,
                limit=_ADVANCE_PAGE,
            )
        return link

    def _signed_by_us(self, cur: Cursor, link: Link, head: JsonObject, signature: str) -> bool:
        """Whether a signature binds us. What was replaced by pinning a key anew binds in no epoch from there on."""
        pins = store.pins(cur, link.link_id, Sender.OURS)
        anew_epoch = max((pin.epoch for pin in pins if pin.is_anew), default=FIRST_EPOCH)
        if head["epoch"] < anew_epoch:
            # All that counts of it is here: the FENCE that closed it said what there was.
            return False
        former = {pin.public_key for pin in pins if pin.epoch < anew_epoch}
        here = {public_b64(key) for key in (self.me.key, *self.me.retired)}
        ours = {*(pin.public_key for pin in pins), *here} - former
        return any(objects.verify_head(head, signature, public) for public in ours)


_WHY: Final[dict[EvidenceKind, str]] = {
    EvidenceKind.EQUIVOCATION: "{peer} signed two different objects for one place of its chain.",
    EvidenceKind.BROKEN_CHAIN: "{peer} signed objects whose hashes contradict each other.",
    EvidenceKind.COMMIT_AND_ABORT: "{peer} signed COMMIT and ABORT for one payment.",
    EvidenceKind.CREDITED_AND_VOID: "{peer} signed RECEIPT(credited) and RECEIPT(void) for one payment.",
    EvidenceKind.UNFOUNDED_RECEIPT: "{peer} says it credited a payment that we never committed.",
    EvidenceKind.SETTLEMENT_CONTRADICTED: "{peer} signed two statements about one settlement that exclude each other.",
    EvidenceKind.RETIRED_KEY: "{peer} signed with a payment key that it had replaced before.",
    EvidenceKind.STATEMENT_DIFFERS: "The books of {peer} differ from ours.",
    EvidenceKind.FALSE_SEEN: "{peer} claims to hold an object of ours that we never signed.",
    EvidenceKind.PEER_AHEAD: (
        "{peer} holds objects of ours that our database does not have, so our database is an old copy. Nothing is"
        " signed on this link; restore the newest database."
    ),
    EvidenceKind.FORKED: (
        "{peer} holds another object of ours than our database has in its place, so our database is a copy that went"
        " on by itself. Nothing is signed on this link; restore the newest database."
    ),
}


def lost_key(peer: ServerName) -> str:
    """What an operator is told who has no file of the key that a link signs with."""
    return (
        f"The payment key that {peer} knows is in none of the key files of this server. Put its file back and start"
        f" again; if it is lost, pin the keys anew with super-app link repin {peer}, which its operator must order too."
    )


def closed(link: Link, epoch: int) -> Refused:
    return Refused(
        reason=Reason.EPOCH_CLOSED,
        message=f"Epoch {epoch} was closed when {link.peer} was restored; what was not listed then is void.",
        fields={"epoch": link.their_epoch},
    )


def _invalid(message: str) -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message=message)
