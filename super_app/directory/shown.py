"""How a person's display name is shown beside their handle, so that it vouches for nothing that was not verified."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from super_app.directory.badges import Kind
from super_app.directory.naming import NamePolicy, protected_name
from super_app.ids import ServerName

MARK: Final = "\u2713"
"""What verified people have after their name in results; nobody else can have it there."""

# Ticks, stars, shields, locks, medals, and letters in circles: what people take for a badge.
_GLYPHS: Final = re.compile(
    "[\u2705\u2713\u2714\u221a\u2611\u00ae\u00a9\u2122\u2b50\u2605\u2606\u272a\u2730\u2b51\u2b55\u25c9\u2733\u2747\u26ca"
    "\u237b\u23b7\u25cf\u29bf\u269c\uaa9c\U0001f535\U0001f537\U0001f539\U0001f3f5\U0001f50f\U0001f396"
    "\U0001f512\U0001f510\U0001f6e1\U0001f396\U0001f3c5\U0001f947\U0001f4a0\U0001f530\U0001f5f8\U0001f5f9\U0001f197"
    "\u24b6-\u24e9\U0001f150-\U0001f169\U0001f170-\U0001f189\ufe0e\ufe0f]"
)
_HANDLE: Final = re.compile(r"@[^\s@:]+:\S+")
_SPACES: Final = re.compile(r"\s+")
# Letters of other scripts that are taken for Latin ones (UTS #39), where no normal form makes them so.
_LOOKS: Final = str.maketrans(
    {
        "\u0430": "a", "\u0435": "e", "\u043e": "o", "\u0440": "p", "\u0441": "c", "\u0443": "y", "\u0445": "x",
        "\u0456": "i", "\u0458": "j", "\u0455": "s", "\u0501": "d", "\u051b": "q", "\u051d": "w", "\u04bb": "h",
        "\u043a": "k", "\u043c": "m", "\u043d": "h", "\u0442": "t", "\u0432": "b", "\u03b1": "a", "\u03b5": "e",
        "\u03b9": "i", "\u03bf": "o", "\u03c1": "p", "\u03c5": "u", "\u03bd": "v", "\u03ba": "k", "\u03c4": "t",
        "\u0131": "i", "\u01c0": "l", "\u0261": "g", "\u0578": "n", "\u057d": "u", "\u0585": "o",
    }
)  # fmt: skip


def neutral(name: str) -> str:
    """A display name without what imitates a badge, hides, or turns the line around."""
    plain = "".join(char for char in name if unicodedata.category(char) not in ("Cf", "Cc", "Co", "Cs", "Cn"))
    return _SPACES.sub(" ", _GLYPHS.sub("", plain)).strip()


@lru_cache(maxsize=20_000)
def imitates(name: str, policy: NamePolicy) -> str | None:
    """The protected name that a display name looks like, whole or as one of its words; None if it looks like none."""
    folded = unicodedata.normalize("NFKD", name).casefold().translate(_LOOKS)
    letters = "".join(char for char in folded if not unicodedata.combining(char))
    words = re.findall(r"[a-z0-9]+", letters)
    for text in (*words, "".join(words)):
        found = protected_name(text, policy)
        if found is not None:
            return found
    return None


class Standing(Enum):
    """How somebody is known here, as far as the name is concerned that they are shown under."""

    UNKNOWN = "unknown"
    VERIFIED = "verified"
    OF_THE_HOUSE = "of the house"
    """Verified by the operator of this homeserver, who alone decides who bears a name of the house."""


def standing_of(badges: Collection[Mapping[str, Any]], own_server: ServerName) -> Standing:
    """By the badges of somebody that can be believed. Any other operator verifies whom they like as "Support"."""
    if not badges:
        return Standing.UNKNOWN
    ours = (Kind.OPERATOR.value, own_server)
    return (
        Standing.OF_THE_HOUSE if any((each["kind"], each["issuer"]) == ours for each in badges) else Standing.VERIFIED
    )


def shown(display_name: str | None, handle_name: str, standing: Standing, policy: NamePolicy) -> str:
    """What to show as a person's name; the name in their handle where the one that they chose would deceive.

    Beside the name stands the handle, so a name that holds a handle would be read as it.
    """
    name = neutral(display_name or "") or handle_name
    deceives = _HANDLE.search(unicodedata.normalize("NFKC", name)) is not None or (
        standing is not Standing.OF_THE_HOUSE and imitates(name, policy) is not None
    )
    name = handle_name if deceives else name
    return name if standing is Standing.UNKNOWN else f"{name} {MARK}"
