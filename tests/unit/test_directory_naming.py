"""What a handle may look like, and which ones look alike."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.directory.naming import (
    NamePolicy,
    check_grant,
    check_new,
    normalise,
    one_edit_away,
    skeleton,
    spellings,
    split,
    within_one_edit,
)
from super_app.errors import Reason, Refused
from super_app.ids import ServerName

POLICY = NamePolicy(min_length=5, reserved=("Acme-Bank", "claudia"))
HERE = ServerName("hs1.test")

names = st.from_regex(r"[a-z][a-z0-9]*([._][a-z0-9]+)*", fullmatch=True).filter(lambda name: 5 <= len(name) <= 32)
words = st.text(alphabet=string.ascii_lowercase + "01._", min_size=1, max_size=12)


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


@pytest.mark.parametrize("text", ["alice", "alice.smith", "a_b_c", "x1234", "al1ce", "a" * 32])
def test_a_plain_name_is_accepted_as_it_is(text: str) -> None:
    assert check_new(text, POLICY) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [("Walter", "walter"), ("WALTER", "walter"), ("\uff57alter", "walter")],
    ids=["case", "upper case", "full width"],
)
def test_case_and_width_are_mapped_so_that_they_make_no_second_handle(text: str, name: str) -> None:
    assert check_new(text, POLICY) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abcd",
        "a" * 33,
        "1alice",
        ".alice",
        "alice.",
        "al..ice",
        "al._ice",
        "alice-smith",
        "ali ce",
        "ali/ce",
        "ali:ce",
        "@@alice",
        "\u0430lice",  # Cyrillic a among Latin letters
        "\u0430\u043b\u0438\u0441\u0430",  # a whole word in Cyrillic
        "ali\u200bce",  # zero width space
        "\u202ealice",  # right-to-left override
        "stra\u00dfe",
        "ali\u0301ce",
        "\U0001d41alice",
    ],
)
def test_anything_but_ascii_letters_digits_and_single_inner_separators_is_no_handle(text: str) -> None:
    assert reason_of(check_new(text, POLICY)) is Reason.HANDLE_INVALID


def test_the_refusal_shows_invisible_characters_and_cuts_long_text() -> None:
    refused = check_new("ali\u200bce" + "x" * 500, POLICY)
    assert isinstance(refused, Refused)
    assert "\\u200b" in refused.message
    assert len(refused.message) < 300


@pytest.mark.parametrize(
    "text",
    ["postmaster", "hostmaster", "security", "webmaster", "administrator", "payment", "p0stmaster", "pay.ment"],
)
def test_reserved_words_mailboxes_and_their_look_alikes_are_refused(text: str) -> None:
    assert reason_of(check_new(text, POLICY)) is Reason.HANDLE_RESERVED


@pytest.mark.parametrize(
    "text",
    ["adrnin", "aclmin", "admins", "adimn", "acmebank", "acme.bank", "acnebank", "acrne_bank", "c1audia", "clauclia"],
)
def test_protected_names_are_refused_with_their_neighbours_and_cl_for_d(text: str) -> None:
    assert reason_of(check_new(text, POLICY)) is Reason.HANDLE_RESERVED


def test_names_near_a_short_reserved_word_are_free() -> None:
    assert check_new("infos", NamePolicy(min_length=5, reserved=("abc",))) == "infos"
    assert check_new("abcde", NamePolicy(min_length=5, reserved=("abc",))) == "abcde"


def test_the_operator_may_grant_what_nobody_may_claim_but_not_another_form() -> None:
    assert check_grant("bob") == "bob"
    assert check_grant("support") == "support"
    assert reason_of(check_grant("bob!")) is Reason.HANDLE_INVALID


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("oliver", "0liver"),
        ("mike", "rnike"),
        ("walter", "vvalter"),
        ("alice", "a.lice"),
        ("alice", "a_lice"),
        ("alice", "al1ce"),
        ("alice", "allce"),
        ("claudia", "c1audia"),
        ("alice", "a-l=i/c+e"),
        ("vvv", "wv"),
        ("vvv", "vw"),
        ("r.n", "m"),
    ],
)
def test_these_look_alike(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(("one", "other"), [("alice", "alicia"), ("diana", "cliana"), ("sam5", "sams")])
def test_these_do_not_look_alike(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@given(words)
def test_a_skeleton_is_its_own_skeleton(word: str) -> None:
    assert skeleton(skeleton(word)) == skeleton(word)


@given(names)
def test_normalising_twice_changes_nothing(name: str) -> None:
    once = normalise(name)
    assert isinstance(once, str)
    assert normalise(once) == once


@given(words, words)
def test_one_edit_is_what_a_search_for_edits_finds(one: str, other: str) -> None:
    assert within_one_edit(one, other) == (other in neighbours(one, other))
    assert within_one_edit(one, other) == within_one_edit(other, one)


def neighbours(word: str, letters: str) -> set[str]:
    """The plain definition: all words one edit away, with the letters that matter."""
    found = {word}
    for at in range(len(word) + 1):
        head, tail = word[:at], word[at:]
        found |= {head + letter + tail for letter in letters}
        if tail:
            found.add(head + tail[1:])
            found |= {head + letter + tail[1:] for letter in letters}
        if len(tail) > 1:
            found.add(head + tail[1] + tail[0] + tail[2:])
    return found


@given(words)
def test_the_names_one_edit_away_are_all_of_them(word: str) -> None:
    assert set(one_edit_away(word)) == neighbours(word, "abcdefghijklmnopqrstuvwxyz0123456789._") - {word, ""}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("bob", ("bob", "hs1.test")),
        ("@bob", ("bob", "hs1.test")),
        ("@bob:other.example", ("bob", "other.example")),
        ("bob:other.example:8448", ("bob", "other.example:8448")),
        ("@bob:[::1]:8448", ("bob", "[::1]:8448")),
    ],
)
def test_a_handle_is_written_with_and_without_its_server(text: str, parts: tuple[str, str]) -> None:
    assert split(text, HERE) == parts


@pytest.mark.parametrize("text", ["", "@", "@:hs1.test", "@bob:", "@bob:other example", "@bob:other/../x"])
def test_what_has_no_name_or_no_server_is_no_handle(text: str) -> None:
    assert reason_of(split(text, HERE)) is Reason.HANDLE_INVALID


def test_a_name_is_looked_up_as_typed_first_since_old_localparts_keep_their_case() -> None:
    assert spellings("Bob") == ("Bob", "bob")
    assert spellings("bob") == ("bob",)
    assert spellings("b\u200bob") == ()
