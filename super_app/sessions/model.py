"""The values of sessions."""

import hashlib
from dataclasses import dataclass
from typing import Final, NewType

from super_app.ids import UserId
from super_app.signing import to_b64

SessionToken = NewType("SessionToken", str)
"""``superapp_`` and 256 random bits. Whoever has it may read."""

TOKEN_PREFIX: Final = "superapp_"  # noqa: S105 - a prefix and no secret
LIFETIME_MS: Final = 3_600_000
"""An hour, as the OpenID tokens of Matrix that sessions are opened with."""
MAX_SESSIONS: Final = 20
"""Of one account; a further one ends the oldest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session of a local account."""

    user_id: UserId
    expires_ms: int


def is_session_token(token: str) -> bool:
    """Whether it has the form of ours, so that it is no access token of Matrix."""
    return token.startswith(TOKEN_PREFIX)


def token_hash(token: SessionToken) -> str:
    return to_b64(hashlib.sha256(token.encode()).digest())
