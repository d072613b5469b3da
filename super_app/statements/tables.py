"""Statements as CSV (RFC 4180) and as camt.053. Values in, text out.

A memo is what a stranger wrote. In CSV a text that a spreadsheet would take for a formula gets an apostrophe in front;
in XML what it does not allow is left out.
"""

import csv
import hashlib
import io
from datetime import UTC, datetime, tzinfo
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from super_app.errors import Reason, Refused
from super_app.money import Asset, format_money
from super_app.statements.model import Line, LineKind, Statement

CAMT_NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
_COLUMNS: Final = ("entry", "time", "kind", "person", "memo", "payment_id", "change", "balance", "currency")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
# Lengths of ISO 20022: Max34Text of another account's id, Max35Text of references, Max140Text of names and remittance.
_ACCOUNT: Final = 34
_REFERENCE: Final = 35
_TEXT: Final = 140
_CURRENCY: Final = 3
_FRACTION: Final = 5


def number(amount_minor: int, asset: Asset) -> str:
    """The amount with a decimal point and no currency, as programs read it."""
    return format_money(amount_minor, asset).removesuffix(f" {asset.code}")


def as_csv(statement: Statement, zone: tzinfo) -> str:
    """One row a booking, between the balances at the beginning and at the end."""
    file = io.StringIO()
    writer = csv.writer(file)
    asset = statement.asset
    writer.writerow(_COLUMNS)
    opening, closing = number(statement.opening_minor, asset), number(statement.closing_minor, asset)
    writer.writerow(("", _time(statement.from_ms, zone), "opening", "", "", "", "", opening, asset.code))
    for line in statement.lines:
        writer.writerow(
            (
                line.seq,
                _time(line.posted_ms, zone),
                line.kind.value,
                _safe(line.other or ""),
                _safe(line.memo or ""),
                line.payment_id or "",
                number(line.change_minor, asset),
                number(line.balance_minor, asset),
                asset.code,
            )
        )
    writer.writerow(("", _time(statement.until_ms, zone), "closing", "", "", "", "", closing, asset.code))
    return file.getvalue()


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _time(at_ms: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).isoformat(timespec="seconds")


# camt.053 (ISO 20022, BankToCustomerStatementV08).


def as_camt(statement: Statement, zone: tzinfo, account_id: str, server: str, now_ms: int) -> bytes | Refused:
    """The statement for accounting programs. INVALID_VALUE for an asset that ISO 20022 cannot name.

    ``account_id`` is the acct of its owner: an id that does not change with their name.
    """
    asset = statement.asset
    if len(asset.code) != _CURRENCY or not asset.code.isalpha() or asset.scale > _FRACTION:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"camt.053 knows currencies of three letters and five decimals at most, and {asset.code} is none; "
            "take the CSV.",
        )
    document = Element("Document", xmlns=CAMT_NAMESPACE)
    message = SubElement(document, "BkToCstmrStmt")
    header = SubElement(message, "GrpHdr")
    identity = _statement_id(statement, account_id)
    _text(header, "MsgId", identity)
    _text(header, "CreDtTm", _time(now_ms, zone))
    found = SubElement(message, "Stmt")
    _text(found, "Id", identity)
    _text(found, "CreDtTm", _time(now_ms, zone))
    span = SubElement(found, "FrToDt")
    _text(span, "FrDtTm", _time(statement.from_ms, zone))
    _text(span, "ToDtTm", _time(statement.until_ms - 1, zone))
    account = SubElement(found, "Acct")
    other = SubElement(SubElement(account, "Id"), "Othr")
    _text(other, "Id", account_id[:_ACCOUNT])
    _text(account, "Ccy", asset.code)
    _text(account, "Nm", statement.owner[:70])
    _text(SubElement(account, "Ownr"), "Nm", statement.owner[:_TEXT])
    servicer = SubElement(SubElement(account, "Svcr"), "FinInstnId")
    _text(servicer, "Nm", server[:_TEXT])
    _balance(found, "OPBD", statement.opening_minor, statement.from_ms, statement, zone)
    _balance(found, "CLBD", statement.closing_minor, statement.until_ms - 1, statement, zone)
    for line in statement.lines:
        _entry(found, line, statement, zone)
    indent(document)
    written: str = tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n'.encode()


def _statement_id(statement: Statement, account_id: str) -> str:
    what = f"{account_id} {statement.asset.code} {statement.from_ms} {statement.until_ms}"
    return hashlib.sha256(what.encode()).hexdigest()[:_REFERENCE]


def _balance(parent: Element, code: str, amount_minor: int, at_ms: int, statement: Statement, zone: tzinfo) -> None:
    balance = SubElement(parent, "Bal")
    _text(SubElement(SubElement(balance, "Tp"), "CdOrPrtry"), "Cd", code)
    _amount(balance, amount_minor, statement.asset)
    _text(SubElement(balance, "Dt"), "Dt", _date(at_ms, zone))


def _amount(parent: Element, amount_minor: int, asset: Asset) -> None:
    amount = SubElement(parent, "Amt", Ccy=asset.code)
    amount.text = number(abs(amount_minor), asset)
    _text(parent, "CdtDbtInd", "DBIT" if amount_minor < 0 else "CRDT")


def _entry(parent: Element, line: Line, statement: Statement, zone: tzinfo) -> None:
    entry = SubElement(parent, "Ntry")
    _text(entry, "NtryRef", str(line.seq))
    _amount(entry, line.change_minor, statement.asset)
    if line.kind is LineKind.RETURNED:
        _text(entry, "RvslInd", "true")
    _text(SubElement(entry, "Sts"), "Cd", "BOOK")
    for name in ("BookgDt", "ValDt"):
        _text(SubElement(entry, name), "DtTm", _time(line.posted_ms, zone))
    _text(entry, "AcctSvcrRef", str(line.seq))
    _codes(SubElement(entry, "BkTxCd"), line)
    details = SubElement(SubElement(entry, "NtryDtls"), "TxDtls")
    references = SubElement(details, "Refs")
    _text(references, "AcctSvcrRef", str(line.seq))
    _text(references, "EndToEndId", "NOTPROVIDED" if line.payment_id is None else line.payment_id)
    _amount(details, line.change_minor, statement.asset)
    if line.other is not None:
        parties = SubElement(details, "RltdPties")
        own, theirs = ("Cdtr", "Dbtr") if line.change_minor > 0 else ("Dbtr", "Cdtr")
        named = {own: statement.owner, theirs: line.other}
        for role in ("Dbtr", "Cdtr"):
            _text(SubElement(SubElement(parties, role), "Pty"), "Nm", named[role][:_TEXT])
    if line.memo:
        remittance = SubElement(details, "RmtInf")
        for start in range(0, len(line.memo), _TEXT):
            _text(remittance, "Ustrd", line.memo[start : start + _TEXT])


def _codes(parent: Element, line: Line) -> None:
    """The ISO 20022 code of a booking inside the books of one institution, and our own word for it."""
    family, sub_family = ("RCDT", "BOOK") if line.change_minor > 0 else ("ICDT", "BOOK")
    if line.kind is LineKind.FEE:
        family, sub_family = "MDOP", "CHRG"
    domain = SubElement(parent, "Domn")
    _text(domain, "Cd", "PMNT")
    found = SubElement(domain, "Fmly")
    _text(found, "Cd", family)
    _text(found, "SubFmlyCd", sub_family)
    _text(SubElement(parent, "Prtry"), "Cd", line.kind.value)


def _date(at_ms: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date().isoformat()


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = "".join(char for char in text if _is_xml(char)) or "?"


def _is_xml(char: str) -> bool:
    """Whether XML 1.0 allows a character at all (section 2.2)."""
    point = ord(char)
    return point in (0x9, 0xA, 0xD) or 0x20 <= point <= 0xD7FF or 0xE000 <= point <= 0xFFFD or point >= 0x10000
