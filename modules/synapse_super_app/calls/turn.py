"""Per-call credentials for the operator's TURN server: the "REST API for access to TURN services" of coturn.

The username is ``<expiry in seconds>:<opaque name>``, the password the base64 HMAC-SHA1 of it under the secret that
the TURN server shares. The opaque name is the same for one person in one call, so the TURN server can count a quota by
it, and says neither who nor which call.
"""

import base64
import hashlib
import hmac
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field

from super_app.calls.model import SessionId
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId
from synapse_super_app.calls.limits import Limit
from synapse_super_app.config import CallsConfig
from synapse_super_app.runtime import Runtime

TTL_S: Final = 600
_NAME_BYTES: Final = 15
_USERNAME: Final = re.compile(r"\d+:([A-Za-z0-9_-]{20})")


def secret_of(key: str, path: str, what: str) -> str:
    """What a file of the config holds.

    Raises:
        ValueError: one line about the file.
    """
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"config.calls.{key}: cannot read {path}: {error}") from None
    if not secret:
        raise ValueError(f"config.calls.{key}: {path} is empty; put {what} into it")
    return secret


def name_in(username: str) -> str | None:
    """The opaque name in a username that is of a call; None for those of Synapse's own ``/voip/turnServer``."""
    match = _USERNAME.fullmatch(username)
    return None if match is None else match[1]


class TurnCredentials(BaseModel):
    """The shape of Matrix's ``/voip/turnServer``, and what the person's policy says about addresses."""

    username: str
    password: str
    uris: list[str]
    ttl: Annotated[int, Field(description="Seconds until these credentials end.")]
    relay_only: Annotated[
        bool,
        Field(description="Your policy hides your address: gather no other candidates than those of this server."),
    ] = False


class TurnQuota:
    """How often one person gets credentials, of ours and of Synapse's own."""

    def __init__(self, runtime: Runtime) -> None:
        limits = runtime.config.calls.limits
        self._given = Limit(runtime, "turn", limits.turn, limits.window)

    async def take(self, user_id: UserId, now_ms: int) -> Refused | None:
        wait_ms = await self._given.take(user_id, now_ms)
        if wait_ms is None:
            return None
        return Refused(
            reason=Reason.TOO_MANY_REQUESTS,
            message="You have asked for TURN credentials very often; use those that you have, or ask again later.",
            fields={"retry_after_ms": wait_ms},
        )


class Turn:
    """The TURN server of this homeserver."""

    def __init__(self, uris: tuple[str, ...], secret: str) -> None:
        self._uris = uris
        self._secret = secret.encode()

    @staticmethod
    def configured(config: CallsConfig) -> "Turn | None":
        """The TURN server that the config names, or None.

        Raises:
            ValueError: one line about the file of the secret.
        """
        if config.turn_secret_path is None:
            return None
        secret = secret_of("turn_secret_path", config.turn_secret_path, "the static-auth-secret of the TURN server")
        return Turn(config.turn_uris, secret)

    def credentials(
        self, session_id: SessionId, acct: Acct, now_ms: int, *, relay_only: bool = False
    ) -> TurnCredentials:
        name = hmac.new(self._secret, f"superapp call {session_id} {acct}".encode(), hashlib.sha256).digest()
        username = f"{now_ms // 1000 + TTL_S}:{base64.urlsafe_b64encode(name[:_NAME_BYTES]).decode('ascii')}"
        password = base64.b64encode(hmac.new(self._secret, username.encode(), hashlib.sha1).digest()).decode("ascii")
        return TurnCredentials(
            username=username, password=password, uris=list(self._uris), ttl=TTL_S, relay_only=relay_only
        )
