"""One's own account: what its id is the hash of, and a recovery key that becomes part of it before the first use."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from test_directory_module import RESOLVE, Pair, refusal

from super_app.ids import ServerName
from super_app.signing import digest, generate_key, public_b64

KEY, OTHER = (public_b64(generate_key(bytes([number]) * 32)) for number in (1, 2))


@pytest.fixture
def homeserver() -> FakeHomeserver:
    found = FakeHomeserver(config={"features": {"web": False}})
    found.start()
    return found


def recovery(homeserver: FakeHomeserver, user_id: str, key: str = KEY) -> dict[str, Any]:
    return homeserver.call("PUT", "account/recovery-key", user_id, {"recovery_key": key})


def test_a_recovery_key_is_part_of_what_the_acct_is_the_hash_of(homeserver: FakeHomeserver) -> None:
    alice = homeserver.register_as_synapse("alice")
    before = homeserver.call("GET", "account", alice)
    assert before["acct"] == digest(before["genesis"])
    assert "recovery_key" not in before["genesis"]
    after = recovery(homeserver, alice)
    assert after["genesis"]["recovery_key"] == KEY
    assert after["acct"] == digest(after["genesis"]) != before["acct"]
    assert homeserver.call("GET", "account", alice) == after
    # What is done from now on is under that acct.
    assert homeserver.call("PUT", "handles/wonder", alice)["acct"] == after["acct"]
    assert homeserver.call("GET", "handles/alice", alice)["acct"] == after["acct"]
    assert homeserver.call("GET", "account", alice) == {**after, "used": True}


def test_the_same_key_again_changes_nothing_and_another_one_only_before_the_first_use(
    homeserver: FakeHomeserver,
) -> None:
    alice = homeserver.register_as_synapse("alice")
    first = recovery(homeserver, alice)
    assert recovery(homeserver, alice) == first
    second = recovery(homeserver, alice, OTHER)
    assert second["acct"] != first["acct"]
    homeserver.call("GET", "handles", alice)
    assert recovery(homeserver, alice, OTHER) == {**second, "used": True}
    assert refusal(homeserver, "PUT", "account/recovery-key", alice, {"recovery_key": KEY}) == (409, "CONFLICT")


@pytest.mark.parametrize("use", ["wallet", "claim", "contact", "contact_of", "payee", "calls"])
def test_after_the_first_use_the_acct_is_fixed(homeserver: FakeHomeserver, use: str) -> None:
    alice, bob = homeserver.register_as_synapse("alice"), homeserver.register_as_synapse("bob")
    acct = homeserver.call("GET", "account", alice)["acct"]
    match use:
        case "wallet":
            homeserver.call("GET", "wallet", alice)
        case "claim":
            homeserver.call("PUT", "handles/wonder", alice)
        case "contact":
            homeserver.call("PUT", "contacts/bob", alice)
        case "contact_of":
            assert homeserver.call("PUT", "contacts/alice", bob)["acct"] == acct
        case "payee":
            admin = homeserver.register("admin", admin=True)
            issue = {"user_id": alice, "amount": 5, "currency": "PTS", "reference": "1"}
            homeserver.call("POST", "admin/issue", admin, issue)
        case _:
            homeserver.call("GET", "calls", alice)
    assert homeserver.call("GET", "account", alice) == {
        **homeserver.call("GET", "account", alice),
        "acct": acct,
        "used": True,
    }
    assert refusal(homeserver, "PUT", "account/recovery-key", alice, {"recovery_key": KEY}) == (409, "CONFLICT")


def test_a_record_that_another_server_got_fixes_it() -> None:
    pair = Pair(second={"existing_users": {"discover": "exact"}, "new_users": {"discover": "exact"}})
    dora = pair.hs2.register_as_synapse("dora")
    given = recovery(pair.hs2, dora)
    answer = pair.hs1.result(pair.hs1.private.query(ServerName("hs2.test"), RESOLVE, {"handle": dora}, 1_000))
    assert answer["answer"]["acct"] == given["acct"]
    assert refusal(pair.hs2, "PUT", "account/recovery-key", dora, {"recovery_key": OTHER}) == (409, "CONFLICT")


def test_somebody_who_asks_in_vain_fixes_nothing(homeserver: FakeHomeserver) -> None:
    alice, bob = homeserver.register_as_synapse("alice"), homeserver.register_as_synapse("bob")
    homeserver._database.execute("UPDATE superapp_directory_handle SET discover = 'none' WHERE name = 'alice'")
    assert refusal(homeserver, "PUT", "contacts/alice", bob) == (404, "UNKNOWN_HANDLE")
    assert recovery(homeserver, alice)["used"] is False


def test_a_worker_sees_the_acct_that_another_process_changed(homeserver: FakeHomeserver) -> None:
    worker = homeserver.worker("worker1")
    worker.start()
    alice = homeserver.register_as_synapse("alice")
    worker.call("GET", "account", alice)
    after = recovery(homeserver, alice)
    assert worker.call("PUT", "handles/wonder", alice)["acct"] == after["acct"]
    assert refusal(homeserver, "PUT", "account/recovery-key", alice, {"recovery_key": OTHER}) == (409, "CONFLICT")


@pytest.mark.parametrize("key", ["", "A", "A" * 42, KEY + "=", "!" * 43])
def test_what_is_no_key_is_refused(homeserver: FakeHomeserver, key: str) -> None:
    alice = homeserver.register_as_synapse("alice")
    body = {"recovery_key": key}
    assert refusal(homeserver, "PUT", "account/recovery-key", alice, body) == (422, "INVALID_VALUE")


def test_who_has_no_account_here_is_told_so(homeserver: FakeHomeserver) -> None:
    assert refusal(homeserver, "GET", "account", "@nobody:hs1.test") == (403, "NOT_ALLOWED")
    body = {"recovery_key": KEY}
    assert refusal(homeserver, "PUT", "account/recovery-key", "@nobody:hs1.test", body) == (403, "NOT_ALLOWED")
