"""How JSON from outside becomes a value: strict pydantic models, and refusals that name the field.

The same models generate the schemas of the OpenAPI document, so what is documented is what is enforced.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from super_app.errors import Reason, Refused


def is_text(value: str) -> bool:
    """Whether a database and canonical JSON can hold it: no NUL, no lone surrogate."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)


def _require_text(value: str) -> str:
    if not is_text(value):
        raise ValueError("contains a NUL character or half a surrogate pair")
    return value


Text = Annotated[str, AfterValidator(_require_text)]
"""A string that can be kept and signed."""


class WireModel(BaseModel):
    """Base of all JSON bodies: strict types (a bool is no int), unknown fields refused, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, content: object) -> Self | Refused:
        """Read JSON that came from outside. The refusal names the first wrong field and never echoes long values."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            return refusal_of(error)


class OpenWireModel(WireModel):
    """A body whose unknown fields are ignored, for what other servers and clients may extend."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def refusal_of(error: ValidationError) -> Refused:
    """The first fault of a validation, as a refusal."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    match first["type"]:
        case "extra_forbidden":
            return Refused(reason=Reason.UNKNOWN_FIELD, message=f"{where} is not a field of this object; remove it.")
        case "missing":
            return Refused(reason=Reason.INVALID_VALUE, message=f"{where} is missing.")
        case _:
            return Refused(reason=Reason.INVALID_VALUE, message=f"{where}: {first['msg']}.")
