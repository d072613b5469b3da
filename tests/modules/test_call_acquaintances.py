"""Who gets through by being followed, verified, blocked or having paid."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from test_calls_shell import EVERYONE, RING, STRANGER, calls, homeserver, is_hidden, ring, set_policy

from super_app.accounts import relation_store
from super_app.accounts.model import Peer
from super_app.directory.badges import Badge, Kind
from super_app.ids import Acct, Handle, ServerName, UserId


@pytest.fixture
def hs() -> FakeHomeserver:
    return homeserver()


@pytest.fixture
def bob(hs: FakeHomeserver) -> UserId:
    return hs.register("bob")


def rings(hs: FakeHomeserver, bob: str, call_id: str) -> bool:
    """Whether a stranger's ring is shown."""
    room = next((each for each in hs.rooms if set(hs.memberships(each)) == {bob, STRANGER}), None)
    return not is_hidden(hs, hs.receive(STRANGER, room or hs.room(bob, STRANGER), RING, ring(call_id)))


def relate(hs: FakeHomeserver, bob: UserId, change: Any) -> None:
    runtime = hs.module.runtime
    acct = hs.result(runtime.accounts.acct_of(bob))
    peer = Peer(user_id=UserId(STRANGER), acct=Acct(""), handle=Handle(STRANGER), since_ms=1)
    hs.result(runtime.database.run("test", lambda cur: change(cur, acct, peer)))


def test_whom_the_callee_follows_rings_where_only_those_may(hs: FakeHomeserver, bob: UserId) -> None:
    set_policy(hs, bob, who=["following"])
    assert not rings(hs, bob, "one")
    relate(hs, bob, relation_store.follow)
    assert rings(hs, bob, "two")


def test_whom_the_callee_blocks_never_rings(hs: FakeHomeserver, bob: UserId) -> None:
    relate(hs, bob, relation_store.block)
    set_policy(hs, bob, who=["everyone"], allow=[STRANGER])
    assert not rings(hs, bob, "one")
    assert calls(hs, bob)[0]["screened_by"] == "ignored"


@pytest.mark.parametrize(
    ("issuers", "shown"), [(None, True), ({"issuers": ["other.test"]}, False), ({"issuers": ["hs1.test"]}, True)]
)
def test_the_verified_ring_by_badges_of_issuers_that_count(
    hs: FakeHomeserver, bob: UserId, monkeypatch: pytest.MonkeyPatch, issuers: Any, shown: bool
) -> None:
    async def badges_of(_self: object, user_id: str) -> tuple[Badge, ...]:
        server = ServerName("hs1.test")
        badge = Badge(kind=Kind.OPERATOR, issuer=server, server=server, expires_ms=2**50, content={})
        return (badge,) if user_id == STRANGER else ()

    monkeypatch.setattr("synapse_super_app.people.UserIdsOnly.badges_of", badges_of)
    set_policy(hs, bob, who=["verified"], **({} if issuers is None else {"verified": issuers}))
    assert rings(hs, bob, "one") == shown


def test_a_stranger_who_paid_rings_as_often_as_it_covers() -> None:
    made = FakeHomeserver(config={"features": {"directory": False, "web": False}, "calls": EVERYONE})
    made.start()
    bob = made.register("bob")
    set_policy(made, bob, who=["nobody"], price={"amount": 100, "currency": "PTS"})
    assert not rings(made, bob, "unpaid")
    assert calls(made, bob)[0]["screened_by"] == "price"
    acct = made.result(made.module.runtime.accounts.acct_of(bob))
    made.query(
        "INSERT INTO superapp_payment (payer_key, payment_id, payer_user_id, payee_user_id, payee_party_acct,"
        " payee_acct, amount_minor, currency, wire_id, venue, payee_joined, position, state, answered, created_ms)"
        " VALUES (?, 'p1', ?, ?, ?, ?, 250, 'PTS', 'w1', 'open', 1, 1, 'completed', 1, ?)",
        STRANGER,
        STRANGER,
        bob,
        acct,
        acct,
        made.now_ms(),
    )
    assert [rings(made, bob, f"paid-{number}") for number in range(3)] == [True, True, False]
