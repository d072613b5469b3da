"""What the assistant says, as plain text and as HTML at once, so that the two never differ.

Sentences come from us and our translators. What comes from people goes in as values, and a value can be nothing but
text: it is escaped in the HTML, loses the characters that turn the direction of what follows, and is isolated where
its own direction could do that.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

_TURNING: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])
"""Characters that turn the direction of what follows them (UAX #9); what people write has no need of them here."""
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_ISOLATE: Final = "\u2068{}\u2069"
_CODE: Final = re.compile(r"`([^`]+)`")
_FIELD: Final = re.compile(r"{(\w+)}")
_VALUE_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One thing, said twice. ``html`` is of the subset that Matrix allows (specification, "m.room.message")."""

    plain: str
    html: str


EMPTY: Final = Text(plain="", html="")


def value(text: str) -> Text:
    """Something from outside."""
    shown = "".join(_shown(char) for char in text[:_VALUE_MAX].translate(_TURNING)).strip()
    if len(text) > _VALUE_MAX:
        shown += "…"
    plain = (
        _ISOLATE.format(shown) if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown) else shown
    )
    # Clients throw <bdi> away, which is not in that subset; the characters stay.
    return Text(plain=plain, html=escape(plain))


def strong(text: str) -> Text:
    """A value that the sentence is about."""
    inner = value(text)
    return Text(plain=inner.plain, html=f"<strong>{inner.html}</strong>")


def exact(handle: str) -> Text:
    """A handle, all of it. As code, since clients make pills of others, which show a name and hide the homeserver."""
    inner = value(handle)
    return Text(plain=inner.plain, html=f"<code>{inner.html}</code>")


def link(url: str, label: str) -> Text:
    """A link of ours. In plain text it is its address, which clients make into a link themselves."""
    return Text(plain=value(url).plain, html=f'<a href="{escape(url)}">{value(label).html}</a>')


def fill(sentence: str, **values: "str | int | Text") -> Text:
    """``sentence`` with its fields filled in. What stands in backquotes is something to type."""
    said = {name: each if isinstance(each, Text) else value(str(each)) for name, each in values.items()}
    html = _CODE.sub(r"<code>\1</code>", escape(sentence, quote=False))
    return Text(
        plain=_FIELD.sub(lambda field: said[field[1]].plain, sentence),
        html=_FIELD.sub(lambda field: said[field[1]].html, html),
    )


def lines(texts: Iterable[Text]) -> Text:
    """One below the other."""
    kept = [text for text in texts if text.plain]
    return Text(plain="\n".join(text.plain for text in kept), html="<br>".join(text.html for text in kept))


def joined(texts: Iterable[Text], between: str = " ") -> Text:
    """One after the other."""
    kept = [text for text in texts if text.plain]
    return Text(plain=between.join(text.plain for text in kept), html=escape(between).join(text.html for text in kept))


def fields_of(sentence: str) -> frozenset[str]:
    """The names of the fields of a sentence; a translation has the same ones."""
    return frozenset(_FIELD.findall(sentence))


def _shown(char: str) -> str:
    # A line break in a value could make it look like a sentence of ours.
    return " " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") else char
