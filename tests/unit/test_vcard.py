"""Which Matrix addresses a vCard file holds, and that nothing else is read out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.accounts.vcard import Addresses, read


def card(*lines: str) -> str:
    return "\r\n".join(["BEGIN:VCARD", "VERSION:4.0", "FN:Somebody", *lines, "END:VCARD", ""])


@pytest.mark.parametrize(
    "line",
    [
        "X-MATRIX:@bob:hs2.test",
        "x-matrix:@bob:hs2.test",
        "IMPP:matrix:u/bob:hs2.test",
        "IMPP;PREF=1:matrix:u/bob:hs2.test?action=chat",
        "item1.IMPP;X-SERVICE-TYPE=Matrix;type=pref:matrix:@bob:hs2.test",
        'IMPP;X-SERVICE-TYPE="a:b;c":MATRIX:u/bob:hs2.test',
        "IMPP:matrix\\:u/bob\\:hs2.test",
        "URL:https://matrix.to/#/@bob:hs2.test",
        "URL;TYPE=home:https://matrix.to/#/%40bob%3Ahs2.test?via=hs2.test",
        "URL;ENCODING=QUOTED-PRINTABLE:https://matrix.to/#/=40bob:hs2.test",
        "X-MATR\r\n IX:@bob:hs2.te\r\n st",
    ],
)
def test_an_address_is_found_in_the_fields_that_may_hold_one(line: str) -> None:
    assert read(card(line)) == Addresses(cards=1, found=("@bob:hs2.test",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "EMAIL:@bob:hs2.test",
        "NOTE:@bob:hs2.test",
        "TEL:+49 30 123456",
        "IMPP:xmpp:bob@example.org",
        "IMPP:skype:@bob:hs2.test",
        "URL:https://example.org/@bob:hs2.test",
        "URL:https://matrix.to/#/!room:hs2.test",
        "X-MATRIX:bob",
        "X-MATRIX:",
        "no property at all",
        ";;;:",
    ],
)
def test_all_else_is_passed_over(line: str) -> None:
    assert read(card(line)) == Addresses(cards=1, found=())


def test_each_address_comes_once_and_in_order() -> None:
    text = card("X-MATRIX:@bob:hs2.test") + card("X-MATRIX:@alice:hs1.test", "X-MATRIX:@bob:hs2.test") + card()
    assert read(text) == Addresses(cards=3, found=("@bob:hs2.test", "@alice:hs1.test"))  # type: ignore[arg-type]


@given(st.text(max_size=500))
def test_no_text_breaks_it(text: str) -> None:
    assert read(text).cards >= 0
    assert read(card("NOTE:" + text.replace("\r", "").replace("\n", ""), "X-MATRIX:@bob:hs2.test")).cards >= 1


def test_a_long_line_takes_no_long_time() -> None:
    assert read(card("URL;" + '"' * 200_000 + ";a=" * 100_000)).found == ()
