"""Canonical JSON, hashes and signatures."""

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from super_app import signing

KEY = signing.generate_key(bytes(range(32)))
OTHER_KEY = signing.generate_key(bytes(32))
OBJECT = {"type": "OFFER", "amount": 500, "memo": "é"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text().filter(lambda name: name not in {"signature", "key_id"}), json_values)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        # Examples of the Matrix spec, appendices, "Canonical JSON".
        ({}, b"{}"),
        ({"one": 1, "two": "Two"}, b'{"one":1,"two":"Two"}'),
        ({"b": "2", "a": "1"}, b'{"a":"1","b":"2"}'),
        ({"a": "日本語"}, '{"a":"日本語"}'.encode()),
        ({"a": None}, b'{"a":null}'),
    ],
)
def test_canonical_json_is_that_of_the_matrix_spec(value: object, canonical: bytes) -> None:
    assert signing.canonical(value) == canonical


@pytest.mark.parametrize("value", [1.0, {"a": 1.5}, {"a": [1, {"b": float("inf")}]}, [0.0], {"a": (1.0,)}])
def test_canonical_json_has_no_floats_at_any_depth(value: object) -> None:
    with pytest.raises(ValueError, match="no floats"):
        signing.canonical(value)


def test_a_digest_is_the_unpadded_base64url_sha256_of_the_canonical_json() -> None:
    expected = base64.urlsafe_b64encode(hashlib.sha256(b'{"a":1,"b":2}').digest()).decode().rstrip("=")
    assert signing.digest({"b": 2, "a": 1}) == expected


@given(raw=st.binary())
def test_base64_round_trips(raw: bytes) -> None:
    text = signing.to_b64(raw)
    assert "=" not in text
    assert signing.from_b64(text) == raw


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q Q", "Q\nQ", "+/+/", "Q", "\u00e9\u00e9", "QQ=Q"])
def test_bytes_have_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        signing.from_b64(text)


@given(value=json_objects)
def test_what_was_signed_verifies_with_that_key_only(value: dict[str, Any]) -> None:
    made = signing.signed(value, KEY)
    assert made["key_id"] == signing.key_id_of(KEY)
    assert signing.verify(made, signing.public_b64(KEY))
    assert not signing.verify(made, signing.public_b64(OTHER_KEY))


@given(value=json_objects, change=json_objects.filter(bool))
def test_no_field_can_change_under_a_signature(value: dict[str, Any], change: dict[str, Any]) -> None:
    made = signing.signed(value, KEY)
    changed = {**made, **change}
    assert signing.verify(changed, signing.public_b64(KEY)) == (signing.canonical(changed) == signing.canonical(made))


def test_the_key_id_is_under_the_signature() -> None:
    made = signing.signed(OBJECT, KEY)
    assert not signing.verify({**made, "key_id": signing.key_id_of(OTHER_KEY)}, signing.public_b64(KEY))


@pytest.mark.parametrize("signature", [None, 7, "", "AAAA", "not base64", "A" * 85, "=" * 4, ["A"], "\u00e9"])
def test_a_malformed_signature_does_not_verify(signature: object) -> None:
    assert not signing.verify({**OBJECT, "signature": signature}, signing.public_b64(KEY))


@pytest.mark.parametrize("public_key", ["", "AAAA", "not base64", "A" * 42 + "B", "\u00e9"])
def test_a_malformed_key_verifies_nothing(public_key: str) -> None:
    assert not signing.verify(signing.signed(OBJECT, KEY), public_key)


def test_an_object_without_signature_does_not_verify() -> None:
    assert not signing.verify(OBJECT, signing.public_b64(KEY))


def test_an_object_that_has_no_canonical_form_does_not_verify() -> None:
    assert not signing.verify({**signing.signed(OBJECT, KEY), "amount": 5.0}, signing.public_b64(KEY))


def test_a_key_and_its_public_half_have_the_same_names() -> None:
    assert signing.public_b64(KEY) == signing.public_b64(KEY.verify_key)
    assert signing.key_id_of(KEY) == signing.key_id_of(KEY.verify_key)
    assert signing.key_id_of(KEY).startswith("ed25519:")
    assert signing.key_id_of(KEY) != signing.key_id_of(OTHER_KEY)


def test_a_key_follows_from_its_seed() -> None:
    assert bytes(signing.generate_key(b"\1" * 32)) == bytes(SigningKey(b"\1" * 32))


signed_objects = st.dictionaries(
    st.sampled_from(["a", "s", "signature", "signaturf", "signatur", "z"]) | st.text(max_size=12),
    json_values,
    max_size=8,
)


@given(
    value=signed_objects, signature=st.text(max_size=90), copied=st.sampled_from(["a", "z", "signatur", "signaturf"])
)
def test_an_object_that_is_spelled_once_reads_as_if_it_were_spelled_each_time(
    value: dict[str, Any], signature: str, copied: str
) -> None:
    # A field that has the same signature in it must not be taken for it.
    both = {**value, copied: {"signature": signature}, "signature": signature}
    try:
        whole = signing.canonical(both)
    except ValueError:
        return
    spelled = signing.spell(both)
    assert spelled is not None
    assert spelled.whole == whole
    assert spelled.covered == signing.canonical({name: item for name, item in both.items() if name != "signature"})


@pytest.mark.parametrize("value", [{}, {"signature": 5, "a": 1}, {"signature": None}])
def test_what_has_no_signature_is_not_spelled(value: dict[str, Any]) -> None:
    assert signing.spell(value) is None
    assert not signing.verify(value, signing.public_b64(KEY))


@pytest.mark.parametrize("place", ["a", "z"])
def test_a_signed_object_has_no_floats_before_or_after_its_signature(place: str) -> None:
    with pytest.raises(ValueError, match="no floats"):
        signing.spell({"signature": "x", place: [1.5]})


@pytest.mark.parametrize("value", [{"signature": "x"}, {"signature": "x", "a": 1}, {"signature": "x", "z": 1}])
def test_an_object_with_a_signature_at_either_end_is_spelled(value: dict[str, Any]) -> None:
    spelled = signing.spell(value)
    assert spelled is not None
    assert spelled.covered == signing.canonical({name: item for name, item in value.items() if name != "signature"})
