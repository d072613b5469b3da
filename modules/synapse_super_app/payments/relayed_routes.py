"""Routes that whatever process takes, and the one that writes carries out.

What people read is read from the database where they ask. What changes money or links, and what operators see, is done
in the process that writes: it alone may sign, and knows at once what became of an order.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, RootModel

from super_app.errors import Refused
from super_app.ids import UserId
from super_app.signing import to_b64
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.ledger.relay import Relay, refused_from, refused_json

_REQUEST_BYTES: Final = 32


class _Relayed(RootModel[dict[str, Any]]):
    """An answer of the other process, which was made with the route's own model there."""


def relayed(route: Route, relay: Relay) -> Route:
    """The route as every process can serve it."""
    if route.method == "GET" and route.auth is not Auth.ADMIN:
        return route
    name = f"{route.method} {route.path}"
    relay.serve(name, partial(_serve, route))

    async def handle(call: Call) -> BaseModel | Refused:
        # What has no id of its own is known by this one, should no answer come and the next writer be asked.
        call = replace(call, request_id=to_b64(secrets.token_bytes(_REQUEST_BYTES)))
        return await relay.at_writer(name, partial(_spell, call), partial(route.handler, call), _read)

    return replace(route, handler=handle)


def _spell(call: Call) -> dict[str, Any]:
    """A call that was authenticated and validated here."""
    return {
        "user_id": call.user_id,
        "path": call.path,
        "query": _json(call.query),
        "body": _json(call.body),
        "request_id": call.request_id,
    }


def _json(model: BaseModel | None) -> dict[str, Any] | None:
    return None if model is None else model.model_dump(mode="json", exclude_unset=True, by_alias=True)


async def _serve(route: Route, arguments: Mapping[str, Any]) -> dict[str, Any]:
    body = None if route.body is None else route.body.parse(arguments["body"])
    if isinstance(body, Refused):
        # Validated there and refused here: two versions run at once.
        raise error_of(body)
    query = None if route.query is None else route.query.model_validate(arguments["query"], strict=False)
    answer = await route.handler(
        Call(
            user_id=UserId(arguments["user_id"]),
            path=arguments["path"],
            query=query,
            body=body,
            # A process of the version before this one sends none.
            request_id=arguments.get("request_id") or to_b64(secrets.token_bytes(_REQUEST_BYTES)),
        )
    )
    if isinstance(answer, Refused):
        return {"refused": refused_json(answer)}
    return {"answer": answer.model_dump(mode="json", exclude_none=True, by_alias=True)}


def _read(found: Mapping[str, Any]) -> BaseModel | Refused:
    return refused_from(found["refused"]) if "refused" in found else _Relayed(found["answer"])
