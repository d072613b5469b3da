"""Statements as files: what a spreadsheet, an accounting program and a PDF reader get."""

import csv
import io
import re
from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring
from zoneinfo import ZoneInfo

import pytest

from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId
from super_app.money import Asset, AssetCode
from super_app.statements import rules, tables
from super_app.statements.model import Line, LineKind, Statement
from synapse_super_app.statements import pdf

ACCT = "A" * 43
BERLIN = ZoneInfo("Europe/Berlin")
EUR, JPY, BHD = (Asset(code=AssetCode(code), scale=scale) for code, scale in (("EUR", 2), ("JPY", 0), ("BHD", 3)))
ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs2.test")


def statement(asset: Asset = EUR, memo: str = "lunch", other: UserId = BOB) -> Statement:
    span = rules.month_ms("2026-03", BERLIN)
    assert not isinstance(span, Refused)
    paid = Line(
        seq=7,
        posted_ms=span[0] + 1,
        kind=LineKind.PAYMENT,
        change_minor=-1_250,
        balance_minor=8_750,
        other=other,
        memo=memo,
        payment_id=PaymentId("0" * 32),
    )
    issued = Line(seq=9, posted_ms=span[1] - 1, kind=LineKind.ISSUED, change_minor=5, balance_minor=8_755)
    return Statement(
        owner=ALICE,
        asset=asset,
        from_ms=span[0],
        until_ms=span[1],
        opening_minor=10_000,
        closing_minor=8_755,
        lines=(paid, issued),
        is_partly_archived=False,
    )


def test_a_month_begins_and_ends_by_the_clock_of_the_person() -> None:
    # In March 2026 clocks in Berlin go forward, so the month is an hour short.
    span = rules.month_ms("2026-03", BERLIN)
    assert span == (1_772_319_600_000, 1_774_994_400_000)
    assert not isinstance(span, Refused)
    assert span[1] - span[0] == (31 * 24 - 1) * 3_600_000
    assert rules.month_ms("2026-12", ZoneInfo("UTC")) == (1_796_083_200_000, 1_798_761_600_000)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "26-01", "0000-01", "9999-12", "2026-01-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    refused = rules.month_ms(text, BERLIN)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


@pytest.mark.parametrize(
    ("asset", "change", "closing"),
    [(EUR, "-12.50", "87.55"), (JPY, "-1250", "8755"), (BHD, "-1.250", "8.755")],
    ids=lambda each: getattr(each, "code", each),
)
def test_csv_has_the_digits_of_the_currency(asset: Asset, change: str, closing: str) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(statement(asset), BERLIN))))
    assert [row["kind"] for row in rows] == ["opening", "payment", "issued", "closing"]
    assert (rows[1]["change"], rows[-1]["balance"], rows[1]["currency"]) == (change, closing, asset.code)
    assert rows[0]["time"] == "2026-03-01T00:00:00+01:00"
    assert rows[-1]["time"] == "2026-04-01T00:00:00+02:00"


@pytest.mark.parametrize("memo", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_memo_never_becomes_a_formula(memo: str) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(statement(memo=memo), BERLIN), newline="")))
    assert rows[1]["memo"] == "'" + memo
    assert rows[1]["person"] == "'@bob:hs2.test"


# The structure of camt.053.001.08, as ISO 20022's message definition report has it: for each element its children in
# their order, those that must be there with "!", and those of which there may be several with "*".
CAMT = {
    "Document": "BkToCstmrStmt!",
    "BkToCstmrStmt": "GrpHdr! Stmt!*",
    "GrpHdr": "MsgId! CreDtTm!",
    "Stmt": "Id! CreDtTm FrToDt Acct! Bal!* Ntry*",
    "FrToDt": "FrDtTm! ToDtTm!",
    "Acct": "Id! Ccy Nm Ownr Svcr",
    "Acct/Id": "Othr!",
    "Othr": "Id!",
    "Ownr": "Nm",
    "Svcr": "FinInstnId!",
    "FinInstnId": "Nm",
    "Bal": "Tp! Amt! CdtDbtInd! Dt!",
    "Tp": "CdOrPrtry!",
    "CdOrPrtry": "Cd!",
    "Bal/Dt": "Dt!",
    "Ntry": "NtryRef Amt! CdtDbtInd! RvslInd Sts! BookgDt ValDt AcctSvcrRef BkTxCd! NtryDtls*",
    "Sts": "Cd!",
    "BookgDt": "DtTm!",
    "ValDt": "DtTm!",
    "BkTxCd": "Domn Prtry",
    "Domn": "Cd! Fmly!",
    "Fmly": "Cd! SubFmlyCd!",
    "Prtry": "Cd!",
    "NtryDtls": "TxDtls*",
    "TxDtls": "Refs Amt CdtDbtInd RltdPties RmtInf",
    "Refs": "AcctSvcrRef EndToEndId",
    "RltdPties": "Dbtr Cdtr",
    "Dbtr": "Pty!",
    "Cdtr": "Pty!",
    "Pty": "Nm",
    "RmtInf": "Ustrd*",
}
TEXTS = {
    "MsgId": r".{1,35}",
    "Id": r".{1,35}",
    "Othr/Id": r".{1,34}",
    "CreDtTm": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    "FrDtTm": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    "ToDtTm": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    "DtTm": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d",
    "Dt": r"\d{4}-\d\d-\d\d",
    "Ccy": r"[A-Z]{3}",
    "Nm": r".{1,140}",
    "Acct/Nm": r".{1,70}",
    "Amt": r"\d{1,13}(\.\d{1,5})?",
    "CdtDbtInd": r"CRDT|DBIT",
    "RvslInd": r"true|false",
    "NtryRef": r".{1,35}",
    "AcctSvcrRef": r".{1,35}",
    "EndToEndId": r".{1,35}",
    "Cd": r".{1,4}",
    "Prtry/Cd": r".{1,35}",
    "SubFmlyCd": r".{1,4}",
    "Ustrd": r"(?s:.{1,140})",
}


def assert_valid(element: Element, parent: str = "") -> None:
    name = element.tag.removeprefix(f"{{{tables.CAMT_NAMESPACE}}}")
    assert name != element.tag, "outside the namespace"
    allowed = CAMT.get(f"{parent}/{name}", CAMT.get(name) if f"{parent}/{name}" not in TEXTS else None)
    if allowed is None or (name in TEXTS and not len(element)):
        text = TEXTS.get(f"{parent}/{name}", TEXTS.get(name))
        assert text is not None, f"{name} is not known"
        assert not len(element)
        assert re.fullmatch(text, element.text or ""), f"{parent}/{name}: {element.text!r}"
        return
    children = [child.tag.partition("}")[2] for child in element]
    places = [each.rstrip("!*") for each in allowed.split()]
    assert set(children) <= set(places), f"{name} holds {children}"
    assert children == sorted(children, key=places.index), f"{name} has its parts in another order"
    for each in allowed.split():
        count = children.count(each.rstrip("!*"))
        assert count >= ("!" in each), f"{name} lacks {each}"
        assert count <= 1 or "*" in each, f"{name} has {each} several times"
    for child in element:
        assert_valid(child, name)


@pytest.mark.parametrize("asset", [EUR, JPY, BHD], ids=lambda asset: asset.code)
def test_camt_has_the_structure_and_the_lengths_of_its_schema(asset: Asset) -> None:
    long = statement(asset, memo="ü<&\x00\x0b" * 100)
    returned = replace(long.lines[0], kind=LineKind.RETURNED, change_minor=1_250)
    fee = replace(long.lines[0], kind=LineKind.FEE)
    long = replace(long, owner=UserId(f"@{'a' * 200}:hs1.test"), lines=(*long.lines, returned, fee))
    written = tables.as_camt(long, BERLIN, ACCT, "hs1.test", 0)
    assert isinstance(written, bytes)
    assert_valid(fromstring(written))


def test_the_check_of_the_structure_finds_what_is_wrong() -> None:
    written = tables.as_camt(statement(), BERLIN, ACCT, "hs1.test", 0)
    assert isinstance(written, bytes)
    for good, bad in (
        (b"<CdtDbtInd>DBIT</CdtDbtInd>", b"<CdtDbtInd>OUT</CdtDbtInd>"),
        (b'<Amt Ccy="EUR">12.50</Amt>', b'<Amt Ccy="EUR">-12.50</Amt>'),
        (b"<Ccy>EUR</Ccy>", b""),
        (b"<Sts>", b"<AcctSvcrRef>1</AcctSvcrRef><Sts>"),
        (b"<EndToEndId>", b"<EndToEndId>" + b"0" * 10),
    ):
        changed = written.replace(good, bad)
        assert changed != written
        if good == b"<Ccy>EUR</Ccy>":
            assert_valid(fromstring(changed))
            continue
        with pytest.raises(AssertionError):
            assert_valid(fromstring(changed))


def test_camt_says_who_paid_whom_and_how_it_went_into_the_balances() -> None:
    written = tables.as_camt(statement(), BERLIN, ACCT, "hs1.test", 0)
    assert isinstance(written, bytes)
    names = {"c": tables.CAMT_NAMESPACE}
    document = fromstring(written)
    assert [each.text for each in document.findall(".//c:Bal/c:Amt", names)] == ["100.00", "87.55"]
    entry = document.findall(".//c:Ntry", names)[0]
    assert entry.findtext("c:CdtDbtInd", namespaces=names) == "DBIT"
    assert entry.findtext(".//c:Dbtr/c:Pty/c:Nm", namespaces=names) == ALICE
    assert entry.findtext(".//c:Cdtr/c:Pty/c:Nm", namespaces=names) == BOB
    assert entry.findtext(".//c:Ustrd", namespaces=names) == "lunch"


def test_camt_is_refused_for_what_iso_20022_cannot_name() -> None:
    refused = tables.as_camt(statement(Asset(code=AssetCode("POINTS"), scale=0)), BERLIN, ACCT, "hs1.test", 0)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


@pytest.mark.parametrize(
    ("language", "asset", "amount"),
    [("en", EUR, "-€12.50"), ("de", EUR, "-12,50 €"), ("en", JPY, "-¥1,250"), ("de", BHD, "-1,250 BHD")],
    ids=lambda each: getattr(each, "code", each),
)
def test_a_pdf_shows_amounts_as_the_language_writes_them(language: str, asset: Asset, amount: str) -> None:
    content = pdf.statement_pdf(statement(asset), BERLIN, "Europe/Berlin", "hs1.test", language)
    assert content.startswith(b"%PDF-")
    texts = pdf.texts_of(content)
    assert amount in texts
    assert any("@bob:hs2.test" in text for text in texts)


@pytest.mark.parametrize("memo", ["שלום", "سلام", "สวัสดี", "नमस्ते", "🍕"])
def test_a_pdf_says_so_where_it_cannot_show_a_letter(memo: str) -> None:
    plain = pdf.texts_of(pdf.statement_pdf(statement(memo="Überweisung"), BERLIN, "UTC", "hs1.test", "en"))
    lost = pdf.texts_of(pdf.statement_pdf(statement(memo=memo), BERLIN, "UTC", "hs1.test", "en"))
    assert "Überweisung" in plain
    assert any(set(text) == {"?"} for text in lost)
    assert any("cannot show" in text for text in lost)
    assert not any("cannot show" in text for text in plain)


@pytest.mark.parametrize(
    ("memo", "fonts"),
    [
        ("обед в пятницу", ["DejaVuSans"]),
        ("Łódź, Việt", ["DejaVuSans"]),
        ("Καλημέρα ₴5", ["DejaVuSans"]),
        ("გამარჯობა, բարեւ", ["DejaVuSans"]),
        ("午饭", ["STSong-Light"]),
        ("お昼ご飯 (ランチ)", ["STSong-Light"]),
        ("점심", ["HYSMyeongJo-Medium"]),
        ("午餐費 и обед", ["STSong-Light", "DejaVuSans"]),
    ],
)
def test_a_pdf_shows_letters_of_other_scripts_in_a_font_that_has_them(memo: str, fonts: list[str]) -> None:
    made = statement(memo=memo)
    content = pdf.statement_pdf(made, BERLIN, "UTC", "hs1.test", "en")
    assert content == pdf.statement_pdf(made, BERLIN, "UTC", "hs1.test", "en")
    assert not any("cannot show" in text for text in pdf.texts_of(content))
    used = {face for face, _ in pdf.runs(memo, "Helvetica")} - {"Helvetica"}
    assert used == set(fonts)
    for font in fonts:
        assert font.encode() in content
    # What a file does not use is not in it.
    plain = pdf.statement_pdf(statement(memo="Überweisung"), BERLIN, "UTC", "hs1.test", "en")
    assert not any(font.encode() in plain for font in ("DejaVuSans", "STSong-Light", "HYSMyeongJo-Medium"))
    assert len(content) < 60_000


def test_a_letter_that_no_font_has_is_shown_by_what_it_is_made_of_and_the_page_says_so() -> None:
    texts = pdf.texts_of(pdf.statement_pdf(statement(memo="ﬁn"), BERLIN, "UTC", "hs1.test", "en"))
    assert "fin" in texts
    assert any("cannot show" in text for text in texts)


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ("@боб:hs2.test", "@<U+0431><U+043E><U+0431>:hs2.test"),
        ("@duża:hs2.test", "@du<U+017C>a:hs2.test"),
        (f"@{'long' * 40}:hs2.test", f"@{'long' * 40}:hs2.test"),
    ],
)
def test_a_pdf_says_in_full_who_somebody_is_whatever_their_matrix_id(other: str, shown: str) -> None:
    content = pdf.statement_pdf(statement(other=UserId(other)), BERLIN, "UTC", "hs1.test", "en")
    assert shown in "".join(pdf.texts_of(content))


def test_the_same_statement_is_the_same_file_and_a_long_one_goes_on_over_pages() -> None:
    long = statement()
    long = replace(long, lines=long.lines * 60)
    once, again = (pdf.statement_pdf(long, BERLIN, "UTC", "hs1.test", "en") for _ in range(2))
    assert once == again
    texts = pdf.texts_of(once)
    assert texts.count("Payment, @bob:hs2.test") == 60
    assert "Page 3" in texts


def test_a_year_sums_up_to_what_its_months_do() -> None:
    summary = rules.summary(statement(), rules.months_of(2026, BERLIN))
    assert [(each.in_minor, each.out_minor) for each in summary.months] == [(0, 0)] * 2 + [(5, 1_250)] + [(0, 0)] * 9
    assert summary.people[0][0] == BOB
    assert summary.people[0][1].out_minor == 1_250
    assert [kind for kind, _ in summary.kinds] == [LineKind.PAYMENT, LineKind.ISSUED]
