"""Sessions of widgets: opened with an OpenID token of Matrix, good for reading only.

An OpenID token names no audience: whoever is given one by a client can bring it here. So what it opens shows what its
person has, for an hour, and moves nothing (``http/resource.py`` refuses every route that is not marked as readable).
"""

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import BaseModel, Field

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.sessions import service
from super_app.sessions.model import TOKEN_PREFIX, SessionToken
from super_app.wire import OpenWireModel
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime

_TOKEN_BYTES = 32
_TOKEN_MAX = 255


class OpenIdCredentials(OpenWireModel):
    """What a client answers to a widget's ``get_openid``; its other fields may stay."""

    access_token: Annotated[str, Field(min_length=1, max_length=_TOKEN_MAX)]
    matrix_server_name: Annotated[str, Field(max_length=_TOKEN_MAX)]


class OpenedSession(BaseModel):
    """``expires_ts`` is in milliseconds since 1970."""

    user_id: str
    token: str
    expires_ts: int


class EndedSessions(BaseModel):
    ended: int
    """How many were open."""


class WidgetSessions:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="sessions/openid",
                handler=self._open,
                response=OpenedSession,
                summary="Open a session that only reads, for a widget, with an OpenID token of this homeserver",
                auth=Auth.PUBLIC,
                body=OpenIdCredentials,
                reasons=(Reason.OPENID_REFUSED,),
            ),
            Route(
                method="DELETE",
                path="sessions",
                handler=self._end,
                response=EndedSessions,
                summary="End all sessions of widgets that you have",
            ),
        )

    async def user_of(self, token: str) -> UserId | Refused:
        """Whose session a token is; asked at every request, so that it ends with its account."""
        now_ms = self._runtime.now_ms()
        session = await self._runtime.database.run(
            "session_find", lambda cur: service.find_session(cur, SessionToken(token), now_ms)
        )
        if isinstance(session, Refused):
            return session
        account = await self._runtime.api.get_userinfo_by_id(session.user_id)
        if account is None or account.is_deactivated or account.locked:
            return service.unknown_session()
        return session.user_id

    async def _open(self, call: Call) -> OpenedSession | Refused:
        body: OpenIdCredentials = call.body
        here = self._runtime.server_name
        if body.matrix_server_name != here:
            return _refused(f"That OpenID token is of another homeserver; this is {here}.")
        now_ms = self._runtime.now_ms()
        user_id = await self._runtime.private.user_of_openid_token(body.access_token, now_ms)
        account = None if user_id is None else await self._runtime.api.get_userinfo_by_id(user_id)
        if user_id is None or account is None or account.is_deactivated or account.locked or account.is_guest:
            return _refused("This homeserver did not issue that OpenID token, or it is over; get another from it.")
        acct = await self._runtime.accounts.acct_of(user_id)
        token = SessionToken(TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES))
        expires_ms = await self._runtime.database.run(
            "session_open", partial(service.open_session, acct=acct, token=token, now_ms=now_ms)
        )
        return OpenedSession(user_id=user_id, token=token, expires_ts=expires_ms)

    async def _end(self, call: Call) -> EndedSessions:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        ended = await self._runtime.database.run(
            "sessions_end", partial(service.end_sessions, acct=acct, now_ms=self._runtime.now_ms())
        )
        return EndedSessions(ended=ended)


def _refused(message: str) -> Refused:
    return Refused(reason=Reason.OPENID_REFUSED, message=message)
