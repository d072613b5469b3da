"""How records of calls move, and who decides it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.calls import rules
from super_app.calls.model import (
    DEFAULT_LIFETIME_MS,
    LEAVE_MS,
    LONGEST_CALL_MS,
    MEDIA_MS,
    Act,
    CallId,
    Direction,
    Media,
    Protocol,
    Record,
    Ring,
    Room,
    Session,
    Side,
    Signal,
    State,
)
from super_app.ids import Acct, EventId, RoomId, UserId, server_of

ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs2.test")
CAROL = UserId("@carol:hs2.test")
MALLORY = UserId("@mallory:hs3.test")
ROOM = RoomId("!room:hs1.test")
RING_MS = 1_700_000_000_000
UNTIL_MS = RING_MS + DEFAULT_LIFETIME_MS


def session(
    call_id: str = "call-1",
    *,
    caller: UserId = ALICE,
    callee: UserId | None = BOB,
    protocol: Protocol = Protocol.LEGACY,
) -> Session:
    return Session(
        session_id=rules.session_id_of(ROOM, caller, CallId(call_id)),
        room_id=ROOM,
        call_id=CallId(call_id),
        caller=caller,
        callee=callee,
        protocol=protocol,
        media=Media.AUDIO,
        ring_ms=RING_MS,
        ring_until_ms=UNTIL_MS,
        due_ms=UNTIL_MS,
        rtc_event_id=None,
        superapp_event_id=None,
    )


def record(owner: UserId, call: Session, state: State = State.RINGING) -> Record:
    outgoing = owner == call.caller
    peer = (call.callee or call.room_id) if outgoing else call.caller
    return Record(
        session_id=call.session_id,
        owner=Acct(owner),
        user_id=owner,
        direction=Direction.OUTGOING if outgoing else Direction.INCOMING,
        peer=peer,
        peer_server=server_of(UserId(peer)),
        state=state,
        ring_ms=RING_MS,
    )


def said(act: Act, by: UserId, side: Side = Side.EITHER, event_id: str = "$1") -> Signal:
    return Signal(act=act, side=side, room_id=ROOM, event_id=EventId(event_id), sender=by, call_id=CallId("call-1"))


def after(known: Record, call: Session, *signals: Signal) -> Record:
    for step, signal in enumerate(signals, start=1):
        known = rules.advance(known, call, signal, RING_MS + 1_000 * step) or known
    return known


DIRECT = session()
GROUP = session(callee=None)


@pytest.mark.parametrize("owner", [ALICE, BOB])
class TestDirect:
    """A call of two, as each of them records it."""

    @pytest.mark.parametrize(
        ("signal", "state"),
        [
            (said(Act.ANSWER, BOB, Side.CALLEE), State.ANSWERED),
            (said(Act.JOIN, BOB), State.ANSWERED),
            (said(Act.DECLINE, BOB, Side.CALLEE), State.DECLINED),
            (said(Act.HANG_UP, BOB), State.DECLINED),
            (said(Act.BUSY, BOB, Side.CALLEE), State.BUSY),
            (said(Act.HANG_UP, ALICE), State.CANCELLED),
            (said(Act.LEAVE, ALICE), State.CANCELLED),
            (said(Act.GIVE_UP, ALICE), State.MISSED),
            (said(Act.FAIL, ALICE), State.FAILED),
            (said(Act.FAIL, BOB), State.FAILED),
        ],
        ids=lambda value: value.value if isinstance(value, State) else f"{value.act}-{value.sender}",
    )
    def test_the_first_word_after_the_ring_decides(self, owner: UserId, signal: Signal, state: State) -> None:
        assert after(record(owner, DIRECT), DIRECT, signal).state is state

    @pytest.mark.parametrize("act", [Act.HANG_UP, Act.FAIL])
    @pytest.mark.parametrize("by", [ALICE, BOB])
    def test_an_answered_call_ends_when_either_leaves_and_says_who_did(
        self, owner: UserId, act: Act, by: UserId
    ) -> None:
        ended = after(record(owner, DIRECT), DIRECT, said(Act.ANSWER, BOB), said(act, by))
        assert (ended.state, ended.ended_by) == (State.ENDED, by)
        assert (ended.answer_ms, ended.end_ms) == (RING_MS + 1_000, RING_MS + 2_000)

    @pytest.mark.parametrize("by", [ALICE, BOB])
    def test_who_leaves_and_is_not_back_in_time_has_ended_it_when_they_left(self, owner: UserId, by: UserId) -> None:
        left = after(record(owner, DIRECT), DIRECT, said(Act.JOIN, BOB), said(Act.LEAVE, by))
        assert left.state is State.ANSWERED
        assert rules.due_ms(DIRECT, (left,)) == RING_MS + 2_000 + LEAVE_MS
        assert rules.lapse(left, DIRECT, RING_MS + 2_000 + LEAVE_MS - 1) is None
        ended = rules.lapse(left, DIRECT, RING_MS + 2_000 + LEAVE_MS)
        assert ended is not None
        assert (ended.state, ended.end_ms, ended.ended_by) == (State.ENDED, RING_MS + 2_000, by)

    def test_who_is_back_in_time_has_not_left_and_the_other_coming_does_not_count(self, owner: UserId) -> None:
        left = after(record(owner, DIRECT), DIRECT, said(Act.JOIN, BOB), said(Act.LEAVE, BOB), said(Act.JOIN, ALICE))
        assert left.left_by == BOB
        back = after(left, DIRECT, said(Act.JOIN, BOB))
        assert rules.lapse(back, DIRECT, RING_MS + 60_000) is None

    def test_when_both_have_left_it_is_over_at_once(self, owner: UserId) -> None:
        ended = after(record(owner, DIRECT), DIRECT, said(Act.JOIN, BOB), said(Act.LEAVE, BOB), said(Act.LEAVE, ALICE))
        assert (ended.state, ended.end_ms, ended.ended_by) == (State.ENDED, RING_MS + 2_000, BOB)

    def test_an_answer_that_the_caller_never_picks_is_over_after_a_while(self, owner: UserId) -> None:
        answer = replace(said(Act.ANSWER, BOB, Side.CALLEE), awaits_confirmation=True)
        answered = after(record(owner, DIRECT), DIRECT, answer)
        assert rules.due_ms(DIRECT, (answered,)) == RING_MS + 1_000 + MEDIA_MS
        ended = rules.lapse(answered, DIRECT, RING_MS + 1_000 + MEDIA_MS)
        assert ended is not None
        assert (ended.state, ended.media_ms, ended.ended_by) == (State.ENDED, None, None)
        picked = after(answered, DIRECT, said(Act.CONFIRM, ALICE, Side.CALLER))
        assert rules.lapse(picked, DIRECT, RING_MS + 1_000 + MEDIA_MS) is None
        assert (picked.media_ms, picked.state) == (RING_MS + 1_000, State.ANSWERED)

    def test_a_second_device_that_declines_does_not_end_what_the_first_answered(self, owner: UserId) -> None:
        answered = after(record(owner, DIRECT), DIRECT, said(Act.ANSWER, BOB), said(Act.DECLINE, BOB, Side.CALLEE))
        assert answered.state is State.ANSWERED

    @pytest.mark.parametrize("act", list(Act))
    def test_a_third_person_changes_nothing(self, owner: UserId, act: Act) -> None:
        ringing = record(owner, DIRECT)
        answered = after(ringing, DIRECT, said(Act.ANSWER, BOB))
        assert rules.advance(ringing, DIRECT, said(act, MALLORY), RING_MS) is None
        assert rules.advance(answered, DIRECT, said(act, MALLORY), RING_MS) is None

    def test_a_caller_cannot_answer_their_own_ring(self, owner: UserId) -> None:
        forged = (said(Act.ANSWER, ALICE, Side.CALLEE), said(Act.JOIN, ALICE))
        assert after(record(owner, DIRECT), DIRECT, *forged).state is State.RINGING

    def test_only_the_caller_homeserver_ends_and_only_the_callees_says_screened(self, owner: UserId) -> None:
        forged = (said(Act.HANG_UP, BOB, Side.CALLER), said(Act.SCREEN, ALICE, Side.CALLEE))
        assert after(record(owner, DIRECT), DIRECT, *forged).state is State.RINGING

    def test_an_unanswered_ring_is_missed_when_its_time_is_over(self, owner: UserId) -> None:
        ringing = record(owner, DIRECT)
        assert rules.lapse(ringing, DIRECT, UNTIL_MS - 1) is None
        missed = rules.lapse(ringing, DIRECT, UNTIL_MS + 5_000)
        assert missed is not None
        assert (missed.state, missed.end_ms, missed.ended_by) == (State.MISSED, UNTIL_MS, None)

    def test_a_call_whose_end_nobody_tells_ends_after_a_day(self, owner: UserId) -> None:
        answered = after(record(owner, DIRECT), DIRECT, said(Act.ANSWER, BOB))
        assert answered.answer_ms is not None
        over_ms = answered.answer_ms + LONGEST_CALL_MS
        assert rules.due_ms(DIRECT, (answered,)) == over_ms
        assert rules.lapse(answered, DIRECT, over_ms - 1) is None
        ended = rules.lapse(answered, DIRECT, over_ms)
        assert ended is not None
        assert ended.state is State.ENDED


def test_a_callers_choice_of_an_answer_counts_for_the_caller_only() -> None:
    chosen = said(Act.CONFIRM, ALICE, Side.CALLER)
    assert after(record(ALICE, DIRECT), DIRECT, chosen).state is State.ANSWERED
    assert after(record(BOB, DIRECT), DIRECT, chosen).state is State.RINGING


def test_the_callees_homeserver_tells_the_caller_that_the_ring_was_screened_and_nobody_else() -> None:
    screened = said(Act.SCREEN, BOB, Side.CALLEE)
    assert after(record(ALICE, DIRECT), DIRECT, screened).state is State.SCREENED
    assert after(record(BOB, DIRECT), DIRECT, screened).state is State.RINGING


class TestGroup:
    """A ring for everybody in a room, as each of them records it."""

    def test_each_callee_answers_for_themselves(self) -> None:
        answer = said(Act.ANSWER, BOB, Side.CALLEE)
        assert after(record(BOB, GROUP), GROUP, answer).state is State.ANSWERED
        assert after(record(CAROL, GROUP), GROUP, answer).state is State.RINGING

    def test_one_answer_is_an_answer_for_the_caller_and_one_refusal_is_none(self) -> None:
        decline, answer = said(Act.DECLINE, CAROL, Side.CALLEE), said(Act.JOIN, BOB)
        assert after(record(ALICE, GROUP), GROUP, decline).state is State.RINGING
        assert after(record(ALICE, GROUP), GROUP, decline, answer).state is State.ANSWERED

    def test_it_goes_on_for_the_callees_when_the_caller_leaves(self) -> None:
        joined = (said(Act.JOIN, BOB), said(Act.LEAVE, ALICE))
        assert after(record(BOB, GROUP), GROUP, *joined).state is State.ANSWERED
        assert after(record(CAROL, GROUP), GROUP, *joined).state is State.CANCELLED
        assert after(record(ALICE, GROUP), GROUP, *joined).left_by == ALICE

    def test_it_goes_on_for_the_caller_when_a_callee_leaves(self) -> None:
        joined = (said(Act.JOIN, BOB), said(Act.LEAVE, BOB))
        assert after(record(ALICE, GROUP), GROUP, *joined).state is State.ANSWERED
        assert after(record(BOB, GROUP), GROUP, *joined).left_by == BOB


class TestRung:
    """Whom a ring is for."""

    def ring(self, *callees: UserId) -> Ring:
        return Ring(
            room_id=ROOM,
            event_id=EventId("$ring"),
            caller=ALICE,
            protocol=Protocol.LEGACY,
            call_id=CallId("call-1"),
            reference=None,
            media=Media.AUDIO,
            lifetime_ms=DEFAULT_LIFETIME_MS,
            callees=frozenset(callees) or None,
            start_ms=RING_MS,
        )

    def room(self, *joined: UserId, invited: tuple[UserId, ...] = (), is_complete: bool = True) -> Room:
        return Room(joined=frozenset(joined), invited=frozenset(invited), is_complete=is_complete)

    def test_in_a_direct_room_it_is_for_the_other_even_if_only_invited(self) -> None:
        room = self.room(ALICE, invited=(BOB,))
        assert room.is_direct
        assert rules.rung(self.ring(), room) == {BOB}

    def test_in_a_group_it_is_for_everybody_who_joined_but_the_caller(self) -> None:
        room = self.room(ALICE, BOB, CAROL, invited=(MALLORY,))
        assert not room.is_direct
        assert rules.rung(self.ring(), room) == {BOB, CAROL}

    def test_those_that_it_names_are_rung_and_only_if_they_are_there(self) -> None:
        assert rules.rung(self.ring(CAROL), self.room(ALICE, BOB, CAROL)) == {CAROL}
        assert rules.rung(self.ring(MALLORY), self.room(ALICE, BOB, CAROL)) == frozenset()

    def test_in_a_direct_room_a_stock_ring_is_for_the_other_whomever_it_names_and_ours_is_not(self) -> None:
        wrong = self.ring(MALLORY)
        assert rules.rung(wrong, self.room(ALICE, BOB)) == {BOB}
        assert rules.rung(replace(wrong, protocol=Protocol.SUPERAPP), self.room(ALICE, BOB)) == frozenset()

    def test_a_ring_for_everybody_in_a_large_room_rings_nobody(self) -> None:
        large = self.room(ALICE, BOB, is_complete=False)
        assert not large.is_direct
        assert rules.rung(self.ring(), large) == frozenset()
        assert rules.rung(self.ring(BOB), large) == {BOB}


class TestGlare:
    def test_two_who_ring_each_other_keep_the_lesser_call_id_whichever_is_seen_first(self) -> None:
        mine, other = session("a"), session("b", caller=BOB, callee=ALICE)
        assert rules.is_glare(mine, other)
        assert rules.is_glare(other, mine)
        assert rules.wins_glare(mine, other)
        assert not rules.wins_glare(other, mine)

    def test_two_rings_of_one_caller_are_no_glare(self) -> None:
        assert not rules.is_glare(session("a"), session("b"))

    def test_rings_for_a_group_are_no_glare(self) -> None:
        assert not rules.is_glare(session("a", callee=None), session("b", caller=BOB, callee=ALICE))

    def test_only_with_matrixrtc_have_both_joined_already(self) -> None:
        rtc = session("a", protocol=Protocol.MATRIXRTC)
        assert rules.both_are_in(rtc, replace(rtc, caller=BOB))
        assert not rules.both_are_in(rtc, session("b"))


people = st.sampled_from([ALICE, BOB, CAROL, MALLORY])
signals = st.builds(
    lambda act, by, side, number: said(act, by, side, f"${number}"),
    st.sampled_from(list(Act)),
    people,
    st.sampled_from(list(Side)),
    st.integers(0, 9),
)


@given(
    call=st.sampled_from([DIRECT, GROUP]),
    owner=st.sampled_from([ALICE, BOB]),
    heard=st.lists(st.tuples(signals, st.integers(-5_000, 200_000)), max_size=12),
)
def test_whatever_is_said_in_whatever_order_a_record_ends_once_with_its_times_in_order(
    call: Session, owner: UserId, heard: list[tuple[Signal, int]]
) -> None:
    known = record(owner, call)
    for signal, offset_ms in heard:
        moved = rules.advance(known, call, signal, RING_MS + offset_ms)
        if moved is not None:
            assert known.state.is_open
            assert moved != known
            if moved.state is not known.state:
                assert (moved.state is State.ENDED) == (known.state is State.ANSWERED)
            assert signal.sender != MALLORY or call.callee is None
            known = moved
        assert (known.answer_ms is not None) == (known.state in (State.ANSWERED, State.ENDED))
        assert (known.end_ms is None) == known.state.is_open
        times = [each for each in (known.ring_ms, known.answer_ms, known.end_ms) if each is not None]
        assert times == sorted(times)
    final = rules.lapse(known, call, RING_MS + 2 * LONGEST_CALL_MS) or known
    assert not final.state.is_open
    assert rules.due_ms(call, (final,)) is None
