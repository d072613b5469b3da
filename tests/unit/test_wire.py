"""How JSON from outside becomes a value, or a refusal that names the field."""

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from super_app.errors import Reason, Refused
from super_app.wire import OpenWireModel, WireModel


class Inner(WireModel):
    memo: str


class Body(WireModel):
    amount: Annotated[int, Field(ge=1)]
    inner: Inner | None = None
    names: list[str] | None = None


class OpenBody(OpenWireModel):
    amount: int


def test_a_body_of_the_right_shape_becomes_a_value() -> None:
    assert Body.parse({"amount": 5, "inner": {"memo": "lunch"}}) == Body(amount=5, inner=Inner(memo="lunch"))


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        ({}, Reason.INVALID_VALUE, "amount is missing."),
        ({"amount": True}, Reason.INVALID_VALUE, "amount: "),
        ({"amount": "5"}, Reason.INVALID_VALUE, "amount: "),
        ({"amount": 5.0}, Reason.INVALID_VALUE, "amount: "),
        ({"amount": 0}, Reason.INVALID_VALUE, "amount: "),
        ({"amount": 5, "fee": 1}, Reason.UNKNOWN_FIELD, "fee is not a field of this object; remove it."),
        ({"amount": 5, "inner": {"memo": 7}}, Reason.INVALID_VALUE, "inner.memo: "),
        ({"amount": 5, "inner": {"memo": "", "x": 1}}, Reason.UNKNOWN_FIELD, "inner.x is not a field"),
        ({"amount": 5, "names": ["a", 1]}, Reason.INVALID_VALUE, "names.1: "),
        ([], Reason.INVALID_VALUE, "the body: "),
        (None, Reason.INVALID_VALUE, "the body: "),
        ("{}", Reason.INVALID_VALUE, "the body: "),
    ],
)
def test_a_body_of_another_shape_is_refused_and_the_field_named(content: object, reason: Reason, message: str) -> None:
    refused = Body.parse(content)
    assert isinstance(refused, Refused)
    assert refused.reason is reason
    assert refused.message.startswith(message)


def test_a_refusal_does_not_echo_the_value() -> None:
    refused = Body.parse({"amount": "secret" * 1_000})
    assert isinstance(refused, Refused)
    assert "secret" not in refused.message


def test_what_others_may_extend_is_read_without_its_extensions() -> None:
    assert OpenBody.parse({"amount": 5, "fee": 1}) == OpenBody(amount=5)


def test_what_others_may_extend_is_strict_about_what_it_knows() -> None:
    refused = OpenBody.parse({"amount": "5", "fee": 1})
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


def test_a_value_cannot_be_changed_after_it_was_checked() -> None:
    body = Body(amount=5)
    with pytest.raises(ValidationError, match="frozen"):
        body.amount = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
