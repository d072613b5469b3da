"""Each row of the state tables of docs/clearing.md."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.clearing import rules
from super_app.clearing.links import new_link
from super_app.clearing.model import (
    CurrencyLine,
    Decision,
    EvidenceKind,
    Fence,
    Grant,
    InPayment,
    InState,
    Link,
    LinkId,
    LinkPhase,
    LinkState,
    MessageType,
    Outcome,
    OutPayment,
    OutState,
    Standing,
    Terms,
    WireId,
)
from super_app.clearing.rules import MaySign, PayeeMove, PayerMove, SeenVerdict
from super_app.errors import Reason
from super_app.ids import Acct, PaymentId, ServerName
from super_app.ledger.model import HoldId
from super_app.money import AssetCode

EUR = AssetCode("EUR")
TERMS = Terms(
    wire_id=WireId("w"),
    payer_commit="p",
    payee_commit="q",
    memo_commit="m",
    amount_minor=100,
    currency=EUR,
    scale=2,
)
OUT = OutPayment(
    link_id=LinkId("l"),
    peer=ServerName("peer.test"),
    terms=TERMS,
    payer=Acct("a"),
    payment_id=PaymentId("0" * 32),
    hold_id=HoldId("h"),
    state=OutState.OFFERED,
    answer=None,
    receipt=None,
    offered_ms=1_000,
    due_ms=61_000,
)
IN = InPayment(
    link_id=LinkId("l"),
    peer=ServerName("peer.test"),
    terms=TERMS,
    state=InState.ACCEPTED,
    decision=None,
    offered=True,
    acct=Acct("b"),
    due_ms=601_000,
)
LINE = CurrencyLine(
    currency=EUR,
    ours=Grant(currency=EUR, scale=2, limit_minor=1_000, max_count=3, max_sum_minor=500),
    theirs=None,
    theirs_epoch=0,
    theirs_seq=0,
    reserved_minor=0,
    unreceipted_minor=0,
    in_flight_count=0,
    in_flight_minor=0,
)
LINK = replace(
    new_link(LinkId("l"), ServerName("peer.test")), wanted=True, our_open_ms=1, their_open_ms=1, checked_boot="now"
)


def decided(state: OutState, answer: MessageType | None = None, receipt: Outcome | None = None) -> OutPayment:
    return replace(OUT, state=state, answer=answer, receipt=receipt, due_ms=None)


# The payer.


def test_a_valid_accept_in_time_is_committed() -> None:
    assert rules.payer_on_accept(OUT, 600_000, 60_999) is PayerMove.COMMIT


def test_an_accept_after_the_ttl_is_aborted() -> None:
    assert rules.payer_on_accept(OUT, 600_000, 61_000) is PayerMove.ABORT


def test_an_accept_that_is_valid_for_less_than_the_margin_is_aborted() -> None:
    assert rules.payer_on_accept(OUT, rules.COMMIT_MARGIN_MS - 1, 2_000) is PayerMove.ABORT
    assert rules.payer_on_accept(OUT, rules.COMMIT_MARGIN_MS, 2_000) is PayerMove.COMMIT


def test_an_accept_that_comes_after_our_abort_moves_nothing() -> None:
    assert rules.payer_on_accept(decided(OutState.ABORTED), 600_000, 2_000) is PayerMove.KEEP


@pytest.mark.parametrize("answer", [MessageType.ACCEPT, MessageType.REJECT])
def test_a_second_answer_is_a_conflict(answer: MessageType) -> None:
    payment = decided(OutState.COMMITTED, answer)
    assert rules.payer_on_accept(payment, 600_000, 2_000) is PayerMove.CONFLICT
    assert rules.payer_on_reject(payment) is PayerMove.CONFLICT


def test_a_reject_aborts_what_is_undecided_and_nothing_else() -> None:
    assert rules.payer_on_reject(OUT) is PayerMove.ABORT
    assert rules.payer_on_reject(replace(OUT, state=OutState.ASKED)) is PayerMove.ABORT
    assert rules.payer_on_reject(decided(OutState.ABORTED)) is PayerMove.KEEP


def test_pending_moves_the_ttl_once_and_to_a_day_at_most() -> None:
    assert rules.payer_on_pending(OUT, 30_000, 2_000) == 32_000
    assert rules.payer_on_pending(OUT, rules.MAX_ASK_MS, 2_000) == OUT.offered_ms + rules.MAX_ASK_MS
    assert rules.payer_on_pending(replace(OUT, state=OutState.ASKED), 30_000, 2_000) is None


def test_pending_after_the_ttl_does_not_revive_a_payment() -> None:
    assert rules.payer_on_pending(OUT, 30_000, 61_000) is None


@pytest.mark.parametrize(
    ("payment", "outcome", "move"),
    [
        (decided(OutState.COMMITTED, MessageType.ACCEPT), Outcome.CREDITED, PayerMove.COMPLETE),
        (decided(OutState.COMMITTED, MessageType.ACCEPT), Outcome.VOID, PayerMove.UNDO),
        (decided(OutState.ABORTED), Outcome.VOID, PayerMove.NOTE),
        (decided(OutState.ABORTED), Outcome.CREDITED, PayerMove.UNFOUNDED),
        (OUT, Outcome.CREDITED, PayerMove.UNFOUNDED),
        (OUT, Outcome.VOID, PayerMove.CONFLICT),
        (decided(OutState.COMPLETED, receipt=Outcome.CREDITED), Outcome.CREDITED, PayerMove.CONFLICT),
        (decided(OutState.COMPLETED, receipt=Outcome.CREDITED), Outcome.VOID, PayerMove.CREDITED_AND_VOID),
        (decided(OutState.VOIDED, receipt=Outcome.VOID), Outcome.CREDITED, PayerMove.CREDITED_AND_VOID),
        (decided(OutState.ABORTED, receipt=Outcome.VOID), Outcome.CREDITED, PayerMove.CREDITED_AND_VOID),
    ],
)
def test_what_a_receipt_does(payment: OutPayment, outcome: Outcome, move: PayerMove) -> None:
    assert rules.payer_on_receipt(payment, outcome) is move


# The payee.


def test_an_id_that_is_offered_twice_is_a_conflict() -> None:
    assert rules.payee_on_offer(None, TERMS) is PayeeMove.OPEN
    assert rules.payee_on_offer(IN, TERMS) is PayeeMove.CONFLICT


def test_the_offer_of_a_tombstone_is_kept_only_with_the_terms_of_its_abort() -> None:
    tombstone = replace(IN, state=InState.VOID, decision=Decision.ABORT, offered=False)
    assert rules.payee_on_offer(tombstone, TERMS) is PayeeMove.KEEP
    assert rules.payee_on_offer(tombstone, replace(TERMS, amount_minor=99)) is PayeeMove.CONFLICT


@pytest.mark.parametrize(
    ("state", "within_limit", "move"),
    [
        (InState.ACCEPTED, False, PayeeMove.CREDIT),
        (InState.LAPSED, True, PayeeMove.CREDIT),
        (InState.LAPSED, False, PayeeMove.VOID),
        (InState.ASKED, True, PayeeMove.VOID),
        (InState.REJECTED, True, PayeeMove.VOID),
    ],
)
def test_what_a_commit_does(state: InState, within_limit: bool, move: PayeeMove) -> None:
    payment = replace(IN, state=state)
    assert rules.payee_on_decision(payment, Decision.COMMIT, TERMS, within_limit=within_limit) is move


@pytest.mark.parametrize("state", [InState.ASKED, InState.ACCEPTED, InState.LAPSED, InState.REJECTED])
def test_an_abort_voids_whatever_it_finds(state: InState) -> None:
    payment = replace(IN, state=state)
    assert rules.payee_on_decision(payment, Decision.ABORT, TERMS, within_limit=True) is PayeeMove.VOID


def test_a_decision_of_other_terms_is_a_conflict() -> None:
    other = replace(TERMS, amount_minor=101)
    for decision in Decision:
        assert rules.payee_on_decision(IN, decision, other, within_limit=True) is PayeeMove.CONFLICT


@pytest.mark.parametrize("before", Decision)
@pytest.mark.parametrize("after", Decision)
def test_a_payment_is_decided_once(before: Decision, after: Decision) -> None:
    payment = replace(IN, state=InState.VOID, decision=before)
    expected = PayeeMove.CONFLICT if before is after else PayeeMove.COMMIT_AND_ABORT
    assert rules.payee_on_decision(payment, after, TERMS, within_limit=True) is expected


def test_a_decision_before_its_offer_is_a_tombstone_or_a_doubt() -> None:
    assert rules.payee_on_decision(None, Decision.ABORT, TERMS, within_limit=True) is PayeeMove.TOMBSTONE
    assert rules.payee_on_decision(None, Decision.COMMIT, TERMS, within_limit=True) is PayeeMove.DOUBT


# Credit.


@given(
    due_from=st.integers(0, 10**9),
    reserved=st.integers(0, 10**9),
    due_to=st.integers(0, 10**9),
    unreceipted=st.integers(0, 10**9),
)
def test_credit_used_nets_only_what_is_receipted(due_from: int, reserved: int, due_to: int, unreceipted: int) -> None:
    used = rules.credit_used(due_from, reserved, due_to, min(unreceipted, due_to))
    assert used >= 0
    assert used >= due_from + reserved - due_to
    # What is committed and not receipted may still be voided, so it frees no credit.
    assert rules.credit_used(due_from, reserved, due_to, due_to) == due_from + reserved


@pytest.mark.parametrize(
    ("due_from", "reserved", "due_to", "unreceipted", "used"),
    [
        (100, 20, 0, 0, 120),
        (100, 20, 70, 0, 50),
        (100, 20, 70, 30, 80),
        (100, 20, 70, 70, 120),
        (0, 0, 70, 0, 0),
        (0, 0, 0, 0, 0),
    ],
)
def test_what_a_peer_uses_is_its_debt_and_our_reservations_less_what_we_surely_owe(
    due_from: int, reserved: int, due_to: int, unreceipted: int, used: int
) -> None:
    assert rules.credit_used(due_from, reserved, due_to, unreceipted) == used


def test_an_offer_fits_up_to_the_limit_and_no_minor_unit_above() -> None:
    assert rules.judge_offer(TERMS, LINE, 900) is None
    assert rules.judge_offer(TERMS, LINE, 901) is Reason.CREDIT_LIMIT


def test_an_offer_needs_a_currency_that_we_grant_with_its_scale() -> None:
    assert rules.judge_offer(TERMS, None, 0) is Reason.UNKNOWN_CURRENCY
    assert rules.judge_offer(TERMS, replace(LINE, ours=None), 0) is Reason.UNKNOWN_CURRENCY
    assert rules.judge_offer(replace(TERMS, scale=3), LINE, 0) is Reason.UNKNOWN_CURRENCY


def test_an_offer_must_fit_what_may_be_in_flight() -> None:
    assert rules.judge_offer(TERMS, replace(LINE, in_flight_count=3), 0) is Reason.TOO_MANY_REQUESTS
    assert rules.judge_offer(TERMS, replace(LINE, in_flight_minor=401), 0) is Reason.TOO_MANY_REQUESTS
    assert rules.judge_offer(TERMS, replace(LINE, in_flight_count=2, in_flight_minor=400), 0) is None


# Links.


def test_nothing_is_signed_before_the_peer_has_answered_this_run() -> None:
    assert rules.may_sign(LINK, "now") is MaySign.ALL
    assert rules.may_sign(LINK, "later") is MaySign.NOTHING


def test_a_frozen_link_signs_endings_only_and_a_halted_one_nothing() -> None:
    assert rules.may_sign(replace(LINK, state=LinkState.FROZEN), "now") is MaySign.ENDINGS
    assert rules.may_sign(replace(LINK, state=LinkState.HALTED), "now") is MaySign.NOTHING


@pytest.mark.parametrize(
    ("link", "boot", "phase", "reason"),
    [
        (LINK, "now", LinkPhase.OPEN, None),
        (LINK, "later", LinkPhase.CHECKING, Reason.LINK_HALTED),
        (replace(LINK, their_open_ms=0), "now", LinkPhase.WAITING_FOR_PEER, Reason.NO_LINK),
        (replace(LINK, our_open_ms=0, wanted=False), "now", LinkPhase.WAITING_FOR_US, Reason.NO_LINK),
        (replace(LINK, state=LinkState.FROZEN), "now", LinkPhase.FROZEN, Reason.LINK_HALTED),
        (replace(LINK, state=LinkState.HALTED), "now", LinkPhase.HALTED, Reason.LINK_HALTED),
        (replace(LINK, state=LinkState.HALTED, their_open_ms=0), "now", LinkPhase.HALTED, Reason.LINK_HALTED),
    ],
)
def test_where_a_link_stands_and_what_payers_are_told(
    link: Link, boot: str, phase: LinkPhase, reason: Reason | None
) -> None:
    assert rules.phase_of(link, boot) is phase
    refused = rules.why_not(link, link.peer, boot)
    assert (None if refused is None else refused.reason) is reason


def test_no_link_at_all_is_no_link() -> None:
    refused = rules.why_not(None, "peer.test", "now")
    assert refused is not None
    assert refused.reason is Reason.NO_LINK
    assert not refused.fields


@pytest.mark.parametrize(
    ("link", "boot", "fields"),
    [
        (LINK, "later", {"retry_after_ms": 2_000}),
        (replace(LINK, state=LinkState.RECOVERING), "now", {"retry_after_ms": 2_000}),
        (replace(LINK, state=LinkState.RECOVERING), "later", {"retry_after_ms": 2_000}),
        (replace(LINK, state=LinkState.HALTED), "now", {}),
        (replace(LINK, state=LinkState.FROZEN), "now", {}),
    ],
)
def test_payers_are_told_when_to_try_again_where_the_link_mends_by_itself(
    link: Link, boot: str, fields: dict[str, object]
) -> None:
    refused = rules.why_not(link, link.peer, boot)
    assert refused is not None
    assert refused.reason is Reason.LINK_HALTED
    assert refused.fields == fields


def test_what_stopped_a_link_is_told() -> None:
    refused = rules.why_not(replace(LINK, state=LinkState.HALTED, stopped_why="a lie"), LINK.peer, "now")
    assert refused is not None
    assert refused.message.endswith("a lie")


def test_a_link_that_recovers_signs_nothing() -> None:
    recovering = replace(LINK, state=LinkState.RECOVERING)
    assert rules.may_sign(recovering, "now") is MaySign.NOTHING
    assert rules.phase_of(recovering, "now") is LinkPhase.RECOVERING


@pytest.mark.parametrize(
    ("standing", "phase", "reason"),
    [
        (Standing.READY, LinkPhase.OPEN, None),
        (Standing.SUSPENDED, LinkPhase.SUSPENDED, Reason.LINK_SUSPENDED),
        (Standing.CLOSING, LinkPhase.CLOSING, Reason.NO_LINK),
    ],
)
def test_what_each_standing_of_an_open_link_lets_begin(
    standing: Standing, phase: LinkPhase, reason: Reason | None
) -> None:
    link = replace(LINK, our_standing=standing)
    refused = rules.why_not_ready(link, link.peer)
    assert rules.phase_of(link, "now") is phase
    assert (None if refused is None else refused.reason) is reason
    assert rules.why_not(link, link.peer, "now") is None


def test_where_there_is_no_link_no_standing_stops_a_payment() -> None:
    assert rules.why_not_ready(None, "peer.test") is None


@pytest.mark.parametrize(
    ("now_ms", "paused"),
    [(999, True), (1_000, False), (1_001, False), (1_000 - 3_600_000, True), (999 - 3_600_000, False)],
)
def test_a_pause_ends_at_its_time_and_is_never_longer_than_the_ladder(now_ms: int, paused: bool) -> None:
    assert rules.is_paused(replace(LINK, next_try_ms=1_000), now_ms) is paused


@pytest.mark.parametrize(
    ("epoch", "seq", "in_force"),
    [(2, 7, True), (2, 8, False), (1, 99, True), (3, 1, False), (4, 1, True), (5, 1, True)],
)
def test_a_fence_leaves_in_force_what_it_names_and_what_comes_after_it(epoch: int, seq: int, in_force: bool) -> None:
    fence = Fence(epoch=4, after_epoch=2, after_seq=7)
    assert rules.is_in_force([fence], epoch, seq) is in_force
    later = Fence(epoch=9, after_epoch=8, after_seq=1)
    assert rules.is_in_force([fence, later], epoch, seq) is in_force
    assert rules.is_in_force([later, fence], epoch, seq) is in_force
    assert rules.is_in_force([], epoch, seq)


@pytest.mark.parametrize(
    ("is_ours", "stored", "verdict", "evidence"),
    [
        (True, "x", SeenVerdict.TRUE, None),
        (False, "x", SeenVerdict.TRUE, None),
        (True, None, SeenVerdict.AHEAD, EvidenceKind.PEER_AHEAD),
        (True, "y", SeenVerdict.FORKED, EvidenceKind.FORKED),
        (False, None, SeenVerdict.LIE, EvidenceKind.FALSE_SEEN),
        (False, "y", SeenVerdict.LIE, EvidenceKind.FALSE_SEEN),
    ],
)
def test_a_claim_about_us_counts_only_with_our_own_signature(
    is_ours: bool, stored: str | None, verdict: SeenVerdict, evidence: EvidenceKind | None
) -> None:
    assert rules.judge_claim(is_ours=is_ours, stored_hash=stored, claimed_hash="x") is verdict
    assert verdict.evidence is evidence


def test_the_ladder_of_retries() -> None:
    minutes = [0.25, 0.25, 0.5, 3, 10, 20, 30, 60, 60, 60]
    assert [rules.retry_ms(attempt) / 60_000 for attempt in range(1, 11)] == minutes
