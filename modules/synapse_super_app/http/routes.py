"""What a route is: the one declaration that the dispatcher, the validation and the OpenAPI document read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.wire import WireModel


class Auth(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    USER = "user"
    FRESH = "fresh"  # a user who has just signed in, so that a session that was left open or stolen is not enough
    ADMIN = "admin"  # a Synapse admin


class Sessions(Enum):
    """What a session of ours (``POST sessions/openid``) may do with a route. It moves nothing and changes nothing."""

    REFUSED = "refused"
    READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, authenticated and validated.

    ``user_id`` is empty on a public route. ``body`` and ``query`` are instances of the route's models, or None.
    """

    user_id: UserId
    path: dict[str, str]
    query: Any
    body: Any
    address: str = ""
    """The client's network address as Synapse sees it; empty where there is none."""
    device_id: str = ""
    """The device that asks; empty where it is none, as with an appservice."""
    request_id: str = ""
    """32 random bytes in base64url where the process that writes carries it out: the same when it is asked again."""


class FileAnswer(BaseModel):
    """A file as the answer of a route that reads. A route with it as ``response`` names its ``media_types``."""

    name: str
    media_type: str
    content: bytes


Handler = Callable[[Call], Awaitable[BaseModel | Refused]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``path`` is below the API prefix, with ``{name}`` for a variable part: ``payments/{payment_id}``.

    ``query`` models are read leniently (all query values are strings), ``body`` models strictly; an empty body reads as
    ``{}``. ``reasons`` are the
    refusals that the handler itself can give, for the document.
    """

    method: str
    path: str
    handler: Handler
    response: type[BaseModel]
    summary: str
    auth: Auth = Auth.USER
    body: type[WireModel] | None = None
    query: type[BaseModel] | None = None
    reasons: tuple[Reason, ...] = ()
    sessions: Sessions = Sessions.REFUSED
    media_types: tuple[str, ...] = ()
