"""What the assistant makes of what people write."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from super_app.assistant import amounts, parsing
from super_app.assistant.amounts import Problem, Wrong
from super_app.assistant.parsing import Intent
from super_app.assistant.words import PHRASES, Command
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money, iso_asset

EN, DE = amounts.locale_of("en"), amounts.locale_of("de")
PTS = Asset(code=AssetCode("PTS"), scale=0)


def assets_of(*codes: str) -> dict[AssetCode, Asset]:
    return {AssetCode(code): iso_asset(code) or PTS for code in codes}


EUR = assets_of("EUR")
SEVERAL = assets_of("EUR", "JPY", "KWD", "PTS")


def euros(minor: int) -> Money:
    return Money(amount_minor=minor, currency=AssetCode("EUR"))


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("5", 500),
        ("5.", 500),
        ("5,50 €", 550),
        ("€5.50", 550),
        ("EUR 5.50", 550),
        ("5.5 eur", 550),
        ("5 Euro", 500),
        ("1.234,56", 123_456),
        ("1,234.56", 123_456),
        ("1'234.50", 123_450),
        ("1 234,50 EUR", 123_450),
        ("1\u202f234,50 €", 123_450),
        ("1.234.567", 123_456_700),
        ("0,01", 1),
        ("٥", 500),
        ("５", 500),
    ],
)
def test_an_amount_is_read_as_people_write_it(text: str, minor: int) -> None:
    assert amounts.read(text, EUR, EN) == amounts.read(text, EUR, DE) == euros(minor)


def test_a_mark_before_three_digits_is_read_as_the_locale_groups() -> None:
    assert amounts.read("1,234 EUR", EUR, EN) == euros(123_400)
    assert amounts.read("1.234 EUR", EUR, DE) == euros(123_400)
    for text, locale in (("1.234 EUR", EN), ("1,234 EUR", DE)):
        wrong = amounts.read(text, EUR, locale)
        assert isinstance(wrong, Wrong)
        assert wrong.problem is Problem.AMBIGUOUS


def test_scales_other_than_two_are_kept() -> None:
    assert amounts.read("¥500", SEVERAL, EN) == Money(amount_minor=500, currency=AssetCode("JPY"))
    assert amounts.read("KWD 1.234", SEVERAL, EN) == Money(amount_minor=1_234, currency=AssetCode("KWD"))
    assert amounts.read("500.00 JPY", SEVERAL, EN) == Money(amount_minor=500, currency=AssetCode("JPY"))
    assert amounts.read("7 pts", SEVERAL, EN) == Money(amount_minor=7, currency=AssetCode("PTS"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5.5.5,5", Problem.NOT_A_NUMBER),
        ("12,34,567", Problem.NOT_A_NUMBER),
        ("5.5555 EUR", Problem.TOO_PRECISE),
        ("0", Problem.OUT_OF_RANGE),
        ("-5", Problem.OUT_OF_RANGE),
        ("99999999999999999999", Problem.OUT_OF_RANGE),
        ("5 USD", Problem.WHICH_CURRENCY),
    ],
)
def test_what_cannot_be_paid_says_why(text: str, problem: Problem) -> None:
    wrong = amounts.read(text, EUR, EN)
    assert isinstance(wrong, Wrong)
    assert wrong.problem is problem
    assert wrong.text == text


def test_without_a_currency_one_is_only_assumed_where_there_is_one() -> None:
    wrong = amounts.read("5", SEVERAL, EN)
    assert isinstance(wrong, Wrong)
    assert wrong.problem is Problem.WHICH_CURRENCY


@pytest.mark.parametrize("text", ["", "lunch", "12x", "1e5", "5 lunch", "@bob:hs1"])
def test_what_is_no_amount_is_none(text: str) -> None:
    assert amounts.read(text, EUR, EN) is None


@given(st.integers(1, MAX_AMOUNT_MINOR), st.sampled_from(["EUR", "JPY", "KWD", "PTS"]), st.sampled_from([EN, DE]))
def test_what_is_shown_reads_as_what_it_was(minor: int, code: str, locale: object) -> None:
    money = Money(amount_minor=minor, currency=AssetCode(code))
    shown = amounts.show(money, SEVERAL, locale)  # type: ignore[arg-type]
    read = amounts.read(shown, SEVERAL, locale)  # type: ignore[arg-type]
    # Three digits behind a single mark are asked about in one of the two languages, never read as something else.
    assert read == money or (isinstance(read, Wrong) and read.problem is Problem.AMBIGUOUS)


def pay(person: str | None, money: Money | None, memo: str = "", language: str = "en") -> Intent:
    return Intent(command=Command.PAY, person=person, amount=money, rest=memo, language=language)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("pay @bob:hs.example 5 EUR lunch", pay("@bob:hs.example", euros(500), "lunch")),
        ("Pay 5 EUR to @bob for lunch and beer", pay("@bob", euros(500), "lunch and beer")),
        ("please send bob 5", pay("bob", euros(500))),
        ("zahle 5,50 € an @bob für Mittagessen", pay("@bob", euros(550), "Mittagessen", "de")),
        ("pay 1 234,50 EUR @bob:x", pay("@bob:x", euros(123_450))),
        ("pay @bob:127.0.0.1:8448 5", pay("@bob:127.0.0.1:8448", euros(500))),
        ("pay https://matrix.to/#/@bob:hs.example?via=x 5 EUR", pay("@bob:hs.example", euros(500))),
        ("pay https://matrix.to/#/%40bob%3Ahs.example 5 EUR", pay("@bob:hs.example", euros(500))),
        ("pay matrix:u/bob:hs.example 3", pay("@bob:hs.example", euros(300))),
        ("pay @bob 5 EUR 3 beers", pay("@bob", euros(500), "3 beers")),
        ("pay 5 for lunch", pay(None, euros(500), "lunch")),
        ("!pay 5", pay(None, euros(500))),
        ("pay @bob", pay("@bob", None)),
    ],
)
def test_person_amount_and_memo_are_found_wherever_they_stand(text: str, intent: Intent) -> None:
    assert parsing.read(text, EUR, EN) == intent


def test_a_bare_word_behind_the_amount_is_a_guess() -> None:
    read = parsing.read("pay 3 coffee", EUR, EN)
    assert (read.person, read.is_guess) == ("coffee", True)
    assert not parsing.read("pay bob 3", EUR, EN).is_guess


@pytest.mark.parametrize("text", ["pay @bob 5 300", "pay @bob 5 3 EUR", "pay @bob 1.234", "pay @bob 5 USD"])
def test_an_amount_that_could_be_another_is_never_cut_short(text: str) -> None:
    assert isinstance(parsing.read(text, EUR, EN).amount, Wrong)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Balance?", Command.BALANCE),
        ("wie viel habe ich?", Command.BALANCE),
        ("who may pay me contacts", Command.PAY_POLICY),
        ("follow @bob:hs2.test", Command.FOLLOW),
        ("who follows me", Command.FOLLOW),
        ("stop following @bob", Command.UNFOLLOW),
        ("folge @bob", Command.FOLLOW),
        ("entfolge @bob", Command.UNFOLLOW),
        ("Call policy nobody", Command.CALL_POLICY),
        ("call @bob", Command.CALL),
        ("bitte um 5 Euro von @bob", Command.REQUEST),
        ("wer ist bob", Command.FIND),
        ("2.", Command.CHOICE),
        ("👍", Command.YES),
        ("?", Command.HELP),
        ("how is the weather", Command.UNKNOWN),
        ("", Command.UNKNOWN),
    ],
)
def test_commands_are_known_in_both_languages(text: str, command: Command) -> None:
    assert parsing.read(text, EUR, EN).command is command


@pytest.mark.parametrize(
    ("text", "command", "minor", "number", "people", "memo"),
    [
        ("gift 10 in 5 happy new year", Command.GIFT, 1_000, 5, (), "happy new year"),
        ("schenke 10 € in 5 gleich", Command.GIFT, 1_000, 5, (), "gleich"),
        ("gift 7.50 to @bob:hs2", Command.GIFT, 750, None, ("@bob:hs2",), ""),
        ("split 40 @bob:hs2 @carol:hs1 for dinner", Command.SPLIT, 4_000, None, ("@bob:hs2", "@carol:hs1"), "dinner"),
        ("teile 33,30 Pizza", Command.SPLIT, 3_330, None, (), "Pizza"),
        ("collect 200 for the boat", Command.COLLECT, 20_000, None, (), "the boat"),
        ("link @new:elsewhere 5 welcome", Command.LINK, 500, None, ("@new:elsewhere",), "welcome"),
        ("split", Command.SPLIT, None, None, (), ""),
    ],
)
def test_amounts_among_several_come_with_shares_people_and_a_memo(
    text: str, command: Command, minor: int | None, number: int | None, people: tuple[str, ...], memo: str
) -> None:
    intent = parsing.read(text, EUR, DE if "," in text or "schenke" in text else EN)
    assert (intent.command, intent.amount) == (command, None if minor is None else euros(minor))
    assert (intent.number, intent.people, intent.rest) == (number, people, memo)


def test_no_phrase_means_two_things() -> None:
    seen: dict[str, Command] = {}
    for commands in PHRASES.values():
        for command, phrases in commands.items():
            for phrase in phrases:
                assert phrase == phrase.casefold()
                assert seen.setdefault(phrase, command) is command


@pytest.mark.parametrize("text", ["hello", "pay @bob 5", "! pay 5", "!weather", "!yes", "!1", "!"])
def test_among_others_only_known_commands_with_a_mark_are_for_it(text: str) -> None:
    assert parsing.read_aside(text, EUR, EN) is None


def test_a_pill_is_the_person_it_links_to_whatever_it_shows() -> None:
    html = (
        "<mx-reply><blockquote>pay @eve:x 100</blockquote></mx-reply>"
        'pay <a href="https://matrix.to/#/@bob:hs">@eve:x</a> 5&nbsp;EUR <b>lunch</b>'
    )
    text = parsing.text_of("pay @eve:x 5 EUR lunch", html)
    assert parsing.read(text, EUR, EN) == pay("@bob:hs", euros(500), "lunch")


def test_what_a_reply_quotes_is_not_said_again() -> None:
    assert parsing.text_of("> <@eve:x> pay @eve:x 100\n> more\n\naccept") == "accept"


@given(st.text(max_size=200))
@example("pay " + "9" * 200)
@example("pay @" + "a" * 300 + " ² 5")
@example("pay ¹ @bob")
@example('pay <a href="')
def test_whatever_is_written_is_read_without_failing(text: str) -> None:
    for read_as in (text, f"pay {text}", f"request @bob {text}"):
        parsing.read(read_as, EUR, EN)
        parsing.read(read_as, SEVERAL, DE)
        parsing.read_aside("!" + read_as, {}, EN)
        parsing.text_of(read_as, read_as)


@example(["EUR", "5", "@bob", "300"])
@given(st.lists(st.sampled_from(["5", "1.234", "EUR", "€", "@bob", "lunch", "300", "0,5", "to"]), max_size=6))
def test_an_order_never_pays_more_than_is_written_in_one_place(words: list[str]) -> None:
    read = parsing.read("pay " + " ".join(words), EUR, EN)
    if isinstance(read.amount, Money):
        written = "".join(words).replace(".", "").replace(",", "")
        assert str(read.amount.amount_minor).rstrip("0") in written


def test_html_that_python_cannot_parse_leaves_the_plain_text() -> None:
    assert parsing.text_of("balance", "<p>balance</p><![>") == "balance"
