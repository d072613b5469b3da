"""What an order may say, what policies let in, and what may still happen to a payment."""

from dataclasses import replace
from typing import Any

import pytest

from super_app.clearing.ports import Party, WireId
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, Handle, PaymentId, RoomId, UserId
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money
from super_app.payments import rules
from super_app.payments.model import (
    Acceptance,
    Intent,
    Order,
    PayerKey,
    Payment,
    PaymentContent,
    Policy,
    PolicyFrom,
    Poster,
    Salts,
    State,
    Venue,
)
from super_app.signing import digest

EUR = AssetCode("EUR")
ASSETS = {EUR: Asset(code=EUR, scale=2), AssetCode("PTS"): Asset(code=AssetCode("PTS"), scale=0)}
ID = PaymentId("0123456789abcdef" * 2)
ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs1.test")
SALTS = Salts(wire="00" * 16, parties=("11" * 16, "22" * 16, "33" * 16), room="44" * 16)
ORDER: dict[str, Any] = {"payment_id": ID, "payee": BOB, "amount": 500, "currency": "EUR"}

LOCAL = Payment(
    payer_key=PayerKey("acct-alice"),
    payment_id=ID,
    payer=ALICE,
    payer_acct=Acct("acct-alice"),
    payee=Party(user_id=BOB, acct="acct-bob", handle=None),
    payee_acct=Acct("acct-bob"),
    money=Money(amount_minor=500, currency=EUR),
    memo=None,
    request=None,
    refund_of=None,
    invoice=None,
    order_hash="hash",
    salts=SALTS,
    wire_id=None,
    room_id=RoomId("!room:hs1.test"),
    event_id=EventId("$event"),
    venue=Venue.OPEN,
    payee_joined=True,
    position=0,
    state=State.COMPLETED,
    reason=None,
    answered=False,
    created_ms=0,
    due_ms=None,
    signed=None,
)
OUTGOING = replace(LOCAL, payee_acct=None, payee=Party(user_id=UserId("@bob:hs2.test"), acct="", handle=None))
INCOMING = replace(
    LOCAL,
    payer_key=PayerKey("@alice:hs2.test"),
    payer=UserId("@alice:hs2.test"),
    payer_acct=None,
    order_hash=None,
    salts=None,
    wire_id=WireId("wire"),
)


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    assert result.message.endswith("."), "a refusal is a sentence"
    return result.reason


class TestOrder:
    def test_a_full_order_is_read(self) -> None:
        content = {**ORDER, "memo": "lunch", "request": "r1", "refund_of": "f" * 32, "invoice": "2026-17"}
        assert rules.read_content(content, ASSETS) == Intent(
            payment_id=ID,
            payee=BOB,
            money=Money(amount_minor=500, currency=EUR),
            memo="lunch",
            request="r1",
            refund_of=PaymentId("f" * 32),
            invoice="2026-17",
        )

    @pytest.mark.parametrize(
        "amount",
        [0, -1, 1.0, 1.5, 2**53, MAX_AMOUNT_MINOR + 1, "500", True, False, None, [500], {"minor": 500}],
        ids=str,
    )
    def test_an_amount_that_is_no_whole_number_in_range_is_refused_by_name(self, amount: object) -> None:
        assert reason_of(rules.read_content({**ORDER, "amount": amount}, ASSETS)) is Reason.INVALID_AMOUNT

    @pytest.mark.parametrize("amount", [1, MAX_AMOUNT_MINOR])
    def test_the_least_and_the_largest_amount_pass(self, amount: int) -> None:
        intent = rules.read_content({**ORDER, "amount": amount}, ASSETS)
        assert isinstance(intent, Intent)
        assert intent.money.amount_minor == amount

    @pytest.mark.parametrize("currency", ["USD", "eur", "", "XAU", "EUR ", 978, None, ["EUR"], {}], ids=str)
    def test_a_currency_that_this_homeserver_does_not_know_is_refused_by_name(self, currency: object) -> None:
        assert reason_of(rules.read_content({**ORDER, "currency": currency}, ASSETS)) is Reason.UNKNOWN_CURRENCY

    @pytest.mark.parametrize(
        "payment_id", ["", "0" * 31, "0" * 33, "0" * 31 + "A", "g" * 32, "0" * 32 + "\n", 7, None], ids=repr
    )
    def test_a_payment_id_is_32_lower_case_hex_digits(self, payment_id: object) -> None:
        assert reason_of(rules.read_content({**ORDER, "payment_id": payment_id}, ASSETS)) is Reason.INVALID_VALUE

    @pytest.mark.parametrize("missing", ["payment_id", "payee", "amount", "currency"])
    def test_what_is_missing_is_named(self, missing: str) -> None:
        refused = rules.read_content({name: value for name, value in ORDER.items() if name != missing}, ASSETS)
        assert reason_of(refused) is Reason.INVALID_VALUE
        assert isinstance(refused, Refused)
        assert refused.message.startswith(missing)

    @pytest.mark.parametrize("extra", ["body", "fee", "m.relates_to", "m.new_content", "commitment", "pin"])
    def test_any_other_field_is_refused_by_name(self, extra: str) -> None:
        refused = rules.read_content({**ORDER, extra: "x"}, ASSETS)
        assert reason_of(refused) is Reason.UNKNOWN_FIELD
        assert isinstance(refused, Refused)
        assert extra in refused.message

    @pytest.mark.parametrize("content", [None, [], "pay", 5])
    def test_content_that_is_no_object_is_refused(self, content: object) -> None:
        assert reason_of(rules.read_content(content, ASSETS)) is Reason.INVALID_VALUE

    def test_a_memo_may_have_512_characters_and_no_more(self) -> None:
        assert isinstance(rules.read_content({**ORDER, "memo": "ü" * 512}, ASSETS), Intent)
        refused = rules.read_content({**ORDER, "memo": "ü" * 513}, ASSETS)
        assert reason_of(refused) is Reason.MEMO_TOO_LONG
        assert isinstance(refused, Refused)
        assert refused.fields["limit"] == 512

    @pytest.mark.parametrize("field", ["memo", "payee", "request", "invoice"])
    @pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"], ids=["NUL", "surrogate"])
    def test_text_that_no_database_or_json_can_hold_is_refused(self, field: str, bad: str) -> None:
        assert reason_of(rules.read_content({**ORDER, field: bad}, ASSETS)) is Reason.INVALID_VALUE

    @pytest.mark.parametrize(("field", "value"), [("payee", 5), ("payee", ""), ("payee", "x" * 256), ("memo", 5)])
    def test_fields_of_the_wrong_type_or_size_are_refused(self, field: str, value: object) -> None:
        assert reason_of(rules.read_content({**ORDER, field: value}, ASSETS)) is Reason.INVALID_VALUE

    def test_a_refund_names_a_payment_id(self) -> None:
        assert reason_of(rules.read_content({**ORDER, "refund_of": "that one"}, ASSETS)) is Reason.INVALID_VALUE

    def test_the_schema_says_what_amounts_are_although_they_are_checked_elsewhere(self) -> None:
        amount = PaymentContent.model_json_schema()["properties"]["amount"]
        assert (amount["type"], amount["minimum"], amount["maximum"]) == ("integer", 1, 2**53 - 1)

    def test_nobody_pays_themselves(self) -> None:
        assert rules.is_self(ALICE, ALICE) == Refused(
            reason=Reason.PAYEE_IS_SELF, message="You cannot pay yourself; name another payee."
        )
        assert rules.is_self(ALICE, BOB) is None


class TestTheSameIdAgain:
    order = Order(
        payment_id=ID,
        payer_acct=Acct("acct-alice"),
        payer=ALICE,
        payee=Party(user_id=BOB, acct="acct-bob", handle=None),
        money=Money(amount_minor=500, currency=EUR),
        memo="lunch",
    )
    placed = replace(LOCAL, order_hash=order.order_hash())

    @pytest.mark.parametrize("state", [State.HELD, State.AWAITING_ACCEPTANCE, State.COMMITTED, State.COMPLETED])
    def test_the_same_order_passes_while_it_lives_and_once_it_is_done(self, state: State) -> None:
        assert rules.judge_replay(replace(self.placed, state=state), self.order) is None

    @pytest.mark.parametrize("state", [State.FAILED, State.DECLINED, State.EXPIRED, State.CANCELLED])
    def test_a_failure_is_final_and_says_to_use_a_new_id(self, state: State) -> None:
        refused = rules.judge_replay(replace(self.placed, state=state), self.order)
        assert reason_of(refused) is Reason.PAYMENT_ID_SPENT
        assert isinstance(refused, Refused)
        assert "new payment_id" in refused.message
        assert refused.fields == {"state": state.value}

    @pytest.mark.parametrize(
        ("changes", "same"),
        [
            ({}, True),
            ({"payee": "@robert:hs1.test"}, True),
            ({"payee": "@carol:hs1.test"}, False),
            ({"memo": "dinner"}, False),
            ({"money": Money(amount_minor=501, currency=EUR)}, False),
            ({"request": "r2"}, False),
            ({"refund_of": PaymentId("e" * 32)}, False),
            ({"invoice": "2"}, False),
            ({"payee": "@carol:hs1.test", "memo": "dinner"}, False),
        ],
        ids=str,
    )
    def test_an_order_repeats_a_payment_only_where_all_that_the_person_wrote_is_the_same(
        self, changes: dict[str, Any], same: bool
    ) -> None:
        payee = Party(user_id=BOB, acct="acct-bob", handle=Handle("@robert:hs1.test"))
        refund_of = PaymentId("f" * 32)
        placed = replace(LOCAL, payee=payee, memo="lunch", request="r1", refund_of=refund_of, invoice="1")
        intent = Intent(
            payment_id=ID,
            payee=BOB,
            money=placed.money,
            memo="lunch",
            request="r1",
            refund_of=refund_of,
            invoice="1",
        )
        assert rules.repeats(placed, replace(intent, **changes)) is same

    @pytest.mark.parametrize(
        "other",
        [
            {"memo": "dinner"},
            {"memo": None},
            {"money": Money(amount_minor=501, currency=EUR)},
            {"money": Money(amount_minor=500, currency=AssetCode("PTS"))},
            {"payee": Party(user_id=UserId("@carol:hs1.test"), acct="acct-bob", handle=None)},
            {"refund_of": PaymentId("e" * 32)},
            {"invoice": "1"},
            {"request": "1"},
        ],
        ids=str,
    )
    def test_another_order_under_the_same_id_is_a_conflict_whatever_became_of_the_first(
        self, other: dict[str, Any]
    ) -> None:
        for state in State:
            refused = rules.judge_replay(replace(self.placed, state=state), replace(self.order, **other))
            assert reason_of(refused) is Reason.CONFLICT

    def test_a_payee_spelled_otherwise_is_the_same_order(self) -> None:
        by_handle = replace(self.order, payee=replace(self.order.payee, handle=Handle("@robert:hs1.test")))
        assert by_handle.order_hash() == self.order.order_hash()

    def test_a_commitment_hides_the_order_behind_its_salt(self) -> None:
        assert self.order.commitment(SALTS) == self.order.commitment(SALTS)
        assert self.order.commitment(SALTS) != self.order.commitment(replace(SALTS, room="55" * 16))
        assert self.order.commitment(SALTS) != replace(self.order, memo=None).commitment(SALTS)


class TestPolicy:
    def test_everyone_and_at_once_is_the_default(self) -> None:
        assert Policy() == Policy(senders=frozenset({PolicyFrom.EVERYONE}), acceptance=Acceptance.AUTO, minimum=None)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            [],
            "everyone",
            {},
            {"v": 2, "accept": "ask"},
            {"v": "1", "accept": "ask"},
            {"v": 1},
            {"v": 1, "from": "nobody knows", "accept": 5, "minimum": 7},
            {"v": 1, "from": [], "accept": None, "minimum": {"amount": -1, "currency": "EUR"}},
            {"v": 1, "from": ["contacts", "typo"], "minimum": {"amount": 1, "currency": "XXX"}},
            {"v": 1, "unknown": True},
        ],
        ids=str,
    )
    def test_what_is_malformed_or_absent_fails_open_to_the_default(self, content: object) -> None:
        assert rules.read_policy(content, ASSETS) == Policy()

    def test_each_key_is_read(self) -> None:
        content = {
            "v": 1,
            "from": ["contacts", "shared_rooms"],
            "accept": "ask",
            "minimum": {"amount": 100, "currency": "EUR"},
        }
        assert rules.read_policy(content, ASSETS) == Policy(
            senders=frozenset({PolicyFrom.CONTACTS, PolicyFrom.SHARED_ROOMS}),
            acceptance=Acceptance.ASK,
            minimum=Money(amount_minor=100, currency=EUR),
        )

    def test_one_sender_may_stand_without_a_list_and_one_wrong_key_spoils_no_other(self) -> None:
        policy = rules.read_policy({"v": 1, "from": "nobody", "accept": "later"}, ASSETS)
        assert policy.senders == {PolicyFrom.NOBODY}
        assert policy.acceptance is Acceptance.AUTO

    def test_a_payer_is_let_in_by_any_standing_that_the_payee_named(self) -> None:
        contacts = Policy(senders=frozenset({PolicyFrom.CONTACTS}))
        money = Money(amount_minor=5, currency=EUR)
        everyone = frozenset({PolicyFrom.EVERYONE})
        friend = everyone | {PolicyFrom.CONTACTS}
        assert rules.judge_sender(Policy(), BOB, money, everyone, ASSETS) is None
        assert rules.judge_sender(contacts, BOB, money, friend, ASSETS) is None
        assert reason_of(rules.judge_sender(contacts, BOB, money, everyone, ASSETS)) is Reason.NOT_ALLOWED
        nobody = Policy(senders=frozenset({PolicyFrom.NOBODY}))
        assert reason_of(rules.judge_sender(nobody, BOB, money, friend, ASSETS)) is Reason.NOT_ALLOWED

    def test_less_than_the_minimum_of_that_currency_is_refused_and_says_how_much_it_takes(self) -> None:
        policy = Policy(minimum=Money(amount_minor=100, currency=EUR))
        standing = frozenset({PolicyFrom.EVERYONE})
        refused = rules.judge_sender(policy, BOB, Money(amount_minor=99, currency=EUR), standing, ASSETS)
        assert reason_of(refused) is Reason.NOT_ALLOWED
        assert isinstance(refused, Refused)
        assert "1.00 EUR" in refused.message
        assert refused.fields == {"minimum": 100, "currency": "EUR"}
        assert rules.judge_sender(policy, BOB, Money(amount_minor=100, currency=EUR), standing, ASSETS) is None
        points = Money(amount_minor=1, currency=AssetCode("PTS"))
        assert rules.judge_sender(policy, BOB, points, standing, ASSETS) is None


class TestMoves:
    asked = replace(LOCAL, state=State.AWAITING_ACCEPTANCE, due_ms=1_000)

    @pytest.mark.parametrize("state", [State.HELD, State.AWAITING_ACCEPTANCE])
    def test_a_payment_can_be_cancelled_until_it_is_committed(self, state: State) -> None:
        assert rules.judge_cancel(replace(LOCAL, state=state)) is rules.Move.ACT

    @pytest.mark.parametrize("state", [State.COMMITTED, State.COMPLETED, State.FAILED, State.DECLINED, State.EXPIRED])
    def test_after_that_it_is_decided(self, state: State) -> None:
        assert reason_of(rules.judge_cancel(replace(LOCAL, state=state))) is Reason.ALREADY_DECIDED

    def test_what_is_decided_says_how_and_what_is_left_to_do(self) -> None:
        refund = "; ask the payee for a refund"
        answered = replace(LOCAL, state=State.AWAITING_ACCEPTANCE, answered=True)
        for refused, state, end in (
            (rules.judge_cancel(replace(LOCAL, state=State.FAILED)), "failed", "cancelled"),
            (rules.judge_cancel(replace(LOCAL, state=State.COMPLETED)), "completed", f"cancelled{refund}"),
            (rules.judge_cancel(replace(LOCAL, state=State.COMMITTED)), "committed", f"cancelled{refund}"),
            (rules.judge_accept(replace(LOCAL, state=State.DECLINED), 0), "declined", "accepted"),
            (rules.judge_decline(answered, 0), "awaiting_acceptance", "declined"),
        ):
            assert isinstance(refused, Refused)
            said = state.replace("_", " ")
            assert refused.message == f"Payment {ID} is {said} and can no longer be {end}."
            assert refused.fields == {"state": state}

    def test_what_is_committed_or_held_was_accepted(self) -> None:
        assert rules.judge_accept(replace(LOCAL, state=State.HELD), 0) is rules.Move.NOTHING
        assert rules.judge_accept(replace(LOCAL, state=State.COMMITTED), 0) is rules.Move.NOTHING

    def test_doing_it_again_does_nothing(self) -> None:
        assert rules.judge_cancel(replace(LOCAL, state=State.CANCELLED)) is rules.Move.NOTHING
        assert rules.judge_decline(replace(LOCAL, state=State.DECLINED), 0) is rules.Move.NOTHING
        assert rules.judge_accept(replace(LOCAL, state=State.COMPLETED), 0) is rules.Move.NOTHING
        assert rules.judge_accept(replace(self.asked, answered=True, due_ms=None), 0) is rules.Move.NOTHING

    def test_the_payee_answers_until_the_deadline_and_not_a_millisecond_later(self) -> None:
        assert rules.judge_accept(self.asked, 999) is rules.Move.ACT
        assert rules.judge_decline(self.asked, 999) is rules.Move.ACT
        assert reason_of(rules.judge_accept(self.asked, 1_000)) is Reason.EXPIRED
        assert reason_of(rules.judge_decline(self.asked, 1_000)) is Reason.EXPIRED

    @pytest.mark.parametrize("state", [State.FAILED, State.DECLINED, State.CANCELLED])
    def test_what_has_ended_cannot_be_accepted(self, state: State) -> None:
        assert reason_of(rules.judge_accept(replace(LOCAL, state=state), 0)) is Reason.ALREADY_DECIDED

    def test_what_has_expired_says_so(self) -> None:
        expired = replace(LOCAL, state=State.EXPIRED)
        assert reason_of(rules.judge_accept(expired, 0)) is Reason.EXPIRED
        assert reason_of(rules.judge_decline(expired, 0)) is Reason.EXPIRED

    @pytest.mark.parametrize("state", [State.HELD, State.COMMITTED, State.COMPLETED, State.FAILED, State.CANCELLED])
    def test_only_what_waits_for_an_answer_can_be_declined(self, state: State) -> None:
        assert reason_of(rules.judge_decline(replace(LOCAL, state=state), 0)) is Reason.ALREADY_DECIDED

    def test_who_has_accepted_cannot_decline(self) -> None:
        answered = replace(self.asked, answered=True, due_ms=None)
        assert reason_of(rules.judge_decline(answered, 0)) is Reason.ALREADY_DECIDED


class TestRefunds:
    def judge(self, minor: int, refunded: int, original: Payment | None = LOCAL, **money: Any) -> Refused | None:
        return rules.judge_refund(
            payer=BOB,
            payee=ALICE,
            money=Money(amount_minor=minor, currency=money.get("currency", EUR)),
            original=original,
            refunded_minor=refunded,
        )

    def test_refunds_add_up_to_the_payment_and_not_to_more(self) -> None:
        assert self.judge(500, 0) is None
        assert self.judge(200, 300) is None
        refused = self.judge(201, 300)
        assert reason_of(refused) is Reason.REFUND_EXCEEDS_PAYMENT
        assert isinstance(refused, Refused)
        assert refused.fields == {"refundable": 200, "currency": "EUR"}

    @pytest.mark.parametrize("state", [state for state in State if state is not State.COMPLETED])
    def test_only_a_completed_payment_can_be_refunded(self, state: State) -> None:
        assert reason_of(self.judge(1, 0, replace(LOCAL, state=state))) is Reason.REFUND_EXCEEDS_PAYMENT

    def test_in_its_own_currency(self) -> None:
        assert reason_of(self.judge(1, 0, currency=AssetCode("PTS"))) is Reason.REFUND_EXCEEDS_PAYMENT

    def test_only_between_the_two_people_of_the_payment(self) -> None:
        assert reason_of(self.judge(1, 0, None)) is Reason.UNKNOWN_PAYMENT
        assert reason_of(self.judge(1, 0, replace(LOCAL, payer=BOB))) is Reason.UNKNOWN_PAYMENT
        stranger = Party(user_id=UserId("@carol:hs1.test"), acct="", handle=None)
        assert reason_of(self.judge(1, 0, replace(LOCAL, payee=stranger))) is Reason.UNKNOWN_PAYMENT


class TestReceipts:
    @pytest.mark.parametrize(
        ("payment", "poster"),
        [
            (LOCAL, Poster.PAYEE),
            (replace(LOCAL, state=State.DECLINED), Poster.PAYEE),
            (replace(LOCAL, state=State.CANCELLED), Poster.PAYER),
            (replace(LOCAL, state=State.EXPIRED), Poster.PAYER),
            (replace(LOCAL, state=State.FAILED), Poster.PAYER),
            (OUTGOING, Poster.PAYER_IF_NONE),
            (replace(OUTGOING, payee_joined=False), Poster.PAYER),
            (replace(OUTGOING, state=State.DECLINED), Poster.PAYER),
            (replace(OUTGOING, state=State.FAILED), Poster.PAYER),
            (INCOMING, Poster.PAYEE),
        ],
    )
    def test_one_of_the_two_homeservers_posts(self, payment: Payment, poster: Poster) -> None:
        posting = rules.posting(payment)
        assert posting is not None
        assert posting.poster is poster
        assert posting.after_ms == (rules.RECEIPT_GRACE_MS if poster is Poster.PAYER_IF_NONE else 0)

    @pytest.mark.parametrize(
        "payment",
        [
            replace(LOCAL, event_id=None),
            replace(LOCAL, room_id=None),
            replace(INCOMING, payee_joined=False),
            replace(INCOMING, state=State.DECLINED),
            replace(INCOMING, state=State.FAILED),
            replace(INCOMING, event_id=None),
        ],
    )
    def test_and_the_other_does_not(self, payment: Payment) -> None:
        assert rules.posting(payment) is None

    def test_a_receipt_refers_to_its_payment_and_says_the_outcome(self) -> None:
        signed = {"type": "RECEIPT"}
        assert rules.receipt_content(replace(LOCAL, signed=signed), Venue.OPEN) == {
            "m.relates_to": {"rel_type": "m.reference", "event_id": "$event"},
            "payment_id": ID,
            "outcome": "completed",
            "amount": 500,
            "currency": "EUR",
            "signed": signed,
        }

    def test_a_hidden_one_holds_a_commitment_and_no_amount(self) -> None:
        declined = replace(LOCAL, state=State.DECLINED, reason=Reason.DECLINED, signed={"type": "RECEIPT"})
        content = rules.receipt_content(declined, Venue.HIDDEN)
        commitment = content.pop("commitment")
        body = {"payment_id": ID, "outcome": "declined", "amount": 500, "currency": "EUR"}
        assert commitment == digest([SALTS.room, body])
        assert content == {
            "m.relates_to": {"rel_type": "m.reference", "event_id": "$event"},
            "payment_id": ID,
            "outcome": "declined",
            "reason": "declined",
        }
        dearer = replace(declined, money=Money(amount_minor=501, currency=EUR))
        assert rules.receipt_content(dearer, Venue.HIDDEN)["commitment"] != commitment

    def test_both_homeservers_have_a_salt_for_it(self) -> None:
        assert rules.room_salt(LOCAL) == SALTS.room
        assert rules.room_salt(INCOMING) == digest(["receipt", "wire"])
        assert rules.room_salt(INCOMING) == rules.room_salt(replace(INCOMING, payment_id=PaymentId("a" * 32)))
        assert rules.room_salt(INCOMING) != rules.room_salt(replace(INCOMING, wire_id=WireId("other")))
