"""Our side of a FENCE: an old database learns what its peers hold, opens a new epoch, and brings its books up to it.

One step after the other, each one request to the peer (``errand``) and one transaction with its answer (``answered``),
so that a crash goes on where it was. Until the books follow nothing is signed but FENCE and FENCED. ``replay`` knows
what the objects that come back mean for the books; here they are only fetched, checked and stored.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final, cast

from super_app.clearing import objects, recovery_store, repin, repin_store, rules, store
from super_app.clearing.chain import Chain, Stopped, Taken, lost_key
from super_app.clearing.fence import Fences
from super_app.clearing.link_life import LinkLife
from super_app.clearing.links import Links
from super_app.clearing.model import (
    FIRST_EPOCH,
    After,
    Alarm,
    ChainObject,
    Errand,
    EvidenceKind,
    Fence,
    JsonObject,
    Link,
    LinkState,
    MessageId,
    MessageType,
    Run,
    Sender,
    Stored,
)
from super_app.clearing.recovery_model import (
    PAYEE_SAYS,
    PAYER_SAYS,
    Listed,
    Recovery,
    RecoveryPhase,
    Repin,
    RestoreId,
    Touched,
    Way,
)
from super_app.clearing.replay import Replay
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.money import MAX_AMOUNT_MINOR
from super_app.signing import canonical, digest, public_b64

REPLAY_PAGE: Final = 100
"""Payments that one transaction replays."""
KEY_PATIENCE_MS: Final = rules.RETRY_MS[4]
"""Until the recovery begins anew of which the peer took the FENCE for one of another key."""
_OPENINGS_FOR: Final = {Way.IN: Sender.THEIRS, Way.OUT: Sender.OURS}
_OUT_KINDS: Final = {Sender.OURS: PAYER_SAYS, Sender.THEIRS: PAYEE_SAYS}


class Recoveries:
    def __init__(self, chain: Chain, life: LinkLife, fences: Fences, links: Links, replay: Replay) -> None:
        self._chain = chain
        self._life = life
        self._fences = fences
        self._links = links
        self._replay = replay

    def begin_marked(self, cur: Cursor, now_ms: int) -> None:
        """At start: a database that was restored fences all its links, by itself."""
        for restore_id in recovery_store.new_marks(cur):
            # A copy cannot know whether what was ordered in it has been carried out since.
            repin_store.end_orders(cur)
            for link in store.links(cur):
                self.begin(cur, link, restore_id, now_ms)
        recovery_store.begin_marks(cur)
        recovery_store.end_marks(cur)

    def repin(self, cur: Cursor, link: Link, order: Repin, restore_id: RestoreId, now_ms: int) -> Link:
        """Pin the payment keys of both sides anew, as our operator orders, and end whatever had stopped the link."""
        known = repin_store.repin(cur, link.link_id)
        asked = "" if known.asked == order.confirmed else known.asked
        repin_store.put(cur, replace(order, asked=asked))
        under_way = recovery_store.recovery(cur, link.link_id) if known.ordered else None
        if under_way is not None and under_way.fence_id and link.our_key_id == self._chain.me.key_id:
            # Our side has said all that it has to say; only what is believed of the other one may have changed.
            link = replace(link, attempts=0, next_try_ms=now_ms)
        else:
            link = self.begin(cur, link, restore_id, now_ms)
            recovery_store.go_on_then(cur, link.link_id)
            why = "The payment keys of both sides are pinned anew, as the operators order."
            link = replace(link, stopped_why=why)
        store.put_link(cur, link)
        return link

    def is_ordered(self, cur: Cursor, link: Link, restore_id: RestoreId) -> bool:
        """Whether the link is on its way back by this very order."""
        found = recovery_store.recovery(cur, link.link_id)
        return found is not None and found.restore_id == restore_id

    def begin(self, cur: Cursor, link: Link, restore_id: RestoreId, now_ms: int) -> Link:
        """Start over with a link, from wherever it stands."""
        before = recovery_store.recovery(cur, link.link_id)
        frozen = link.state is LinkState.FROZEN
        then = LinkState.FROZEN if frozen else LinkState.ACTIVE
        then_why = link.stopped_why if frozen else ""
        least_epoch, stood = link.our_epoch + 1, False
        if before is not None:
            then, then_why, stood = before.then, before.then_why, before.stood
            link = self._drop_fence(cur, link, before)
            # No peer takes one that is further ahead, however often it says that we are too late.
            least_epoch = min(least_epoch, link.our_epoch + rules.MAX_EPOCHS_AHEAD)
        recovery_store.forget(cur, link.link_id)
        recovery_store.put(
            cur,
            Recovery(
                link_id=link.link_id,
                restore_id=restore_id,
                phase=RecoveryPhase.ASKING,
                new_epoch=least_epoch,
                their_epoch=link.their_epoch,
                at_epoch=0,
                at_seq=0,
                fence_id=MessageId(""),
                then=then,
                then_why=then_why,
                stood=stood,
            ),
        )
        link = replace(
            link,
            state=LinkState.RECOVERING,
            stopped_why="This database is a copy from a backup; what it has lost is being fetched from the peer.",
            checked_boot="",
            attempts=0,
            next_try_ms=now_ms,
        )
        store.put_link(cur, link)
        return link

    def peer_fenced(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """The peer was restored too, so that what it had listed may be gone: ask it anew."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None or found.phase is not RecoveryPhase.COLLECTING:
            return link
        return self.begin(cur, link, found.restore_id, now_ms)

    def may_take(self, cur: Cursor, link: Link, kind: MessageType) -> bool:
        """Whether an object of the peer is taken now, although the link is recovering."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None:
            return False
        if self._chain.me.signer(link.our_key_id) is None:
            return False
        if kind is MessageType.FENCED:
            return found.phase is RecoveryPhase.FENCING
        # A peer that is recovering too sends its KEY before its FENCE, on which we may be waiting.
        return kind in (MessageType.FENCE, MessageType.KEY) and found.phase.is_fenced

    def catch_up(self, cur: Cursor, link: Link, found: ChainObject) -> Refused | None:
        """The peer opens an epoch with another key: have all that it signed before, while it still gives it.

        What is missing is asked for, and until it is there the FENCE is refused. Afterwards nobody can tell the peer's
        own objects of those places from what a holder of the old key makes.
        """
        known = recovery_store.recovery(cur, link.link_id)
        after = found.after
        if known is None or after is None or not repin.brings_unknown_key(cur, link, found):
            return None
        is_all_here = (link.their_epoch, link.their_seq) >= (after.epoch, after.seq)
        if is_all_here or known.phase is not RecoveryPhase.FENCING:
            return None
        order = repin_store.repin(cur, link.link_id)
        repin_store.put(cur, replace(order, asked="", vouched=after.hash))
        at = replace(known, phase=RecoveryPhase.LEARNING, at_epoch=link.their_epoch, at_seq=link.their_seq)
        self._go(
            cur,
            replace(
                at, their_epoch=max(known.their_epoch, min(after.epoch, rules.MAX_EPOCHS_AHEAD + link.their_epoch))
            ),
        )
        return self._chain.why_not(link, link.peer)

    # What to ask next.

    def errand(self, cur: Cursor, link: Link) -> Errand | Stored | None:
        """The next request to the peer: a query, or our FENCE from the outbox."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None:
            return None
        if link.checked_boot != self._chain.me.boot:
            return self._query(link, MessageType.HEAD)
        match found.phase:
            case RecoveryPhase.ASKING | RecoveryPhase.REPLAYING:
                return self._query(link, MessageType.HEAD)
            case RecoveryPhase.COMPARING:
                return self._range(link, Sender.OURS, link.our_epoch, found.at_seq + 1, link.our_seq)
            case RecoveryPhase.LEARNING:
                return self._range(link, Sender.THEIRS, found.at_epoch, found.at_seq + 1, MAX_AMOUNT_MINOR)
            case RecoveryPhase.FENCING:
                # The peer can only verify a FENCE whose key it knows, or which brings it.
                unknown = store.outbox_first_key(cur, link.link_id)
                if unknown is not None and unknown.type is not MessageType.LINK_OPEN:
                    # A FENCE by an order brings its key itself, and behind it no KEY of the old one counts.
                    unknown = None if repin_store.repin(cur, link.link_id).ordered else unknown
                return unknown or store.object_at(cur, link.link_id, Sender.OURS, link.our_epoch, 1)
            case RecoveryPhase.COLLECTING:
                if link.their_seq < link.their_newest:
                    return self._range(link, Sender.THEIRS, link.their_epoch, link.their_seq + 1, MAX_AMOUNT_MINOR)
                run = self._next_run(cur, link)
                return None if run is None else self._range(link, Sender.OURS, run.epoch, run.first_seq, run.last_seq)
            case RecoveryPhase.NAMING:
                wanted = recovery_store.unnamed(cur, link.link_id, objects.MAX_OPENINGS)
                wire_ids: list[str] = [each.wire_id for each in wanted]
                return self._query(link, MessageType.OPENINGS, wire_ids=wire_ids)

    # What came back.

    def answered(
        self,
        cur: Cursor,
        link: Link,
        errand: Errand,
        answer: Sequence[ChainObject],
        openings: Sequence[object],
        certified: AbstractSet[MessageId],
        now_ms: int,
    ) -> tuple[Alarm, ...]:
        """The answer to an errand of ours: store what it brings, and take the next step if this one is done."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None:
            return ()
        own = [each for each in answer if self._is_own(cur, link, each)]
        theirs = [each for each in answer if each.from_server == link.peer and each.to_server == self._chain.me.server]
        match errand.type, found.phase:
            case MessageType.HEAD, RecoveryPhase.REPLAYING:
                return self._replay_some(cur, link, found, own, now_ms)
            case MessageType.HEAD, phase if phase.is_fenced:
                return self._check(cur, link, own, now_ms)
            case MessageType.HEAD, _:
                return self._asked(cur, link, found, own, theirs, now_ms)
            case MessageType.RANGE, RecoveryPhase.COMPARING:
                return self._compared(cur, link, found, own, now_ms)
            case MessageType.RANGE, RecoveryPhase.LEARNING:
                return self._learned(cur, link, found, theirs, certified, now_ms)
            case MessageType.RANGE, RecoveryPhase.COLLECTING:
                return self._collected(cur, link, found, own, theirs, certified, now_ms)
            case MessageType.OPENINGS, RecoveryPhase.NAMING:
                return self._named(cur, link, found, openings, now_ms)
            case _:
                pass
        return ()

    def refused(self, cur: Cursor, link: Link, errand: Errand, reason: Reason | None, now_ms: int) -> bool:
        """The peer has refused an errand of ours. Whether that was dealt with, so that the ladder need not be."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None:
            return False
        if errand.type is MessageType.FENCE and reason in (Reason.EPOCH_CLOSED, Reason.CONFLICT):
            # It knows of an epoch that we do not, or of another end of our chain.
            link = self.begin(cur, link, found.restore_id, now_ms)
            # A peer that never lets us in must not keep us busy.
            store.put_link(cur, replace(link, next_try_ms=now_ms + rules.RECOVERING_RETRY_MS))
            return True
        if errand.type is MessageType.FENCE and reason is Reason.BAD_SIGNATURE:
            self._key_refused(cur, link, found, now_ms)
            return True
        if errand.type is MessageType.KEY and reason is Reason.EPOCH_CLOSED:
            # Void, as a later life of ours fenced before it; that stops the link once the peer has listed what counts.
            store.outbox_done(cur, link.link_id, errand.epoch, errand.seq)
            return True
        if errand.type is MessageType.OPENINGS and reason is not None:
            # A peer that gives no names holds nothing up; what has no owner then goes to suspense.
            wanted = recovery_store.unnamed(cur, link.link_id, objects.MAX_OPENINGS)
            recovery_store.named(cur, link.link_id, wanted)
            return True
        return False

    def on_fenced(self, cur: Cursor, link: Link, page: ChainObject, now_ms: int) -> Link | Refused:
        """A page of the peer's answer to our FENCE. With the last one the list is complete."""
        found = recovery_store.recovery(cur, link.link_id)
        if page.holdings is None:
            raise RuntimeError("FENCED is parsed with what it lists")
        if not recovery_store.is_own_fence(cur, link.link_id, page.holdings.fence):
            return Refused(reason=Reason.CONFLICT, message="This server has opened no epoch that this answers.")
        link = self._chain.admit(cur, link, page, now_ms)
        if found is None or page.holdings.fence != found.fence_id:
            # Of an earlier FENCE, that came to nothing or is answered already.
            return link
        return self._listed(cur, link, found, now_ms)

    def _listed(self, cur: Cursor, link: Link, found: Recovery, now_ms: int) -> Link:
        """Go on if the peer's answer to our FENCE is here, all pages of it."""
        read = [each.holdings for each in self._fenced(cur, link, Sender.THEIRS, found.fence_id)]
        pages = {each.page: each for each in read if each is not None}
        if not pages or len(pages) < next(iter(pages.values())).pages:
            return link
        runs = [run for number in sorted(pages) for run in pages[number].runs]
        recovery_store.put_listed(cur, link.link_id, [run for run in runs if run.epoch < found.new_epoch])
        link = replace(link, gap_due_ms=None, gap_attempts=0)
        store.put_link(cur, link)
        store.outbox_done(cur, link.link_id, link.our_epoch, 1)
        self._go(cur, replace(found, phase=RecoveryPhase.COLLECTING, at_epoch=0, at_seq=0))
        self._collected_all(cur, link, now_ms)
        return self._again(cur, link)

    def sent_fence(self, cur: Cursor, link: Link, now_ms: int) -> None:
        """The peer took our FENCE, and its answer has been handled. One that is not whole is asked for again."""
        found = recovery_store.recovery(cur, link.link_id)
        if found is None or found.phase is not RecoveryPhase.FENCING:
            return
        if self._was_answered_before(cur, link, found):
            link = self._listed(cur, link, found, now_ms)
            if recovery_store.recovery(cur, link.link_id) != found:
                return
        attempts = link.attempts + 1
        store.put_link(cur, replace(link, attempts=attempts, next_try_ms=now_ms + rules.retry_ms(attempts)))

    def _was_answered_before(self, cur: Cursor, link: Link, found: Recovery) -> bool:
        """Whether the peer's answer came from an epoch of a key that nobody confirmed, by which a confirmed one stands.

        It was fetched with that epoch, and is not taken again from who may hold its key.
        """
        vouched = repin_store.repin(cur, link.link_id).vouched
        pages = self._fenced(cur, link, Sender.THEIRS, found.fence_id)
        if not vouched or not pages:
            return False
        epoch, last_seq = pages[0].epoch, max(each.seq for each in pages)
        behind = store.objects_between(cur, link.link_id, Sender.THEIRS, epoch, last_seq, MAX_AMOUNT_MINOR, REPLAY_PAGE)
        return all(each.epoch == epoch for each in pages) and any(each.message_id == vouched for each in behind)

    # Steps.

    def _asked(
        self,
        cur: Cursor,
        link: Link,
        found: Recovery,
        own: Sequence[ChainObject],
        theirs: Sequence[ChainObject],
        now_ms: int,
    ) -> tuple[Alarm, ...]:
        newest_own = max(own, key=lambda each: (each.epoch, each.seq), default=None)
        if newest_own is not None and not repin_store.repin(cur, link.link_id).ordered:
            link = self._with_key(cur, link, newest_own)
        link = replace(link, checked_boot=self._chain.me.boot)
        store.put_link(cur, link)
        if not own and link.our_seq == 0:
            # The peer holds nothing of us and we have said nothing: there is nothing to come back to.
            return self._end(cur, link, found, now_ms)
        newest = 0 if newest_own is None else newest_own.epoch
        their_newest = max((each.epoch for each in theirs), default=0)
        if newest > link.our_epoch + rules.MAX_EPOCHS_AHEAD:
            newest = 0
        self._go(
            cur,
            replace(
                found,
                phase=RecoveryPhase.COMPARING if link.our_seq > link.acked_seq else RecoveryPhase.LEARNING,
                new_epoch=max(found.new_epoch, newest + 1),
                their_epoch=min(max(link.their_epoch, their_newest), link.their_epoch + rules.MAX_EPOCHS_AHEAD),
                at_epoch=link.their_epoch,
                at_seq=link.acked_seq if link.our_seq > link.acked_seq else link.their_seq,
            ),
        )
        return ()

    def _with_key(self, cur: Cursor, link: Link, newest_own: ChainObject) -> Link:
        """Sign with the key that the peer has pinned for what comes next, if this database has lost our KEY.

        It knows that key by the newest object of ours that it holds: nothing behind a KEY is taken without it. A key
        of ours that only the peer does not know yet stays: its KEY is sent before the FENCE.
        """
        key = newest_own.key if newest_own.type is MessageType.KEY else None
        pinned = newest_own.key_id if key is None else objects.public_key_id(key.public_key)
        if pinned is None or self._chain.me.signer(pinned) is None:
            return link
        is_here = pinned in store.keys(cur, link.link_id, Sender.OURS)
        return link if is_here and newest_own.epoch <= link.our_epoch else replace(link, our_key_id=pinned)

    def _key_refused(self, cur: Cursor, link: Link, found: Recovery, now_ms: int) -> None:
        """Our FENCE is not signed by the key that the peer expects: ask it anew which one that is, after a while.

        It may have got a KEY of ours after its answer to HEAD?, from a process that runs no more.
        """
        link = self.begin(cur, link, found.restore_id, now_ms)
        begun = recovery_store.recovery(cur, link.link_id)
        if begun is not None:
            # It has not taken the FENCE, so its epoch is still to be had.
            self._go(cur, replace(begun, new_epoch=found.new_epoch))
        store.put_link(cur, replace(link, next_try_ms=now_ms + KEY_PATIENCE_MS))

    def _compared(
        self, cur: Cursor, link: Link, found: Recovery, own: Sequence[ChainObject], now_ms: int
    ) -> tuple[Alarm, ...]:
        """Whether the peer holds what we have, where both have something."""
        at_seq = found.at_seq
        for each in own:
            if each.epoch != link.our_epoch or not at_seq < each.seq <= link.our_seq:
                continue
            ours = store.object_at(cur, link.link_id, Sender.OURS, each.epoch, each.seq)
            if ours is None or ours.message_id != each.message_id:
                return self._halt(cur, link, ours, each, now_ms)
            at_seq = each.seq
        if found.at_seq < at_seq < link.our_seq:
            self._go(cur, replace(found, at_seq=at_seq))
            return ()
        self._go(cur, replace(found, phase=RecoveryPhase.LEARNING, at_epoch=link.their_epoch, at_seq=link.their_seq))
        return ()

    def _learned(
        self,
        cur: Cursor,
        link: Link,
        found: Recovery,
        theirs: Sequence[ChainObject],
        certified: AbstractSet[MessageId],
        now_ms: int,
    ) -> tuple[Alarm, ...]:
        wanted = [each for each in theirs if each.epoch == found.at_epoch and each.seq > found.at_seq]
        link, alarms = self._store_theirs(cur, link, wanted, certified, now_ms)
        if any(store.object_at(cur, link.link_id, Sender.THEIRS, each.epoch, each.seq) for each in wanted):
            self._go(cur, replace(found, at_seq=max(each.seq for each in wanted)))
        elif found.at_epoch < found.their_epoch:
            self._go(cur, replace(found, at_epoch=found.at_epoch + 1, at_seq=0))
        elif link.their_open_ms == 0:
            # The peer has not opened its side, so nothing was ever agreed that could be lost.
            return alarms + self._end(cur, link, found, now_ms)
        else:
            alarms += self._fence(cur, link, found, now_ms)
        return alarms

    def _fence(self, cur: Cursor, link: Link, found: Recovery, now_ms: int) -> tuple[Alarm, ...]:
        if found.fence_id:
            # It is signed; what the peer has signed since was only to be caught up with.
            self._go(cur, replace(found, phase=RecoveryPhase.FENCING))
            return ()
        me = self._chain.me
        fields: JsonObject = {}
        if repin_store.repin(cur, link.link_id).ordered:
            public = public_b64(me.key)
            fields = {"key": objects.key_fields(public, me.certificate)}
            link = replace(link, our_key_id=me.key_id)
            store.put_key(cur, link.link_id, Sender.OURS, me.key_id, public, me.certificate, found.new_epoch, 1)
        elif me.signer(link.our_key_id) is None:
            return self._lost_key(cur, link, now_ms)
        after = After(epoch=link.our_epoch, seq=link.our_seq, hash=link.our_hash)
        fence = Fence(epoch=found.new_epoch, after_epoch=after.epoch, after_seq=after.seq)
        store.add_fence(cur, link.link_id, Sender.OURS, fence)
        # A KEY that is not acknowledged is sent before FENCE, so that nothing of the new epoch need wait for it.
        link = replace(link, our_epoch=found.new_epoch, our_seq=0, our_hash="", acked_seq=0, key_unsent_seq=0)
        _, content = self._chain.append(
            cur, link, MessageType.FENCE, {"after": objects.after_fields(after), **fields}, due_ms=now_ms, now_ms=now_ms
        )
        self._go(cur, replace(found, phase=RecoveryPhase.FENCING, fence_id=objects.message_id_of(content)))
        return ()

    def _lost_key(self, cur: Cursor, link: Link, now_ms: int) -> tuple[Alarm, ...]:
        """Go no further without the key, and tell the operator once. A start, or another order, tries again."""
        why = lost_key(link.peer)
        is_told = link.stopped_why == why
        store.put_link(cur, replace(link, stopped_why=why, next_try_ms=now_ms + rules.RETRY_MS[-1]))
        return () if is_told else (Alarm(kind=EvidenceKind.LOST_KEY, peer=link.peer, message=why),)

    def _collected(
        self,
        cur: Cursor,
        link: Link,
        found: Recovery,
        own: Sequence[ChainObject],
        theirs: Sequence[ChainObject],
        certified: AbstractSet[MessageId],
        now_ms: int,
    ) -> tuple[Alarm, ...]:
        before = (link.their_seq, self._next_run(cur, link))
        link, alarms = self._store_theirs(cur, link, theirs, certified, now_ms)
        run = self._next_run(cur, link)
        if run is not None:
            alarms += self._store_own(cur, link, run, own, now_ms)
            if self._again(cur, link).state is not LinkState.RECOVERING:
                return alarms
        more = self._collected_all(cur, link, now_ms)
        if more is not None:
            return alarms + more
        if before == (link.their_seq, self._next_run(cur, link)):
            # It owes us what it says it holds. The link stays halted until it gives it.
            attempts = link.attempts + 1
            why = f"{link.peer} does not return objects that it has listed"
            pause_ms = rules.retry_ms(attempts)
            store.put_link(cur, replace(link, attempts=attempts, next_try_ms=now_ms + pause_ms, last_error=why))
        return alarms

    def _collected_all(self, cur: Cursor, link: Link, now_ms: int) -> tuple[Alarm, ...] | None:
        """Go on if nothing is missing any more; None if something is."""
        if link.their_seq < link.their_newest or self._next_run(cur, link) is not None:
            return None
        found = recovery_store.recovery(cur, link.link_id)
        if found is None:
            raise RuntimeError("a recovery vanished inside its own transaction")
        void = self._void(cur, link)
        if void is not None:
            content = objects.read_object(store.content_of(void.body))
            if not isinstance(content, ChainObject):
                raise RuntimeError("a stored object no longer reads")
            return self._halt(cur, link, void, content, now_ms)
        self._go(cur, replace(found, phase=RecoveryPhase.NAMING))
        self._named_all(cur, link, now_ms)
        return ()

    def _void(self, cur: Cursor, link: Link) -> Stored | None:
        """Something in this database that an earlier FENCE of either side made void.

        Then it is a copy of a life that was given up: after it was taken, an older copy ran, and fenced.
        """
        ours = [each.run for each in recovery_store.listed(cur, link.link_id)]
        theirs = [
            run
            for fence in store.fences(cur, link.link_id, Sender.THEIRS)
            for each in self._fenced(
                cur, link, Sender.OURS, store.fence_id(cur, link.link_id, Sender.THEIRS, fence.epoch)
            )
            if each.holdings is not None
            for run in each.holdings.runs
        ]
        for sender, runs in ((Sender.OURS, ours), (Sender.THEIRS, theirs)):
            fences = store.fences(cur, link.link_id, sender)
            if sender is Sender.THEIRS:
                fences = tuple(each for each in fences if self._is_answered(cur, link, each))
            if not fences:
                continue
            lowest = min((each.after_epoch, each.after_seq) for each in fences)
            newest = max(each.epoch for each in fences)
            for epoch, seq in recovery_store.places(cur, link.link_id, sender, lowest, newest):
                is_listed = any(run.epoch == epoch and run.first_seq <= seq <= run.last_seq for run in runs)
                if not is_listed and not rules.is_in_force(fences, epoch, seq):
                    return store.object_at(cur, link.link_id, sender, epoch, seq)
        return None

    def _is_answered(self, cur: Cursor, link: Link, fence: Fence) -> bool:
        """Whether we have said what we hold for a FENCE of the peer. If not we list it later, and all of it counts."""
        begins = store.fence_id(cur, link.link_id, Sender.THEIRS, fence.epoch)
        return begins is None or bool(store.fenced_pages(cur, link.link_id, Sender.OURS, begins))

    def _halt(
        self,
        cur: Cursor,
        link: Link,
        first: Stored | None,
        second: ChainObject,
        now_ms: int,
        *,
        kind: EvidenceKind = EvidenceKind.FORKED,
    ) -> tuple[Alarm, ...]:
        """This is no copy of what the link now is: only another one can bring it back."""
        recovery_store.forget(cur, link.link_id)
        repin_store.end(cur, link.link_id)
        return (self._chain.halt(cur, link, kind, first, second, now_ms).alarm,)

    def _named(
        self, cur: Cursor, link: Link, found: Recovery, openings: Sequence[object], now_ms: int
    ) -> tuple[Alarm, ...]:
        asked = recovery_store.unnamed(cur, link.link_id, objects.MAX_OPENINGS)
        for each in asked:
            terms = self._replay.terms_of(cur, link, each)
            ends = (self._chain.me.server, link.peer)
            payer_server, payee_server = ends if each.way is Way.OUT else ends[::-1]
            for opening in openings:
                # Only what opens the commitments is believed; whoever gives it.
                if terms is None or not isinstance(opening, dict):
                    continue
                content = cast(JsonObject, opening)
                read = objects.read_opening(content, terms, payer_server, payee_server)
                if not isinstance(read, Refused):
                    store.put_opening(cur, link.link_id, _OPENINGS_FOR[each.way], each.wire_id, content, now_ms)
        recovery_store.named(cur, link.link_id, asked)
        self._named_all(cur, link, now_ms)
        return ()

    def _named_all(self, cur: Cursor, link: Link, now_ms: int) -> None:
        found = recovery_store.recovery(cur, link.link_id)
        if found is None or recovery_store.unnamed(cur, link.link_id, 1):
            return
        with self._chain.replaying(link):
            self._replay_learned(cur, link, now_ms, settlements=False)
        self._go(cur, replace(found, phase=RecoveryPhase.REPLAYING))

    def _replay_learned(self, cur: Cursor, link: Link, now_ms: int, *, settlements: bool) -> Link:
        for each in map(objects.read_object, map(store.content_of, recovery_store.learned(cur, link.link_id))):
            if isinstance(each, ChainObject) and (each.settlement is not None) == settlements:
                link = self._replay.link_object(cur, link, each, now_ms)
        return link

    def _replay_some(
        self, cur: Cursor, link: Link, found: Recovery, own: Sequence[ChainObject], now_ms: int
    ) -> tuple[Alarm, ...]:
        alarms = self._check(cur, link, own, now_ms)
        link = self._again(cur, link)
        if link.state is not LinkState.RECOVERING:
            return alarms
        with self._chain.replaying(link):
            for each in recovery_store.touched(cur, link.link_id, REPLAY_PAGE):
                link, more = self._replay.payment(cur, link, each, now_ms)
                alarms += more
                recovery_store.replayed(cur, link.link_id, each)
            if recovery_store.touched(cur, link.link_id, 1):
                return alarms
            # Settled is only what was paid, so settlements come after the payments.
            link = self._replay_learned(cur, link, now_ms, settlements=True)
        found = recovery_store.recovery(cur, link.link_id) or found
        return alarms + self._end(cur, link, found, now_ms)

    def _end(self, cur: Cursor, link: Link, found: Recovery, now_ms: int) -> tuple[Alarm, ...]:
        recovery_store.forget(cur, link.link_id)
        recovery_store.forget_work(cur, link.link_id)
        recovery_store.forget_taken_back(cur, link.link_id)
        recovery_store.end_marks(cur)
        repin_store.end(cur, link.link_id)
        link = replace(
            self._again(cur, link),
            state=found.then,
            stopped_why=found.then_why,
            checked_boot=self._chain.me.boot,
            attempts=0,
            next_try_ms=now_ms,
            last_error="",
        )
        store.put_link(cur, link)
        alarm = self._links.on_head(cur, link, (), now_ms).alarm
        return () if alarm is None else (alarm,)

    # Objects.

    def _check(self, cur: Cursor, link: Link, own: Sequence[ChainObject], now_ms: int) -> tuple[Alarm, ...]:
        """After a crash in between: is even this half-recovered database older than what the peer knows?"""
        for each in own:
            if each.epoch < link.our_epoch:
                continue
            verdict, there = self._chain.judge_own(cur, link, each)
            kind = verdict.evidence
            if kind is not None and kind.halts:
                recovery_store.forget(cur, link.link_id)
                stopped = self._chain.halt(cur, link, kind, there, each, now_ms)
                return (stopped.alarm,)
        store.put_link(cur, replace(link, checked_boot=self._chain.me.boot))
        return ()

    def _store_theirs(
        self, cur: Cursor, link: Link, theirs: Sequence[ChainObject], certified: AbstractSet[MessageId], now_ms: int
    ) -> tuple[Link, tuple[Alarm, ...]]:
        """Take what the peer signed into its chain, without doing what it says."""
        alarms: list[Alarm] = []
        for each in theirs:
            if each.type is MessageType.LINK_OPEN and link.their_open_ms == 0:
                link = self._pin(cur, link, each, certified, now_ms)
                continue
            pinned = store.key_at(cur, link.link_id, Sender.THEIRS, each.epoch, each.seq)
            is_known = pinned is not None and pinned[0] == each.key_id and objects.is_signed_by(each, pinned[1])
            is_vouched = not is_known and repin.is_vouched(cur, link, each, theirs, certified)
            if not is_known and not is_vouched and not repin.lets_in(cur, link, each, certified):
                continue
            placed = self._chain.place(cur, link, each, now_ms)
            if isinstance(placed, Stopped):
                alarms.append(placed.alarm)
                link = placed.link
            elif placed is None:
                if each.type is MessageType.FENCE:
                    closed = self._fences.close(cur, link, each, now_ms)
                    if isinstance(closed, Refused):
                        continue
                    link = closed
                elif each.type is MessageType.KEY:
                    taken = self._take_key(cur, link, each, certified, now_ms)
                    if taken is None:
                        continue
                    link = taken
                else:
                    link = self._chain.admit(cur, link, each, now_ms)
                self._brought(cur, link, Sender.THEIRS, each)
        return link, tuple(alarms)

    def _pin(self, cur: Cursor, link: Link, found: ChainObject, certified: AbstractSet[MessageId], now_ms: int) -> Link:
        if found.key is None or found.message_id not in certified or not objects.certifies(found.key, link.peer):
            return link
        if not objects.is_signed_by(found, found.key.public_key):
            return link
        taken = self._links.on_link_open(cur, link, found, now_ms)
        return link if isinstance(taken, Refused) else taken.link

    def _take_key(
        self, cur: Cursor, link: Link, found: ChainObject, certified: AbstractSet[MessageId], now_ms: int
    ) -> Link | None:
        if found.key is None or found.message_id not in certified or not objects.certifies(found.key, link.peer):
            return None
        taken = self._life.on_key(cur, link, found, now_ms)
        return taken.link if isinstance(taken, Taken) else None

    def _store_own(
        self, cur: Cursor, link: Link, run: Run, own: Sequence[ChainObject], now_ms: int
    ) -> tuple[Alarm, ...]:
        """Put back what we had signed and lost, checked to be ours by our own signature."""
        for each in own:
            if each.epoch != run.epoch or not run.first_seq <= each.seq <= run.last_seq:
                continue
            there = store.object_at(cur, link.link_id, Sender.OURS, each.epoch, each.seq)
            if there is not None and there.message_id == each.message_id:
                continue
            if there is not None:
                # Another copy of us went on by itself; the peer took what the other one signed.
                return self._halt(cur, link, there, each, now_ms)
            if self._is_strange(cur, link, each):
                # These books are whole, says our operator, so a holder of the old key may have signed it.
                return self._halt(cur, link, None, each, now_ms, kind=EvidenceKind.PEER_AHEAD)
            stored = Stored(
                sender=Sender.OURS,
                epoch=each.epoch,
                seq=each.seq,
                message_id=each.message_id,
                type=each.type,
                wire_id=each.subject,
                prev_hash=each.prev_hash,
                signature=each.signature,
                body=canonical(each.content).decode(),
            )
            store.add_object(cur, link.link_id, stored, now_ms)
            if each.after is not None:
                fence = Fence(epoch=each.epoch, after_epoch=each.after.epoch, after_seq=each.after.seq)
                store.add_fence(cur, link.link_id, Sender.OURS, fence)
                if each.key is not None:
                    public, certificate = each.key.public_key, each.key.certificate
                    store.put_key(
                        cur, link.link_id, Sender.OURS, each.key_id, public, certificate, each.epoch, each.seq
                    )
            self._brought(cur, link, Sender.OURS, each)
        return ()

    def _is_strange(self, cur: Cursor, link: Link, found: ChainObject) -> bool:
        """Whether our own signature on what we do not have is to be doubted, as the key may be in other hands."""
        order = repin_store.repin(cur, link.link_id)
        if not order.ordered or order.take_back:
            return False
        if recovery_store.was_taken_back(cur, link.link_id, found.message_id):
            return False
        former = {pin.key_id for pin in store.pins(cur, link.link_id, Sender.OURS) if pin.epoch < link.our_epoch}
        # A FENCE of a key that only an order before this one can have brought is ours, whatever became of it here.
        return found.type is not MessageType.FENCE or found.key_id in former

    def _brought(self, cur: Cursor, link: Link, sender: Sender, found: ChainObject) -> None:
        if found.terms is None:
            recovery_store.learn(cur, link.link_id, sender, found.epoch, found.seq)
        else:
            way = Way.OUT if found.type in _OUT_KINDS[sender] else Way.IN
            recovery_store.touch(cur, link.link_id, Touched(way=way, wire_id=found.terms.wire_id))

    def _drop_fence(self, cur: Cursor, link: Link, before: Recovery) -> Link:
        """Take back a FENCE that the peer may never have got, with nothing behind it. If it has it, it lists it."""
        is_only_said = before.phase in (RecoveryPhase.FENCING, RecoveryPhase.LEARNING) and before.fence_id
        if not is_only_said or (link.our_epoch, link.our_seq) != (before.new_epoch, 1):
            return link
        recovery_store.drop_own_fence(cur, link.link_id, before.new_epoch)
        newest = store.newest_object(cur, link.link_id, Sender.OURS)
        link = replace(
            link,
            our_epoch=FIRST_EPOCH if newest is None else newest.epoch,
            our_seq=0 if newest is None else newest.seq,
            our_hash="" if newest is None else newest.message_id,
            acked_seq=0,
        )
        store.put_link(cur, link)
        return link

    def _next_run(self, cur: Cursor, link: Link) -> Run | None:
        """The next part of a listed run that we lack; runs that are whole are ticked off."""
        for each in recovery_store.listed(cur, link.link_id):
            missing = None if each.found else self._missing_in(cur, link, each)
            if missing is not None:
                return missing
            if not each.found:
                recovery_store.found(cur, link.link_id, each.run)
        return None

    def _missing_in(self, cur: Cursor, link: Link, each: Listed) -> Run | None:
        """From the last place backwards, as by the hashes the last object names those before it."""
        run = each.run
        stored = store.objects_between(
            cur, link.link_id, Sender.OURS, run.epoch, run.first_seq, run.last_seq, rules.RANGE_PAGE
        )
        at_seq, previous = run.first_seq, ""
        while stored:
            for one in stored:
                if one.seq != at_seq or (previous and one.prev_hash != previous):
                    return replace(run, first_seq=at_seq)
                at_seq, previous = one.seq + 1, one.message_id
            stored = store.objects_between(
                cur, link.link_id, Sender.OURS, run.epoch, at_seq, run.last_seq, rules.RANGE_PAGE
            )
        if at_seq <= run.last_seq:
            return replace(run, first_seq=at_seq)
        # Whole, but another one than the peer holds.
        return None if previous == run.message_id else run

    def _is_own(self, cur: Cursor, link: Link, found: ChainObject) -> bool:
        named = (found.from_server, found.to_server, found.link_id)
        if named != (self._chain.me.server, link.peer, link.link_id):
            return False
        # The key that a FENCE brought goes with it when it is taken back; what it said is known by its hash.
        return self._chain.is_ours(cur, link, found) or recovery_store.was_taken_back(
            cur, link.link_id, found.message_id
        )

    def _fenced(self, cur: Cursor, link: Link, sender: Sender, fence: MessageId | None) -> list[ChainObject]:
        """The pages of one side's answer to a FENCE."""
        pages = () if fence is None else store.fenced_pages(cur, link.link_id, sender, fence)
        read = map(objects.read_object, map(store.content_of, pages))
        return [each for each in read if isinstance(each, ChainObject)]

    def _range(self, link: Link, of: Sender, epoch: int, from_seq: int, to_seq: int) -> Errand:
        server = self._chain.me.server if of is Sender.OURS else link.peer
        return self._query(link, MessageType.RANGE, of=server, epoch=epoch, from_seq=from_seq, to_seq=to_seq)

    def _query(self, link: Link, kind: MessageType, **fields: int | str | list[str]) -> Errand:
        content: JsonObject = {
            **objects.query_fields(kind, link.link_id, self._chain.me.server, link.peer),
            **fields,
        }
        return Errand(
            peer=link.peer,
            link_id=link.link_id,
            message_id=MessageId(digest(content)),
            type=kind,
            epoch=0,
            seq=0,
            body={"object": content},
        )

    def _again(self, cur: Cursor, link: Link) -> Link:
        found = store.link(cur, link.link_id)
        if found is None:
            raise RuntimeError("a link vanished inside its own transaction")
        return found

    def _go(self, cur: Cursor, found: Recovery) -> None:
        recovery_store.put(cur, found)
