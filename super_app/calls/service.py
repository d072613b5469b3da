"""Calls, in the caller's transaction: a ring at the gate, a ring in the room, what follows it, and time passing.

Everything here may run again: an event is applied once by its id, deadlines and the outbox are compared and set. Times
and ids come in as arguments. What must be said to a room goes into the outbox in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from super_app.accounts import relation_store
from super_app.accounts import store as accounts
from super_app.calls import events, rules, store
from super_app.calls.model import (
    MEDIA_MS,
    OUTBOX_ATTEMPTS_MAX,
    REFUSAL_PAUSE_MS,
    RING_GRACE_MS,
    SAME_RTC_CALL_MS,
    SCREENED_RECORDS_MAX,
    Act,
    Callee,
    CallId,
    Decision,
    Direction,
    HistoryEntry,
    Local,
    Offer,
    Outgoing,
    Page,
    Protocol,
    Quality,
    Recent,
    Record,
    Refusal,
    Ring,
    Session,
    SessionId,
    Side,
    Signal,
    State,
    StickyMember,
)
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, RoomId, ServerName, UserId, server_of
from super_app.names import EventType

_SWEEP_LIMIT: Final = 200
_OPENINGS: Final = 3
_RECENT_MAX: Final = 1_000
_KNOWN_MAX: Final = 5_000
OFFER_MS: Final = 24 * 3_600_000
"""How long after a ring its caller may take an offer."""
_RETRY_MS: Final = (2_000, 10_000, 30_000, 120_000)


class MediaReport(Enum):
    """What a person's client says of media."""

    SILENT = "silent"  # nothing
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Verdict(Enum):
    """What the gate does with a ring for somebody here."""

    SHOWN = "shown"
    SCREENED = "screened"
    USED_UP = "used_up"  # the call of this id is over; an id rings once


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """``decision`` is None where the ring was decided before. ``due_ms``: when time has something to do about it."""

    verdict: Verdict
    decision: Decision | None = None
    due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of sessions: records that came into a state, and the next time to look (None for nothing new)."""

    reached: tuple[Record, ...] = ()
    due_ms: int | None = None


# A ring at the gate.


def recent(cur: Cursor, owner: Acct, since_ms: int) -> Recent:
    """What screening must know of a callee's past, in one go."""
    return Recent(
        rings=store.recent_rings(cur, owner, since_ms, _RECENT_MAX),
        known=store.acquaintances(cur, owner, _KNOWN_MAX),
        contacts=frozenset(each.user_id for each in accounts.contacts(cur, owner)),
        blocked=frozenset(each.user_id for each in relation_store.blocking(cur, owner)),
    )


def admit(
    cur: Cursor,
    ring: Ring,
    callee: Callee,
    caller: Local | None,
    decision: Decision,
    *,
    now_ms: int,
    refusal_ms: int,
) -> Admission:
    """Write down what was decided of a ring in a direct room, before its event exists. It may run again for a ring.

    ``caller`` is None for one of another homeserver; such a caller gets the polite refusal as events at ``refusal_ms``,
    some jitter from now. A local one gets it as the answer to the request.
    """
    found = _find(cur, ring)
    session = None if found is None else store.locked(cur, found)
    known = _decided_before(cur, session, ring, callee, caller, now_ms=now_ms, refusal_ms=refusal_ms)
    if known is not None:
        return known
    if not decision.shown and not _keeps_screened(cur, ring, callee.local.acct, now_ms):
        return Admission(verdict=Verdict.SCREENED, decision=decision)
    session = _opened(cur, ring, callee.local.user_id)
    known = _decided_before(cur, session, ring, callee, caller, now_ms=now_ms, refusal_ms=refusal_ms)
    if known is not None:
        return known  # by another process, just now
    if caller is None and not decision.shown:
        store.note_event(cur, ring.event_id, session.session_id)
    session = replace(session, offers=callee.policy.offers)
    state = State.NEW if decision.shown else State.SCREENED
    for record in _records(session, [callee.local], caller, ring, state):
        screened_by = None if decision.shown or record.direction is Direction.OUTGOING else decision.rule
        store.put_record(cur, replace(record, screened_by=screened_by))
    due = _settle(cur, session)
    if decision.shown:
        return Admission(verdict=Verdict.SHOWN, decision=decision, due_ms=due)
    due = None if caller else _refuse(cur, ring, session, callee, now_ms=now_ms, due_ms=refusal_ms)
    return Admission(verdict=Verdict.SCREENED, decision=decision, due_ms=due)


def admit_to_group(
    cur: Cursor, ring: Ring, decisions: Sequence[tuple[Callee, Decision]], now_ms: int
) -> tuple[frozenset[Acct], int | None]:
    """Write down what was decided of a ring in a group for each callee here; who is screened, and when to look again.

    The event itself goes to everybody. What was decided when the same call rang before stands.
    """
    session = _opened(cur, ring, None)
    have = {record.owner: record for record in store.records(cur, session.session_id)}
    screened: set[Acct] = set()
    for callee, decision in decisions:
        owner = callee.local.acct
        if owner in have:
            if have[owner].state is State.SCREENED:
                screened.add(owner)
            continue
        if not decision.shown:
            screened.add(owner)
            if not _keeps_screened(cur, ring, owner, now_ms):
                continue
        state = State.NEW if decision.shown else State.SCREENED
        (record,) = _records(session, [callee.local], None, ring, state)
        store.put_record(cur, replace(record, screened_by=None if decision.shown else decision.rule))
    return frozenset(screened), _settle(cur, session)


def _decided_before(
    cur: Cursor,
    session: Session | None,
    ring: Ring,
    callee: Callee,
    caller: Local | None,
    *,
    now_ms: int,
    refusal_ms: int,
) -> Admission | None:
    """What was decided about this call when it rang before; a policy that changed since does not change that."""
    mine = None if session is None else _record_of(store.records(cur, session.session_id), callee.local.acct)
    if session is None or mine is None:
        return None
    if mine.state is State.SCREENED:
        due = None if caller else _refuse(cur, ring, session, callee, now_ms=now_ms, due_ms=refusal_ms)
        return Admission(verdict=Verdict.SCREENED, due_ms=due)
    return Admission(verdict=Verdict.SHOWN if mine.state.is_open else Verdict.USED_UP, due_ms=session.due_ms)


def rang_again(cur: Cursor, ring: Ring) -> Verdict | None:
    """What became of the call that a MatrixRTC membership rang for, None if it has not rung yet.

    For rings that cannot be told from what else refers to a membership: the first one decides for all. Any of them may
    be what a decline refers to, since the first may have been an attempt at sending whose event never came to be.
    """
    session_id = store.of_membership(cur, ring.room_id, ring.caller, ring.reference or EventId(""))
    if session_id is None:
        return None
    records = store.records(cur, session_id)
    if any(each.direction is Direction.INCOMING and each.state is State.SCREENED for each in records):
        return Verdict.SCREENED
    if any(each.state is State.RINGING for each in records):
        store.note_event(cur, ring.event_id, session_id)
    return Verdict.SHOWN


def _keeps_screened(cur: Cursor, ring: Ring, owner: Acct, now_ms: int) -> bool:
    # A flood from one homeserver must not fill a person's history, nor our disk.
    kept = store.screened_records(cur, owner, server_of(ring.caller), now_ms)
    return kept < SCREENED_RECORDS_MAX


def _refuse(cur: Cursor, ring: Ring, session: Session, callee: Callee, *, now_ms: int, due_ms: int) -> int | None:
    """Owe a remote caller the polite refusal, once in ten minutes; when it is due, or None.

    A call that rings in two protocols is declined in each, but said to be screened once.
    """
    if callee.policy.refusal is Refusal.SILENT:
        return None
    last = store.last_refusal(cur, callee.local.acct, ring.caller)
    is_fresh = last is None or now_ms - last[1] >= REFUSAL_PAUSE_MS
    if not is_fresh and last is not None and last[0] != session.session_id:
        return None
    sender = callee.local.user_id
    if is_fresh:
        store.put_refusal(cur, callee.local.acct, ring.caller, session.session_id, now_ms)
        content = events.screened_content(session.call_id, ring.event_id, callee.policy.offers)
        _owe(cur, session, sender, due_ms=due_ms, event_type=EventType.CALL_SCREENED, content=content)
    event_type, content = events.stock_decline(ring, session.call_id)
    # A moment after the first: whoever understands it should have read the reason before the call is over for them.
    _owe(cur, session, sender, due_ms=due_ms + 1, event_type=event_type, content=content)
    return due_ms


def shown_since(cur: Cursor, owner: Acct, caller: UserId, since_ms: int) -> int:
    """How many rings of a caller somebody was shown since a time."""
    return store.shown_since(cur, owner, caller, since_ms)


# A ring in the room.


def rang(
    cur: Cursor,
    ring: Ring,
    rung: frozenset[UserId],
    callees: Sequence[tuple[Callee, Decision]],
    caller: Local | None,
    *,
    is_direct: bool,
    now_ms: int,
) -> Change:
    """A ring's event exists. ``rung`` are all whom it is for, ``callees`` and ``caller`` those of this homeserver.

    The decision about a callee counts where the gate has not written one: in a group it saw nothing of an encrypted
    ring, or this homeserver joined the room later.
    """
    if not rung or not (callees or caller):
        return Change()
    only = next(iter(rung)) if is_direct or len(rung) == 1 else None
    session = _opened(cur, ring, only)
    if not store.note_event(cur, ring.event_id, session.session_id):
        return Change()
    session = _learned(session, ring)
    store.update_session(cur, session)
    reached: list[Record] = []
    have = {record.owner: record for record in store.records(cur, session.session_id)}
    decisions = {callee.local.acct: decision for callee, decision in callees}
    for fresh in _records(session, [callee.local for callee, _ in callees], caller, ring, State.RINGING):
        known = have.get(fresh.owner)
        decision = decisions.get(fresh.owner)
        if known is not None:
            record = rules.moved(known, State.RINGING, now_ms, None) if known.state is State.NEW else known
        elif decision is not None and not decision.shown:
            if not _keeps_screened(cur, ring, fresh.owner, now_ms):
                continue
            record = replace(rules.moved(fresh, State.SCREENED, now_ms, None), screened_by=decision.rule)
        else:
            record = fresh
        if record != known:
            store.put_record(cur, record)
            reached.append(record)
    glare = _resolve_glare(cur, session, now_ms)
    due = _earlier(_settle(cur, session), glare.due_ms)
    if ring.protocol is Protocol.SUPERAPP and only is not None and not events.is_late(ring, now_ms):
        offers = callees[0][0].policy.offers if callees else frozenset[Offer]()
        due = _earlier(due, _say_ringing(cur, session, offers, now_ms))
    return Change(reached=(*reached, *glare.reached), due_ms=due)


def _learned(session: Session, ring: Ring) -> Session:
    """What a further ring of the same call adds: which of our events it carries, and where its members are."""
    return replace(
        session,
        rtc_event_id=ring.reference or session.rtc_event_id,
        superapp_event_id=ring.event_id if ring.protocol is Protocol.SUPERAPP else session.superapp_event_id,
        rtc_ring_id=ring.event_id if ring.protocol is Protocol.MATRIXRTC else session.rtc_ring_id,
        legacy_party=ring.party_id if ring.protocol is Protocol.LEGACY else session.legacy_party,
    )


def _resolve_glare(cur: Cursor, session: Session, now_ms: int) -> Change:
    reached: list[Record] = []
    due_ms: int | None = None
    others = () if session.callee is None else store.open_of_caller(cur, session.room_id, session.callee)
    for other_id in others:
        other = store.locked(cur, other_id)
        if other is None or not rules.is_glare(session, other) or not _rings(cur, session) or not _rings(cur, other):
            continue
        winner, loser = (session, other) if rules.wins_glare(session, other) else (other, session)
        lost = _move_all(cur, loser, State.CANCELLED, now_ms)
        won = _move_all(cur, winner, State.ANSWERED, now_ms) if rules.both_are_in(session, other) else []
        reached += lost + won
        due_ms = _earlier(due_ms, _say_end(cur, loser, lost, now_ms))
        due_ms = _earlier(due_ms, _settle(cur, other))
    return Change(reached=tuple(reached), due_ms=due_ms)


def _rings(cur: Cursor, session: Session) -> bool:
    return any(record.state is State.RINGING for record in store.records(cur, session.session_id))


def _move_all(cur: Cursor, session: Session, state: State, now_ms: int) -> list[Record]:
    moved = [
        rules.moved(record, state, now_ms, None)
        for record in store.records(cur, session.session_id)
        if record.state is State.RINGING
    ]
    for record in moved:
        store.put_record(cur, record)
    return moved


def _say_ringing(cur: Cursor, session: Session, offers: frozenset[Offer], now_ms: int) -> int | None:
    due_ms = None
    for record in store.records(cur, session.session_id):
        if record.direction is Direction.INCOMING and record.state is State.RINGING and session.superapp_event_id:
            due_ms = now_ms
            content = events.ringing_content(session.call_id, session.superapp_event_id, offers)
            _owe(cur, session, record.user_id, due_ms=now_ms, event_type=EventType.CALL_RINGING, content=content)
    return due_ms


def _say_end(cur: Cursor, session: Session, reached: Sequence[Record], now_ms: int) -> int | None:
    """Owe the room the end of a call whose caller is ours and whose record has just closed; when, or None."""
    due_ms = None
    for record in reached:
        if record.direction is Direction.OUTGOING and not record.state.is_open and session.superapp_event_id:
            due_ms = now_ms
            outcome = State.ANSWERED if record.state is State.ENDED else record.state
            content = events.end_content(session.call_id, session.superapp_event_id, outcome)
            _owe(cur, session, record.user_id, due_ms=now_ms, event_type=EventType.CALL_END, content=content)
    return due_ms


# What follows a ring.


def heard(cur: Cursor, signal: Signal, *, at_ms: int, now_ms: int) -> Change:
    """An event after the ring exists. ``at_ms`` is when it came to be, on our clock: earlier deadlines passed first."""
    reached: list[Record] = []
    due_ms: int | None = None
    if signal.member is not None:
        due_ms = _remember_member(cur, signal, signal.member)
        if signal.act is Act.LEAVE and store.has_member(cur, signal.room_id, signal.sender, signal.member.key, now_ms):
            # Another device of theirs is still in the call.
            return Change(due_ms=due_ms)
    for session_id in _meant(cur, signal):
        session = store.locked(cur, session_id)
        if session is None or not store.note_event(cur, signal.event_id, session_id):
            continue
        if signal.offers and signal.sender != session.caller and session.callee in (None, signal.sender):
            session = replace(session, offers=signal.offers)
        moved = _hear(cur, session, signal, at_ms)
        reached += moved
        if moved:
            # Whoever was quicker than our "it rings" need not hear it any more.
            store.claim(cur, _outbox_id(session, EventType.CALL_RINGING))
        due_ms = _earlier(due_ms, _stop_other_rings(cur, session, signal, moved, now_ms))
        due_ms = _earlier(due_ms, _earlier(_settle(cur, session), _say_end(cur, session, moved, now_ms)))
    return Change(reached=tuple(reached), due_ms=due_ms)


def _hear(cur: Cursor, session: Session, signal: Signal, at_ms: int) -> list[Record]:
    """Apply a signal to the records of a session; those that came into another state by it."""
    moved: list[Record] = []
    for known in store.records(cur, session.session_id):
        record = rules.lapse(known, session, at_ms) or known
        record = rules.advance(record, session, signal, at_ms) or record
        if record != known:
            store.put_record(cur, record)
        if record.state is not known.state:
            moved.append(record)
    return moved


def _stop_other_rings(
    cur: Cursor, session: Session, signal: Signal, moved: Sequence[Record], now_ms: int
) -> int | None:
    """Owe what stops the rings by other protocols than the one in which a call of two was just answered.

    Legacy rings stop by the caller's word that none of those devices was picked; MatrixRTC rings by the callee's no.
    """
    answered = [record for record in moved if record.state is State.ANSWERED]
    due_ms = None
    for record in answered if session.callee is not None else []:
        if record.direction is Direction.OUTGOING and signal.act is Act.JOIN and session.legacy_party is not None:
            event_type, content = events.selected_answer(session.call_id, session.legacy_party)
        elif record.direction is Direction.INCOMING and signal.act is Act.ANSWER and session.rtc_ring_id is not None:
            event_type, content = events.rtc_decline(session.rtc_ring_id)
        else:
            continue
        due_ms = now_ms
        _owe(cur, session, record.user_id, due_ms=now_ms, event_type=event_type, content=content)
    return due_ms


def _remember_member(cur: Cursor, signal: Signal, member: StickyMember) -> int | None:
    """Keep a sticky membership for as long as it lasts; when it ends by itself, or None."""
    if signal.act is Act.JOIN:
        store.put_member(cur, signal.room_id, signal.sender, member.key, signal.event_id, member.until_ms)
        return member.until_ms
    store.delete_member(cur, signal.room_id, signal.sender, member.key)
    return None


def has_sticky_member(cur: Cursor, room_id: RoomId, user_id: UserId, now_ms: int) -> bool:
    """Whether somebody is in a room's call by a sticky membership."""
    return store.has_member(cur, room_id, user_id, "", now_ms)


def someone_else_is_in(cur: Cursor, room_id: RoomId, user_id: UserId, now_ms: int) -> bool:
    """Whether anybody else is in a room's call by a sticky membership."""
    return bool(store.members_of(cur, room_id, now_ms) - {user_id})


def _meant(cur: Cursor, signal: Signal) -> tuple[SessionId, ...]:
    if signal.call_id is not None:
        return store.of_call(cur, signal.room_id, signal.call_id)
    if signal.reference is not None:
        return store.of_event(cur, signal.room_id, signal.reference)
    return store.open_rtc(cur, signal.room_id)


def awaits_memberships(cur: Cursor, room_id: RoomId) -> bool:
    """Whether a membership could matter to any call in a room: the cheap question before an expensive one."""
    return bool(store.open_rtc(cur, room_id))


# Time passing.


def expire(cur: Cursor, now_ms: int) -> Change:
    """Let rings end that nobody answered, calls that nobody ended, and rings that never came to exist."""
    reached: list[Record] = []
    for session_id in store.due_sessions(cur, now_ms, _SWEEP_LIMIT):
        session = store.locked(cur, session_id)
        if session is None:
            continue
        records = store.records(cur, session_id)
        if all(record.state is State.NEW for record in records):
            store.delete_session(cur, session_id)
            continue
        changed = [record for known in records if (record := rules.lapse(known, session, now_ms)) is not None]
        for record in changed:
            store.put_record(cur, record)
        reached += changed
        _settle(cur, session)
        _say_end(cur, session, changed, now_ms)
    for lapsed in store.lapsed_members(cur, now_ms, _SWEEP_LIMIT):
        reached += _leave(cur, *lapsed, now_ms=now_ms)
    return Change(reached=tuple(reached), due_ms=store.next_due_ms(cur))


def _leave(
    cur: Cursor, room_id: RoomId, user_id: UserId, key: str, event_id: EventId, until_ms: int, *, now_ms: int
) -> Sequence[Record]:
    """A sticky membership ended by itself: nobody renewed it. That is leaving, once, for whoever has no other."""
    store.delete_member(cur, room_id, user_id, key)
    if store.has_member(cur, room_id, user_id, key, now_ms):
        return ()
    signal = Signal(
        act=Act.LEAVE,
        side=Side.EITHER,
        room_id=room_id,
        event_id=EventId(f"{event_id} lapsed"),
        sender=user_id,
    )
    return heard(cur, signal, at_ms=until_ms, now_ms=now_ms).reached


def next_due_ms(cur: Cursor) -> int | None:
    """When something will happen by itself next, None for never."""
    return store.next_due_ms(cur)


def take_due(cur: Cursor, now_ms: int) -> tuple[Outgoing, ...]:
    """Take the events that are due out of the outbox, in order. Each is sent at most once, by whoever took it."""
    due = store.due_outgoing(cur, now_ms, _SWEEP_LIMIT)
    return tuple(outgoing for outgoing in due if store.claim(cur, outgoing.outbox_id))


def put_back(cur: Cursor, outgoing: Outgoing, now_ms: int) -> int | None:
    """An event could not be sent. It is tried again a few times; when, or None for no more."""
    attempts = outgoing.attempts + 1
    if attempts >= OUTBOX_ATTEMPTS_MAX:
        return None
    due_ms = now_ms + _RETRY_MS[attempts - 1]
    store.post(cur, replace(outgoing, attempts=attempts, due_ms=due_ms))
    return due_ms


def purge(cur: Cursor, before_ms: int, now_ms: int) -> int:
    """Forget calls that began before a time; how many. To be repeated until it gives 0."""
    store.forget_refusals(cur, now_ms - REFUSAL_PAUSE_MS)
    aged = store.aged_sessions(cur, before_ms, _SWEEP_LIMIT)
    for session_id in aged:
        store.delete_session(cur, session_id)
    store.forget_orders(cur, before_ms)
    return len(aged)


def erase(cur: Cursor, owner: Acct, call_id: CallId | None) -> int | Refused:
    """Take calls that are over out of a person's history, all or one of them; how many."""
    session_id = None
    if call_id is not None:
        entry = store.newest(cur, owner, call_id)
        if entry is None:
            return _unknown_call(call_id)
        if entry.record.state.is_open:
            return Refused(
                reason=Reason.CONFLICT, message="This call is not over yet; end it first, then take it out of history."
            )
        session_id = entry.record.session_id
    erased = store.erase_records(cur, owner, session_id)
    store.delete_orphans(cur)
    return erased


def forget_person(cur: Cursor, owner: Acct, user_id: UserId) -> int:
    """Somebody's account is gone, and with it all that calls keep of them; how many records there were."""
    erased = store.erase_person(cur, owner, user_id)
    store.delete_orphans(cur)
    return erased


def people_with_records(cur: Cursor, after: Acct, limit: int) -> tuple[tuple[Acct, UserId], ...]:
    """Whose records there are, by acct, from after one of them."""
    return store.owners(cur, after, limit)


# What people ask.


def history(cur: Cursor, owner: Acct, since: str | None, limit: int) -> Page | Refused:
    """A page of a person's records, newest first, from where the last page ended."""
    before = None if since is None else _place(since)
    if since is not None and before is None:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message="since must be the next of an earlier answer; leave it out to begin with the newest call.",
        )
    entries = store.history(cur, owner, before, limit + 1)
    shown = entries[:limit]
    last = shown[-1].record if len(entries) > limit else None
    return Page(entries=shown, next_token=None if last is None else f"{last.ring_ms}.{last.session_id}")


def call_of(cur: Cursor, owner: Acct, call_id: CallId) -> HistoryEntry | Refused:
    """The newest call of this id in a person's records."""
    return store.newest(cur, owner, call_id) or _unknown_call(call_id)


def _unknown_call(call_id: CallId) -> Refused:
    return Refused(reason=Reason.UNKNOWN_CALL, message=f"There is no call {call_id[:255]!a} in your history.")


def report(
    cur: Cursor, owner: Acct, call_id: CallId, media: MediaReport, quality: Quality | None, now_ms: int
) -> tuple[HistoryEntry, int | None] | Refused:
    """What a person's client says of the media of a call; the call, and when time has something to do about it.

    CONNECTING starts the time in which media must flow, CONNECTED ends it. Quality is kept also after the end.
    """
    entry = store.newest(cur, owner, call_id)
    session = None if entry is None else store.locked(cur, entry.record.session_id)
    if entry is None or session is None:
        return _unknown_call(call_id)
    record = entry.record
    if record.state is State.ANSWERED:
        match media:
            case MediaReport.CONNECTED:
                record = rules.connected(record, now_ms)
            case MediaReport.CONNECTING:
                if record.media_ms is None and record.media_by_ms is None:
                    record = replace(record, media_by_ms=now_ms + MEDIA_MS)
            case MediaReport.SILENT:
                pass
    elif record.state is not State.ENDED:
        return Refused(
            reason=Reason.CONFLICT, message="This call was not answered, so there is no media to say anything about."
        )
    record = replace(record, quality=quality or record.quality)
    store.put_record(cur, record)
    due_ms = _settle(cur, session)
    return HistoryEntry(record=record, session=session), due_ms


def may_leave(cur: Cursor, owner: Acct, call_id: CallId, offer: Offer, now_ms: int) -> HistoryEntry | Refused:
    """A call in which its caller may take an offer: theirs, of two, not answered, not long ago, and offered."""
    entry = store.newest(cur, owner, call_id)
    if entry is None or entry.record.direction is not Direction.OUTGOING:
        return _unknown_call(call_id)
    record, session = entry.record, entry.session
    if record.state.is_open or record.state is State.ENDED or session.callee is None:
        return Refused(
            reason=Reason.CONFLICT,
            message="This is for calls to one person that ended without an answer; speak with them, or wait for the "
            "end of the ring.",
        )
    if offer not in session.offers or now_ms - record.ring_ms > OFFER_MS:
        return Refused(
            reason=Reason.NOT_OFFERED,
            message=f"{session.callee} takes no {offer.value} for this call; send a message instead.",
        )
    return entry


def ask_back(cur: Cursor, owner: Acct, call_id: CallId, now_ms: int) -> HistoryEntry | Refused:
    """Note a caller's wish to be called back, once; the entry as it was before."""
    entry = may_leave(cur, owner, call_id, Offer.CALLBACK, now_ms)
    if isinstance(entry, Refused) or entry.record.callback_ms is not None:
        return entry
    for record in store.records(cur, entry.record.session_id):
        store.put_record(cur, replace(record, callback_ms=now_ms))
    return entry


def ordered(
    cur: Cursor, owner: Acct, caller: UserId, call_id: CallId, body_hash: str, room_id: RoomId | None, now_ms: int
) -> RoomId | Refused | None:
    """Begin a call through the API: remember what was asked for under its id, and in which room it rings.

    Returns the room that the id stands for; None while there is none, since ``room_id`` is not known yet.
    """
    known = store.order(cur, owner, call_id)
    if known is None and room_id is not None:
        session_id = rules.session_id_of(room_id, caller, call_id)
        known = store.add_order(cur, owner, call_id, body_hash, room_id, session_id, now_ms)
    if known is None:
        return None
    if known[0] != body_hash:
        return Refused(
            reason=Reason.CONFLICT,
            message="You rang with this call_id before and asked for something else; ring with a new call_id.",
        )
    return known[1]


def live_call(cur: Cursor, owner: Acct, call_id: CallId) -> SessionId | Refused:
    """The session of a call that rings or goes on for a person."""
    session_id = store.live(cur, owner, call_id)
    if session_id is not None:
        return session_id
    return Refused(
        reason=Reason.UNKNOWN_CALL,
        message="You take part in no live call of this id; credentials are given from the ring until the end.",
    )


def _place(token: str) -> tuple[int, SessionId] | None:
    ring_ms, _, session_id = token.partition(".")
    if not (ring_ms.isascii() and ring_ms.isdigit() and len(ring_ms) <= 15 and session_id.isprintable()):
        return None
    return int(ring_ms), SessionId(session_id)


# Sessions.


def _find(cur: Cursor, ring: Ring) -> SessionId | None:
    """The session that a ring belongs to, if there is one."""
    if ring.call_id is not None:
        session_id = rules.session_id_of(ring.room_id, ring.caller, ring.call_id)
        return session_id if store.exists(cur, session_id) else None
    since_ms = ring.start_ms - SAME_RTC_CALL_MS
    return store.rtc_of_caller(cur, ring.room_id, ring.caller, ring.reference, since_ms)


def _opened(cur: Cursor, ring: Ring, callee: UserId | None) -> Session:
    """The session that a ring belongs to, made now if there is none, and locked before anything hangs on it."""
    for _ in range(_OPENINGS):
        session_id = _find(cur, ring)
        if session_id is None:
            session = _new_session(ring, callee, _free_id(cur, ring))
            store.add_session(cur, session)
            session_id = session.session_id
        found = store.locked(cur, session_id)
        # Another process may have made it and not be done, or have undone it, between the two statements.
        if found is not None:
            break
    else:
        raise RuntimeError("a call vanished inside its own transaction")
    return found


def _free_id(cur: Cursor, ring: Ring) -> CallId:
    """The id of a new call. MatrixRTC has none: the membership's event id serves, once, then the ring's own."""
    if ring.call_id is not None:
        return ring.call_id
    if ring.reference is None:
        return CallId(ring.event_id)
    wanted = CallId(ring.reference)
    taken = store.exists(cur, rules.session_id_of(ring.room_id, ring.caller, wanted))
    return CallId(ring.event_id) if taken else wanted


def _new_session(ring: Ring, callee: UserId | None, call_id: CallId) -> Session:
    until_ms = ring.start_ms + ring.lifetime_ms + RING_GRACE_MS
    return Session(
        session_id=rules.session_id_of(ring.room_id, ring.caller, call_id),
        room_id=ring.room_id,
        call_id=call_id,
        caller=ring.caller,
        callee=callee,
        protocol=ring.protocol,
        media=ring.media,
        ring_ms=ring.start_ms,
        ring_until_ms=until_ms,
        due_ms=until_ms,
        rtc_event_id=ring.reference,
        superapp_event_id=ring.event_id if ring.protocol is Protocol.SUPERAPP else None,
        rtc_ring_id=ring.event_id if ring.protocol is Protocol.MATRIXRTC else None,
        legacy_party=ring.party_id if ring.protocol is Protocol.LEGACY else None,
    )


def _records(
    session: Session, callees: Sequence[Local], caller: Local | None, ring: Ring, state: State
) -> list[Record]:
    """The records that the local people of a session begin with."""
    shared_end_ms = None if state.is_open else session.ring_ms
    records = [
        Record(
            session_id=session.session_id,
            owner=callee.acct,
            user_id=callee.user_id,
            direction=Direction.INCOMING,
            peer=ring.caller,
            peer_server=server_of(ring.caller),
            state=state,
            ring_ms=session.ring_ms,
            end_ms=shared_end_ms,
        )
        for callee in callees
    ]
    if caller is not None:
        records.append(
            Record(
                session_id=session.session_id,
                owner=caller.acct,
                user_id=caller.user_id,
                direction=Direction.OUTGOING,
                peer=session.callee or session.room_id,
                peer_server=server_of(session.callee) if session.callee is not None else ServerName(""),
                state=state,
                ring_ms=session.ring_ms,
                end_ms=shared_end_ms,
            )
        )
    return records


def _record_of(records: Sequence[Record], owner: Acct) -> Record | None:
    return next((record for record in records if record.owner == owner), None)


def _settle(cur: Cursor, session: Session) -> int | None:
    """Write when the session is next due."""
    due = rules.due_ms(session, store.records(cur, session.session_id))
    store.update_session(cur, replace(session, due_ms=due))
    return due


def _owe(
    cur: Cursor, session: Session, sender: UserId, *, due_ms: int, event_type: str, content: dict[str, Any]
) -> None:
    """Owe a room an event about a call: one of each type, in the order in which they become due."""
    outgoing = Outgoing(
        outbox_id=_outbox_id(session, event_type),
        due_ms=due_ms,
        attempts=0,
        room_id=session.room_id,
        sender=sender,
        event_type=event_type,
        content=content,
    )
    store.post(cur, outgoing)


def _outbox_id(session: Session, event_type: str) -> str:
    return f"{session.session_id}:{event_type}"


def _earlier(first: int | None, second: int | None) -> int | None:
    times = [each for each in (first, second) if each is not None]
    return min(times) if times else None
