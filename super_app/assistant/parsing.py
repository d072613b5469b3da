"""Reads what somebody wrote to the assistant: text in, intent out.

Nothing here fails: what is not understood is ``Command.UNKNOWN``. People write in any order and with any politeness,
so the person, the amount and what it is for are picked out wherever they stand; only a ``!`` command has to begin with
a word that we know, since it stands among other people's messages.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Final
from urllib.parse import unquote

from babel import Locale

from super_app.assistant import amounts
from super_app.assistant.amounts import Problem, Wrong
from super_app.assistant.words import FILLERS, PHRASES, Command
from super_app.money import Asset, AssetCode, Money

MAX_CHARACTERS: Final = 2_000
_AMOUNT_WORDS: Final = 4
_PHRASES: Final = sorted(
    (
        (tuple(phrase.split()), command, language)
        for language, commands in PHRASES.items()
        for command, phrases in commands.items()
        for phrase in phrases
    ),
    key=lambda each: -len(each[0]),
)
_MATRIX_TO: Final = re.compile(r"https?://matrix\.to/#/([^/?\s>)\]]+)[^\s>)\]]*")
_MATRIX_URI: Final = re.compile(r"matrix:u/([^?\s>)\]]+)[^\s>)\]]*")
_GROUP: Final = re.compile(r"\d[\d.,'’]*")
_PERSON: Final = re.compile(r"@[^\s,;]+")
_EDGES: Final = ".,!?;:…\"'“”„«»()[]"
_WITH_MONEY: Final = frozenset({Command.PAY, Command.REQUEST, Command.SCHEDULE})
_WITH_MONEY_ALONE: Final = frozenset(
    {
        Command.GIFT,
        Command.LINK,
        Command.SPLIT,
        Command.COLLECT,
        Command.CALL_PRICE,
        Command.DEPOSIT,
        Command.PAID_CALL_LINK,
        Command.ENTER_CALL,
    }
)
_INTO: Final = frozenset({"in", "into", "auf"})
_WITH_A_PERSON: Final = frozenset(
    {Command.CALL, Command.CALL_BACK, Command.FIND, Command.CONTACTS, Command.FOLLOW, Command.UNFOLLOW}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What somebody wants. ``person`` is as they wrote it: a handle, a user id, or a name to look for.

    ``rest`` is what is left of the message: the memo of a payment, the term of a search, the words of a policy.
    ``language`` is the one that the words are of, where that is plain.
    """

    command: Command
    person: str | None = None
    is_guess: bool = False
    """Whether ``person`` is a bare word behind the amount, which may as well be what it is for."""
    amount: Money | Wrong | None = None
    rest: str = ""
    number: int | None = None
    people: tuple[str, ...] = ()
    """Everybody who is named, where that may be several."""
    language: str | None = None


def text_of(body: str, formatted_body: str | None = None) -> str:
    """What a message says, with people who were mentioned by name as their user ids and without what it quotes."""
    if formatted_body:
        reader = _Reader()
        try:
            reader.feed(formatted_body[: MAX_CHARACTERS * 4])
            reader.close()
            said = reader.said()
        except AssertionError:
            # So does the parser of Python fail at "<![>": a declaration that is none. The plain text is there too.
            said = ""
        if said:
            return said[:MAX_CHARACTERS]
    kept = body.split("\n")
    # The quoted part of a reply (Matrix specification, "Fallbacks for rich replies").
    while kept and kept[0].startswith(">"):
        kept.pop(0)
    return "\n".join(kept).strip()[:MAX_CHARACTERS]


def read(text: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> Intent:
    """What the assistant is asked for in a room of its own."""
    words = _linked(text[:MAX_CHARACTERS]).split()
    if words and words[0].startswith("!"):
        words[0] = words[0][1:]
    if len(words) == 1 and (digits := words[0].strip(_EDGES + "#")).isdecimal() and len(digits) < 4:
        return Intent(command=Command.CHOICE, number=int(digits), rest=text.strip())
    found = _command(words)
    if found is None:
        return Intent(command=Command.UNKNOWN, rest=text.strip())
    command, language, rest = found
    intent = Intent(command=command, language=language, rest=" ".join(rest))
    if command in _WITH_MONEY:
        return _with_money(intent, rest, assets, locale)
    if command in _WITH_MONEY_ALONE:
        return _with_money_alone(intent, rest, assets, locale)
    if command in _WITH_A_PERSON:
        return replace(intent, person=next((_trimmed(word) for word in rest if _is_person(word)), None))
    return intent


def read_aside(text: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> Intent | None:
    """What is asked for among other people's messages, with ``!`` in front. None if it is not for the assistant."""
    if not text.startswith("!") or text[1:2].isspace():
        return None
    intent = read(text, assets, locale)
    spoken = (Command.UNKNOWN, Command.CHOICE, Command.YES, Command.NO)
    return None if intent.command in spoken else intent


def _command(words: list[str]) -> tuple[Command, str, list[str]] | None:
    """The command that a message begins with, after words of politeness."""
    start = 0
    while start < len(words) and _folded(words[start]) in ("please", "bitte") and start + 1 < len(words):
        if _folded(words[start + 1]) == "um":
            break
        start += 1
    spoken = [_folded(word) for word in words[start:]]
    for phrase, command, language in _PHRASES:
        if tuple(spoken[: len(phrase)]) == phrase:
            return command, language, words[start + len(phrase) :]
    return None


def _with_money(intent: Intent, words: list[str], assets: Mapping[AssetCode, Asset], locale: Locale) -> Intent:
    rest = list(words)
    person: str | None = None
    gap = 0
    for index, word in enumerate(rest):
        if _is_person(word):
            person, gap = _trimmed(word), index
            del rest[index]
            break
    leading = rest[0] if rest else ""
    amount, rest = _take_amount(rest, gap, assets, locale)
    is_guess = False
    while rest and _folded(rest[0]) in FILLERS:
        rest.pop(0)
    if person is None and rest and not _says_what_for(words, rest[0]):
        # A name without the @: the first word that is left.
        is_guess = amount is not None and rest[0] != leading
        person = _trimmed(rest.pop(0))
    while rest and _folded(rest[0]) in FILLERS:
        rest.pop(0)
    return replace(intent, person=person, is_guess=is_guess, amount=amount, rest=" ".join(rest))


def _with_money_alone(intent: Intent, words: list[str], assets: Mapping[AssetCode, Asset], locale: Locale) -> Intent:
    """An amount, people who are named in full, and with ``in 5`` a number of shares; no bare word is a person here."""
    people = tuple(_trimmed(word) for word in words if _is_person(word))
    rest, number = [word for word in words if not _is_person(word)], None
    for index, word in enumerate(rest[:-1]):
        if _folded(word) in _INTO and rest[index + 1].strip(_EDGES).isdecimal():
            number = int(rest[index + 1].strip(_EDGES)[:4])
            del rest[index : index + 2]
            break
    amount, rest = _take_amount(rest, 0, assets, locale)
    while rest and _folded(rest[0]) in FILLERS:
        rest.pop(0)
    return replace(intent, people=people, number=number, amount=amount, rest=" ".join(rest))


def _says_what_for(words: list[str], word: str) -> bool:
    """Whether the word before ``word`` tells that what comes is no person: ``pay 5 for lunch``."""
    before = words[: words.index(word)]
    return bool(before) and _folded(before[-1]) in ("for", "für", "of", "about", "wegen")


def _take_amount(
    words: list[str], gap: int, assets: Mapping[AssetCode, Asset], locale: Locale
) -> tuple[Money | Wrong | None, list[str]]:
    """The first amount among ``words``, and the words without it. The longest that can be read counts.

    The person stood before the word at ``gap``: what they parted is not one amount.
    """
    for start in range(len(words)):
        for length in range(min(_AMOUNT_WORDS, len(words) - start), 0, -1):
            taken = words[start : start + length]
            if start < gap < start + length or not _may_be_amount(taken, assets, locale):
                continue
            text = " ".join(taken).strip(_EDGES)
            read_as = amounts.read(text, assets, locale)
            if length > 1 and all(word.strip(_EDGES).isdecimal() for word in taken):
                # "5 300" may be one amount, or one and what it is for.
                if isinstance(read_as, Money):
                    asset = assets[read_as.currency]
                    read_as = Wrong(problem=Problem.AMBIGUOUS, text=text, asset=asset)
                else:
                    continue
            if read_as is not None:
                return read_as, words[:start] + words[start + length :]
    return None, words


def _may_be_amount(words: list[str], assets: Mapping[AssetCode, Asset], locale: Locale) -> bool:
    """Whether several words can be one amount: a number, perhaps in groups, with a currency before or behind it."""
    if len(words) == 1:
        return any(char.isdecimal() for char in words[0])
    is_number = [_GROUP.fullmatch(word.strip(_EDGES)) is not None for word in words]
    if not all(is_number[1:-1]):
        return False
    ends = [word for word, number in ((words[0], is_number[0]), (words[-1], is_number[-1])) if not number]
    # At most one end is a currency, alone or joined to its number (EUR 1 000, €1 000).
    return len(ends) < 2 and all(_names_asset(re.sub(r"\d+", "", word), assets, locale) for word in ends)


def _names_asset(word: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> bool:
    bare = word.strip("().,!")
    return amounts.asset_named(bare, assets, locale) is not None or amounts.names_a_currency(bare)


def _is_person(word: str) -> bool:
    return _PERSON.fullmatch(_trimmed(word)) is not None


def _trimmed(word: str) -> str:
    return word.strip(_EDGES + "<>")


def _folded(word: str) -> str:
    bare = word.strip(_EDGES + "<>")
    return (bare or word).casefold()


def _linked(text: str) -> str:
    """Links to people as their user ids."""
    with_ids = _MATRIX_TO.sub(lambda found: f" {unquote(found[1])} ", text)
    return _MATRIX_URI.sub(lambda found: f" @{unquote(found[1])} ", with_ids)


class _Reader(HTMLParser):
    """The text of a formatted message. A link to a person (a pill) is their user id, whatever it shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._quoted = 0
        self._in_pill = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "mx-reply":
            self._quoted += 1
        elif tag == "a" and not self._quoted:
            target = _linked(dict(attrs).get("href") or "").strip()
            if target.startswith("@"):
                self._in_pill = True
                self._parts.append(f" {target} ")
        elif tag in ("br", "p", "div", "li"):
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "mx-reply" and self._quoted:
            self._quoted -= 1
        elif tag == "a":
            self._in_pill = False

    def handle_data(self, data: str) -> None:
        if not self._quoted and not self._in_pill:
            self._parts.append(data)

    def said(self) -> str:
        return " ".join("".join(self._parts).split())
