"""Calls in the database: comings and goings, media, groups at the gate, offers, orders, and what is forgotten."""

from dataclasses import replace

import pytest
from test_calls_service import ALICE, BOB, CLOSED, OPEN, REMOTE, ROOM, START_MS, STRANGER, Homeserver, types

from super_app.calls import service, store
from super_app.calls.model import (
    LEAVE_MS,
    MEDIA_MS,
    Act,
    CallId,
    HistoryEntry,
    Offer,
    Policy,
    Protocol,
    Quality,
    Rule,
    Side,
    Signal,
    State,
    StickyMember,
)
from super_app.calls.service import MediaReport
from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import EventId, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.calls")

CALL = CallId("call-1")
OFFERING = replace(OPEN, offers=frozenset({Offer.VOICEMAIL, Offer.CALLBACK}))


@pytest.fixture
def here(transaction: Transaction) -> Homeserver:
    return Homeserver(transaction)


def sticks(here: Homeserver, key: str, lasts_ms: int = 60_000) -> StickyMember:
    return StickyMember(key=key, until_ms=here.now_ms + lasts_ms)


class TestStickyMemberships:
    @pytest.fixture(autouse=True)
    def _rings(self, here: Homeserver) -> None:
        here.rang(here.rtc_ring(REMOTE, "$member"), BOB)

    def joins(self, here: Homeserver, key: str = "device", lasts_ms: int = 60_000) -> None:
        here.says(BOB, Act.JOIN, call_id=None, member=sticks(here, key, lasts_ms))

    def leaves(self, here: Homeserver, key: str = "device") -> None:
        here.says(BOB, Act.LEAVE, call_id=None, member=sticks(here, key))

    def test_joining_answers_and_leaving_ends_when_they_left(self, here: Homeserver) -> None:
        self.joins(here)
        assert here.states(BOB) == [State.ANSWERED]
        here.now_ms += 10_000
        self.leaves(here)
        here.passes(LEAVE_MS)
        assert (here.record(BOB).state, here.record(BOB).end_ms) == (State.ENDED, START_MS + 10_000)

    def test_a_device_that_leaves_while_another_stays_ends_nothing(self, here: Homeserver) -> None:
        self.joins(here, "phone")
        self.joins(here, "laptop")
        self.leaves(here, "phone")
        here.passes(LEAVE_MS)
        assert here.states(BOB) == [State.ANSWERED]

    def test_a_membership_that_nobody_renews_is_left_when_it_lapses(self, here: Homeserver) -> None:
        self.joins(here, lasts_ms=30_000)
        here.passes(30_000)
        assert here.states(BOB) == [State.ANSWERED]
        here.passes(LEAVE_MS)
        assert (here.record(BOB).state, here.record(BOB).end_ms) == (State.ENDED, START_MS + 30_000)

    def test_one_that_is_renewed_lasts(self, here: Homeserver) -> None:
        self.joins(here, lasts_ms=30_000)
        here.now_ms += 20_000
        self.joins(here, lasts_ms=30_000)
        here.passes(20_000)
        here.passes(LEAVE_MS)
        assert here.states(BOB) == [State.ANSWERED]

    def test_whoever_else_is_in_is_known(self, here: Homeserver) -> None:
        self.joins(here)
        now_ms = here.now_ms
        assert here.transaction(lambda cur: service.someone_else_is_in(cur, ROOM, REMOTE, now_ms))
        assert not here.transaction(lambda cur: service.someone_else_is_in(cur, ROOM, BOB, now_ms))


class TestOtherRings:
    """What one protocol answered stops ringing in the others."""

    def test_a_legacy_answer_stops_matrixrtc_rings_of_the_callee(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB, reference="$member")
        notification = here.rtc_ring(REMOTE, "$member")
        here.rang(notification, BOB)
        assert len(here.history(BOB)) == 1
        here.says(BOB, Act.ANSWER)
        (said,) = here.outbox()
        assert (said.event_type, said.sender) == ("org.matrix.msc4310.rtc.decline", BOB)
        assert said.content["m.relates_to"]["event_id"] == notification.event_id

    def test_joining_stops_legacy_rings_by_the_callers_word(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE, reference="$member")
        here.rings(ALICE, REMOTE, protocol=Protocol.LEGACY)
        here.says(REMOTE, Act.JOIN, call_id=None)
        (said,) = here.outbox()
        assert (said.event_type, said.sender) == ("m.call.select_answer", ALICE)
        assert said.content["selected_party_id"] == "org.superapp"

    def test_an_answer_in_the_one_protocol_that_rang_says_nothing(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB, protocol=Protocol.LEGACY)
        here.says(BOB, Act.ANSWER)
        assert here.outbox() == ()


class TestMedia:
    def report(self, here: Homeserver, media: MediaReport, quality: Quality | None = None) -> object:
        owner, now_ms = here.local(BOB).acct, here.now_ms
        return here.transaction(lambda cur: service.report(cur, owner, CALL, media, quality, now_ms))

    def test_a_client_that_says_it_connects_must_be_connected_in_time(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(BOB, Act.ANSWER)
        self.report(here, MediaReport.CONNECTING)
        here.passes(MEDIA_MS - 1)
        assert here.states(BOB) == [State.ANSWERED]
        here.passes(1)
        assert (here.record(BOB).state, here.record(BOB).media_ms) == (State.ENDED, None)

    def test_once_connected_it_goes_on(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(BOB, Act.ANSWER, awaits_confirmation=True)
        here.now_ms += 2_000
        self.report(here, MediaReport.CONNECTED)
        here.passes(MEDIA_MS)
        assert (here.record(BOB).state, here.record(BOB).media_ms) == (State.ANSWERED, START_MS + 2_000)

    def test_what_was_measured_is_kept_also_after_the_end(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.says(BOB, Act.ANSWER)
        here.says(BOB, Act.HANG_UP)
        quality = Quality(loss_permille=12, jitter_ms=30, round_trip_ms=80, relayed=True, rating=4)
        self.report(here, MediaReport.SILENT, quality)
        assert here.record(BOB).quality == quality
        self.report(here, MediaReport.SILENT)
        assert here.record(BOB).quality == quality

    def test_nothing_is_said_of_a_call_that_nobody_answered(self, here: Homeserver) -> None:
        refusal = self.report(here, MediaReport.CONNECTED)
        assert isinstance(refusal, Refused)
        assert refusal.reason is Reason.UNKNOWN_CALL
        here.rings(REMOTE, BOB)
        refusal = self.report(here, MediaReport.CONNECTED)
        assert isinstance(refusal, Refused)
        assert refusal.reason is Reason.CONFLICT


class TestGroups:
    def admits(self, here: Homeserver, call_id: str = "call-1") -> tuple[list[UserId], object]:
        ring, now_ms = here.ring(REMOTE, call_id), here.now_ms
        alice, bob = here.callee(ALICE), replace(here.callee(BOB), policy=CLOSED)
        decided = here.decided(ring, alice, bob)
        screened, _ = here.transaction(lambda cur: service.admit_to_group(cur, ring, decided, now_ms))
        names = [user_id for user_id in (ALICE, BOB) if here.local(user_id).acct in screened]
        return names, ring

    def test_each_is_screened_before_the_event_exists_and_stays_so(self, here: Homeserver) -> None:
        names, ring = self.admits(here)
        assert names == [BOB]
        assert (here.history(ALICE), here.record(BOB).state, here.record(BOB).screened_by) == (
            (),
            State.SCREENED,
            Rule.WHO,
        )
        here.policy = OPEN
        here.rang(ring, ALICE, BOB, is_direct=False)  # type: ignore[arg-type]
        assert (here.states(ALICE), here.states(BOB)) == ([State.RINGING], [State.SCREENED])

    def test_what_was_decided_when_it_rang_before_stands(self, here: Homeserver) -> None:
        self.admits(here)
        ring, bob, now_ms = here.ring(REMOTE), here.callee(BOB), here.now_ms
        decided = here.decided(ring, bob)
        screened, _ = here.transaction(lambda cur: service.admit_to_group(cur, ring, decided, now_ms))
        assert screened == {bob.local.acct}


class TestOffers:
    def may(self, here: Homeserver, offer: Offer = Offer.VOICEMAIL) -> HistoryEntry | Refused:
        owner, now_ms = here.local(ALICE).acct, here.now_ms
        return here.transaction(lambda cur: service.may_leave(cur, owner, CALL, offer, now_ms))

    def reason(self, here: Homeserver, offer: Offer = Offer.VOICEMAIL) -> Reason | None:
        found = self.may(here, offer)
        return found.reason if isinstance(found, Refused) else None

    def misses(self, here: Homeserver, policy: Policy = OFFERING) -> None:
        here.policy = policy
        here.rings(ALICE, BOB)
        here.passes(61_000)

    def test_they_are_taken_by_the_caller_of_a_call_that_was_missed(self, here: Homeserver) -> None:
        self.misses(here)
        assert self.reason(here) is None
        owner, now_ms = here.local(BOB).acct, here.now_ms
        refusal = here.transaction(lambda cur: service.may_leave(cur, owner, CALL, Offer.VOICEMAIL, now_ms))
        assert isinstance(refusal, Refused)
        assert refusal.reason is Reason.UNKNOWN_CALL

    def test_what_the_policy_does_not_offer_is_not_taken(self, here: Homeserver) -> None:
        self.misses(here, OPEN)
        assert self.reason(here) is Reason.NOT_OFFERED

    def test_a_screened_caller_takes_them_too(self, here: Homeserver) -> None:
        here.policy = replace(CLOSED, offers=OFFERING.offers)
        here.gate(here.ring(ALICE))
        assert self.reason(here) is None

    def test_the_other_homeserver_says_what_its_person_offers(self, here: Homeserver) -> None:
        here.rings(ALICE, REMOTE)
        here.transaction(
            lambda cur: service.heard(
                cur,
                replace(SIGNAL, sender=REMOTE, offers=frozenset({Offer.VOICEMAIL})),
                at_ms=START_MS,
                now_ms=START_MS,
            )
        )
        here.transaction(
            lambda cur: service.heard(
                cur,
                replace(SIGNAL, sender=STRANGER, event_id=EventId("$third"), offers=frozenset({Offer.CALLBACK})),
                at_ms=START_MS,
                now_ms=START_MS,
            )
        )
        here.passes(61_000)
        assert self.reason(here) is None
        assert self.reason(here, Offer.CALLBACK) is Reason.NOT_OFFERED

    def test_none_is_taken_while_it_rings_or_after_an_answer_or_a_day_later(self, here: Homeserver) -> None:
        here.policy = OFFERING
        here.rings(ALICE, BOB)
        assert self.reason(here) is Reason.CONFLICT
        here.passes(61_000)
        here.now_ms += service.OFFER_MS
        assert self.reason(here) is Reason.NOT_OFFERED

    def test_a_wish_to_be_called_back_is_noted_for_both_once(self, here: Homeserver) -> None:
        self.misses(here)
        owner, first_ms = here.local(ALICE).acct, here.now_ms
        first = here.transaction(lambda cur: service.ask_back(cur, owner, CALL, first_ms))
        assert isinstance(first, HistoryEntry)
        assert first.record.callback_ms is None
        again = here.transaction(lambda cur: service.ask_back(cur, owner, CALL, first_ms + 5))
        assert isinstance(again, HistoryEntry)
        assert again.record.callback_ms == here.record(BOB).callback_ms == first_ms


class TestOrders:
    def orders(self, here: Homeserver, body: str, *, with_room: bool = True) -> object:
        owner, now_ms = here.local(ALICE).acct, here.now_ms
        room = ROOM if with_room else None
        return here.transaction(lambda cur: service.ordered(cur, owner, ALICE, CALL, body, room, now_ms))

    def test_the_same_again_is_a_replay_and_another_body_a_conflict(self, here: Homeserver) -> None:
        assert self.orders(here, "one", with_room=False) is None
        assert self.orders(here, "one") == ROOM
        assert self.orders(here, "one", with_room=False) == ROOM
        refusal = self.orders(here, "other")
        assert isinstance(refusal, Refused)
        assert refusal.reason is Reason.CONFLICT


class TestErasing:
    def test_one_call_or_all_that_are_over_leave_a_persons_history_and_nobody_elses(self, here: Homeserver) -> None:
        here.rings(ALICE, BOB, "over")
        here.says(ALICE, Act.HANG_UP, call_id="over")
        here.now_ms += 1_000
        here.rings(ALICE, BOB, "rings")
        owner = here.local(BOB).acct
        refusal = here.transaction(lambda cur: service.erase(cur, owner, CallId("rings")))
        assert isinstance(refusal, Refused)
        assert refusal.reason is Reason.CONFLICT
        assert here.transaction(lambda cur: service.erase(cur, owner, CallId("over"))) == 1
        assert here.transaction(lambda cur: service.erase(cur, owner, None)) == 0
        assert here.states(BOB) == [State.RINGING]
        assert here.states(ALICE) == [State.RINGING, State.CANCELLED]
        unknown = here.transaction(lambda cur: service.erase(cur, owner, CallId("over")))
        assert isinstance(unknown, Refused)

    def test_with_an_account_goes_all_that_calls_keep_of_it(self, here: Homeserver) -> None:
        here.rings(REMOTE, BOB)
        here.rings(ALICE, BOB, "local")
        here.says(BOB, Act.JOIN, call_id=None, member=sticks(here, "device"))
        bob = here.local(BOB)
        here.transaction(lambda cur: service.forget_person(cur, bob.acct, BOB))
        assert here.history(BOB) == ()
        assert here.states(ALICE) == [State.RINGING]
        assert here.transaction(lambda cur: store.of_call(cur, ROOM, CALL)) == ()
        assert types(here.outbox()) == []
        now_ms = here.now_ms
        assert not here.transaction(lambda cur: store.members_of(cur, ROOM, now_ms))

    def test_whoever_has_records_is_listed_page_by_page(self, here: Homeserver) -> None:
        here.rings(ALICE, BOB)
        people = {here.local(ALICE).acct: ALICE, here.local(BOB).acct: BOB}
        first, second = sorted(people)
        assert here.transaction(lambda cur: service.people_with_records(cur, type(first)(""), 1)) == (
            (first, people[first]),
        )
        assert here.transaction(lambda cur: service.people_with_records(cur, first, 5)) == ((second, people[second]),)


SIGNAL = Signal(
    act=Act.OFFER,
    side=Side.CALLEE,
    room_id=ROOM,
    event_id=EventId("$ringing"),
    sender=REMOTE,
    call_id=CALL,
)
