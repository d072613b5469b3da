"""The halves of a move: what verifies, what does not, and which of them fit together."""

from dataclasses import replace
from typing import Any

import pytest

from super_app.accounts.model import Genesis
from super_app.directory import moves
from super_app.directory.model import MovedFrom, MovedTo, Status
from super_app.directory.moves import Accepted, Claim, Stop
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import generate_key, public_b64, signed

KEY, OTHER = generate_key(b"\x01" * 32), generate_key(b"\x02" * 32)
OLD, NEW = UserId("@alice:old.test"), UserId("@alice:new.test")
X, Y, Z = Acct("X" * 43), Acct("Y" * 43), Acct("Z" * 43)
NOW = 1_700_000_000_000
GENESIS = Genesis(
    server=ServerName("old.test"), localpart="alice", created_ms=1, nonce="00" * 16, recovery_key=public_b64(KEY)
)


def reason_of(found: object) -> Reason:
    assert isinstance(found, Refused), found
    return found.reason


class TestAcceptance:
    def content(self, **changes: Any) -> dict[str, Any]:
        found = moves.acceptance(
            KEY,
            user_id=NEW,
            acct=Y,
            handle=Handle("@wonder:new.test"),
            from_user_id=OLD,
            from_acct=X,
            issued_ms=NOW,
        )
        del found["signature"], found["key_id"]
        return signed({**found, **changes}, KEY)

    def read(self, content: object, now_ms: int = NOW) -> Accepted | Refused:
        server = ServerName("new.test")
        return moves.read_acceptance(content, server, public_b64(KEY), from_user_id=OLD, from_acct=X, now_ms=now_ms)

    def test_it_names_both_accounts(self) -> None:
        found = self.read(self.content())
        assert isinstance(found, Accepted)
        assert (found.user_id, found.acct, found.handle) == (NEW, Y, "@wonder:new.test")

    @pytest.mark.parametrize(
        "changes",
        [
            {"from_acct": Z},
            {"from_user_id": "@bob:old.test"},
            {"server": "old.test"},
            {"user_id": "@alice:old.test"},
            {"handle": "@alice:old.test"},
            {"type": moves.CLAIM_TYPE},
            {"v": 2},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_of_anything_else_it_is_none(self, changes: dict[str, Any]) -> None:
        assert reason_of(self.read(self.content(**changes))) is Reason.BAD_RECORD

    def test_who_signs_and_when_matters(self) -> None:
        assert reason_of(self.read({**self.content(), "acct": Z})) is Reason.BAD_RECORD
        assert isinstance(self.read(self.content(), NOW + moves.ANNOUNCED_MS), Accepted)
        assert reason_of(self.read(self.content(), NOW + moves.ANNOUNCED_MS + 1)) is Reason.BAD_RECORD
        assert reason_of(self.read(self.content(), NOW - moves.SKEW_MS - 1)) is Reason.BAD_RECORD
        assert reason_of(self.read("nothing")) is Reason.BAD_RECORD


class TestClaim:
    def content(self, key: Any = KEY, **changes: Any) -> dict[str, Any]:
        found = moves.claim(key, GENESIS.content(), to_user_id=NEW, to_acct=Y, issued_ms=NOW)
        del found["signature"], found["key_id"]
        return signed({**found, **changes}, key)

    def read(self, content: object, to: UserId = NEW) -> Claim | Refused:
        return moves.read_claim(content, to_user_id=to, to_acct=Y, now_ms=NOW)

    def test_the_recovery_key_in_the_genesis_speaks_for_the_acct(self) -> None:
        found = self.read(self.content())
        assert isinstance(found, Claim)
        assert (found.acct, found.user_id, found.to_acct) == (GENESIS.acct(), OLD, Y)

    @pytest.mark.parametrize(
        "changes",
        [
            {"to_acct": Z},
            {"to_user_id": "@mallory:new.test"},
            {"issued": NOW + moves.SKEW_MS + 1},
            {"genesis": {**GENESIS.content(), "server": "new.test"}},
            {"genesis": {**GENESIS.content(), "recovery_key": "AAAA"}},
            {"genesis": {**GENESIS.content(), "recovery_key": public_b64(OTHER)}},
            {"genesis": {**GENESIS.content(), "localpart": "no good"}},
            {"genesis": {**GENESIS.content(), "more": 1}},
            {"genesis": {**GENESIS.content(), "nonce": "0" * 4_000}},
            {"note": "a field that nobody knows"},
        ],
        ids=str,
    )
    def test_of_anything_else_it_proves_nothing(self, changes: dict[str, Any]) -> None:
        assert reason_of(self.read(self.content(**changes))) is Reason.BAD_SIGNATURE

    def test_another_key_proves_nothing(self) -> None:
        assert reason_of(self.read(self.content(OTHER))) is Reason.BAD_SIGNATURE

    def test_who_changes_the_genesis_claims_another_account(self) -> None:
        forged = self.read(self.content(genesis={**GENESIS.content(), "nonce": "11" * 16}))
        assert isinstance(forged, Claim)
        assert forged.acct != GENESIS.acct()


class TestHalves:
    BEFORE = Stop(
        user_id=OLD,
        acct=X,
        handle=None,
        status=Status.MOVED,
        moved_to=MovedTo(user_id=NEW, acct=Y, handle=Handle(NEW), since_ms=NOW, accept={}),
        moved_from=None,
    )
    AFTER = Stop(
        user_id=NEW,
        acct=Y,
        handle=None,
        status=Status.ACTIVE,
        moved_to=None,
        moved_from=MovedFrom(user_id=OLD, acct=X, since_ms=NOW),
    )

    def test_both_name_each_other(self) -> None:
        assert moves.judge_hop(self.BEFORE, self.AFTER, frozenset({X})) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"acct": Z},
            {"user_id": "@mallory:new.test"},
            {"moved_from": None},
            {"moved_from": MovedFrom(user_id=OLD, acct=Z, since_ms=NOW)},
            {"moved_from": MovedFrom(user_id=UserId("@bob:old.test"), acct=X, since_ms=NOW)},
        ],
        ids=str,
    )
    def test_one_half_alone_is_no_move(self, changes: dict[str, Any]) -> None:
        refused = moves.judge_hop(self.BEFORE, replace(self.AFTER, **changes), frozenset({X}))
        assert refused is not None
        assert (refused.reason, refused.fields["moved_to"]) == (Reason.PAYEE_MOVED, NEW)

    def test_a_circle_and_a_fourth_step_are_refused(self) -> None:
        for visited in ({X, Y}, {X, Z, Acct("V" * 43), Acct("W" * 43)}):
            assert reason_of(moves.judge_hop(self.BEFORE, self.AFTER, frozenset(visited))) is Reason.BAD_RECORD

    @pytest.mark.parametrize(
        ("field", "value"), [("user_id", OLD), ("user_id", "alice"), ("handle", "@alice:old.test"), ("since", -1)]
    )
    def test_what_leads_nowhere_is_no_move(self, field: str, value: object) -> None:
        content = {"user_id": NEW, "acct": Y, "handle": NEW, "since": NOW, "accept": {}}
        assert moves.read_moved_to(content, ServerName("old.test")) is not None
        assert moves.read_moved_to({**content, field: value}, ServerName("old.test")) is None

    def test_nobody_comes_from_where_they_are(self) -> None:
        content = {"user_id": OLD, "acct": X, "since": NOW}
        assert moves.read_moved_from(content, ServerName("new.test")) is not None
        assert moves.read_moved_from(content, ServerName("old.test")) is None


def test_the_times_of_a_move() -> None:
    hours = 3_600_000
    assert not moves.recovery_is_due(NOW, NOW + 72 * hours - 1)
    assert moves.recovery_is_due(NOW, NOW + 72 * hours)
    assert moves.is_careful(NOW, NOW + 72 * hours - 1)
    assert not moves.is_careful(NOW, NOW + 72 * hours)
    assert not moves.is_careful(None, NOW)
