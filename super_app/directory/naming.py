"""What a handle may look like, and which handles look alike. Pure text; who holds a name is not asked here.

Handles are ASCII, so the confusables of UTS #39 shrink to a small table. It expands (``m`` to ``rn``) instead of
contracting, because then the order of replacements does not matter: ``vvv``, ``wv`` and ``vw`` all become ``vvv``.
"""

import re
from dataclasses import dataclass
from typing import Final

from precis_i18n import get_profile

from super_app.directory.model import Name
from super_app.errors import Reason, Refused
from super_app.ids import ServerName

MAX_LENGTH: Final = 32

_FORM: Final = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789._"
_SERVER: Final = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,230}")
_PRECIS: Final = get_profile("UsernameCaseMapped")  # RFC 8265, section 3.3

# A localpart may hold more separators than a new name: Matrix spec, appendices, "User Identifiers".
_SEPARATORS: Final = str.maketrans("", "", "._-=/+")
_CONFUSABLE: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "m": "rn", "w": "vv"})
_CLOSE: Final = str.maketrans({"d": "cl"})

# Mailboxes of RFC 2142, and names that people take for the house or that software gives a meaning.
_MAILBOXES: Final = (
    "info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp"
)
_WORDS: Final = (
    "about account accounts all anonymous api app assistant bank billing bot contact contacts everyone handle handles"
    " here login me nobody none noreply notice notices null owner pay payment payments privacy refund refunds register"
    " registration room root server service services signup staff status support sysadmin system team terms undefined"
    " user users wallet you"
)
# Imitating these is what a swindler would do, so one edit away from them is refused as well.
_GUARDED: Final = (
    "admin administrator moderator operator official helpdesk security support postmaster homeserver superapp synapse"
    " matrix element"
)
_MIN_GUARDED: Final = 4
"""Names shorter than this have too many neighbours to protect those as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePolicy:
    """The operator's part of the rules: how short a new name may be, and which names (brands) are the operator's."""

    min_length: int
    reserved: tuple[str, ...] = ()


def skeleton(name: str) -> str:
    """What a name looks like. Two names with one skeleton cannot be told apart at a glance."""
    return name.lower().translate(_SEPARATORS).translate(_CONFUSABLE)


def normalise(text: str) -> Name | Refused:
    """PRECIS UsernameCaseMapped: case, width and normal form. Says nothing about the form of a new name."""
    try:
        return Name(_PRECIS.enforce(text))
    except UnicodeEncodeError:
        return Refused(
            reason=Reason.HANDLE_INVALID,
            message=f"{_shown(text)} cannot be a handle: it is empty or has characters that no user name may have.",
        )


def spellings(text: str) -> tuple[Name, ...]:
    """The names that ``text`` may mean: as typed, since localparts of old accounts keep their case, and normalised."""
    normalised = normalise(text)
    if isinstance(normalised, Refused):
        return ()
    return (normalised,) if normalised == text else (Name(text), normalised)


def split(text: str, own_server: ServerName) -> tuple[str, ServerName] | Refused:
    """``bob``, ``@bob`` or ``@bob:other.example`` as the text of a name and a server."""
    name, colon, server = text.removeprefix("@").partition(":")
    if not name or (colon and _SERVER.fullmatch(server) is None):
        return Refused(
            reason=Reason.HANDLE_INVALID,
            message=f"{_shown(text)} is no handle; write it as bob, @bob or @bob:other.example.",
        )
    return name, ServerName(server) if colon else own_server


def check_new(text: str, policy: NamePolicy) -> Name | Refused:
    """Whether somebody may have this name at all, whoever else may hold it."""
    name = _check_form(text, policy.min_length)
    if isinstance(name, Refused):
        return name
    imitated = _reserved(name, policy)
    if imitated is not None:
        how = "is reserved" if imitated == name else f"is too close to the reserved name {imitated}"
        return Refused(
            reason=Reason.HANDLE_RESERVED,
            message=f"{name} {how}; choose another, or ask the operator of this homeserver for it.",
        )
    return name


def check_grant(text: str) -> Name | Refused:
    """Whether the operator may give this name: the form of a handle, reserved or not, of any length up to the limit."""
    return _check_form(text, 1)


def _check_form(text: str, min_length: int) -> Name | Refused:
    name = normalise(text)
    if isinstance(name, Refused):
        return name
    if _FORM.fullmatch(name) is None:
        return Refused(
            reason=Reason.HANDLE_INVALID,
            message=(
                f"{_shown(text)} cannot be a handle: use the letters a to z and digits, begin with a letter, and put "
                "single dots or underscores only in between. Letters of other scripts are not possible."
            ),
        )
    if not min_length <= len(name) <= MAX_LENGTH:
        return Refused(
            reason=Reason.HANDLE_INVALID,
            message=f"{name} has {len(name)} characters; a handle has {min_length} to {MAX_LENGTH}.",
        )
    return name


def _reserved(name: Name, policy: NamePolicy) -> str | None:
    """The reserved name that ``name`` is or imitates."""
    seen = skeleton(name)
    for word in (*_MAILBOXES.split(), *_WORDS.split()):
        if seen == skeleton(word):
            return word
    return protected_name(name, policy)


def protected_name(name: str, policy: NamePolicy) -> str | None:
    """The name of the house or of the operator that ``name``, in lower-case ASCII, is or imitates."""
    plain, wide = name.translate(_SEPARATORS), skeleton(name).translate(_CLOSE)
    for word in (*_GUARDED.split(), *policy.reserved):
        brand = word.lower()
        brand_plain, brand_wide = brand.translate(_SEPARATORS), skeleton(brand).translate(_CLOSE)
        if wide == brand_wide:
            return brand
        if len(brand_plain) >= _MIN_GUARDED and (
            within_one_edit(plain, brand_plain) or within_one_edit(wide, brand_wide)
        ):
            return brand
    return None


def within_one_edit(one: str, other: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours (or nothing) turns one into the other."""
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    if short[at + 1 :] == long[at + 1 :]:
        return True
    return short[at : at + 2] == long[at : at + 2][::-1] and short[at + 2 :] == long[at + 2 :]


def one_edit_away(name: str) -> tuple[str, ...]:
    """All that one insertion, deletion, substitution or swap of neighbours makes of a name, without the name itself."""
    # A dict, since it keeps the order in which they were made: the same every time.
    found: dict[str, None] = {}
    for at in range(len(name) + 1):
        head, tail, rest = name[:at], name[at:], name[at + 1 :]
        found.update(dict.fromkeys([head + char + tail for char in _CHARACTERS]))
        if tail:
            found[head + rest] = None
            found.update(dict.fromkeys([head + char + rest for char in _CHARACTERS]))
        if rest:
            found[head + rest[0] + tail[0] + rest[1:]] = None
    found.pop(name, None)
    found.pop("", None)
    return tuple(found)


def _shown(text: str) -> str:
    """Text from outside in a sentence: short, and with nothing invisible in it."""
    return ascii(text[:64])
