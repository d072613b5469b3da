"""The audit log, proposals and the halt, on both databases."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import LiteralString

import pytest
from engines import Database

from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.money import AssetCode, Money
from super_app.operations import service, store
from super_app.operations.model import Kind, Proposal, ProposalId, State

ONE, OTHER = UserId("@one:hs1.test"), UserId("@other:hs1.test")
WANTED = Proposal(
    proposal_id=ProposalId("p1"),
    kind=Kind.ISSUE,
    user_id=UserId("@alice:hs1.test"),
    money=Money(currency=AssetCode("EUR"), amount_minor=500),
    reference="invoice 7",
    proposed_by=ONE,
    proposed_ms=1_000,
)


@pytest.fixture
def books(open_database: Callable[..., Database]) -> Transaction:
    return open_database("super_app.accounts", "super_app.operations").connect(rerun=True)


def write(cur: Cursor, act: str, asked: int | None = None) -> int:
    what = {"body": {"amount": 5}}
    line = service.write_down(cur, operator=ONE, act=act, what=what, outcome="asked", asked_seq=asked, now_ms=7)
    return line.seq


class TestAuditLog:
    def test_lines_follow_each_other_and_each_names_the_one_before(self, books: Transaction) -> None:
        assert [books(lambda cur: write(cur, "POST a")), books(lambda cur: write(cur, "POST b", 1))] == [1, 2]
        newest, oldest = books(lambda cur: store.lines_before(cur, None, 10))
        assert (newest.prev, newest.asked_seq, oldest.prev) == (oldest.hash, 1, "")
        assert books(service.broken_at) is None

    @pytest.mark.parametrize(
        "tampering",
        [
            "UPDATE superapp_audit SET what = '{}' WHERE seq = 2",
            "UPDATE superapp_audit SET operator = '@thief:hs1.test' WHERE seq = 2",
            "UPDATE superapp_audit SET outcome = 'refused' WHERE seq = 2",
            "UPDATE superapp_audit SET at_ms = 8 WHERE seq = 2",
            "DELETE FROM superapp_audit WHERE seq = 2",
        ],
    )
    def test_a_line_that_was_changed_or_taken_away_is_found(self, books: Transaction, tampering: LiteralString) -> None:
        for number in range(3):
            books(partial(write, act=f"POST {number}"))
        books(lambda cur: cur.execute(tampering))
        assert books(service.broken_at) == 2

    def test_the_newest_line_cannot_be_taken_away_unseen(self, books: Transaction) -> None:
        for number in range(3):
            books(partial(write, act=f"POST {number}"))
        books(lambda cur: cur.execute("DELETE FROM superapp_audit WHERE seq = 3"))
        assert books(service.broken_at) == 3

    def test_pages_end_before_the_line_that_is_named(self, books: Transaction) -> None:
        for number in range(4):
            books(partial(write, act=f"POST {number}"))
        assert [line.seq for line in books(lambda cur: store.lines_before(cur, 3, 10))] == [2, 1]


class TestProposals:
    def test_the_same_again_changes_nothing_and_another_one_under_its_id_is_refused(self, books: Transaction) -> None:
        assert books(lambda cur: service.propose(cur, WANTED)) == WANTED
        assert books(lambda cur: service.propose(cur, replace(WANTED, proposed_ms=9))) == WANTED
        more = replace(WANTED, money=Money(currency=AssetCode("EUR"), amount_minor=501))
        refused = books(lambda cur: service.propose(cur, more))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.CONFLICT

    def test_who_proposed_it_may_reject_and_not_approve_it(self, books: Transaction) -> None:
        books(lambda cur: service.propose(cur, WANTED))
        refused = books(lambda cur: service.decide(cur, WANTED.proposal_id, ONE, State.APPROVED, 2))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.FOUR_EYES
        rejected = books(lambda cur: service.decide(cur, WANTED.proposal_id, ONE, State.REJECTED, 3))
        assert rejected == replace(WANTED, state=State.REJECTED, decided_by=ONE, decided_ms=3)

    def test_a_decision_stands(self, books: Transaction) -> None:
        books(lambda cur: service.propose(cur, WANTED))
        approved = books(lambda cur: service.decide(cur, WANTED.proposal_id, OTHER, State.APPROVED, 2))
        assert approved == books(lambda cur: service.decide(cur, WANTED.proposal_id, OTHER, State.APPROVED, 9))
        refused = books(lambda cur: service.decide(cur, WANTED.proposal_id, OTHER, State.REJECTED, 9))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.ALREADY_DECIDED

    def test_the_database_too_lets_nobody_approve_their_own(self, books: Transaction) -> None:
        books(lambda cur: service.propose(cur, WANTED))
        with pytest.raises(Exception, match=r"(?i)check"):
            books(lambda cur: store.decide(cur, WANTED.proposal_id, State.APPROVED, ONE, 2))

    def test_one_that_nobody_made_is_unknown(self, books: Transaction) -> None:
        refused = books(lambda cur: service.decide(cur, ProposalId("none"), ONE, State.REJECTED, 1))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.UNKNOWN_PROPOSAL

    def test_open_ones_come_first(self, books: Transaction) -> None:
        for number in (1, 2, 3):
            proposal = replace(WANTED, proposal_id=ProposalId(f"p{number}"), proposed_ms=number)
            books(partial(service.propose, wanted=proposal))
        books(lambda cur: service.decide(cur, ProposalId("p3"), OTHER, State.APPROVED, 5))
        found = books(lambda cur: store.proposals(cur, tuple(State), 10))
        assert [each.proposal_id for each in found] == ["p2", "p1", "p3"]


def test_halting_twice_keeps_the_first_reason_and_ends_once(books: Transaction) -> None:
    first = books(lambda cur: service.halt(cur, ONE, "the books", 5))
    assert books(lambda cur: service.halt(cur, OTHER, "another", 6)) == first
    books(store.end_halt)
    assert books(store.halt) is None


@pytest.mark.parametrize(
    "odd", [1.5, "\ud800", {"deep": [float("inf")]}], ids=["float", "half a character", "infinity"]
)
def test_what_canonical_json_has_not_is_written_down_all_the_same(books: Transaction, odd: object) -> None:
    def write_it(cur: Cursor) -> None:
        service.write_down(
            cur, operator=ONE, act="POST it", what={"body": odd}, outcome="asked", asked_seq=None, now_ms=1
        )

    books(write_it)
    assert books(service.broken_at) is None
