"""Activity, statements and receipts as people get them over the API."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from twisted.web.test.requesthelper import DummyRequest

from synapse_super_app.commands.main import main
from synapse_super_app.http.resource import ApiResource, _send_file

ALICE, BOB, EVE, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "eve", "admin"))
MONTH = "2023-11"
"""That of the fake's clock."""
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}, {"code": "JPY"}, {"code": "BHD"}],
    },
}


class House(FakeHomeserver):
    """alice has 100.00 EUR, 10000 JPY and 10.000 BHD, and has paid bob something of each."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.start()
        for name in ("alice", "bob", "eve"):
            self.register(name)
        self.register("admin", admin=True)
        self.room(ALICE, BOB)
        for number, currency in enumerate(("EUR", "JPY", "BHD"), start=1):
            issue = {"user_id": ALICE, "amount": 10_000, "currency": currency, "reference": currency}
            self.call("POST", "admin/issue", ADMIN, issue)
            order = {"payment_id": f"{number:032x}", "payee": BOB, "amount": 1_250, "currency": currency}
            assert self.call("POST", "payments", ALICE, {**order, "memo": f"in {currency}"})["state"] == "completed"


@pytest.fixture
def house() -> House:
    return House()


def code_of(refusal: pytest.ExceptionInfo[SynapseError]) -> str:
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def test_activity_is_searched_and_paged(house: House) -> None:
    first = house.call("GET", "activity", ALICE, query={"limit": "2", "kind": "sent"})
    assert [each["currency"] for each in first["payments"]] == ["BHD", "JPY"]
    rest = house.call("GET", "activity", ALICE, query={"limit": "2", "kind": "sent", "since": first["next"]})
    assert [each["currency"] for each in rest["payments"]] == ["EUR"]
    assert "next" not in rest
    found = house.call("GET", "activity", BOB, query={"text": "IN JPY", "person": "alice", "at_least": "1"})
    assert [(each["amount"], each["direction"]) for each in found["payments"]] == [(1_250, "incoming")]
    for wrong in ({"kind": "stolen"}, {"since": "x"}, {"at_least": "-1"}, {"currency": "eur"}, {"who": "bob"}):
        with pytest.raises(SynapseError) as refusal:
            house.call("GET", "activity", ALICE, query=wrong)
        assert refusal.value.code == 422, wrong


def test_a_month_is_told_and_given_as_files(house: House) -> None:
    month = house.call("GET", f"statements/{MONTH}", ALICE, query={"currency": "EUR", "tz": "Europe/Berlin"})
    assert (month["opening"], month["closing"], month["scale"]) == (0, 8_750, 2)
    assert [(line["kind"], line["change"]) for line in month["lines"]] == [("issued", 10_000), ("payment", -1_250)]
    assert month["lines"][1]["other"] == BOB
    for form, media_type, begins in (
        ("csv", "text/csv; charset=utf-8", b"entry,time"),
        ("pdf", "application/pdf", b"%PDF-"),
        ("camt.053", "application/xml", b"<?xml"),
    ):
        for currency in ("EUR", "JPY", "BHD"):
            query = {"currency": currency, "format": form, "language": "de"}
            file = house.download(f"statements/{MONTH}/file", ALICE, query)
            assert file.media_type == media_type
            assert file.name.startswith(f"{MONTH}-{currency}.")
            assert file.content.startswith(begins)
    empty = house.call("GET", "statements/2020-01", ALICE, query={"currency": "EUR"})
    assert (empty["opening"], empty["closing"], empty["lines"]) == (0, 0, [])


WRONG: tuple[tuple[str, dict[str, str], str], ...] = (
    ("statements/2023-13", {"currency": "EUR"}, "INVALID_VALUE"),
    (f"statements/{MONTH}", {"currency": "USD"}, "UNKNOWN_CURRENCY"),
    (f"statements/{MONTH}", {}, "INVALID_VALUE"),
    (f"statements/{MONTH}", {"currency": "EUR", "tz": "Europe/Nowhere"}, "INVALID_VALUE"),
    (f"statements/{MONTH}", {"currency": "EUR", "tz": "../../etc/passwd"}, "INVALID_VALUE"),
    ("summaries/23", {"currency": "EUR"}, "INVALID_VALUE"),
    ("summaries/2023", {"currency": "USD"}, "UNKNOWN_CURRENCY"),
    (f"payments/{9:032x}/receipt", {}, "UNKNOWN_PAYMENT"),
)


def test_what_cannot_be_told_is_refused(house: House) -> None:
    for path, query, code in WRONG:
        with pytest.raises(SynapseError) as refusal:
            house.call("GET", path, ALICE, query=query)
        assert code_of(refusal) == code, path


def test_a_year_is_summed_up(house: House) -> None:
    year = house.call("GET", "summaries/2023", ALICE, query={"currency": "JPY"})
    assert (year["opening"], year["closing"]) == (0, 8_750)
    assert year["total"] == {"came_in": 10_000, "went_out": 1_250, "count": 2}
    assert year["months"][10] == year["total"]
    assert year["people"] == [{"came_in": 0, "went_out": 1_250, "count": 1, "user_id": BOB}]
    assert set(year["kinds"]) == {"issued", "payment"}


def test_a_receipt_is_proven_to_whoever_has_the_key(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(house.call("GET", "receipts/keys")))
    path = f"payments/{3:032x}/receipt"
    text = house.call("GET", path, ALICE)["receipt"]
    assert text == house.call("GET", path, BOB, query={"payer": ALICE})["receipt"]
    file = tmp_path / "receipt.pdf"
    file.write_bytes(house.download(f"{path}/file", BOB, {"payer": ALICE, "language": "de"}).content)
    for receipt in (text, str(file)):
        assert main(["verify-receipt", receipt, "--keys", str(keys), "--amount", "1.250 BHD"]) == 0
        assert f"{ALICE} paid {BOB} 1.250 BHD" in capsys.readouterr().out
    with pytest.raises(SynapseError) as refusal:
        house.call("GET", path, EVE)
    assert code_of(refusal) == "UNKNOWN_PAYMENT"


def test_there_is_no_receipt_for_what_was_not_paid(house: House) -> None:
    house.account_data[BOB, "org.superapp.payment.policy"] = {"v": 1, "accept": "ask"}
    order = {"payment_id": f"{9:032x}", "payee": BOB, "amount": 1, "currency": "EUR"}
    assert house.call("POST", "payments", ALICE, order)["state"] == "awaiting_acceptance"
    with pytest.raises(SynapseError) as refusal:
        house.call("GET", f"payments/{9:032x}/receipt", ALICE)
    assert (refusal.value.code, code_of(refusal)) == (409, "CONFLICT")
    house.call("POST", f"payments/{9:032x}/cancel", ALICE)
    with pytest.raises(SynapseError) as refusal:
        house.call("GET", f"payments/{9:032x}/receipt", ALICE)
    assert (refusal.value.code, code_of(refusal)) == (409, "ALREADY_DECIDED")


def test_a_file_goes_out_as_a_download_that_no_cache_keeps(house: House) -> None:
    request = DummyRequest([b""])
    file = house.download(f"statements/{MONTH}/file", ALICE, {"currency": "EUR", "format": "csv"})
    _send_file(request, file)
    headers = {name: request.responseHeaders.getRawHeaders(name) for name in ("Content-Disposition", "Cache-Control")}
    assert headers == {
        "Content-Disposition": [f'attachment; filename="{MONTH}-EUR.csv"'],
        "Cache-Control": ["no-store"],
    }
    assert b"".join(request.written) == file.content
    resource = next(each for each in house.api.web_resources.values() if isinstance(each, ApiResource))
    described = resource.document["paths"]["/statements/{month}/file"]["get"]["responses"]["200"]["content"]
    assert set(described) == {"text/csv", "application/pdf", "application/xml"}
