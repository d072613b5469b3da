"""Reads Matrix addresses out of a vCard file (RFC 6350, and the older 2.1 and 3.0), and nothing else.

An address book is mostly about people who use no Matrix. So only the few properties that can hold a Matrix address are
looked at, and no other content is decoded, kept or put into a message. A general parser would do all of that first.
"""

import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from super_app.ids import UserId, parse_user_id

_FOLD: Final = re.compile(r"\r?\n[ \t]")
_PROPERTY: Final = re.compile(
    r'(?:[A-Za-z0-9-]+\.)?(?P<name>[A-Za-z0-9-]+)(?P<rest>(?:;[^":]*(?:"[^"]*"[^":]*)*)?):(?P<value>.*)'
)
_NAMES: Final = frozenset({"X-MATRIX", "X-MATRIX-ID", "IMPP", "URL"})
_LINK: Final = re.compile(r"https?://matrix\.to/#/(?P<target>[^?/]+).*", re.IGNORECASE)
_URI: Final = re.compile(r"(?P<scheme>matrix|xmpp|[a-z][a-z0-9+.-]*):(?P<rest>.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """What a file says: how many cards there are, and the Matrix addresses on them, each once, in order."""

    cards: int
    found: tuple[UserId, ...]
    """User ids or full handles; they have the same form."""


def read(text: str) -> Addresses:
    """Read a file of any number of cards. What is no card or cannot be read is passed over."""
    cards = 0
    found: dict[UserId, None] = {}
    for name, value in _properties(text):
        if name == "BEGIN" and value.strip().upper() == "VCARD":
            cards += 1
        address = _address(value.strip()) if name in _NAMES else None
        if address is not None:
            found[address] = None
    return Addresses(cards=cards, found=tuple(found))


def _properties(text: str) -> Iterator[tuple[str, str]]:
    for line in _FOLD.sub("", text).splitlines():
        match = _PROPERTY.fullmatch(line)
        if match is None:
            continue
        value = match["value"]
        if "QUOTED-PRINTABLE" in match["rest"].upper():
            value = quopri.decodestring(value.encode("utf-8", "replace")).decode("utf-8", "replace")
        # Commas and colons may be escaped in text (RFC 6350, section 3.4).
        yield match["name"].upper(), re.sub(r"\\([:,;\\])", r"\1", value)


def _address(value: str) -> UserId | None:
    """``@bob:example.org``, ``matrix:u/bob:example.org`` (MSC2312), or a matrix.to link, as a user id."""
    link = _LINK.fullmatch(value)
    if link is not None:
        return parse_user_id(unquote(link["target"]))
    if value.startswith("@"):
        return parse_user_id(value)
    uri = _URI.fullmatch(value)
    if uri is None or uri["scheme"].lower() != "matrix":
        return None
    rest = unquote(uri["rest"].partition("?")[0])
    if rest.startswith("u/"):
        return parse_user_id("@" + rest.removeprefix("u/"))
    return parse_user_id(rest)
