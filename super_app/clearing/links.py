"""Links: opening them, their limits, what peers say they hold of ours, and how links stand.

A link is open when both LINK_OPENs are there. Before our side signs anything in a run of the process, the peer has
answered HEAD?, also before our LINK_OPEN: a database from before the link was opened must not open it a second time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from super_app.clearing import objects, recovery_store, repin, repin_store, rules, statement_store, store
from super_app.clearing.chain import Chain, Handled, Taken, lost_key
from super_app.clearing.inbound import Inbound
from super_app.clearing.link_life import LinkLife
from super_app.clearing.model import (
    FIRST_EPOCH,
    Alarm,
    ChainObject,
    CurrencyLine,
    Exposure,
    KeyId,
    Link,
    LinkId,
    LinkPhase,
    LinkState,
    LinkTerms,
    LinkView,
    MessageType,
    Sender,
    Standing,
)
from super_app.clearing.rules import MaySign
from super_app.clearing.settlements import Settlements
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import Violation, due_from, due_to
from super_app.money import Asset, AssetCode, Money
from super_app.signing import public_b64

MAX_UNWANTED: Final = 1_000
"""Links that peers may ask for before our operator has answered any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadVerdict:
    """What a peer's answer to HEAD? showed: ``link`` as it now is, and what the operator must know."""

    link: Link
    alarm: Alarm | None


class Links:
    def __init__(
        self,
        chain: Chain,
        life: LinkLife,
        inbound: Inbound,
        settlements: Settlements,
        assets: Mapping[AssetCode, Asset],
    ) -> None:
        self._chain = chain
        self._settlements = settlements
        self._life = life
        self._inbound = inbound
        self._assets = assets

    # Our operator.

    def open(self, cur: Cursor, terms: LinkTerms, now_ms: int) -> Refused | None:
        """Open our side, or bring an open link's grants to what is asked. The same again changes nothing."""
        refused = self._check_terms(terms)
        if refused is not None:
            return refused
        link_id = objects.link_id_of(self._chain.me.server, terms.peer)
        link = store.link(cur, link_id) or new_link(link_id, terms.peer)
        if link.our_standing is Standing.CLOSING:
            link = self._life.stand(cur, link, Standing.READY, "", now_ms)
        if link.our_open_ms == 0:
            # Signed as soon as the peer has answered HEAD?.
            link = replace(link, wanted=True, next_try_ms=now_ms, attempts=0)
            store.put_link(cur, link)
            for grant in terms.grants:
                store.put_our_grant(cur, link_id, grant)
            if self._is_to_open(link):
                self._say_open(cur, link, now_ms)
            return None
        changed = [
            grant
            for grant in terms.grants
            if (line := store.line(cur, link_id, grant.currency)) is None or line.ours != grant
        ]
        if not changed:
            return None
        if self._chain.may_sign(link) is not MaySign.ALL:
            return self._chain.why_not(link, link.peer)
        for grant in changed:
            store.put_our_grant(cur, link_id, grant)
            link, _ = self._chain.append(
                cur, link, MessageType.LIMIT, objects.grant_fields(grant), due_ms=now_ms, now_ms=now_ms
            )
        return None

    def resume(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """Stand ready again. A side that was closed before it had been opened is opened now."""
        link = self._life.stand(cur, link, Standing.READY, "", now_ms)
        return self._say_open(cur, link, now_ms) if self._is_to_open(link) else link

    def can_pay(self, cur: Cursor, to_server: ServerName, money: Money) -> Refused | None:
        """Why a payment cannot be offered to a server now, as far as this side knows."""
        link = store.link(cur, objects.link_id_of(self._chain.me.server, to_server))
        refused = self._life.why_not_new(link, to_server)
        if refused is not None or link is None:
            return refused
        line = store.line(cur, link.link_id, money.currency)
        asset = self._assets.get(money.currency)
        if line is None or line.theirs is None or asset is None or line.theirs.scale != asset.scale:
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"The link with {to_server} does not carry {money.currency}; pay in another currency.",
            )
        return None

    # Objects of the peer.

    def on_link_open(self, cur: Cursor, link: Link | None, found: ChainObject, now_ms: int) -> Handled:
        """The peer opens its side. Its certificate has been verified; the key is pinned now."""
        key = found.key
        if key is None:
            raise RuntimeError("LINK_OPEN is parsed with its key")
        if (found.epoch, found.seq, found.prev_hash) != (FIRST_EPOCH, 1, ""):
            return Refused(reason=Reason.INVALID_VALUE, message="LINK_OPEN is the first object of a chain.")
        if link is None:
            if store.count_unwanted(cur) >= MAX_UNWANTED:
                return Refused(
                    reason=Reason.TOO_MANY_REQUESTS,
                    message="Too many links wait for this server's operator; ask the operator, then try again.",
                    fields={"retry_after_ms": rules.RETRY_MS[-1]},
                )
            link = new_link(found.link_id, found.from_server)
            store.put_link(cur, link)
        if link.their_open_ms > 0:
            # The peer started anew before our side was signed: nothing was agreed on the old opening.
            store.forget_objects(cur, link.link_id, Sender.THEIRS)
            store.forget_their_grants(cur, link.link_id)
            store.unpin(cur, link.link_id, Sender.THEIRS)
            link = replace(
                link,
                their_seq=0,
                their_hash="",
                their_signature="",
                their_newest=0,
                gap_due_ms=None,
                their_standing=Standing.READY,
                their_standing_why="",
                standing_epoch=0,
                standing_seq=0,
            )
        store.put_key(
            cur, link.link_id, Sender.THEIRS, found.key_id, key.public_key, key.certificate, found.epoch, found.seq
        )
        for grant in found.grants:
            store.put_their_grant(cur, link.link_id, grant, found.epoch, found.seq)
        link = self._chain.admit(cur, replace(link, their_open_ms=now_ms), found, now_ms)
        return Taken(link=link)

    def on_limit(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Handled:
        for grant in found.grants:
            store.put_their_grant(cur, link.link_id, grant, found.epoch, found.seq)
        return Taken(link=self._chain.admit(cur, link, found, now_ms))

    def on_head(self, cur: Cursor, link: Link, own: Sequence[ChainObject], now_ms: int) -> HeadVerdict:
        """The peer has said which objects of ours it holds: does it know more of us than we do?"""
        alarm: Alarm | None = None
        for found in own:
            verdict, there = self._chain.judge_own(cur, link, found)
            kind = verdict.evidence
            if kind is not None and kind.halts:
                stopped = self._chain.halt(cur, link, kind, there, found, now_ms)
                return HeadVerdict(link=stopped.link, alarm=stopped.alarm)
            if kind is not None:
                alarm = self._chain.note_lie(cur, link, found, now_ms)
        link = replace(link, checked_boot=self._chain.me.boot)
        store.put_link(cur, link)
        if self._is_to_open(link):
            link = self._say_open(cur, link, now_ms)
        link = self._life.say(cur, link, now_ms)
        if self._chain.may_sign(link) is MaySign.ALL:
            link = self._inbound.settle_doubts(cur, link, now_ms)
        return HeadVerdict(link=link, alarm=alarm)

    # How links stand.

    def _repin_waits(self, cur: Cursor, link: Link, shown: str) -> tuple[str, ...]:
        is_to_come = repin_store.repin(cur, link.link_id).ordered and not self._has_fenced(cur, link)
        is_lost = link.state is LinkState.RECOVERING and self._chain.me.signer(link.our_key_id) is None
        if is_lost and not is_to_come:
            # What this recovery goes on with was signed by a key that is gone since.
            return (f"waits for you: {lost_key(link.peer)}",)
        return repin.waits(cur, link, shown)

    def _shown_fingerprint(self, cur: Cursor, link: Link, present: str) -> str:
        """Of the key that the peer sees: the one that our FENCE brings, once it is signed, else the present one."""
        return self._life.fingerprint(cur, link, Sender.OURS) if self._has_fenced(cur, link) else present

    def _has_fenced(self, cur: Cursor, link: Link) -> bool:
        known = recovery_store.recovery(cur, link.link_id)
        return known is not None and known.fence_id != ""

    def view(self, cur: Cursor, link: Link) -> LinkView:
        refused = self._chain.why_not(link, link.peer)
        phase = self._life.phase(cur, link)
        present = objects.fingerprint_of(public_b64(self._chain.me.key))
        shown = self._shown_fingerprint(cur, link, present)
        if phase is LinkPhase.OPEN and refused is not None:
            phase = LinkPhase.HALTED
        return LinkView(
            link_id=link.link_id,
            peer=link.peer,
            phase=phase,
            waits=(
                *(self._repin_waits(cur, link, shown) or self._life.waits(cur, link, phase)),
                *self._settlements.waits(cur, link),
            ),
            our_standing=link.our_standing,
            their_standing=link.their_standing,
            our_statement=statement_store.statement(cur, link.link_id, Sender.OURS),
            their_statement=statement_store.statement(cur, link.link_id, Sender.THEIRS),
            our_fingerprint=self._life.fingerprint(cur, link, Sender.OURS),
            their_fingerprint=self._life.fingerprint(cur, link, Sender.THEIRS),
            present_fingerprint=present,
            shown_fingerprint=shown,
            asked_fingerprint=repin_store.repin(cur, link.link_id).asked,
            why=link.stopped_why or (refused.message if phase is LinkPhase.HALTED and refused is not None else ""),
            our_epoch=link.our_epoch,
            our_seq=link.our_seq,
            their_epoch=link.their_epoch,
            their_seq=link.their_seq,
            unsent=store.outbox_size(cur, link.link_id),
            tombstones=link.tombstones,
            last_error=link.last_error,
            next_try_ms=link.next_try_ms,
            exposures=tuple(self._exposure(cur, link, line) for line in store.lines(cur, link.link_id)),
            evidence=store.evidence_counts(cur, link.link_id),
        )

    def violations(self, cur: Cursor) -> tuple[Violation, ...]:
        """I4 and I5 of the protocol, and that the figures of each link are what its payments and the ledger say."""
        found: list[Violation] = []
        for link in store.links(cur):
            found += _violation("I4", link.peer, store.count_unfounded(cur, link.link_id))
            found += _violation("I5", link.peer, store.count_over_limit(cur, link.link_id))
            for line in store.lines(cur, link.link_id):
                where = f"{link.peer} {line.currency}"
                off = store.count_not_mirrored(cur, link.link_id, line.currency)
                for name, by in zip(("reserved", "unreceipted", "in_flight", "in_flight_sum"), off, strict=True):
                    found += _violation("I3", f"{where} {name}", by)
                sent_minor, received_minor = self._settlements.left_outside(cur, link, line.currency)
                owed = ledger.balance(cur, due_to(link.peer, line.currency))
                owing = -ledger.balance(cur, due_from(link.peer, line.currency))
                committed = store.sum_committed(cur, link.link_id, line.currency)
                credited = store.sum_credited(cur, link.link_id, line.currency)
                found += _violation("I3", f"{where} due_to", owed + sent_minor - committed)
                found += _violation("I3", f"{where} due_from", owing + received_minor - credited)
                found += self._settlements.violations(cur, link, line)
        return tuple(found)

    def _exposure(self, cur: Cursor, link: Link, line: CurrencyLine) -> Exposure:
        grant = line.ours or line.theirs
        asset = self._assets.get(line.currency)
        position = self._settlements.position(cur, link, line)
        scales = {each.scale for each in (line.ours, line.theirs) if each is not None}
        return Exposure(
            currency=line.currency,
            scale=0 if grant is None else grant.scale,
            granted=line.ours,
            received=line.theirs,
            usable=asset is not None and scales == {asset.scale},
            due_to_minor=ledger.balance(cur, due_to(link.peer, line.currency)),
            due_from_minor=-ledger.balance(cur, due_from(link.peer, line.currency)),
            reserved_minor=line.reserved_minor,
            unreceipted_minor=line.unreceipted_minor,
            used_minor=self._inbound.used_minor(cur, link, line),
            in_flight_count=line.in_flight_count,
            in_transit_minor=position.in_transit_minor,
            settleable_minor=position.settleable_minor,
            net_minor=position.net_minor,
        )

    def _check_terms(self, terms: LinkTerms) -> Refused | None:
        if terms.peer == self._chain.me.server:
            return Refused(reason=Reason.INVALID_VALUE, message="A link needs another homeserver than this one.")
        if not terms.grants or len({grant.currency for grant in terms.grants}) != len(terms.grants):
            return Refused(reason=Reason.INVALID_VALUE, message="Name at least one currency, and each once.")
        for grant in terms.grants:
            asset = self._assets.get(grant.currency)
            if asset is None or asset.scale != grant.scale:
                known = ", ".join(sorted(self._assets))
                return Refused(
                    reason=Reason.UNKNOWN_CURRENCY,
                    message=f"This homeserver does not pay in {grant.currency}; it knows: {known}.",
                )
        return None

    def _is_to_open(self, link: Link) -> bool:
        """Whether our LINK_OPEN is to be signed, and can be. One that was closed again before that is not."""
        wanted = link.wanted and link.our_open_ms == 0 and link.our_standing is not Standing.CLOSING
        return wanted and self._chain.may_sign(link) is MaySign.ALL

    def _say_open(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        me = self._chain.me
        public = public_b64(me.key)
        key_id = KeyId(me.key_id)
        store.put_key(cur, link.link_id, Sender.OURS, key_id, public, me.certificate, link.our_epoch, link.our_seq + 1)
        grants = [objects.grant_fields(each.ours) for each in store.lines(cur, link.link_id) if each.ours is not None]
        link, _ = self._chain.append(
            cur,
            replace(link, our_open_ms=now_ms, our_key_id=key_id),
            MessageType.LINK_OPEN,
            {"currencies": grants, "key": objects.key_fields(public, me.certificate)},
            due_ms=now_ms,
            now_ms=now_ms,
        )
        return link


def new_link(link_id: LinkId, peer: ServerName) -> Link:
    """A link of which nothing is known yet."""
    return Link(
        link_id=link_id,
        peer=peer,
        state=LinkState.ACTIVE,
        stopped_why="",
        wanted=False,
        checked_boot="",
        our_key_id=KeyId(""),
        our_epoch=FIRST_EPOCH,
        our_seq=0,
        our_hash="",
        their_epoch=FIRST_EPOCH,
        their_seq=0,
        their_hash="",
        their_signature="",
        their_newest=0,
        acked_seq=0,
        our_open_ms=0,
        their_open_ms=0,
        attempts=0,
        next_try_ms=0,
        last_try_ms=0,
        last_error="",
        gap_attempts=0,
        gap_due_ms=None,
        tombstones=0,
    )


def _violation(invariant: str, where: str, off_by: int) -> list[Violation]:
    return [] if off_by == 0 else [Violation(invariant=invariant, where=where, off_by=off_by)]
