"""Whose badges are believed, in the database: what issuers said here, and what of it counts."""

from typing import Any

import pytest
from directory_books import NOW_MS

from super_app.db import Cursor, Engine, Transaction
from super_app.directory import store, vouching, vouching_store
from super_app.directory.badges import Kind, badge
from super_app.directory.model import DAY_MS, DirectoryKey, Discover, Record, Status
from super_app.directory.vouching import House
from super_app.directory.vouching_store import Claim
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import canonical, generate_key, public_b64

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

HERE, THERE = ServerName("hs1.test"), ServerName("hs2.test")
OURS, THEIRS = generate_key(b"\x01" * 32), generate_key(b"\x02" * 32)
HOUSE = House(server=HERE, public_key=public_b64(OURS))
BOB, BOBS = Handle("@bob:hs2.test"), Acct("b" * 43)


def made(kind: Kind, issuer: str, handle: Handle = BOB, acct: Acct = BOBS) -> dict[str, Any]:
    return badge(kind, issuer, THERE, handle, acct, THEIRS, issued_ms=NOW_MS, expires_ms=NOW_MS + 14 * DAY_MS)


def record(*badges: dict[str, Any], handle: Handle = BOB, acct: Acct = BOBS) -> Record:
    content = {
        "handle": handle,
        "server": THERE,
        "acct": acct,
        "user_id": handle,
        "seq": 1,
        "status": "active",
        "discover": "public",
        "issued": NOW_MS,
        "expires": NOW_MS + 30 * DAY_MS,
        "badges": list(badges),
    }
    return Record(
        handle=handle,
        server=THERE,
        acct=acct,
        user_id=UserId(handle),
        seq=1,
        status=Status.ACTIVE,
        frozen_for=None,
        discover=Discover.PUBLIC,
        alias_of=None,
        issued_ms=NOW_MS,
        expires_ms=NOW_MS + 30 * DAY_MS,
        badges=badges,
        content=content,
        text=canonical(content).decode(),
    )


@pytest.fixture
def known(transaction: Transaction) -> Transaction:
    """A homeserver that has the other one's key."""
    key = DirectoryKey(server=THERE, key_id="ed25519:x", public_key=public_b64(THEIRS), certificate={})

    def work(cur: Cursor) -> None:
        store.meet(cur, THERE, NOW_MS)
        store.pin(cur, key)

    transaction(work)
    return transaction


def believed(run: Transaction, *badges: dict[str, Any], now_ms: int = NOW_MS, acct: Acct = BOBS) -> list[str]:
    found = run(lambda cur: vouching.believed(cur, HOUSE, badges, BOB, acct, now_ms))
    return [each.issuer for each in found]


def test_a_domain_counts_while_it_was_heard_within_two_weeks(known: Transaction) -> None:
    domain = made(Kind.DOMAIN, "example.org")
    claim = Claim(handle=BOB, acct=BOBS, kind=Kind.DOMAIN, issuer="example.org")
    assert believed(known, domain) == []
    assert known(lambda cur: vouching.look_after(cur, [record(domain)], HERE, NOW_MS)) == 1
    assert known(lambda cur: vouching.look_after(cur, [record(domain)], HERE, NOW_MS)) == 0
    assert known(lambda cur: vouching_store.due(cur, THERE, NOW_MS, 10)) == (claim,)
    known(lambda cur: vouching_store.hear(cur, claim, NOW_MS, NOW_MS + DAY_MS))
    assert known(lambda cur: vouching_store.due(cur, THERE, NOW_MS, 10)) == ()
    assert believed(known, domain) == ["example.org"]
    # Silence changes nothing, and what is long ago counts no more.
    known(lambda cur: vouching_store.hear(cur, claim, None, NOW_MS + DAY_MS))
    assert believed(known, domain) == ["example.org"]
    assert believed(known, domain, now_ms=NOW_MS + 14 * DAY_MS) == []
    known(lambda cur: vouching_store.hear(cur, claim, 0, NOW_MS + DAY_MS))
    assert believed(known, domain) == []


def test_what_was_heard_of_a_former_owner_counts_for_no_new_one(known: Transaction) -> None:
    claim = Claim(handle=BOB, acct=BOBS, kind=Kind.DOMAIN, issuer="example.org")
    known(lambda cur: vouching_store.look_after(cur, claim, NOW_MS))
    known(lambda cur: vouching_store.hear(cur, claim, NOW_MS, NOW_MS + DAY_MS))
    other = Acct("c" * 43)
    theirs = made(Kind.DOMAIN, "example.org", acct=other)
    assert believed(known, theirs, acct=other) == []
    assert known(lambda cur: vouching.look_after(cur, [record(theirs, acct=other)], HERE, NOW_MS)) == 1
    assert believed(known, theirs, acct=other) == []
    # An answer about the former owner that comes late is about nobody.
    known(lambda cur: vouching_store.hear(cur, claim, NOW_MS, NOW_MS + DAY_MS))
    assert believed(known, theirs, acct=other) == []


def test_an_operator_is_believed_about_their_own_people_by_their_key_alone(known: Transaction) -> None:
    assert believed(known, made(Kind.OPERATOR, THERE)) == [THERE]
    assert believed(known, made(Kind.OPERATOR, HERE)) == []
    assert believed(known, {**made(Kind.OPERATOR, THERE), "signature": "A" * 86}) == []
    assert believed(known, *[made(Kind.OPERATOR, THERE)] * 20) == [THERE] * 8


def test_a_server_has_so_many_badges_looked_after(known: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vouching, "MAX_CLAIMS", 3)
    shown = [made(Kind.DOMAIN, f"d{number}.example") for number in range(8)]
    assert known(lambda cur: vouching.look_after(cur, [record(*shown)], HERE, NOW_MS)) == 3
    assert known(lambda cur: vouching.look_after(cur, [record(*reversed(shown))], HERE, NOW_MS)) == 0
    assert known(lambda cur: vouching_store.servers_due(cur, NOW_MS, 10)) == (THERE,)


def test_records_with_badges_are_found_without_reading_the_others(known: Transaction) -> None:
    carol = Handle("@carol:hs2.test")
    both = [record(made(Kind.OPERATOR, THERE)), record(handle=carol)]
    known(lambda cur: store.put_replicas(cur, both, NOW_MS))
    assert [each.handle for each in known(lambda cur: vouching_store.badged(cur, Handle(""), 10, NOW_MS))] == [BOB]
    assert known(lambda cur: vouching_store.badged(cur, BOB, 10, NOW_MS)) == ()

    def plan(cur: Cursor) -> str:
        cur.execute(
            "EXPLAIN QUERY PLAN SELECT record FROM superapp_directory_replica WHERE badged = 1"
            " AND status = 'active' AND handle > '' AND expires_ms > 1 ORDER BY handle LIMIT 5"
        )
        return str(cur.fetchall())

    # What PostgreSQL would choose depends on how many rows there are.
    if known(lambda cur: cur.engine) is Engine.SQLITE:
        assert "superapp_directory_replica_badges" in known(plan)
