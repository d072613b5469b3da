"""How JSON from outside becomes a value: strict pydantic models, and refusals that name the field.

The same models generate the schemas of the OpenAPI document, so what is documented is what is enforced.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from super_app.errors import Reason, Refused


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
