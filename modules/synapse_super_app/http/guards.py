"""What stands before the handler of every route, whatever feature it is of."""

from dataclasses import replace

from pydantic import BaseModel

from super_app.errors import Refused
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.rollout import Rollout, not_rolled_out


def admitting(route: Route, rollout: Rollout) -> Route:
    """The route for those who are let in. Operators and what is public are not asked."""
    if route.auth in (Auth.ADMIN, Auth.PUBLIC) or rollout.is_for_everybody:
        return route

    async def handle(call: Call) -> BaseModel | Refused:
        return await route.handler(call) if rollout.includes(call.user_id) else not_rolled_out()

    return replace(route, handler=handle)
