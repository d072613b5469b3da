"""What stands before the handler of every route, whatever feature it is of: who is let in, how often, the audit log."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from prometheus_client import Counter
from pydantic import BaseModel
from synapse.module_api.errors import SynapseError

from super_app.errors import Reason, Refused
from super_app.operations import rules, service
from super_app.operations.model import Outcome
from synapse_super_app.config import RequestsConfig
from synapse_super_app.directory.budget import Budget
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Auth, Call, Route, Sessions
from synapse_super_app.rollout import Rollout, not_rolled_out
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_limited_total: Final = Counter(
    "superapp_requests_limited_total", "Requests to our routes that came too often, by kind.", ["kind"]
)
_MINUTE_MS: Final = 60_000


def admitting(route: Route, rollout: Rollout) -> Route:
    """The route for those who are let in. Operators and what is public are not asked."""
    if route.auth in (Auth.ADMIN, Auth.PUBLIC) or rollout.is_for_everybody:
        return route

    async def handle(call: Call) -> BaseModel | Refused:
        return await route.handler(call) if rollout.includes(call.user_id) else not_rolled_out()

    return replace(route, handler=handle)


class RequestLimits:
    """So many requests a minute of each person, and of each address where nobody is asked who they are.

    A guard against floods, in each process by itself. What costs more than a request has limits of its own besides.
    """

    def __init__(self, runtime: Runtime, config: RequestsConfig) -> None:
        self._runtime = runtime
        self._budgets = {
            kind: Budget(burst=most, every_ms=max(1, _MINUTE_MS // most))
            for kind in ("reads", "writes", "public", "admin")
            if (most := getattr(config, kind)) > 0
        }

    def limiting(self, route: Route) -> Route:
        kind = kind_of(route)
        budget = self._budgets.get(kind)
        if budget is None:
            return route

        async def handle(call: Call) -> BaseModel | Refused:
            refused = budget.take(call.user_id or call.address, self._runtime.now_ms())
            if refused is None:
                return await route.handler(call)
            _limited_total.labels(kind).inc()
            return _too_many(refused)

        return replace(route, handler=handle, reasons=tuple(dict.fromkeys((*route.reasons, Reason.TOO_MANY_REQUESTS))))


class AddressLimit:
    """What routes for everybody have, for what is served to everybody and is no route: pages of people, the log."""

    def __init__(self, runtime: Runtime) -> None:
        most = runtime.config.requests.public
        self._runtime = runtime
        self._budget = Budget(burst=most, every_ms=max(1, _MINUTE_MS // most)) if most else None

    def check(self, request: Any) -> None:
        """Count a request, which is Synapse's own kind.

        Raises:
            SynapseError: TOO_MANY_REQUESTS, if its address asks too often.
        """
        if self._budget is None:
            return
        refused = self._budget.take(request.get_client_ip_if_available(), self._runtime.now_ms())
        if refused is not None:
            _limited_total.labels("public").inc()
            raise error_of(_too_many(refused))


def _too_many(refused: Refused) -> Refused:
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message="Too many requests in a short time; wait a moment and try again.",
        fields={"retry_after_ms": refused.fields["retry_after_ms"]},
    )


def kind_of(route: Route) -> str:
    """By which budget a route goes. What a session that only reads may do is reading."""
    if route.auth is Auth.PUBLIC:
        return "public"
    if route.auth is Auth.ADMIN:
        return "admin"
    return "reads" if route.method == "GET" or route.sessions is Sessions.READ else "writes"


def four_eyed(route: Route) -> Route:
    """A route that moves money at once, where two admins must agree: it only says so."""

    async def handle(_: Call) -> BaseModel | Refused:
        return rules.four_eyes()

    return replace(route, handler=handle, reasons=(*route.reasons, Reason.FOUR_EYES))


def audited(route: Route, runtime: Runtime) -> Route:
    """The route with a line in the audit log before it is done, and one that says what became of it."""
    if route.auth is not Auth.ADMIN or route.method == "GET":
        return route
    act = f"{route.method} {route.path}"

    async def handle(call: Call) -> BaseModel | Refused:
        what = _spelled(call)
        # No act without its line: if this fails, nothing is done.
        asked = await _write_down(runtime, call, act, what, Outcome.ASKED.value, None)
        note = partial(_write_down, runtime, call, act, {}, asked_seq=asked)
        try:
            answer = await route.handler(call)
        except SynapseError as error:
            await note(f"{Outcome.REFUSED.value}: {error.errcode}")
            raise
        except Exception as error:
            await note(f"{Outcome.FAILED.value}: {type(error).__name__}")
            raise
        refused = f"{Outcome.REFUSED.value}: {answer.reason.value}" if isinstance(answer, Refused) else None
        await note(refused or Outcome.DONE.value)
        return answer

    return replace(route, handler=handle)


def _spelled(call: Call) -> dict[str, Any]:
    what: dict[str, Any] = dict(call.path)
    if isinstance(call.body, BaseModel):
        what["body"] = call.body.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return what


async def _write_down(
    runtime: Runtime, call: Call, act: str, what: Mapping[str, Any], outcome: str, asked_seq: int | None
) -> int:
    now_ms = runtime.now_ms()
    line = await runtime.database.run(
        "audit",
        lambda cur: service.write_down(
            cur, operator=call.user_id, act=act, what=what, outcome=outcome, asked_seq=asked_seq, now_ms=now_ms
        ),
    )
    # Whoever changes the table afterwards does not change where this went.
    logger.info("Audit %d %s: %s %s", line.seq, line.hash, act, outcome)
    return line.seq
