"""Identifiers and how they are read."""

import pytest

from super_app.errors import Reason, Refused
from super_app.ids import Handle, UserId, localpart_of, parse_payment_id, parse_user_id, server_of


def test_a_payment_id_is_32_lower_case_hex_digits() -> None:
    assert parse_payment_id("00ff" * 8) == "00ff" * 8


@pytest.mark.parametrize(
    "text", ["", "0" * 31, "0" * 33, "0F" * 16, "g" * 32, "0" * 32 + "\n", " " + "0" * 31, "٠" * 32]
)
def test_any_other_payment_id_is_refused_and_told_how_to_make_one(text: str) -> None:
    refused = parse_payment_id(text)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE
    assert "32 lower-case hexadecimal digits" in refused.message


@pytest.mark.parametrize(
    "text",
    [
        "@bob:example.org",
        "@bob:example.org:8448",
        "@bob:127.0.0.1:18448",
        "@bob:[2001:db8::1]:8448",
        "@Old/Style=name!:example.org",
        "@" + "a" * 241 + ":example.org",
    ],
)
def test_user_ids_of_the_matrix_spec_are_read(text: str) -> None:
    assert parse_user_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bob",
        "@bob",
        "@:example.org",
        "@bob:",
        "bob:example.org",
        "@bob:example.org ",
        "@bo b:example.org",
        "@bob:exam ple.org",
        "@bob:example.org\n",
        "@b\u00f6b:example.org",
        "@b\ud800b:example.org",
        "@bob:ex\u0430mple.org",
        "@" + "a" * 245 + ":example.org",
    ],
)
def test_what_has_not_the_form_of_a_user_id_is_none(text: str) -> None:
    assert parse_user_id(text) is None


@pytest.mark.parametrize(
    ("text", "localpart", "server"),
    [
        ("@bob:example.org", "bob", "example.org"),
        ("@bob:example.org:8448", "bob", "example.org:8448"),
        ("@bob:[2001:db8::1]:8448", "bob", "[2001:db8::1]:8448"),
    ],
)
def test_the_server_is_all_after_the_first_colon(text: str, localpart: str, server: str) -> None:
    assert (localpart_of(UserId(text)), server_of(UserId(text))) == (localpart, server)
    assert (localpart_of(Handle(text)), server_of(Handle(text))) == (localpart, server)
