"""How gifts are cut and checked: every minor unit is somebody's, the same way each time."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason, Refused
from super_app.money import AssetCode, Money, shares_by_weight
from super_app.pots import rules
from super_app.pots.model import LINK_LONGEST_MS, LINK_MS, SHARES_MAX, Share, ShareState, Split
from synapse_super_app.commands.main import main

SALT = "5" * 32
ID = "a" * 32


@given(total=st.integers(1, 2**53 - 1), count=st.integers(1, 500))
def test_equal_shares_make_the_total_and_differ_by_one_at_most(total: int, count: int) -> None:
    shares = rules.equal_shares(total, count)
    assert (len(shares), sum(shares)) == (count, total)
    assert max(shares) - min(shares) <= 1
    assert list(shares) == sorted(shares, reverse=True)


@given(total=st.integers(0, 2**53 - 1), weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_shares_by_weight_make_the_total_and_none_is_off_by_a_unit(total: int, weights: list[int]) -> None:
    shares = shares_by_weight(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share * sum(weights) - total * weight) < sum(weights)


def test_what_rounding_leaves_goes_to_the_largest_remainders_and_of_equals_to_the_first() -> None:
    assert shares_by_weight(100, [1, 1, 1]) == (34, 33, 33)
    assert shares_by_weight(10, [1, 2, 4]) == (1, 3, 6)
    assert rules.equal_shares(5, 3) == (2, 2, 1)


@given(st.data())
def test_random_shares_are_above_nothing_and_make_the_total(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 10_000))
    cuts = data.draw(st.sets(st.integers(1, total - 1), max_size=20))
    shares = rules.random_shares(total, cuts)
    assert (len(shares), sum(shares), min(shares) >= 1) == (len(cuts) + 1, total, True)


def test_a_count_has_to_fit_the_amount() -> None:
    def reason(minor: int, count: int) -> Reason | None:
        refused = rules.judge_count(Money(amount_minor=minor, currency=AssetCode("JPY")), count)
        return None if refused is None else refused.reason

    assert (reason(SHARES_MAX, SHARES_MAX), reason(1, 1)) == (None, None)
    assert (reason(10_000, SHARES_MAX + 1), reason(10, 0)) == (Reason.INVALID_VALUE, Reason.INVALID_VALUE)
    assert reason(2, 3) is Reason.INVALID_AMOUNT


def test_a_link_ends_in_the_future_and_within_its_longest_life() -> None:
    assert rules.link_expiry_ms(None, 1_000) == 1_000 + LINK_MS
    assert rules.link_expiry_ms(1_001, 1_000) == 1_001
    assert rules.link_expiry_ms(1_000 + LINK_LONGEST_MS, 1_000) == 1_000 + LINK_LONGEST_MS
    assert isinstance(rules.link_expiry_ms(1_000, 1_000), Refused)
    assert isinstance(rules.link_expiry_ms(1_001 + LINK_LONGEST_MS, 1_000), Refused)


def test_the_luckiest_has_most_and_of_two_the_one_who_was_first() -> None:
    def share(number: int, minor: int, state: ShareState = ShareState.TAKEN) -> Share:
        return Share(
            number=number, amount_minor=minor, state=state, claimer=None, payment_id=None, paid=False, claimed_ms=None
        )

    best = rules.luckiest(Split.RANDOM, [share(0, 3), share(1, 7), share(2, 7), share(3, 9, ShareState.RETURNED)])
    assert best is not None
    assert best.number == 1
    assert rules.luckiest(Split.RANDOM, [share(0, 3)]) is None
    assert rules.luckiest(Split.EQUAL, [share(0, 4), share(1, 3)]) is None
    assert rules.luckiest(Split.RANDOM, [share(0, 3, ShareState.FREE), share(1, 4, ShareState.FREE)]) is None


class TestDraw:
    shares = (300, 150, 550)

    def check(
        self,
        *,
        pot_id: str = ID,
        total: int = 1_000,
        split: Split = Split.RANDOM,
        salt: str = SALT,
        shares: tuple[int, ...] = shares,
    ) -> str | None:
        return rules.check_reveal(pot_id, total, split, rules.commitment(ID, SALT, self.shares), salt, shares)

    def test_the_commitment_is_the_hash_that_the_docs_describe(self) -> None:
        canonical = '["superapp-gift-1","' + ID + '","' + SALT + '",[300,150,550]]'
        hashed = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).decode().rstrip("=")
        assert rules.commitment(ID, SALT, self.shares) == hashed

    def test_what_was_drawn_is_right_and_anything_else_is_seen(self) -> None:
        assert self.check() is None
        assert self.check(shares=(150, 300, 550)) is not None
        assert self.check(shares=(300, 150, 551)) is not None
        assert self.check(salt="6" * 32) is not None
        assert self.check(pot_id="b" * 32) is not None
        assert self.check(total=1_001) is not None
        assert self.check(split=Split.EQUAL) is not None

    def test_shares_of_nothing_are_seen_even_if_they_were_committed_to(self) -> None:
        committed = rules.commitment(ID, SALT, (0, 1_000))
        assert rules.check_reveal(ID, 1_000, Split.RANDOM, committed, SALT, (0, 1_000)) is not None

    def answer(self, **fields: Any) -> dict[str, Any]:
        return {
            "gift_id": ID,
            "amount": 1_000,
            "currency": "EUR",
            "split": "random",
            "commitment": rules.commitment(ID, SALT, self.shares),
            "reveal": {"salt": SALT, "shares": list(self.shares)},
            "claims": [{"user_id": "@bob:hs2", "number": 1, "amount": 150}],
            **fields,
        }

    def verify(self, tmp_path: Path, found: object, *arguments: str) -> int:
        path = tmp_path / "gift.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        return main(["verify-gift", str(path), *arguments])

    def test_the_command_checks_what_the_api_answered(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.verify(tmp_path, self.answer(), "--got", "@bob:hs2=150") == 0
        assert self.verify(tmp_path, self.answer(amount=999)) == 1
        assert self.verify(tmp_path, self.answer(), "--got", "@bob:hs2=300") == 1
        assert self.verify(tmp_path, self.answer(claims=[{"user_id": "@b:c", "number": 0, "amount": 999}])) == 1
        assert self.verify(tmp_path, self.answer(reveal={"salt": SALT, "shares": [300, "150", 550]})) == 1
        assert self.verify(tmp_path, {"gift_id": ID}) == 1
        assert self.verify(tmp_path, self.answer(), "--got", "bob") == 1
        assert main(["verify-gift", str(tmp_path / "nothing.json")]) == 1
        captured = capsys.readouterr()
        assert "300, 150, 550" in captured.out + captured.err

    def test_the_command_checks_the_two_events_of_a_room(self, tmp_path: Path) -> None:
        first = {"type": "org.superapp.gift", "content": self.answer()}
        end = {"gift_id": ID, "salt": SALT, "shares": list(self.shares), "claimers": ["@c:d", "@bob:hs2", None]}
        last = {"type": "org.superapp.gift.end", "content": end}
        assert self.verify(tmp_path, [first, last], "--got", "@bob:hs2=150") == 0
        assert self.verify(tmp_path, [first, last], "--got", "@c:d=150") == 1
        assert self.verify(tmp_path, [first, {**last, "content": {**end, "gift_id": "b" * 32}}]) == 1
        assert self.verify(tmp_path, [first]) == 1
