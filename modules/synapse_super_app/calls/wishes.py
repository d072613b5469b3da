"""A person's own call policy through the API: how it is read, its keys, do-not-disturb at the press of a button."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from super_app.calls import policy as policies
from super_app.calls.policy import PolicyChanges, Reading
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.wire import WireModel
from synapse_super_app.calls.own_policy import OwnPolicy
from synapse_super_app.calls.screening import Screening
from synapse_super_app.http.routes import Call
from synapse_super_app.runtime import Runtime


class RateShown(BaseModel):
    caller: int
    server: int
    strangers: int
    window_ms: int


class PolicyShown(BaseModel):
    """Your policy as it is applied, the operator's defaults filled in."""

    who: list[str]
    allow: list[str]
    deny: list[str]
    rate: RateShown
    refusal: str
    offers: list[str]
    prior_conversation: bool
    groups: bool
    quiet: Annotated[bool, Field(description="Whether there are quiet hours.")]
    do_not_disturb: bool
    do_not_disturb_until_ms: int | None = None
    relay_only: bool
    malformed: Annotated[list[str], Field(description="Keys that could not be read and restrict nothing.")]
    warning: str | None = None


class DoNotDisturbBody(WireModel):
    """Until when, in milliseconds since 1970; without it until you take it back."""

    until_ms: Annotated[int | None, Field(ge=0, le=2**53)] = None


class Wishes:
    def __init__(self, runtime: Runtime, screening: Screening) -> None:
        self._runtime = runtime
        self._screening = screening
        self._own = OwnPolicy(runtime)

    async def show(self, call: Call) -> PolicyShown:
        return self._shown(await self._screening.policy_of(call.user_id))

    async def change(self, call: Call) -> PolicyShown | Refused:
        body: PolicyChanges = call.body
        keys = body.to_write()
        read = self._screening.read({"v": policies.VERSION, **_without_nothing(keys)})
        if read.malformed:
            wrong = ", ".join(sorted(set(read.malformed)))
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"{wrong}: this names no time zone, or no time of day as in 22:00; correct it.",
            )
        return await self._change(call.user_id, keys)

    async def disturb_not(self, call: Call) -> PolicyShown | Refused:
        body: DoNotDisturbBody = call.body
        wish = {} if body.until_ms is None else {"until_ms": body.until_ms}
        return await self._change(call.user_id, {"do_not_disturb": wish})

    async def disturb(self, call: Call) -> PolicyShown | Refused:
        return await self._change(call.user_id, {"do_not_disturb": None})

    async def _change(self, user_id: UserId, keys: Mapping[str, Any]) -> PolicyShown | Refused:
        content = await self._own.change(user_id, keys)
        return content if isinstance(content, Refused) else self._shown(self._screening.read(content))

    def _shown(self, reading: Reading) -> PolicyShown:
        policy, wish = reading.policy, reading.policy.do_not_disturb
        now_ms = self._runtime.now_ms()
        return PolicyShown(
            who=sorted(policy.who),
            allow=sorted(policy.allow),
            deny=sorted(policy.deny),
            rate=RateShown(
                caller=policy.rate.caller,
                server=policy.rate.server,
                strangers=policy.rate.strangers,
                window_ms=policy.rate.window_ms,
            ),
            refusal=policy.refusal.value,
            offers=sorted(policy.offers),
            prior_conversation=policy.rooms.prior_conversation,
            groups=policy.rooms.groups,
            quiet=policy.quiet is not None,
            do_not_disturb=wish is not None and (wish.until_ms is None or now_ms < wish.until_ms),
            do_not_disturb_until_ms=None if wish is None else wish.until_ms,
            relay_only=policy.relay_only,
            malformed=sorted(reading.malformed),
            warning=policies.warning(reading) if reading.malformed else None,
        )


def _without_nothing(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}
