"""What packages erase of a person, on both databases."""

import pytest

from super_app.accounts import relation_store
from super_app.accounts import store as accounts
from super_app.accounts.model import Contact, Genesis
from super_app.assistant import store as assistant
from super_app.calls import service as calls
from super_app.clearing import store as clearing
from super_app.conferences import store as conferences
from super_app.db import Cursor, Transaction
from super_app.disputes import store as disputes
from super_app.fares import store as fares
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.operations import store as operations
from super_app.payments import store as payments
from super_app.pots import store as pots
from super_app.requests import store as requests
from super_app.safeguards import store as safeguards
from super_app.schedules import store as schedules
from super_app.sessions import store as sessions

pytestmark = pytest.mark.packages(
    "super_app.accounts",
    "super_app.operations",
    "super_app.ledger",
    "super_app.clearing",
    "super_app.payments",
    "super_app.safeguards",
    "super_app.requests",
    "super_app.pots",
    "super_app.fares",
    "super_app.schedules",
    "super_app.disputes",
    "super_app.calls",
    "super_app.conferences",
    "super_app.sessions",
    "super_app.assistant",
)
ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")


def account(cur: Cursor, user_id: UserId) -> Acct:
    genesis = Genesis(server=ServerName("hs1.test"), localpart=user_id[1:4], created_ms=1, nonce="0" * 32)
    return accounts.ensure(cur, user_id, genesis).acct


def words(cur: Cursor, author: str, state: str, number: int, alice: Acct, bob: Acct) -> None:
    """A case that alice has about what she paid bob, with a word of one of the two."""
    case = (alice, f"{number:032x}")
    cur.execute(
        "INSERT INTO superapp_dispute (payer_key, payment_id, is_home, payer, payee, payer_acct, payee_acct, ground,"
        " currency, wanted_minor, state, opened_ms) VALUES (?, ?, 1, ?, ?, ?, ?, 'other', 'EUR', 5, ?, 1)",
        (*case, ALICE, BOB, alice, bob, state),
    )
    cur.execute(
        "INSERT INTO superapp_dispute_entry (payer_key, payment_id, entry_id, number, author, act, text, made_ms)"
        " VALUES (?, ?, 'e', 1, ?, 'stated', 'what happened', 1)",
        (*case, author),
    )


def test_each_package_erases_of_one_person_and_of_nobody_else(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        alice, bob = account(cur, ALICE), account(cur, BOB)
        for owner, peer in ((alice, BOB), (bob, ALICE)):
            contact = Contact(user_id=peer, acct=Acct(""), handle=Handle("@x:hs1.test"), since_ms=1)
            accounts.put_contact(cur, owner, contact)
            cur.execute("INSERT INTO superapp_safeguard (acct, tier) VALUES (?, 'basic')", (owner,))
            cur.execute("INSERT INTO superapp_web_session VALUES (?, ?, 1, 2)", (f"hash of {owner}", owner))
        for user_id in (ALICE, BOB):
            cur.execute(
                "INSERT INTO superapp_request (requester, request_id, amount_minor, currency, memo, room_id,"
                " created_ms, expires_ms) VALUES (?, 'r', 5, 'EUR', 'lunch', '!r', 1, 9)",
                (user_id,),
            )
            cur.execute("INSERT INTO superapp_calls_link VALUES (?, '!r', ?, 1)", (f"link of {user_id}", user_id))
            cur.execute("INSERT INTO superapp_assistant_question VALUES (?, 'x', 1)", (user_id,))
        assert relation_store.erase_person(cur, alice) == 1
        assert safeguards.erase_person(cur, alice) == 1
        assert sessions.erase_person(cur, alice) == 1
        assert requests.erase_person(cur, ALICE, 7) == 1
        assert conferences.erase_person(cur, ALICE) == 1
        assert assistant.erase_person(cur, ALICE) == 1
        for nothing in (payments, clearing, pots, schedules):
            assert nothing.erase_person(cur, alice) == 0
        assert calls.forget_person(cur, alice, ALICE) == 0
        cur.execute("SELECT owner_acct FROM superapp_contact")
        assert cur.fetchall() == [(bob,)]
        cur.execute("SELECT acct FROM superapp_safeguard")
        assert cur.fetchall() == [(bob,)]
        cur.execute("SELECT requester, memo, cancelled_ms FROM superapp_request ORDER BY requester")
        assert cur.fetchall() == [(ALICE, None, 7), (BOB, "lunch", None)]

    transaction(work)


def test_words_in_cases_that_are_over_go_and_those_of_the_other_side_stay(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        alice, bob = account(cur, ALICE), account(cur, BOB)
        for number, (author, state) in enumerate(
            (("payer", "settled"), ("payee", "settled"), ("operator", "settled"), ("payer", "open"))
        ):
            words(cur, author, state, number, alice, bob)
        assert disputes.erase_person(cur, alice) == 1
        cur.execute("SELECT text FROM superapp_dispute_entry ORDER BY payment_id")
        assert [str(row[0]) for row in cur.fetchall()] == ["", *["what happened"] * 3]
        assert disputes.erase_person(cur, bob) == 1

    transaction(work)


def test_that_somebody_was_erased_is_kept_until_they_come_back(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        alice = account(cur, ALICE)
        for at_ms in (5, 8):
            operations.put_erasure(cur, alice, at_ms)
            assert operations.erased_ms(cur, alice) == at_ms
        operations.drop_erasure(cur, alice)
        assert operations.erased_ms(cur, alice) is None

    transaction(work)


def test_who_agreed_to_pay_for_calls_is_forgotten_once_they_are_over(transaction: Transaction) -> None:
    def agreed(cur: Cursor) -> list[object]:
        alice, bob = account(cur, ALICE), account(cur, BOB)
        for number, (callee_acct, callee, state) in enumerate(
            [(alice, ALICE, "over"), (alice, ALICE, "running"), (bob, BOB, "over")]
        ):
            cur.execute(
                "INSERT INTO superapp_fare_terms (callee_acct, callee, caller, fare_id, stem, price_minor, currency,"
                " state, agreed_ms) VALUES (?, ?, '@carol:hs2.test', ?, ?, 5, 'EUR', ?, 1)",
                (callee_acct, callee, f"{number:032x}", f"{number:024x}", state),
            )
        assert fares.erase_person(cur, alice) == 1
        cur.execute("SELECT callee, state FROM superapp_fare_terms ORDER BY fare_id")
        return [tuple(row) for row in cur.fetchall()]

    assert transaction(agreed) == [(ALICE, "running"), (BOB, "over")]
