"""Sessions of widgets in the database."""

from functools import partial

import pytest

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName, UserId
from super_app.sessions import service
from super_app.sessions.model import LIFETIME_MS, MAX_SESSIONS, Session, SessionToken

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.sessions")

ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs1.test")
TOKEN = SessionToken("superapp_one")
OTHER = SessionToken("superapp_two")


def account(transaction: Transaction, user_id: UserId) -> Acct:
    genesis = Genesis(server=ServerName("hs1.test"), localpart=user_id[1:4], created_ms=1, nonce="00" * 16)
    return transaction(lambda cur: accounts.ensure(cur, user_id, genesis)).acct


@pytest.fixture
def alice(transaction: Transaction) -> Acct:
    return account(transaction, ALICE)


def found(transaction: Transaction, token: SessionToken, now_ms: int) -> Session | Reason:
    answer = transaction(lambda cur: service.find_session(cur, token, now_ms))
    return answer.reason if isinstance(answer, Refused) else answer


def test_a_session_is_its_persons_until_its_hour_is_over(transaction: Transaction, alice: Acct) -> None:
    expires_ms = transaction(lambda cur: service.open_session(cur, alice, TOKEN, 1_000))

    assert expires_ms == 1_000 + LIFETIME_MS
    assert found(transaction, TOKEN, 1_000) == Session(user_id=ALICE, expires_ms=expires_ms)
    assert found(transaction, TOKEN, expires_ms - 1) == Session(user_id=ALICE, expires_ms=expires_ms)
    assert found(transaction, TOKEN, expires_ms) is Reason.UNKNOWN_SESSION


def test_another_token_opens_nothing(transaction: Transaction, alice: Acct) -> None:
    transaction(lambda cur: service.open_session(cur, alice, TOKEN, 1_000))

    assert found(transaction, OTHER, 1_000) is Reason.UNKNOWN_SESSION


def test_the_database_does_not_hold_the_token(transaction: Transaction, alice: Acct) -> None:
    transaction(lambda cur: service.open_session(cur, alice, TOKEN, 1_000))

    def stored(cur: object) -> str:
        cur.execute("SELECT * FROM superapp_web_session")  # type: ignore[attr-defined]
        return repr(cur.fetchall())  # type: ignore[attr-defined]

    assert TOKEN not in transaction(stored)
    assert TOKEN.removeprefix("superapp_") not in transaction(stored)


def test_one_too_many_ends_the_oldest_and_no_one_elses(transaction: Transaction, alice: Acct) -> None:
    bob = account(transaction, BOB)
    transaction(lambda cur: service.open_session(cur, bob, SessionToken("superapp_bob"), 1))
    tokens = [SessionToken(f"superapp_{number}") for number in range(MAX_SESSIONS + 1)]
    for number, token in enumerate(tokens):
        transaction(partial(service.open_session, acct=alice, token=token, now_ms=1_000 + number))

    assert found(transaction, tokens[0], 2_000) is Reason.UNKNOWN_SESSION
    for token in tokens[1:]:
        assert isinstance(found(transaction, token, 2_000), Session)
    assert isinstance(found(transaction, SessionToken("superapp_bob"), 2_000), Session)


def test_a_person_ends_all_of_theirs_and_hears_how_many_were_open(transaction: Transaction, alice: Acct) -> None:
    bob = account(transaction, BOB)
    transaction(lambda cur: service.open_session(cur, alice, TOKEN, 1_000))
    transaction(lambda cur: service.open_session(cur, alice, OTHER, LIFETIME_MS))
    transaction(lambda cur: service.open_session(cur, bob, SessionToken("superapp_bob"), LIFETIME_MS))

    # The first one is over by then.
    assert transaction(lambda cur: service.end_sessions(cur, alice, LIFETIME_MS + 2_000)) == 1
    assert found(transaction, OTHER, LIFETIME_MS + 2_000) is Reason.UNKNOWN_SESSION
    assert isinstance(found(transaction, SessionToken("superapp_bob"), LIFETIME_MS + 2_000), Session)
