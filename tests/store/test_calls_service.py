"""Calls in the database: rings at the gate and in the room, what follows them, and time passing."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC

import pytest
from engines import Database
from hypothesis import given, settings
from hypothesis import strategies as st

from super_app.accounts import store as accounts
from super_app.accounts.model import Contact, Genesis
from super_app.calls import rules, service, store
from super_app.calls.model import (
    DEFAULT_LIFETIME_MS,
    LEAVE_MS,
    LONGEST_CALL_MS,
    MAX_LIFETIME_MS,
    OUTBOX_ATTEMPTS_MAX,
    REFUSAL_PAUSE_MS,
    RING_GRACE_MS,
    SCREENED_RECORDS_MAX,
    Act,
    Callee,
    CallId,
    Circumstances,
    Decision,
    Direction,
    HistoryEntry,
    Local,
    Media,
    Outgoing,
    Page,
    Policy,
    Protocol,
    QuietHours,
    QuietWindow,
    RateLimit,
    Record,
    Refusal,
    Ring,
    Rule,
    Side,
    Signal,
    State,
    StickyMember,
    Who,
)
from super_app.calls.service import Admission, Change, Verdict
from super_app.db import Cursor, Engine, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, Handle, RoomId, ServerName, UserId, localpart_of, server_of

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.calls")

HERE = ServerName("hs1.test")
ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs1.test")
REMOTE = UserId("@remote:hs2.test")
STRANGER = UserId("@stranger:hs2.test")
ROOM = RoomId("!room:hs1.test")
START_MS = 1_700_000_000_000
RING_ENDS_MS = DEFAULT_LIFETIME_MS + RING_GRACE_MS
NO_LIMIT = RateLimit(caller=0, server=0, window_ms=600_000)
OPEN = Policy(who=frozenset({Who.EVERYONE}), rate=NO_LIMIT)
CLOSED = Policy(who=frozenset({Who.NOBODY}), rate=NO_LIMIT)


@dataclass
class Homeserver:
    """hs1.test with its clock: what the shell does with the service, without a shell."""

    transaction: Transaction
    now_ms: int = START_MS
    policy: Policy = OPEN
    room_id: RoomId = ROOM
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def event_id(self) -> EventId:
        return EventId(f"$event{next(self.numbers)}")

    def ring(
        self,
        caller: UserId,
        call_id: str | None = "call-1",
        *,
        protocol: Protocol = Protocol.SUPERAPP,
        reference: str | None = None,
        lifetime_ms: int = DEFAULT_LIFETIME_MS,
        start_ms: int | None = None,
        room_id: RoomId | None = None,
    ) -> Ring:
        return Ring(
            room_id=room_id or self.room_id,
            event_id=self.event_id(),
            caller=caller,
            protocol=protocol,
            call_id=None if call_id is None else CallId(call_id),
            reference=None if reference is None else EventId(reference),
            media=Media.AUDIO,
            lifetime_ms=lifetime_ms,
            callees=None,
            start_ms=self.now_ms if start_ms is None else start_ms,
        )

    def rtc_ring(self, caller: UserId, reference: str | None) -> Ring:
        return self.ring(caller, None, protocol=Protocol.MATRIXRTC, reference=reference)

    def local(self, user_id: UserId) -> Local:
        genesis = Genesis(server=HERE, localpart=localpart_of(user_id), created_ms=1, nonce="00" * 16)
        account = self.transaction(lambda cur: accounts.ensure(cur, user_id, genesis))
        return Local(acct=account.acct, user_id=user_id)

    def maybe_local(self, user_id: UserId) -> Local | None:
        return self.local(user_id) if server_of(user_id) == HERE else None

    def callee(self, user_id: UserId) -> Callee:
        return Callee(local=self.local(user_id), policy=self.policy, circumstances=Circumstances())

    def gate(self, ring: Ring, callee: UserId = BOB, *, refusal_in_ms: int = 1_000) -> Admission:
        caller, asked, now_ms = self.maybe_local(ring.caller), self.callee(callee), self.now_ms
        decision = self.decide(ring, asked)
        return self.transaction(
            lambda cur: service.admit(
                cur, ring, asked, caller, decision, now_ms=now_ms, refusal_ms=now_ms + refusal_in_ms
            )
        )

    def decide(self, ring: Ring, callee: Callee) -> Decision:
        """What the policy says, by what the database knows."""
        since_ms, now_ms = self.now_ms - 3_600_000, self.now_ms
        recent = self.transaction(lambda cur: service.recent(cur, callee.local.acct, since_ms))
        facts = rules.facts_of(now_ms, ring.caller, callee.circumstances, callee.policy, recent)
        return rules.screen(callee.policy, facts)

    def decided(self, ring: Ring, *callees: Callee) -> list[tuple[Callee, Decision]]:
        return [(callee, self.decide(ring, callee)) for callee in callees]

    def rang(self, ring: Ring, *rung: UserId, is_direct: bool = True) -> Change:
        callees = self.decided(ring, *(self.callee(each) for each in rung if server_of(each) == HERE))
        caller, now_ms = self.maybe_local(ring.caller), self.now_ms
        return self.transaction(
            lambda cur: service.rang(cur, ring, frozenset(rung), callees, caller, is_direct=is_direct, now_ms=now_ms)
        )

    def rings(self, caller: UserId, callee: UserId, call_id: str | None = "call-1", **more: object) -> Ring:
        """A ring that passes the gate and comes to be."""
        ring = self.ring(caller, call_id, **more)  # type: ignore[arg-type]
        if server_of(callee) == HERE:
            assert self.gate(ring, callee).verdict is Verdict.SHOWN
        self.rang(ring, callee)
        return ring

    def says(
        self,
        who: UserId,
        act: Act,
        *,
        member: StickyMember | None = None,
        awaits_confirmation: bool = False,
        call_id: str | None = "call-1",
        reference: EventId | None = None,
        side: Side = Side.EITHER,
        event_id: EventId | None = None,
    ) -> Change:
        signal = Signal(
            act=act,
            side=side,
            room_id=self.room_id,
            event_id=event_id or self.event_id(),
            sender=who,
            call_id=None if call_id is None else CallId(call_id),
            reference=reference,
            member=member,
            awaits_confirmation=awaits_confirmation,
        )
        now_ms = self.now_ms
        return self.transaction(lambda cur: service.heard(cur, signal, at_ms=now_ms, now_ms=now_ms))

    def passes(self, elapsed_ms: int) -> Change:
        self.now_ms += elapsed_ms
        now_ms = self.now_ms
        return self.transaction(lambda cur: service.expire(cur, now_ms))

    def outbox(self) -> tuple[Outgoing, ...]:
        now_ms = self.now_ms
        return self.transaction(lambda cur: service.take_due(cur, now_ms))

    def could_not_send(self, outgoing: Outgoing) -> int | None:
        now_ms = self.now_ms
        return self.transaction(lambda cur: service.put_back(cur, outgoing, now_ms))

    def page(self, user_id: UserId, since: str | None, limit: int = 3) -> Page:
        owner = self.local(user_id).acct
        page = self.transaction(lambda cur: service.history(cur, owner, since, limit))
        assert not isinstance(page, Refused)
        return page

    def history(self, user_id: UserId) -> tuple[HistoryEntry, ...]:
        return self.page(user_id, None, 100).entries

    def record(self, user_id: UserId) -> Record:
        (entry,) = self.history(user_id)
        return entry.record

    def states(self, user_id: UserId) -> list[State]:
        return [entry.record.state for entry in self.history(user_id)]


@pytest.fixture
def here(transaction: Transaction) -> Homeserver:
    return Homeserver(transaction)


def types(outgoing: tuple[Outgoing, ...]) -> list[str]:
    return [each.event_type for each in outgoing]


class TestARing:
    def test_it_is_recorded_for_both_sides_once_its_event_exists(self, here: Homeserver) -> None:
        ring = here.ring(ALICE)
        here.gate(ring)
        assert here.history(ALICE) == here.history(BOB) == ()
        here.rang(ring, BOB)
        mine, theirs = here.record(ALICE), here.record(BOB)
        assert (mine.direction, mine.peer, mine.state) == (Direction.OUTGOING, BOB, State.RINGING)
        assert (theirs.direction, theirs.peer, theirs.state) == (Direction.INCOMING, ALICE, State.RINGING)

    def test_each_homeserver_records_its_own_people_only(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE, "out")
        here.rings(REMOTE, BOB, "in")
        assert (here.record(ALICE).peer, here.record(BOB).peer) == (REMOTE, REMOTE)
        assert (here.record(ALICE).peer_server, here.record(BOB).peer_server) == ("hs2.test", "hs2.test")

    def test_the_same_event_twice_changes_nothing(self, here: Homeserver) -> None:
        ring = here.rings(REMOTE, BOB)
        assert here.rang(ring, BOB) == Change()
        assert here.states(BOB) == [State.RINGING]

    def test_a_ring_in_two_protocols_is_one_call(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.rings(REMOTE, BOB, protocol=Protocol.LEGACY)
        assert here.states(BOB) == [State.RINGING]

    def test_the_callees_homeserver_says_that_it_rings_for_our_own_rings_only(self, here: Homeserver) -> None:
        ring = here.rings(REMOTE, BOB)
        (said,) = here.outbox()
        assert (said.event_type, said.sender) == ("org.superapp.call.ringing", BOB)
        assert said.content["m.relates_to"]["event_id"] == ring.event_id
        here.rings(REMOTE, BOB, "legacy", protocol=Protocol.LEGACY)
        assert here.outbox() == ()

    def test_it_does_not_say_that_it_rings_after_it_was_answered(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(BOB, Act.ANSWER)
        assert here.outbox() == ()

    def test_a_ring_that_the_gate_let_pass_and_that_never_came_to_be_is_forgotten(self, here: Homeserver) -> None:
        admission = here.gate(here.ring(REMOTE))
        assert admission.due_ms == here.now_ms + RING_ENDS_MS
        here.passes(RING_ENDS_MS)
        assert here.transaction(lambda cur: store.of_call(cur, ROOM, CallId("call-1"))) == ()

    def test_a_late_ring_is_missed_at_once_and_nobody_says_that_it_rings(self, here: Homeserver) -> None:
        here.rang(here.ring(REMOTE, start_ms=here.now_ms - 3_600_000), BOB)
        assert here.outbox() == ()
        here.passes(0)
        record = here.record(BOB)
        assert (record.state, record.ring_ms) == (State.MISSED, START_MS - 3_600_000)

    def test_a_ring_for_people_of_other_homeservers_only_is_not_ours(self, here: Homeserver) -> None:
        assert here.rang(here.ring(REMOTE), STRANGER) == Change()
        assert here.transaction(lambda cur: store.of_call(cur, ROOM, CallId("call-1"))) == ()

    def test_a_call_id_rings_once(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(REMOTE, Act.HANG_UP)
        again = here.ring(REMOTE)
        assert here.gate(again).verdict is Verdict.USED_UP
        here.rang(again, BOB)
        assert here.states(BOB) == [State.CANCELLED]

    def test_two_callers_may_use_the_same_id_in_one_room(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.rings(STRANGER, BOB)
        here.says(STRANGER, Act.HANG_UP)
        assert sorted(here.states(BOB)) == [State.CANCELLED, State.RINGING]


class TestWhatFollows:
    def test_answered_and_ended_with_times_of_this_homeserver(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE)
        here.now_ms += 4_000
        here.says(REMOTE, Act.ANSWER, side=Side.CALLEE)
        here.now_ms += 60_000
        here.says(REMOTE, Act.HANG_UP)
        record = here.record(ALICE)
        assert (record.state, record.ended_by) == (State.ENDED, REMOTE)
        assert (record.ring_ms, record.answer_ms, record.end_ms) == (START_MS, START_MS + 4_000, START_MS + 64_000)

    def test_the_same_event_twice_moves_once(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        answer = here.event_id()
        first = here.says(BOB, Act.ANSWER, event_id=answer)
        assert [record.state for record in first.reached] == [State.ANSWERED]
        here.now_ms += 9_000
        assert here.says(BOB, Act.ANSWER, event_id=answer) == Change()
        assert here.record(BOB).answer_ms == START_MS

    def test_a_decline_finds_the_call_by_the_ring_that_it_refers_to(self, here: Homeserver) -> None:
        ring = here.rtc_ring(ALICE, "$member")
        here.rang(ring, REMOTE)
        here.says(REMOTE, Act.DECLINE, call_id=None, reference=EventId("$unknown"), side=Side.CALLEE)
        assert here.record(ALICE).state is State.RINGING
        here.says(REMOTE, Act.DECLINE, call_id=None, reference=ring.event_id, side=Side.CALLEE)
        assert here.record(ALICE).state is State.DECLINED

    def test_a_decline_in_another_room_is_of_no_call(self, here: Homeserver) -> None:
        ring = here.rtc_ring(ALICE, "$member")
        here.rang(ring, REMOTE)
        here.room_id = RoomId("!other:hs1.test")
        here.says(REMOTE, Act.DECLINE, call_id=None, reference=ring.event_id, side=Side.CALLEE)
        assert here.record(ALICE).state is State.RINGING

    def test_memberships_answer_and_end_matrixrtc_calls_and_no_others(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB, protocol=Protocol.LEGACY)
        assert not here.transaction(lambda cur: service.awaits_memberships(cur, ROOM))
        here.says(BOB, Act.JOIN, call_id=None)
        assert here.record(BOB).state is State.RINGING
        ring = here.rtc_ring(REMOTE, "$member")
        here.rang(ring, BOB)
        assert here.transaction(lambda cur: service.awaits_memberships(cur, ROOM))
        here.says(BOB, Act.JOIN, call_id=None)
        here.says(REMOTE, Act.LEAVE, call_id=None)
        here.passes(LEAVE_MS)
        assert sorted(here.states(BOB)) == [State.ENDED, State.RINGING]

    def test_our_ring_over_matrixrtc_is_answered_by_a_membership(self, here: Homeserver) -> None:
        here.rang(here.ring(REMOTE, reference="$member"), BOB)
        here.says(BOB, Act.JOIN, call_id=None)
        assert here.record(BOB).state is State.ANSWERED

    def test_the_callers_homeserver_says_how_our_ring_ended_once(self, here: Homeserver) -> None:
        ring = here.rings(ALICE, REMOTE)
        here.says(REMOTE, Act.DECLINE, side=Side.CALLEE)
        (said,) = here.outbox()
        assert (said.event_type, said.sender) == ("org.superapp.call.end", ALICE)
        assert said.content["outcome"] == "declined"
        assert said.content["m.relates_to"]["event_id"] == ring.event_id
        here.says(ALICE, Act.HANG_UP)
        here.passes(MAX_LIFETIME_MS)
        assert here.outbox() == ()

    def test_an_answer_to_a_call_that_nobody_rang_is_nothing(self, here: Homeserver) -> None:
        assert here.says(BOB, Act.ANSWER) == Change()


class TestTime:
    def test_an_unanswered_ring_is_missed_on_both_sides_to_the_moment(self, here: Homeserver) -> None:
        here.rings(ALICE, BOB)
        here.passes(RING_ENDS_MS - 1)
        assert here.states(BOB) == [State.RINGING]
        here.passes(1)
        assert here.states(ALICE) == here.states(BOB) == [State.MISSED]
        assert here.record(BOB).end_ms == START_MS + RING_ENDS_MS
        assert "org.superapp.call.end" in types(here.outbox())

    def test_an_answer_after_the_ring_is_over_is_too_late_even_if_no_timer_ran(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.now_ms += RING_ENDS_MS
        here.says(BOB, Act.ANSWER)
        assert here.record(BOB).state is State.MISSED

    def test_a_call_that_nobody_ends_ends_after_a_day(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(BOB, Act.ANSWER)
        here.passes(LONGEST_CALL_MS - 1)
        assert here.record(BOB).state is State.ANSWERED
        here.passes(1)
        assert here.record(BOB).state is State.ENDED

    def test_deadlines_are_in_the_database_so_a_restart_finds_them(self, here: Homeserver) -> None:
        assert here.transaction(store.next_due_ms) is None
        here.rings(REMOTE, BOB, protocol=Protocol.LEGACY)
        assert here.transaction(store.next_due_ms) == START_MS + RING_ENDS_MS
        here.passes(RING_ENDS_MS)
        assert here.transaction(store.next_due_ms) is None

    def test_calls_are_forgotten_when_their_time_is_over_but_not_while_they_last(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB, "old")
        here.says(REMOTE, Act.HANG_UP, call_id="old")
        here.rings(REMOTE, BOB, "lasting")
        here.says(BOB, Act.ANSWER, call_id="lasting")
        later_ms = here.now_ms + 1_000
        assert here.transaction(lambda cur: service.purge(cur, later_ms, later_ms)) == 1
        assert here.transaction(lambda cur: service.purge(cur, later_ms, later_ms)) == 0
        (kept,) = here.history(BOB)
        assert kept.session.call_id == "lasting"


class TestGlare:
    def test_both_sides_keep_the_lesser_id_whichever_comes_first(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE, "b")
        here.rings(REMOTE, ALICE, "a")
        states = {entry.session.call_id: entry.record.state for entry in here.history(ALICE)}
        assert states == {"a": State.RINGING, "b": State.CANCELLED}
        here.room_id = RoomId("!other:hs1.test")
        here.rings(REMOTE, ALICE, "c")
        here.rings(ALICE, REMOTE, "d")
        states = {entry.session.call_id: entry.record.state for entry in here.history(ALICE)}
        assert (states[CallId("c")], states[CallId("d")]) == (State.RINGING, State.CANCELLED)

    def test_who_rings_each_other_with_matrixrtc_has_met(self, here: Homeserver) -> None:
        here.rang(here.rtc_ring(ALICE, "$a"), REMOTE)
        here.rang(here.rtc_ring(REMOTE, "$b"), ALICE)
        states = {entry.session.call_id: entry.record.state for entry in here.history(ALICE)}
        assert states == {"$a": State.ANSWERED, "$b": State.CANCELLED}

    def test_the_one_that_lost_is_said_to_be_over_and_does_not_ring(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE, "a")
        here.outbox()
        here.rings(REMOTE, ALICE, "b")
        assert here.outbox() == ()
        here.room_id = RoomId("!other:hs1.test")
        here.rings(ALICE, REMOTE, "d")
        here.rings(REMOTE, ALICE, "c")
        assert types(here.outbox()) == ["org.superapp.call.end", "org.superapp.call.ringing"]


class TestMatrixRtc:
    def test_a_ring_and_its_deprecated_twin_are_one_call_in_either_order(self, here: Homeserver) -> None:
        here.rang(here.rtc_ring(REMOTE, "$member"), BOB)
        here.rang(here.rtc_ring(REMOTE, None), BOB)
        here.room_id = RoomId("!other:hs1.test")
        here.rang(here.rtc_ring(REMOTE, None), BOB)
        here.rang(here.rtc_ring(REMOTE, "$other"), BOB)
        assert len(here.history(BOB)) == 2

    def test_the_membership_names_the_call_and_after_its_end_the_ring_itself_does(self, here: Homeserver) -> None:
        here.rang(here.rtc_ring(REMOTE, "$member"), BOB)
        here.passes(RING_ENDS_MS)
        again = here.rtc_ring(REMOTE, "$member")
        here.rang(again, BOB)
        assert [entry.session.call_id for entry in here.history(BOB)] == [again.event_id, "$member"]

    def test_a_ring_for_another_membership_is_another_call(self, here: Homeserver) -> None:
        here.policy = CLOSED
        assert here.gate(here.rtc_ring(REMOTE, "$member")).verdict is Verdict.SCREENED
        here.policy = OPEN
        assert here.gate(here.rtc_ring(REMOTE, "$other")).verdict is Verdict.SHOWN

    def test_the_twin_of_a_screened_ring_is_screened_with_it(self, here: Homeserver) -> None:
        here.policy = CLOSED
        assert here.gate(here.rtc_ring(REMOTE, "$member")).verdict is Verdict.SCREENED
        assert here.gate(here.rtc_ring(REMOTE, None)).verdict is Verdict.SCREENED
        assert here.states(BOB) == [State.SCREENED]


class TestScreening:
    def test_a_screened_ring_is_recorded_with_the_rule_for_the_callee_only(self, here: Homeserver) -> None:
        here.policy = CLOSED
        assert here.gate(here.ring(ALICE)).verdict is Verdict.SCREENED
        assert (here.record(BOB).state, here.record(BOB).screened_by) == (State.SCREENED, Rule.WHO)
        assert (here.record(ALICE).state, here.record(ALICE).screened_by) == (State.SCREENED, None)

    def test_the_gate_may_run_again_for_the_same_ring_with_another_event_id(self, here: Homeserver) -> None:
        here.policy = CLOSED
        for caller in (ALICE, REMOTE):
            first = here.gate(here.ring(caller))
            here.policy = OPEN
            assert (first.verdict, here.gate(here.ring(caller)).verdict) == (Verdict.SCREENED, Verdict.SCREENED)
            here.policy = CLOSED
        assert here.states(BOB) == [State.SCREENED, State.SCREENED]

    def test_a_contact_gets_through_where_only_contacts_may(self, here: Homeserver) -> None:
        here.policy = replace(CLOSED, who=frozenset({Who.CONTACTS}))
        owner = here.local(BOB).acct
        contact = Contact(acct=Acct(""), user_id=REMOTE, handle=Handle(REMOTE), since_ms=1)
        here.transaction(lambda cur: accounts.put_contact(cur, owner, contact))
        assert here.gate(here.ring(REMOTE)).verdict is Verdict.SHOWN
        assert here.gate(here.ring(STRANGER)).verdict is Verdict.SCREENED

    def test_so_many_rings_of_a_caller_are_shown_and_those_that_only_passed_the_gate_count(
        self, here: Homeserver
    ) -> None:
        here.policy = replace(OPEN, rate=RateLimit(caller=2, server=3, window_ms=60_000))
        verdicts = [here.gate(here.ring(REMOTE, f"call-{number}")).verdict for number in range(4)]
        assert verdicts == [Verdict.SHOWN, Verdict.SHOWN, Verdict.SCREENED, Verdict.SCREENED]
        assert here.gate(here.ring(STRANGER, "first")).verdict is Verdict.SHOWN
        assert here.gate(here.ring(STRANGER, "second")).verdict is Verdict.SCREENED
        assert here.gate(here.ring(ALICE, "of-another-server")).verdict is Verdict.SHOWN
        here.now_ms += 60_001
        assert here.gate(here.ring(REMOTE, "later")).verdict is Verdict.SHOWN

    def test_who_rings_again_soon_gets_through_quiet_hours(self, here: Homeserver) -> None:
        always = QuietWindow(days=frozenset(range(7)), from_minute=0, to_minute=0)
        here.policy = replace(OPEN, quiet=QuietHours(zone=UTC, windows=(always,), repeat_ms=180_000))
        assert here.gate(here.ring(REMOTE, "first")).verdict is Verdict.SCREENED
        here.now_ms += 60_000
        assert here.gate(here.ring(REMOTE, "again")).verdict is Verdict.SHOWN
        assert here.gate(here.ring(STRANGER, "other")).verdict is Verdict.SCREENED

    def test_a_flood_does_not_fill_the_history(self, here: Homeserver) -> None:
        here.policy = CLOSED
        flood = [here.ring(REMOTE, f"call-{number}") for number in range(SCREENED_RECORDS_MAX + 5)]
        assert {here.gate(ring).verdict for ring in flood} == {Verdict.SCREENED}
        assert len(here.history(BOB)) == SCREENED_RECORDS_MAX
        here.gate(here.ring(ALICE, "of-another-server"))
        owner = here.local(BOB).acct
        kept = here.transaction(lambda cur: store.screened_records(cur, owner, HERE, START_MS))
        assert kept == 1

    def test_in_a_group_each_is_screened_for_themselves(self, here: Homeserver) -> None:
        open_callee, closed_callee = here.callee(ALICE), replace(here.callee(BOB), policy=CLOSED)
        ring, now_ms = here.ring(REMOTE), here.now_ms
        decided = here.decided(ring, open_callee, closed_callee)
        here.transaction(
            lambda cur: service.rang(
                cur,
                ring,
                frozenset({ALICE, BOB}),
                decided,
                None,
                is_direct=False,
                now_ms=now_ms,
            )
        )
        assert (here.states(ALICE), here.states(BOB)) == ([State.RINGING], [State.SCREENED])
        assert here.outbox() == ()


class TestRefusal:
    """What a caller of another homeserver is told."""

    @pytest.fixture(autouse=True)
    def _closed(self, here: Homeserver) -> None:
        here.policy = CLOSED

    def test_it_is_polite_after_a_pause_and_in_words_that_stock_clients_know(self, here: Homeserver) -> None:
        admission = here.gate(here.ring(REMOTE), refusal_in_ms=1_700)
        assert admission.due_ms == START_MS + 1_700
        here.now_ms += 1_699
        assert here.outbox() == ()
        here.now_ms += 2
        screened, decline = here.outbox()
        assert (screened.event_type, screened.content["reason"]) == ("org.superapp.call.screened", "not_available")
        assert (decline.event_type, decline.sender) == ("m.call.reject", BOB)
        assert here.outbox() == ()

    def test_it_says_the_same_whichever_rule_spoke(self, here: Homeserver) -> None:
        said: list[object] = []
        policies = (
            CLOSED,
            replace(OPEN, deny=frozenset({REMOTE})),
            replace(OPEN, rate=RateLimit(caller=0, server=1, window_ms=1)),
        )
        here.policy = OPEN
        here.rings(REMOTE, BOB, "shown")
        here.outbox()
        for number, policy in enumerate(policies):
            here.policy = policy
            here.now_ms += REFUSAL_PAUSE_MS
            if policy is policies[-1]:
                here.policy = OPEN
                here.rings(STRANGER, BOB, "shown")
                here.outbox()
                here.policy = policy
            here.gate(here.ring(REMOTE, f"call-{number}"))
            here.now_ms += 1_001
            contents = [dict(each.content) for each in here.outbox()]
            for content in contents:
                content.pop("call_id")
                content.pop("m.relates_to", None)
            said.append(contents)
        assert said[0] == said[1] == said[2]

    def test_it_is_said_once_in_ten_minutes_per_caller(self, here: Homeserver) -> None:
        def refused(caller: UserId, call_id: str) -> int:
            here.gate(here.ring(caller, call_id))
            here.now_ms += 1_001
            return len(here.outbox())

        assert [refused(REMOTE, "a"), refused(REMOTE, "b"), refused(STRANGER, "c")] == [2, 0, 2]
        here.now_ms += REFUSAL_PAUSE_MS
        assert refused(REMOTE, "d") == 2

    def test_a_call_in_two_protocols_is_declined_in_each_and_screened_once(self, here: Homeserver) -> None:
        here.gate(here.ring(REMOTE))
        here.gate(replace(here.ring(REMOTE), protocol=Protocol.LEGACY, answer_version="0"))
        here.now_ms += 1_001
        assert sorted(types(here.outbox())) == ["m.call.hangup", "m.call.reject", "org.superapp.call.screened"]

    def test_silence_says_nothing(self, here: Homeserver) -> None:
        here.policy = replace(CLOSED, refusal=Refusal.SILENT)
        assert here.gate(here.ring(REMOTE)).due_ms is None
        here.now_ms += 60_000
        assert here.outbox() == ()

    def test_a_local_caller_is_told_by_the_answer_and_not_by_events(self, here: Homeserver) -> None:
        assert here.gate(here.ring(ALICE)).due_ms is None
        here.now_ms += 60_000
        assert here.outbox() == ()


class TestOutbox:
    def test_an_event_that_cannot_be_sent_is_tried_again_a_few_times(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        (outgoing,) = here.outbox()
        attempts = 1
        while True:
            due_ms = here.could_not_send(outgoing)
            if due_ms is None:
                break
            assert due_ms > here.now_ms
            assert here.outbox() == ()
            here.now_ms = due_ms
            (outgoing,) = here.outbox()
            attempts += 1
        assert attempts == OUTBOX_ATTEMPTS_MAX
        assert here.outbox() == ()

    def test_each_event_is_taken_by_one(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        assert len(here.outbox()) == 1
        assert here.outbox() == ()


class TestHistory:
    def test_it_comes_in_pages_newest_first_without_gaps(self, here: Homeserver) -> None:
        for number in range(7):
            here.now_ms += number // 2  # several begin at once
            here.rings(REMOTE, BOB, f"call-{number}")
        seen: list[HistoryEntry] = []
        token: str | None = None
        while True:
            page = here.page(BOB, token)
            seen += page.entries
            token = page.next_token
            if token is None:
                break
        assert tuple(seen) == here.history(BOB)
        assert len({entry.record.session_id for entry in seen}) == 7
        assert [entry.record.ring_ms for entry in seen] == sorted((e.record.ring_ms for e in seen), reverse=True)

    @pytest.mark.parametrize("since", ["", "x", "1", "-1.x", "9" * 20 + ".x", "1.\x00", "１.x"])
    def test_a_token_that_is_none_of_ours_is_refused(self, here: Homeserver, since: str) -> None:
        owner = here.local(BOB).acct
        page = here.transaction(lambda cur: service.history(cur, owner, since, 3))
        assert since == "1" or (isinstance(page, Refused) and page.reason is Reason.INVALID_VALUE)

    def test_nobody_sees_the_calls_of_others(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        assert here.history(ALICE) == ()


class TestLiveCalls:
    def test_a_call_is_live_for_those_who_take_part_while_it_rings_and_goes_on(self, here: Homeserver) -> None:
        def is_live(user_id: UserId) -> bool:
            owner = here.local(user_id).acct
            found = here.transaction(lambda cur: service.live_call(cur, owner, CallId("call-1")))
            return not isinstance(found, Refused)

        assert not is_live(BOB)
        here.gate(here.ring(REMOTE))
        assert not is_live(BOB)
        here.rings(REMOTE, BOB)
        assert is_live(BOB)
        assert not is_live(ALICE)
        here.says(BOB, Act.ANSWER)
        assert is_live(BOB)
        here.says(BOB, Act.HANG_UP)
        assert not is_live(BOB)

    def test_a_call_that_is_not_is_refused_by_name(self, here: Homeserver) -> None:
        owner = here.local(BOB).acct
        found = here.transaction(lambda cur: service.live_call(cur, owner, CallId("none")))
        assert isinstance(found, Refused)
        assert found.reason is Reason.UNKNOWN_CALL


def test_processes_that_see_the_same_call_at_once_make_one_session_and_lose_no_word(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    one, other = (Homeserver(transaction) for transaction in two_connections)
    one.local(BOB)
    for number in range(20):
        ring = one.ring(REMOTE, f"call-{number}")
        answer, hang_up = EventId(f"$answer{number}"), EventId(f"$hangup{number}")
        both = threading.Barrier(2)

        def sees(here: Homeserver, ring: Ring = ring, both: threading.Barrier = both) -> None:
            both.wait()
            here.gate(ring)
            here.rang(ring, BOB)

        def hears(
            here: Homeserver,
            act: Act,
            who: UserId,
            event_id: EventId,
            ring: Ring = ring,
            both: threading.Barrier = both,
        ) -> None:
            both.wait()
            here.says(who, act, call_id=ring.call_id, event_id=event_id)

        with ThreadPoolExecutor(2) as pool:
            wait_for_all(pool.submit(sees, one), pool.submit(sees, other))
            wait_for_all(
                pool.submit(hears, one, Act.ANSWER, BOB, answer), pool.submit(hears, other, Act.ANSWER, BOB, answer)
            )
            wait_for_all(
                pool.submit(hears, one, Act.HANG_UP, REMOTE, hang_up),
                pool.submit(hears, other, Act.BUSY, BOB, EventId(f"$busy{number}")),
            )
    assert one.states(BOB) == [State.ENDED] * 20


def wait_for_all(*futures: "Future[None]") -> None:
    for future in futures:
        future.result(timeout=30)


acts = st.sampled_from(list(Act))
people = st.sampled_from([ALICE, BOB, REMOTE, STRANGER])
happenings = st.lists(
    st.one_of(
        st.sampled_from([("ring", call_id, *two) for call_id in ("a", "b") for two in ((ALICE, BOB), (BOB, ALICE))]),
        st.tuples(st.just("say"), acts, people, st.sampled_from(["a", "b"]), st.sampled_from(list(Side))),
        st.tuples(st.just("wait"), st.integers(0, 40_000)),
    ),
    max_size=14,
)


def play(here: Homeserver, story: list[tuple[object, ...]], times: int) -> None:
    """Let a story happen, each of its events ``times`` times, until nothing is left to happen by itself."""
    for happening in story:
        match happening:
            case ("ring", str(call_id), str(caller), str(callee)):
                ring = here.ring(UserId(caller), call_id)
                for _ in range(times):
                    if here.gate(ring, UserId(callee)).verdict is Verdict.SHOWN:
                        here.rang(ring, UserId(callee))
            case ("say", Act() as act, who, str(call_id), Side() as side):
                event_id = here.event_id()
                for _ in range(times):
                    here.says(UserId(str(who)), act, call_id=call_id, side=side, event_id=event_id)
            case ("wait", int(elapsed_ms)):
                for _ in range(times):
                    here.passes(0)
                here.passes(elapsed_ms)
            case _:
                raise AssertionError(happening)
    here.passes(MAX_LIFETIME_MS)
    here.passes(LONGEST_CALL_MS)


def test_in_any_order_and_however_often_events_come_each_person_has_one_consistent_record(
    open_database: Callable[..., Database],
) -> None:
    database = open_database("super_app.accounts", "super_app.calls")
    transaction = database.connect(rerun=False)
    rooms = itertools.count()

    # The same code on both; PostgreSQL takes five times as long for it.
    @settings(max_examples=60 if database.engine is Engine.SQLITE else 15, deadline=None)
    @given(story=happenings)
    def holds(story: list[tuple[object, ...]]) -> None:
        transaction(forget_all)
        room_id = RoomId(f"!room{next(rooms)}:hs1.test")
        once = Homeserver(transaction, room_id=room_id)
        play(once, story, times=1)
        told_once = {user_id: once.history(user_id) for user_id in (ALICE, BOB)}
        transaction(forget_all)
        again = Homeserver(transaction, room_id=room_id)
        play(again, story, times=3)
        for user_id, entries in told_once.items():
            assert entries == again.history(user_id)
            assert not any(entry.record.state.is_open for entry in entries)
            assert all(entry.session.due_ms is None for entry in entries)
        sessions = {
            user_id: sorted(entry.record.session_id for entry in entries) for user_id, entries in told_once.items()
        }
        assert sessions[ALICE] == sessions[BOB] == sorted(set(sessions[ALICE]))

    holds()


def forget_all(cur: Cursor) -> None:
    cur.execute("DELETE FROM superapp_calls_event")
    cur.execute("DELETE FROM superapp_calls_record")
    cur.execute("DELETE FROM superapp_calls_session")
    cur.execute("DELETE FROM superapp_calls_outbox")
    cur.execute("DELETE FROM superapp_calls_member")
