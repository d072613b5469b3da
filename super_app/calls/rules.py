"""Pure decisions about calls: who may ring, and how a record moves. No clock, randomness, SQL or logging."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final, assert_never

from super_app.calls.model import (
    LEAVE_MS,
    LONGEST_CALL_MS,
    MAX_RUNG,
    MEDIA_MS,
    Act,
    CallId,
    Circumstances,
    Decision,
    Direction,
    DoNotDisturb,
    Facts,
    Policy,
    Protocol,
    QuietHours,
    RateLimit,
    Recent,
    Record,
    Ring,
    Room,
    RoomChecks,
    Rule,
    Session,
    SessionId,
    Side,
    Signal,
    State,
    Who,
)
from super_app.ids import RoomId, UserId, server_of
from super_app.signing import digest

_MS_PER_MINUTE: Final = 60_000
_MINUTES_PER_HOUR: Final = 60

# Screening.


def screen(policy: Policy, facts: Facts) -> Decision:
    """Whether a ring is shown. Rules speak in the order of ``Rule``; the first that has an opinion decides."""
    names = {facts.caller, facts.circumstances.handle} - {None}
    server = server_of(facts.caller)
    if facts.circumstances.ignored:
        return Decision(shown=False, rule=Rule.IGNORED)
    if facts.circumstances.invites_blocked:
        return Decision(shown=False, rule=Rule.INVITES)
    if names & policy.allow:
        return Decision(shown=True, rule=Rule.ALLOW)
    if names & policy.deny:
        return Decision(shown=False, rule=Rule.DENY)
    if _matches(server, policy.servers.deny) or not (
        policy.servers.allow is None or _matches(server, policy.servers.allow)
    ):
        return Decision(shown=False, rule=Rule.SERVERS)
    if not _is_room(policy.rooms, facts.circumstances):
        return Decision(shown=False, rule=Rule.ROOMS)
    if _is_too_many(policy.rate, facts):
        return Decision(shown=False, rule=Rule.RATE)
    if policy.do_not_disturb is not None and _disturbs(policy.do_not_disturb, facts.now_ms):
        return Decision(shown=False, rule=Rule.DO_NOT_DISTURB)
    if policy.quiet is not None and is_quiet(policy.quiet, facts.now_ms) and not _repeats(policy.quiet, facts):
        return Decision(shown=False, rule=Rule.QUIET)
    is_welcome = any(_is_who(who, facts) for who in policy.who)
    if policy.price is not None and not is_welcome:
        return Decision(shown=facts.circumstances.has_paid, rule=Rule.PRICE)
    return Decision(shown=is_welcome, rule=Rule.WHO)


def facts_of(now_ms: int, caller: UserId, circumstances: Circumstances, policy: Policy, recent: Recent) -> Facts:
    """What a ring means now to a callee with this past."""
    rate_from_ms = now_ms - policy.rate.window_ms
    repeat_from_ms = now_ms - (policy.quiet.repeat_ms if policy.quiet is not None else 0)
    server = server_of(caller)
    known = recent.known | recent.contacts
    shown = [each.caller for each in recent.rings if each.shown and each.ring_ms > rate_from_ms]
    before = [each.ring_ms for each in recent.rings if each.caller == caller and each.ring_ms > repeat_from_ms]
    return Facts(
        caller=caller,
        circumstances=replace(circumstances, ignored=True) if caller in recent.blocked else circumstances,
        contact=caller in recent.contacts,
        known=caller in known,
        shown_of_caller=sum(each == caller for each in shown),
        shown_of_server=sum(server_of(each) == server for each in shown),
        shown_of_strangers=sum(each not in known for each in shown),
        previous_ring_ms=max(before, default=None),
        now_ms=now_ms,
    )


def _is_room(checks: RoomChecks, circumstances: Circumstances) -> bool:
    if circumstances.is_group:
        return checks.groups
    return circumstances.conversed or not checks.prior_conversation


def _is_too_many(rate: RateLimit, facts: Facts) -> bool:
    if _reached(facts.shown_of_caller, rate.caller):
        return True
    if facts.known:
        return False
    return _reached(facts.shown_of_server, rate.server) or _reached(facts.shown_of_strangers, rate.strangers)


def _disturbs(wish: DoNotDisturb, now_ms: int) -> bool:
    return wish.until_ms is None or now_ms < wish.until_ms


def is_quiet(quiet: QuietHours, now_ms: int) -> bool:
    """Whether it is a quiet hour by the person's own clock, which daylight saving moves."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(quiet.zone)
    minute = local.hour * _MINUTES_PER_HOUR + local.minute
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    for window in quiet.windows:
        over_midnight = window.to_minute <= window.from_minute
        if today in window.days and minute >= window.from_minute and (over_midnight or minute < window.to_minute):
            return True
        if over_midnight and yesterday in window.days and minute < window.to_minute:
            return True
    return False


def _matches(server: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(server, pattern) for pattern in patterns)


def _reached(count: int, limit: int) -> bool:
    return limit > 0 and count >= limit


def _repeats(quiet: QuietHours, facts: Facts) -> bool:
    return facts.previous_ring_ms is not None and facts.now_ms - facts.previous_ring_ms < quiet.repeat_ms


def _is_who(who: Who, facts: Facts) -> bool:
    match who:
        case Who.EVERYONE:
            return True
        case Who.CONTACTS:
            return facts.contact
        case Who.SHARED_ROOMS:
            return facts.circumstances.shares_room
        case Who.FOLLOWING:
            return facts.circumstances.follows
        case Who.VERIFIED:
            return facts.circumstances.verified
        case Who.NOBODY:
            return False
        case _:
            assert_never(who)


# Sessions.


def session_id_of(room_id: RoomId, caller: UserId, call_id: CallId) -> SessionId:
    return SessionId(digest([room_id, caller, call_id]))


def rung(ring: Ring, room: Room) -> frozenset[UserId]:
    """Whom a ring is for: those that it names and that are in the room, else everybody if the room is small enough.

    In a direct room a stock ring is for the other, whomever it names: there are clients that ring all the same.
    """
    others = (room.joined | room.invited if room.is_direct else room.joined) - {ring.caller}
    if ring.callees is None:
        return others if room.is_complete else frozenset()
    if room.is_direct and ring.protocol is not Protocol.SUPERAPP:
        return others
    return frozenset(sorted(others & ring.callees)[:MAX_RUNG])


def wins_glare(mine: Session, other: Session) -> bool:
    """Of two people who ring each other at once, the lesser call id stays (Matrix spec, "Glare")."""
    return mine.call_id < other.call_id


def is_glare(mine: Session, other: Session) -> bool:
    return mine.callee is not None and mine.callee == other.caller and mine.caller == other.callee


def both_are_in(mine: Session, other: Session) -> bool:
    """With MatrixRTC whoever rings has already joined, so when both ring they have met."""
    return mine.protocol is Protocol.MATRIXRTC and other.protocol is Protocol.MATRIXRTC


def due_ms(session: Session, records: tuple[Record, ...]) -> int | None:
    """When something will happen by itself: the ring ends, or the longest call; None once nothing is open."""
    times = [due for record in records if (due := record_due_ms(record, session)) is not None]
    return min(times, default=None)


def record_due_ms(record: Record, session: Session) -> int | None:
    """When something will happen to a record by itself; None once it is closed."""
    if record.state in (State.NEW, State.RINGING):
        return session.ring_until_ms
    if record.state is not State.ANSWERED:
        return None
    times = [(record.answer_ms or record.ring_ms) + LONGEST_CALL_MS]
    if record.media_by_ms is not None:
        times.append(record.media_by_ms)
    if record.left_ms is not None:
        times.append(record.left_ms + LEAVE_MS)
    return min(times)


# Records.


def advance(record: Record, session: Session, signal: Signal, at_ms: int) -> Record | None:
    """The record after a signal, or None if it changes nothing: said by somebody who may not, or too late."""
    by_caller = signal.sender == session.caller
    by_callee = not by_caller and session.callee in (None, signal.sender)
    if not (by_caller or by_callee) or (
        signal.side is (Side.CALLEE if by_caller else Side.CALLER)  # what only the other side can say
    ):
        return None
    if session.callee is None and by_callee:
        # In a group each callee speaks for themselves; to the caller it matters only that somebody answered.
        if record.direction is Direction.OUTGOING and signal.act not in (Act.ANSWER, Act.JOIN):
            return None
        if record.direction is Direction.INCOMING and signal.sender != record.user_id:
            return None
    match record.state:
        case State.NEW | State.RINGING:
            state = _while_ringing(record, signal, by_caller=by_caller)
            if state is State.ANSWERED and signal.awaits_confirmation:
                answered = moved(record, state, at_ms, signal.sender)
                return replace(answered, media_by_ms=(answered.answer_ms or at_ms) + MEDIA_MS)
            if state is State.ANSWERED and signal.act is Act.CONFIRM:
                return connected(moved(record, state, at_ms, signal.sender), at_ms)
        case State.ANSWERED:
            change = _presence(record, session, signal, at_ms, by_caller=by_caller)
            if change is not None:
                return None if change == record else change
            state = _while_answered(signal)
        case _:
            state = None
    return None if state is None else moved(record, state, at_ms, signal.sender)


def _presence(record: Record, session: Session, signal: Signal, at_ms: int, *, by_caller: bool) -> Record | None:
    """An answered call's record after somebody came or went, or the answer was picked; None after anything else."""
    match signal.act:
        case Act.CONFIRM:
            return connected(record, at_ms)
        case Act.JOIN:
            return replace(record, left_ms=None, left_by=None) if record.left_by == signal.sender else record
        case Act.LEAVE:
            # A group goes on without its caller; each is in it until they leave.
            goes_on = session.callee is None and by_caller and record.direction is Direction.INCOMING
            if goes_on or record.left_by == signal.sender:
                return record
            if record.left_ms is not None:
                # Now nobody is in it: it was over when the first one left.
                return moved(record, State.ENDED, record.left_ms, record.left_by)
            return replace(record, left_ms=max(at_ms, record.answer_ms or at_ms), left_by=signal.sender)
        case _:
            return None


def connected(record: Record, at_ms: int) -> Record:
    """The record of an answered call once media is known to flow."""
    began_ms = max(at_ms, record.answer_ms or at_ms)
    return replace(record, media_ms=began_ms if record.media_ms is None else record.media_ms, media_by_ms=None)


def _while_ringing(record: Record, signal: Signal, *, by_caller: bool) -> State | None:
    match signal.act:
        case Act.ANSWER | Act.JOIN:
            return None if by_caller else State.ANSWERED
        case Act.CONFIRM:
            # The caller's word that it was answered; the callee's own record waits for the callee's.
            return State.ANSWERED if record.direction is Direction.OUTGOING else None
        case Act.DECLINE:
            return State.DECLINED
        case Act.BUSY:
            return State.CANCELLED if by_caller else State.BUSY
        case Act.FAIL:
            return State.FAILED
        case Act.HANG_UP:
            return State.CANCELLED if by_caller else State.DECLINED
        case Act.GIVE_UP:
            return State.MISSED
        case Act.SCREEN:
            # A callee of ours is screened here, by us, and by nobody's event.
            return State.SCREENED if record.direction is Direction.OUTGOING else None
        case Act.LEAVE:
            return State.CANCELLED if by_caller else None
        case Act.OFFER:
            return None
        case _:
            assert_never(signal.act)


def _while_answered(signal: Signal) -> State | None:
    match signal.act:
        case Act.HANG_UP | Act.GIVE_UP | Act.FAIL:
            return State.ENDED
        case Act.ANSWER | Act.JOIN | Act.LEAVE | Act.CONFIRM | Act.DECLINE | Act.BUSY | Act.SCREEN | Act.OFFER:
            # Another device of the callee may still say no when one has answered.
            return None
        case _:
            assert_never(signal.act)


def moved(record: Record, state: State, at_ms: int, by: UserId | None) -> Record:
    """The record in its next state, its times in order whatever ``at_ms`` is."""
    if state is State.RINGING:
        return replace(record, state=state)
    if state is State.ANSWERED:
        return replace(record, state=state, answer_ms=max(at_ms, record.ring_ms))
    end_ms = max(at_ms, record.answer_ms or record.ring_ms)
    return replace(record, state=state, end_ms=end_ms, ended_by=by, media_by_ms=None, left_ms=None, left_by=None)


def lapse(record: Record, session: Session, now_ms: int) -> Record | None:
    """The record after a deadline passed, or None."""
    if record.state in (State.NEW, State.RINGING) and now_ms >= session.ring_until_ms:
        return moved(record, State.MISSED, session.ring_until_ms, None)
    if record.state is State.ANSWERED and record.answer_ms is not None:
        longest_ms = record.answer_ms + LONGEST_CALL_MS
        ends: list[tuple[int, int, UserId | None]] = [(longest_ms, longest_ms, None)]
        if record.media_by_ms is not None:
            ends.append((record.media_by_ms, record.media_by_ms, None))
        if record.left_ms is not None:
            # It ended when they left, which is certain only now.
            ends.append((record.left_ms + LEAVE_MS, record.left_ms, record.left_by))
        due_ms, end_ms, by = min(ends, key=lambda each: each[0])
        if now_ms >= due_ms:
            return moved(record, State.ENDED, end_ms, by)
    return None
