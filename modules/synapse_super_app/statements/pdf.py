"""Statements and receipts as PDF. The same values give the same bytes.

Western European letters are in the fonts that every PDF reader has. Latin letters with other marks, Greek, Cyrillic,
Armenian and Georgian ones are shown in a font that goes into the file, as far as the file uses it; Chinese, Japanese
and Korean ones in fonts that the reader brings, as PDF has it for these. What runs from right to left or joins its
letters is shown as ``?``, and the page says so. A Matrix id shows Western European letters alone, and all else by its
code points, since letters of two scripts that look the same would make two people look the same. Runs on a thread,
since a long statement takes a while.
"""

import io
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Final

import segno
from babel import Locale
from babel.dates import format_date, format_datetime
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from super_app.assistant.amounts import locale_of, show_by_code, show_minor
from super_app.money import Asset, format_money
from super_app.statements.model import Line, Statement
from super_app.statements.proof import ProofContent, word_of
from super_app.statements.words import KINDS, WORDS

_WIDTH: Final = A4[0]
_HEIGHT: Final = A4[1]
_MARGIN: Final = 50.0
_RIGHT: Final = _WIDTH - _MARGIN
_PLAIN: Final = "Helvetica"
_BOLD: Final = "Helvetica-Bold"
_SMALL: Final = 8.0
_BODY: Final = 9.5
_LINE: Final = 13.0
_WHAT: Final = 140.0
"""Where the second column begins."""
_WHAT_WIDTH: Final = 215.0
_BALANCE: Final = _RIGHT
_CHANGE: Final = _RIGHT - 95.0
_QR: Final = 190.0
_FONT_CODE: Final = "cp1252"


class _Sheet:
    """A page being written, from the top down."""

    def __init__(self, title: str, author: str, keywords: str, words: dict[str, str]) -> None:
        self._bytes = io.BytesIO()
        # Uncompressed, so that what a page says can be read out of the file again; no time of its own.
        self.canvas = Canvas(self._bytes, pagesize=A4, invariant=1, pageCompression=0)
        self.canvas.setTitle(title)
        self.canvas.setAuthor(author)
        self.canvas.setKeywords(keywords)
        self._words = words
        self._page = 1
        self.y = _HEIGHT - _MARGIN
        self.lost = False

    def text(self, x: float, text: str, *, size: float = _BODY, font: str = _PLAIN, right: bool = False) -> None:
        shown = self._printable(text)
        if right:
            x -= _width(shown, font, size)
        for face, run in runs(shown, font):
            self.canvas.setFont(face, size)
            self.canvas.drawString(x, self.y, run)
            x += stringWidth(run, face, size)

    def down(self, by: float = _LINE) -> None:
        self.y -= by

    def needs(self, height: float) -> bool:
        """Begin a new page where less than that is left of this one; says whether it did."""
        if self.y - height > _MARGIN:
            return False
        self._end_page()
        self.y = _HEIGHT - _MARGIN
        return True

    def rule(self) -> None:
        self.canvas.setLineWidth(0.5)
        self.canvas.line(_MARGIN, self.y, _RIGHT, self.y)

    def done(self) -> bytes:
        self._end_page()
        self.canvas.save()
        return self._bytes.getvalue()

    def _end_page(self) -> None:
        self.y = _MARGIN - 20
        self.text(_RIGHT, self._words["page"].format(number=self._page), size=_SMALL, right=True)
        self.canvas.showPage()
        self._page += 1

    def _printable(self, text: str) -> str:
        plain = _plain_spaces(text).replace("\u2212", "-")
        shown = "".join(_nearest(char) for char in unicodedata.normalize("NFC", plain))
        self.lost = self.lost or shown != plain
        return shown


_NO_MARKS: Final = str.maketrans("ŁłĐđĦħıĲĳŊŋŦŧĸ", "LlDdHhiYyNnTtk")
"""Latin letters that have no decomposition, as people write them without their marks."""


def _nearest(char: str) -> str:
    """The character, if a font has it; else its letter without marks; else ``?``."""
    if _face_of(char, _PLAIN) is not None:
        return char
    bare = "".join(part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part))
    bare = bare.translate(_NO_MARKS)
    return bare if bare and all(_face_of(each, _PLAIN) for each in bare) else "?"


# Fonts.

_EMBEDDED: Final = "DejaVuSans"
_OF_READERS: Final = (
    ("STSong-Light", "gbk"),
    ("HeiseiMin-W3", "cp932"),
    ("HYSMyeongJo-Medium", "cp949"),
    ("MSung-Light", "cp950"),
)
"""The fonts that PDF names and the reader brings, each with the encoding of the characters that it has to have."""


@cache
def _letters() -> frozenset[int]:
    """The code points of the font that goes into files. Makes all fonts known the first time."""
    font = TTFont(_EMBEDDED, str(Path(__file__).parent / "fonts" / "DejaVuSans.ttf"))
    pdfmetrics.registerFont(font)
    for name, _ in _OF_READERS:
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    return frozenset(font.face.charToGlyph)


def _face_of(char: str, base: str) -> str | None:
    """The font for a character; None if there is none."""
    if _has(char):
        return base
    if ord(char) in _letters():
        return _EMBEDDED
    is_wide = unicodedata.east_asian_width(char) in ("W", "F")
    return next((name for name, code in _OF_READERS if is_wide and _has(char, code)), None)


def runs(text: str, base: str) -> list[tuple[str, str]]:
    """A text in the fonts that it takes, one after the other. Every character has one: see ``_nearest``."""
    found: list[tuple[str, str]] = []
    for char in text:
        face = _face_of(char, base) or base
        if found and found[-1][0] == face:
            found[-1] = (face, found[-1][1] + char)
        else:
            found.append((face, char))
    return found


def _width(text: str, base: str, size: float) -> float:
    return sum(stringWidth(run, face, size) for face, run in runs(text, base))


def _has(text: str, code: str = _FONT_CODE) -> bool:
    try:
        text.encode(code)
    except UnicodeEncodeError:
        return False
    return True


def _plain_spaces(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").replace("\u202f", " ").split())


def _amount(amount_minor: int, asset: Asset, locale: Locale) -> str:
    """An amount as the language writes it; by its code where the fonts lack the sign of the currency."""
    shown = show_minor(amount_minor, asset, locale)
    is_there = _has(_plain_spaces(shown).replace("\u2212", "-"))
    return shown if is_there else show_by_code(amount_minor, asset, locale)


def _named(user_id: str) -> str:
    """A Matrix id that says who it is also where the fonts lack a character of it, as ids of long ago have."""
    return "".join(char if _has(char) else f"<U+{ord(char):04X}>" for char in user_id)


def statement_pdf(statement: Statement, zone: tzinfo, zone_name: str, server: str, language: str) -> bytes:
    words, locale = dict(WORDS[language]), locale_of(language)
    sheet = _Sheet(f"{words['statement']} {statement.owner}", server, "", words)
    sheet.text(_MARGIN, words["statement"], size=18, font=_BOLD)
    sheet.down(26)
    first, last = (format_date(_local(at, zone), "long", locale) for at in (statement.from_ms, statement.until_ms - 1))
    asset = statement.asset
    for name, shown in (
        ("account", _named(statement.owner)),
        ("homeserver", server),
        ("period", f"{first} – {last}"),
        ("opening", _amount(statement.opening_minor, asset, locale)),
        ("in", _amount(statement.in_minor, asset, locale)),
        ("out", _amount(statement.out_minor, asset, locale)),
        ("closing", _amount(statement.closing_minor, asset, locale)),
    ):
        _field(sheet, words[name], shown)
    sheet.down(6)
    notes = [words["times"].format(zone=zone_name)]
    if statement.is_partly_archived:
        notes.append(words["archived"])
    for note in notes:
        sheet.text(_MARGIN, note, size=_SMALL)
        sheet.down()
    _head(sheet, words)
    for line in statement.lines:
        if sheet.needs(6 * _LINE):
            _head(sheet, words)
        _row(sheet, line, statement, zone, locale, language)
    if not statement.lines:
        sheet.text(_MARGIN, words["nothing"])
        sheet.down()
    if sheet.lost:
        sheet.needs(2 * _LINE)
        sheet.down(6)
        sheet.text(_MARGIN, words["unprintable"], size=_SMALL)
    return sheet.done()


def _head(sheet: _Sheet, words: dict[str, str]) -> None:
    sheet.down(4)
    sheet.text(_MARGIN, words["date"], font=_BOLD)
    sheet.text(_WHAT, words["what"], font=_BOLD)
    sheet.text(_CHANGE, words["change"], font=_BOLD, right=True)
    sheet.text(_BALANCE, words["balance"], font=_BOLD, right=True)
    sheet.down(5)
    sheet.rule()
    sheet.down()


def _row(sheet: _Sheet, line: Line, statement: Statement, zone: tzinfo, locale: Locale, language: str) -> None:
    asset = statement.asset
    sheet.text(_MARGIN, format_datetime(_local(line.posted_ms, zone), "short", locale=locale), size=_SMALL)
    what = KINDS[language][line.kind] if line.other is None else f"{KINDS[language][line.kind]}, {_named(line.other)}"
    whole = _width(what, _PLAIN, _BODY) <= _WHAT_WIDTH
    sheet.text(_WHAT, what if whole else KINDS[language][line.kind])
    sheet.text(_CHANGE, _amount(line.change_minor, asset, locale), right=True)
    sheet.text(_BALANCE, _amount(line.balance_minor, asset, locale), right=True)
    sheet.down()
    if not whole and line.other is not None:
        # An id that is cut could be somebody else's, so it has lines of its own.
        for piece in _lines_of(_named(line.other), _SMALL, _RIGHT - _WHAT):
            sheet.text(_WHAT, piece, size=_SMALL)
            sheet.down()
    if line.memo:
        sheet.text(_WHAT, _fitted(line.memo, _SMALL), size=_SMALL)
        sheet.down()


def receipt_pdf(proof: ProofContent, memo: str | None, zone: tzinfo, language: str, *, fee_minor: int = 0) -> bytes:
    """A receipt with its proof in a QR code, and as text among the keywords of the file.

    ``fee_minor`` is what it cost its payer besides; who was paid is not told.
    """
    words, locale = dict(WORDS[language]), locale_of(language)
    word = word_of(proof)
    sheet = _Sheet(f"{words['receipt']} {proof.payment_id}", proof.server, word, words)
    sheet.text(_MARGIN, words["receipt"], size=18, font=_BOLD)
    sheet.down(34)
    sheet.text(_MARGIN, shown_amount(proof, language), size=24, font=_BOLD)
    sheet.down(30)
    ordered = format_datetime(_local(proof.ordered_ms, zone), "long", locale=locale)
    rows = [
        ("payer", _named(proof.payer)),
        ("payee", _named(proof.payee)),
        ("signed_amount", format_money(proof.amount, proof.asset)),
    ]
    if fee_minor:
        rows += [
            ("fee", words["fee_to"].format(fee=_amount(fee_minor, proof.asset, locale), server=proof.server)),
            ("total", _amount(proof.amount + fee_minor, proof.asset, locale)),
        ]
    rows += [("ordered", ordered), ("payment", proof.payment_id)]
    rows += [("refund_of", proof.refund_of)] if proof.refund_of is not None else []
    for name, shown in rows:
        _field(sheet, words[name], shown)
    if memo:
        _field(sheet, words["memo"], _fitted(memo, _BODY, 360))
    for is_there, note in ((bool(memo), "memo_unsigned"), (fee_minor > 0, "fee_unsigned")):
        if is_there:
            sheet.text(_MARGIN, words[note], size=_SMALL)
            sheet.down()
    sheet.down(6)
    sheet.text(_MARGIN, words["key"].format(server=proof.server, key=proof.key_id), size=_SMALL)
    sheet.down()
    sheet.text(_MARGIN, words["check"], size=_SMALL)
    sheet.down()
    sheet.text(_MARGIN, "super-app verify-receipt FILE --keys KEYS", size=_SMALL, font="Courier")
    sheet.down(6)
    _draw_code(sheet, word)
    return sheet.done()


def shown_amount(proof: ProofContent, language: str) -> str:
    """The amount as a receipt in that language shows it."""
    return _plain_spaces(_amount(proof.amount, proof.asset, locale_of(language)))


def _draw_code(sheet: _Sheet, word: str) -> None:
    matrix: Sequence[Sequence[int]] = segno.make_qr(word, error="l").matrix
    module = _QR / len(matrix)
    top = sheet.y
    for row, modules in enumerate(matrix):
        column = 0
        while column < len(modules):
            start = column
            while column < len(modules) and modules[column]:
                column += 1
            if column > start:
                y = top - (row + 1) * module
                sheet.canvas.rect(_MARGIN + start * module, y, (column - start) * module, module, stroke=0, fill=1)
            column += 1
    sheet.down(_QR + _LINE)


def _field(sheet: _Sheet, name: str, shown: str) -> None:
    sheet.text(_MARGIN, name, size=_SMALL)
    for piece in _lines_of(shown, _BODY, _RIGHT - _MARGIN - 130):
        sheet.text(_MARGIN + 130, piece)
        sheet.down()


def _lines_of(text: str, size: float, width: float) -> list[str]:
    """All of a text, in as many lines as it takes."""
    lines = [""]
    for char in text:
        if _width(lines[-1] + char, _PLAIN, size) > width:
            lines.append("")
        lines[-1] += char
    return lines


def _fitted(text: str, size: float, width: float = _WHAT_WIDTH) -> str:
    """As much of a text as fits into a column."""
    if _width(text, _PLAIN, size) <= width:
        return text
    while text and _width(f"{text}…", _PLAIN, size) > width:
        text = text[:-1]
    return f"{text}…"


def _local(at_ms: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)


# What a page of ours says, read back.

_SHOWN: Final = re.compile(rb"\(((?:\\.|[^\\()])*)\) Tj", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)


def texts_of(pdf: bytes) -> list[str]:
    """What the pages of an uncompressed PDF show, in the order in which it stands in the file."""
    return [_ESCAPE.sub(_unescaped, found).decode(_FONT_CODE, errors="replace") for found in _SHOWN.findall(pdf)]


def _unescaped(found: "re.Match[bytes]") -> bytes:
    what = found[1]
    return bytes([int(what, 8) & 0xFF]) if len(what) == 3 else what
