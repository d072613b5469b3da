"""An operator's commands against running homeservers, as docs/admin.md shows them."""

import os
import subprocess
from pathlib import Path

import pytest
from processes import SUPER_APP, super_app
from running_demo import RunningDemo

from synapse_super_app.commands.admin_access import TOKEN_VARIABLE
from synapse_super_app.commands.matrix_client import MatrixClient

pytestmark = pytest.mark.on("sqlite")


def url_of(demo: RunningDemo, index: int) -> str:
    return str(demo.homeservers[index]["client_url"])


@pytest.fixture
def token_file(demo: RunningDemo, tmp_path: Path) -> Path:
    options = ("--token-file", "admin.token", "--url", url_of(demo, 0))
    told = super_app(tmp_path, "login", "operator", *options, password="operator-demo")
    assert told == f"admin.token holds an access token of {demo.admins[0].user_id}.\n"
    return tmp_path / "admin.token"


def test_money_is_issued_once_for_each_reference(demo: RunningDemo, token_file: Path) -> None:
    options = ("--reference", "welcome, dave", "--token-file", str(token_file), "--url", url_of(demo, 0))
    with demo.client("dave") as dave:
        before = dave.available("EUR")
        for _ in range(2):
            told = super_app(token_file.parent, "issue", "dave", "7.50", "EUR", *options)
            assert told == f"{dave.user_id} got 7.50 EUR (welcome, dave).\n"
        assert dave.available("EUR") == before + 750


def test_a_link_is_shown_and_its_credit_can_be_changed(demo: RunningDemo, token_file: Path) -> None:
    peer = demo.names[1]
    access = ("--url", url_of(demo, 0))
    token = token_file.read_text(encoding="ascii").strip()
    listed = super_app(token_file.parent, "link", "list", *access, token=token)
    assert listed.startswith(f"{peer}  open\n  we grant 1000000.00 EUR, it grants us 1000000.00 EUR, ")
    grant = ("link", "open", "--peer", peer, "--currency", "EUR", *access)
    try:
        changed = super_app(token_file.parent, *grant, "--limit", "2000000.00", token=token)
        assert "we grant 2000000.00 EUR" in changed
    finally:
        super_app(token_file.parent, *grant, "--limit", "1000000.00", token=token)


def test_a_link_is_suspended_resumed_and_given_a_new_key(demo: RunningDemo, token_file: Path) -> None:
    access = ("--token-file", str(token_file), "--url", url_of(demo, 0))
    peer = demo.homeservers[1]["name"]

    def link(*words: str) -> str:
        return super_app(token_file.parent, "link", *words, *access)

    try:
        told = link("suspend", peer, "--reason", "maintenance")
        assert told.startswith(f"{peer}  suspended\n  waits for you to resume what you suspended (maintenance)\n")
    finally:
        assert link("resume", peer).startswith(f"{peer}  open\n")
    # The key is replaced, and the payments that follow are signed by the new one.
    fingerprint = link("rotate-key").splitlines()[0].rpartition("fingerprint ")[2].rstrip(".")
    assert f"  our payment key: {fingerprint}\n" in link("show", peer)
    with demo.client("alice") as alice:
        paid = alice.pay(demo.people["bob"].user_id, 100, "EUR")
        assert alice.wait_for_payment(str(paid["payment_id"]), timeout_s=120)["state"] == "completed"


def test_who_is_no_admin_may_not(demo: RunningDemo, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SUPER_APP), "link", "list", "--url", url_of(demo, 0)],
        cwd=tmp_path,
        env={**os.environ, TOKEN_VARIABLE: demo.people["alice"].access_token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "super-app: Only a server admin may do this; ask the operator of this homeserver. (ORG.SUPERAPP.ADMIN_ONLY)\n"
    )


def test_the_books_can_be_checked_with_curl_as_the_page_says(demo: RunningDemo) -> None:
    with MatrixClient(url_of(demo, 0), access_token=demo.homeservers[0]["admin"]["access_token"]) as client:
        status, body = client.request_raw("GET", "/_synapse/client/superapp/v1/admin/invariants")
    assert status == 200
    assert b'"ok":true' in body.replace(b" ", b"")


def test_an_operator_burns_corrects_freezes_and_looks_into_the_books(demo: RunningDemo, token_file: Path) -> None:
    folder, options = token_file.parent, ("--token-file", str(token_file), "--url", url_of(demo, 0))
    with demo.client("dave") as dave:
        super_app(folder, "issue", "dave", "9.00", "EUR", "--reference", "to look at", *options)
        before = dave.available("EUR")
        burnt = super_app(folder, "burn", "dave", "2.00", "EUR", "--reference", "too much", *options)
        assert burnt.startswith(f"2.00 EUR of {dave.user_id} are burnt (entry ")
        entry = burnt.rpartition("entry ")[2].removesuffix(").\n")
        super_app(folder, "correct", entry, "--reference", "after all", "--reason", "it was right", *options)
        assert dave.available("EUR") == before
        super_app(folder, "freeze", "dave", "--reason", "a case", *options)
        assert "frozen_since" in dave.superapp("GET", "wallet")
        super_app(folder, "unfreeze", "dave", "--reason", "closed", *options)
        statement = super_app(folder, "statement", "dave", "EUR", "--format", "csv", *options).splitlines()
        assert statement[0].startswith("entry,time,cause,reference,")
        assert [line.split(",")[2] for line in statement[-3:]] == ["issue", "burn", "correct"]
        assert statement[-1].split(",")[-2] == f"{before // 100}.{before % 100:02}"
    assert "0.00 EUR" in super_app(folder, "trial-balance", *options).splitlines()[-1]


def test_the_journal_of_a_running_homeserver_verifies_with_progress(demo: RunningDemo, token_file: Path) -> None:
    done = subprocess.run(
        [str(SUPER_APP), "verify-ledger", "--all", "--token-file", str(token_file), "--url", url_of(demo, 0)],
        cwd=token_file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.endswith("entries verified: 100 %\n")
    assert done.stdout.endswith(" are right.\n")
