"""The client API from inside the homeserver, for a person that the homeserver itself speaks for.

The same routes as over HTTP, with the same validation, limits, refusals and relays to the process that writes; only the
access token is not asked for. Whoever uses it has made sure that the person wants it.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from synapse.module_api.errors import SynapseError

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.names import ERRCODE_PREFIX
from synapse_super_app.http.resource import ApiResource, answer
from synapse_super_app.http.routes import Auth

Json = dict[str, Any]


class NotOffered(Exception):
    """No feature that is on has this route."""


class Inside:
    """One per process, connected once the routes are known."""

    def __init__(self) -> None:
        self._resource: ApiResource | None = None

    def connect(self, resource: ApiResource) -> None:
        self._resource = resource

    async def ask(
        self, user_id: UserId, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> Json | Refused:
        """The answer of a route as ``user_id`` gets it, or its refusal.

        Raises:
            NotOffered: there is no such route.
            SynapseError: the homeserver itself refused, in its own words.
        """
        if self._resource is None:
            raise RuntimeError("the routes are asked before they are there")
        try:
            route, variables = self._resource.match(method, path)
        except SynapseError as error:
            raise NotOffered(path) from error
        if route.auth is not Auth.USER:
            raise RuntimeError(f"{path} is not for people")
        content = {} if body is None and route.body is not None else body
        try:
            return await answer(route, variables, user_id, dict(query or {}), content)
        except SynapseError as error:
            if not error.errcode.startswith(ERRCODE_PREFIX):
                raise
            fields = error.error_dict(None)
            more = {name: value for name, value in fields.items() if name not in ("errcode", "error")}
            reason = Reason[error.errcode.removeprefix(ERRCODE_PREFIX)]
            return Refused(reason=reason, message=error.msg, fields=more)


def part(text: str) -> str:
    """Something as one part of a path."""
    return quote(text, safe="")
