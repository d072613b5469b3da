"""The operator's ledger commands against the real routes, without a socket between them."""

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.ledger import journal
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.admin_access import TOKEN_VARIABLE, read_time
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.main import main
from synapse_super_app.commands.matrix_client import Json, MatrixClient, MatrixError

ALICE, BOB, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "admin"))
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}, {"code": "PTS", "scale": 0}],
    },
}


class Bank(FakeHomeserver):
    """alice has 100.00 EUR, of which she paid bob 10.00."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.start()
        for name in ("alice", "bob"):
            self.register(name)
        self.register("admin", admin=True)
        self.room(ALICE, BOB)
        body = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "r1"}
        self.call("POST", "admin/issue", ADMIN, body)
        self.pay(1, 1_000)

    def pay(self, number: int, amount: int) -> None:
        body = {"payment_id": f"{number:032x}", "payee": BOB, "amount": amount, "currency": "EUR"}
        self.call("POST", "payments", ALICE, body)

    def day(self, later: int = 0) -> str:
        """A moment as an operator would type it."""
        moment = dt.datetime.fromtimestamp(self.api.get_current_time_msec() / 1000 + later, dt.UTC)
        return moment.isoformat()


@pytest.fixture(autouse=True)
def bank(monkeypatch: pytest.MonkeyPatch) -> Bank:
    bank = Bank()

    def request(_: MatrixClient, method: str, path: str, body: Any = None, query: Any = None) -> Json:
        if path.endswith("account/whoami"):
            return {"user_id": ADMIN}
        route = path.removeprefix(f"{CLIENT_API_PREFIX}/")
        text = None if query is None else {name: str(value) for name, value in query.items()}
        try:
            return bank.call(method, unquote(route), ADMIN, body, text)
        except SynapseError as error:
            raise MatrixError(error.code, error.error_dict(None)) from None

    monkeypatch.setattr(MatrixClient, "request", request)
    monkeypatch.setenv(TOKEN_VARIABLE, "secret-token")
    return bank


def run(*arguments: str, code: int = 0) -> None:
    assert main([*arguments, "--url", "http://localhost:1"]) == code


def test_burn_says_what_it_did_and_does_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        run("burn", "alice", "12.50", "EUR", "--reference", "b1")
        assert capsys.readouterr().out == f"12.50 EUR of {ALICE} are burnt (entry 4).\n"
    run("burn", "alice", "1000000", "EUR", "--reference", "b2", code=1)
    assert "INSUFFICIENT_FUNDS" in capsys.readouterr().err


def test_fees_are_told_and_paid_out_as_far_as_they_were_earned(capsys: pytest.CaptureFixture[str]) -> None:
    run("pay-fees")
    assert capsys.readouterr().out == "No fees were earned.\n"
    run("pay-fees", "alice", "0.01", "EUR", "--reference", "f1", code=1)
    assert "INSUFFICIENT_FUNDS" in capsys.readouterr().err
    run("pay-fees", "alice", "0.01", "EUR", code=1)
    assert "a --reference, or none of them" in capsys.readouterr().err


def test_freeze_and_unfreeze(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    run("freeze", "alice", "--reason", "a court order")
    assert capsys.readouterr().out.startswith(f"{ALICE} is frozen")
    assert "frozen_since" in bank.call("GET", "wallet", ALICE)
    run("unfreeze", "alice", "--reason", "lifted")
    assert capsys.readouterr().out == f"{ALICE} pays and is paid again.\n"
    assert "frozen_since" not in bank.call("GET", "wallet", ALICE)
    run("freeze", "nobody", "--reason", "r", code=1)
    assert "UNKNOWN_PAYEE" in capsys.readouterr().err


def test_correct_takes_an_entry_back(capsys: pytest.CaptureFixture[str]) -> None:
    run("correct", "3", "--amount", "400", "--reference", "c1", "--reason", "paid twice")
    assert capsys.readouterr().out == "Entry 4 takes back 400 minor units of EUR of entry 3.\n"
    run("correct", "3", "--reference", "c2", "--reason", "all of it")
    assert capsys.readouterr().out == "Entry 5 takes back 600 minor units of EUR of entry 3.\n"
    run("correct", "2", "--reference", "c3", "--reason", "r", code=1)
    assert "NOT_CORRECTABLE" in capsys.readouterr().err


def test_the_trial_balance_is_a_table_that_sums_to_zero(capsys: pytest.CaptureFixture[str]) -> None:
    run("trial-balance")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:4] == ["As", "of", "entry", "3"]
    assert ["available", "2", "people", "100.00", "EUR"] in lines
    assert ["issued", "house", "-100.00", "EUR"] in lines
    assert ["sum", "0.00", "EUR"] in lines


def test_a_statement_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    run("statement", "alice", "EUR")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["opening", "balance", "0.00", "EUR"]
    assert lines[2].split()[2:] == ["issue", "house", "100.00", "100.00", "EUR"]
    assert lines[3].split()[2:] == ["hold", ALICE, "-10.00", "90.00", "EUR"]
    assert lines[4].split() == ["closing", "balance", "90.00", "EUR"]


def test_a_statement_as_csv_and_json_has_all_pages_oldest_first(
    bank: Bank, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synapse_super_app.commands.statement._PAGE", 2)
    for number in range(2, 6):
        bank.pay(number, number)
    run("statement", BOB, "EUR", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["change"] for row in rows] == ["10.00", "0.02", "0.03", "0.04", "0.05"]
    assert [row["balance"] for row in rows][-1] == "10.14"
    assert {row["counterparty"] for row in rows} == {ALICE}
    assert {row["currency"] for row in rows} == {"EUR"}
    run("statement", BOB, "EUR", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert [str(line["seq"]) for line in found["entries"]] == [row["entry"] for row in rows]
    assert (found["opening"], found["closing"], found["scale"]) == (0, 1_014, 2)


def test_a_statement_of_a_time_range_and_of_the_house(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    bank.advance(60)
    cut = bank.day()
    bank.pay(2, 500)
    run("statement", "bob", "EUR", "--from", cut, "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["opening"], len(found["entries"]), found["closing"]) == (1_000, 1, 1_500)
    run("statement", "bob", "EUR", "--until", cut, "--format", "json")
    assert json.loads(capsys.readouterr().out)["closing"] == 1_000
    run("statement", "house", "EUR", "--kind", "issued", "--format", "json")
    assert json.loads(capsys.readouterr().out)["closing"] == -10_000


@pytest.mark.parametrize(("text", "ms"), [("1970-01-02", 86_400_000), ("1970-01-01T01:00+01:00", 0)])
def test_times_are_read_as_utc_unless_they_say_otherwise(text: str, ms: int) -> None:
    assert read_time(text) == ms


@pytest.mark.parametrize("text", ["yesterday", "", "1969-12-31", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed):
        read_time(text)


def test_verifying_goes_through_all_pages_with_progress(capsys: pytest.CaptureFixture[str]) -> None:
    run("verify-ledger", "--all")
    told = capsys.readouterr()
    assert told.out == "Entries 1 to 3 are right.\n"
    assert told.err == "entries verified: 100 %\n"


def test_verifying_says_what_is_wrong_and_fails(bank: Bank, capsys: pytest.CaptureFixture[str]) -> None:
    def tamper(cur: Any) -> None:
        cur.execute("DROP TRIGGER superapp_ledger_entry_no_update")
        cur.execute("UPDATE superapp_ledger_entry SET reference = 'other' WHERE seq = 2")

    bank.result(bank.module.runtime.database.run("tamper", tamper))
    run("verify-ledger", code=1)
    assert "chain: entry 2 is off by 1\n" in capsys.readouterr().out


def test_an_archive_is_written_checked_and_dropped_and_can_be_checked_again(
    bank: Bank, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synapse_super_app.commands.archive._PAGE", 2)
    path = tmp_path / "2025.jsonl"
    bank.advance(60)
    before = ("--before", bank.day(), "--to", str(path), "--reason", "the year is over")
    bank.pay(2, 500)
    # A copy for an audit proves itself as well, and leaves everything where it is.
    copy = tmp_path / "audit.jsonl"
    run("archive", "--before", bank.day(), "--to", str(copy), "--copy")
    assert capsys.readouterr().out.startswith(f"A copy of entries 1 to 3 is in {copy}; they stay here as well.\n")
    run("archive", "--check", str(copy))
    assert "entries 1 to 3" in capsys.readouterr().out
    assert bank.call("GET", "admin/archives", ADMIN)["archives"] == []
    copy.unlink()
    run("archive", *before)
    told = capsys.readouterr()
    assert told.out.startswith(f"Entries 1 to 3 are in {path} and no longer in the database.\n")
    assert "entries written: 100 %" in told.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["2025.jsonl"]
    assert path.stat().st_mode & 0o777 == 0o600
    run("archive", "--check", str(path))
    checked = capsys.readouterr().out
    run("archive", "--list")
    listed = capsys.readouterr().out
    assert listed.startswith("entries 1 to 3  2025.jsonl\n")
    digest = listed.rpartition(" ")[2].strip()
    assert f"Its SHA-256 is {digest}." in checked
    run("statement", "alice", "EUR")
    assert "Entries up to 3 are in the archive 2025.jsonl" in capsys.readouterr().err
    run("verify-ledger", "--all")
    run("archive", *before, code=1)
    assert "UNKNOWN_ENTRY" in capsys.readouterr().err
    path.write_text(path.read_text(encoding="utf-8").replace('"issue"', '"gift"'), encoding="utf-8")
    run("archive", "--check", str(path), code=1)
    assert "damaged" in capsys.readouterr().err


def test_a_file_that_was_written_before_the_homeserver_heard_of_it_is_used(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    before = ("--before", bank.day(60), "--to", str(path), "--reason", "r")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("synapse_super_app.commands.archive._record", cut)
        run("archive", *before, code=130)
    written = path.read_bytes()
    assert bank.call("GET", "admin/archives", ADMIN)["archives"] == []
    run("archive", *before)
    assert path.read_bytes() == written
    assert len(bank.call("GET", "admin/archives", ADMIN)["archives"]) == 1


def test_a_file_that_holds_something_else_is_not_touched(bank: Bank, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("my diary\n", encoding="utf-8")
    run("archive", "--before", bank.day(60), "--to", str(path), "--reason", "r", code=1)
    assert path.read_text(encoding="utf-8") == "my diary\n"
    assert bank.call("GET", "admin/archives", ADMIN)["archives"] == []


def test_an_archive_needs_a_file_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    run("archive", "--before", "2026-01-01", code=1)
    assert "--to FILE" in capsys.readouterr().err


def test_entries_that_were_left_by_a_broken_off_run_are_dropped_by_the_next(
    bank: Bank, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    bank.advance(60)
    before = ("--before", bank.day(), "--to", str(path), "--reason", "r")
    with monkeypatch.context() as broken:
        broken.setattr(journal, "drop_archived", lambda _cur: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            main(["archive", *before, "--url", "http://localhost:1"])
    assert bank.call("GET", "admin/archives", ADMIN)["archives"][0]["left"] == 3
    run("archive", *before, code=1)
    assert "UNKNOWN_ENTRY" in capsys.readouterr().err
    assert bank.call("GET", "admin/archives", ADMIN)["archives"][0]["left"] == 0
