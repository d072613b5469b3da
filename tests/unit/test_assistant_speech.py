"""How the assistant says things: safely, in each language, and completely."""

from collections.abc import Iterable
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

import super_app.assistant
from super_app.assistant import text
from super_app.assistant.amounts import Problem, Wrong
from super_app.assistant.speech import Balance, CallLine, Line, Person, Speech
from super_app.assistant.words import LANGUAGES, SOURCE_LANGUAGE, Command
from super_app.errors import Reason, Refused
from super_app.money import AssetCode, Money, iso_asset
from synapse_super_app.assistant.catalogues import catalogue

EUR = iso_asset("EUR")
assert EUR is not None
ASSETS = {EUR.code: EUR}
OTHERS = sorted(set(LANGUAGES) - {SOURCE_LANGUAGE})
MONEY = Money(amount_minor=123_450, currency=AssetCode("EUR"))


def sentences() -> Catalog:
    """All that the code says, as gettext's tools find it."""
    found = Catalog()
    keywords = {"say": None, "say_many": (1, 2)}
    folder = Path(super_app.assistant.__file__).parent
    for _, _, message, _, _ in extract_from_dir(str(folder), [("**.py", "python")], keywords=keywords):
        found.add(message)
    return found


def spelled(said: object) -> tuple[str, ...]:
    """A sentence, or its forms for one and for many."""
    return (said,) if isinstance(said, str) else tuple(str(each) for each in cast(Iterable[object], said or ()))


def translated(language: str) -> Catalog:
    path = files("super_app.assistant").joinpath("locale", language, "LC_MESSAGES", "assistant.po")
    return read_po(BytesIO(path.read_bytes()), locale=language)


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_has_every_sentence_and_no_other(language: str) -> None:
    catalog = translated(language)
    assert {spelled(message.id) for message in catalog} == {spelled(message.id) for message in sentences()}
    for message in catalog:
        assert len(spelled(message.string)) == len(spelled(message.id)), message.id
        assert all(spelled(message.string)), message.id
        assert not message.fuzzy, message.id


@pytest.mark.parametrize("language", OTHERS)
def test_each_translation_has_the_fields_of_its_sentence(language: str) -> None:
    for message in translated(language):
        if not message.id:
            continue
        sources = {text.fields_of(each) for each in spelled(message.id)}
        assert {text.fields_of(each) for each in spelled(message.string)} <= sources, message.id


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def everything_said(speech: Speech, outside: str) -> list[text.Text]:
    """One of each message, with ``outside`` wherever something of somebody else stands."""
    person = Person(handle=outside, name=outside, badges=(outside,))
    line = Line(incoming=True, other=outside, money=MONEY, state=outside, memo=outside, at_ms=0)
    place = speech.place("https://matrix.to/#/x")
    assert EUR is not None
    states = ["completed", "awaiting_acceptance", "declined", "expired", "cancelled", "failed", outside]
    return [
        speech.greeting(outside, payments=True, directory=True, calls=True),
        speech.help(payments=True, directory=True, calls=True, recovery=True),
        speech.refused(Refused(reason=Reason.SERVER_ONLY, message=outside)),
        speech.balances([Balance(asset=EUR, available_minor=1, held_minor=2)], frozen=True),
        *[speech.wrong_amount(Wrong(problem=problem, text=outside, asset=EUR)) for problem in Problem],
        speech.confirm_payment(person, MONEY, outside),
        speech.choose([person, person]),
        speech.found_nobody(outside),
        speech.paying_soon(person, MONEY, outside, 10),
        speech.undone(person, MONEY),
        *[speech.payment_is(person, MONEY, state) for state in states],
        speech.not_paid(person, MONEY, text.value(outside)),
        speech.needs_confirmation(person, MONEY, "https://hs.example/superapp/"),
        speech.history([line]),
        speech.which_one([speech.payment_from(outside, MONEY), speech.payment_to(outside, MONEY)]),
        speech.accepted(person, MONEY, "completed"),
        speech.declined(person, MONEY),
        speech.requested(person, MONEY),
        speech.you_were_paid(person, MONEY, outside, place),
        speech.you_are_offered(person, MONEY, outside, place),
        speech.you_are_asked(person, MONEY, outside, place),
        speech.request_was_declined(person, MONEY),
        speech.you_missed_a_call(person, 0, place),
        speech.found([person]),
        speech.handles([outside, outside]),
        speech.contacts([outside]),
        speech.contact_added(outside),
        speech.follows([outside], [outside]),
        speech.followed(outside, is_mutual=True),
        speech.unfollowed(outside),
        speech.not_followed(),
        speech.calls([CallLine(incoming=True, other=outside, outcome=outside, at_ms=0)]),
        speech.call_from(person, "https://matrix.to/#/x"),
        speech.call_policy([outside]),
        speech.pay_policy([outside], asks=True),
        speech.how_to_recover("https://hs.example/superapp/recover/"),
        speech.languages(),
    ]


@given(st.text(max_size=60), st.sampled_from(sorted(LANGUAGES)))
def test_nothing_from_outside_becomes_html_or_turns_the_text(outside: str, language: str) -> None:
    speech = Speech(language, catalogue(language), ASSETS)
    plain = [said.plain for said in everything_said(speech, "")]
    for said, reference in zip(everything_said(speech, f"{outside}<b>&\u202e"), plain, strict=True):
        tags = Tags()
        tags.feed(said.html)
        assert set(tags.found) <= {"strong", "code", "a", "bdi", "br"}
        for shown in (said.plain, said.html):
            assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u200f")
            assert shown.count("\u2068") == shown.count("\u2069")
        # A value has no line of its own, so it cannot pass for one of ours.
        assert abs(said.plain.count("\n") - reference.count("\n")) <= 3


def test_what_runs_from_right_to_left_is_isolated_and_the_rest_is_not() -> None:
    assert text.value("שלום").plain == "\u2068שלום\u2069"
    assert text.value("שלום").html == text.value("שלום").plain == "\u2068שלום\u2069"
    assert text.value("lunch & beer").plain == "lunch & beer"
    assert text.value("lunch & beer").html == "lunch &amp; beer"


def test_a_field_inside_a_value_stays_as_it_is_written() -> None:
    assert text.fill("For: {memo}", memo="{memo} {other}").plain == "For: {memo} {other}"


def test_amounts_are_shown_as_the_language_writes_them() -> None:
    english, german = (Speech(each, catalogue(each), ASSETS) for each in ("en", "de"))
    assert "€1,234.50" in english.money(MONEY).plain
    assert "1.234,50\u00a0€" in german.money(MONEY).plain


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_help_names_commands_that_are_understood(language: str) -> None:
    from super_app.assistant import parsing

    speech = Speech(language, catalogue(language), ASSETS)
    for said in (
        speech.help(payments=True, directory=True, calls=True, recovery=True),
        speech.greeting("@a:x", payments=True, directory=True, calls=True),
        speech.pay_policy(["everyone"], asks=True),
        speech.pay_policy(["everyone"], asks=False),
        speech.confirm_payment(Person(handle="@a:x"), MONEY, ""),
    ):
        for shown in said.plain.split("`")[1::2]:
            assert parsing.read(shown, ASSETS, speech.locale).command is not Command.UNKNOWN, shown


def test_a_handle_is_shown_whole_also_by_clients_that_make_pills_of_people() -> None:
    """A pill shows a name and hides the homeserver; what is code stays as it is written (seen in Element Web 1.12)."""
    speech = Speech(SOURCE_LANGUAGE, catalogue(SOURCE_LANGUAGE), ASSETS)
    person = Person(handle="@bob:two.example", name="Bob", badges=("one.example",))
    assert speech.person(person).html == "Bob <code>@bob:two.example</code> (verified by one.example)"
    assert speech.person(person).plain == "Bob @bob:two.example (verified by one.example)"
