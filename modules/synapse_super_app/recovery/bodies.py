"""What homeservers send each other for recovery: ``PUT …/recovery/{what}``, each with a body of its own.

The same bodies, less ``user_id``, are what a client sends to its own homeserver, which passes them on.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, Field

from super_app.recovery.model import GUESSES, MAX_REALMS, MAX_VERSION
from super_app.wire import OpenWireModel, Text, WireModel


class What(StrEnum):
    """What is asked of a realm. The last two realms ask each other."""

    ABOUT = "about"
    SHARE = "share"
    BEGIN = "begin"
    GUESS = "guess"
    UNLOCK = "unlock"
    USE = "use"
    GIVE_UP = "give_up"
    STATE = "state"
    WITNESS = "witness"
    RECALL = "recall"


VersionJson = Annotated[int, Field(ge=1, le=MAX_VERSION)]
AttemptJson = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="32 hexadecimal digits, random")]
Bytes32 = Annotated[str, Field(min_length=43, max_length=43, description="32 bytes, unpadded base64url")]
_UserJson = Annotated[Text, Field(max_length=255)]
_Epoch = Annotated[int, Field(ge=0, le=MAX_VERSION)]
_SEALED_MAX: Final = 8_192


class ShareBody(WireModel):
    """``in_use`` is the version that the account data names, which stays."""

    version: VersionJson
    sealed: Annotated[Text, Field(max_length=_SEALED_MAX, description="HPKE for the realm's key, unpadded base64url")]
    in_use: VersionJson | None = None


class BeginBody(WireModel):
    version: VersionJson
    attempt_id: AttemptJson


class BeginAllBody(WireModel):
    """``realms`` are those of the set."""

    version: VersionJson
    realms: Annotated[list[Annotated[Text, Field(max_length=255)]], Field(min_length=1, max_length=MAX_REALMS)]


class EvaluateBody(WireModel):
    """``realms`` are those of the set, of which ``enough`` are to answer."""

    version: VersionJson
    blinded: Bytes32
    realms: Annotated[list[Annotated[Text, Field(max_length=255)]], Field(min_length=1, max_length=MAX_REALMS)]
    enough: Annotated[int, Field(ge=1, le=MAX_REALMS)]


class RightBody(WireModel):
    """``tags`` by realm, of those whose nonce is known.

    ``others`` have not been asked to evaluate yet, or have not answered; they are asked before they are unlocked.
    """

    version: VersionJson
    blinded: Bytes32
    tags: Annotated[dict[Annotated[Text, Field(max_length=255)], Bytes32], Field(min_length=1, max_length=MAX_REALMS)]
    others: Annotated[list[Annotated[Text, Field(max_length=255)]], Field(max_length=MAX_REALMS)]


class GuessBody(WireModel):
    version: VersionJson
    attempt_id: AttemptJson
    blinded: Bytes32


class UnlockBody(WireModel):
    version: VersionJson
    attempt_id: AttemptJson
    tag: Bytes32


class VersionBody(WireModel):
    version: VersionJson


class NothingBody(WireModel):
    pass


class AboutBody(WireModel):
    """Of the protocol; Synapse sends no body for an empty object."""

    v: Annotated[int, Field(ge=1, le=1)] = 1


class UserShareBody(ShareBody):
    user_id: _UserJson


class UserBeginBody(BeginBody):
    user_id: _UserJson


class UserGuessBody(GuessBody):
    user_id: _UserJson


class UserUnlockBody(UnlockBody):
    user_id: _UserJson


class UserVersionBody(VersionBody):
    user_id: _UserJson


class UserBody(WireModel):
    user_id: _UserJson


class MarkBody(UserVersionBody):
    epoch: _Epoch
    guesses: Annotated[int, Field(ge=0, le=GUESSES)]
    attempt_id: AttemptJson | None = None
    gone: bool
    signature: Annotated[str, Field(max_length=128)]


class KnownMark(OpenWireModel):
    """A mark as another realm gives it back."""

    epoch: _Epoch
    guesses: Annotated[int, Field(ge=0, le=GUESSES)]
    attempt_id: AttemptJson | None = None
    gone: bool
    signature: Annotated[str, Field(max_length=128)]


class KnownBody(OpenWireModel):
    mark: KnownMark | None = None


# Answers.


class AboutJson(OpenWireModel):
    operator: Annotated[Text, Field(min_length=1, max_length=100)]
    public_key: Bytes32
    leaving: bool


class DoneJson(BaseModel):
    """``changed`` is false where all was so before."""

    changed: bool = True


class BegunJson(BaseModel):
    """``nonce`` is what the answer to the guess will have as well; a realm may leave it for then."""

    changed: bool = True
    nonce: Bytes32 | None = None


class BegunAllJson(BaseModel):
    """``nonces`` by realm. ``changed`` is false if none of them counted it."""

    changed: bool
    nonces: dict[str, str]


class EvaluationJson(BaseModel):
    element: str
    proof: str
    nonce: str
    guesses_left: int


class EvaluationsJson(BaseModel):
    """By realm, of those that answered first. Why another one is not among them, it says when it is asked itself.

    ``nonces`` are of those that have begun the guess, as long as not all have: then ``begin`` has answered with them.
    """

    evaluations: dict[str, EvaluationJson]
    nonces: dict[str, str]


class RightJson(BaseModel):
    """``unlocked`` are the realms that know that the PIN was right; ``evaluations`` are of the ``others``, by realm."""

    unlocked: list[str]
    evaluations: dict[str, EvaluationJson]


class ShareStateJson(BaseModel):
    version: int
    state: str
    guesses_left: int
    retry_after_ms: int


class SharesJson(BaseModel):
    shares: list[ShareStateJson]
