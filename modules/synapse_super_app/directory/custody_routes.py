"""The operator's part of the client API about handles: acts, each with its reason, and the log of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from super_app.directory.custody_model import Deed, Mandate
from super_app.directory.model import FrozenFor, Holding, full
from super_app.errors import Reason, Refused
from super_app.ids import UserId, parse_user_id
from super_app.wire import Text, WireModel
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.routes import HandleRecord, own_name
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime

_Why = Annotated[Text, Field(min_length=1, max_length=1_000)]


class Because(WireModel):
    reason: _Why
    """Why, for the log."""


class HandleTo(WireModel):
    user_id: str
    """An account of this homeserver."""
    reason: _Why


class Disputed(WireModel):
    reason: _Why
    claimant: str | None = None
    """The user id of whoever says that the handle is theirs, if they have one."""


class HandleDeed(BaseModel):
    """What an operator did: when, who, why. ``from`` had the handle before, ``to`` has it since."""

    number: int
    at: int
    operator: str
    act: Literal["grant", "settle", "revoke", "freeze", "unfreeze", "transfer", "dispute", "verify", "unverify"]
    handle: str
    from_: Annotated[str | None, Field(alias="from", serialization_alias="from")] = None
    to: str | None = None
    reason: str


class HandleDeeds(BaseModel):
    deeds: list[HandleDeed]
    next: int | None = None
    """Give it as ``before`` for the deeds before these."""


class HandleFile(BaseModel):
    """What a handle of this homeserver is, and what operators did to it, newest first."""

    handle: str
    held: bool
    user_id: str | None = None
    state: Literal["active", "moved", "released", "frozen", "free"] | None = None
    frozen_for: Literal["ambiguous", "dispute", "operator"] | None = None
    contested_by: str | None = None
    kept_for: Literal["paid", "verified", "revoked"] | None = None
    """Why nobody else gets it once it is given up."""
    discover: Literal["public", "exact", "link", "none"] | None = None
    since: int | None = None
    released: int | None = None
    deeds: list[HandleDeed]


class DeedsWanted(BaseModel):
    before: Annotated[int | None, Field(ge=1)] = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100


_NAMED: Final = (Reason.HANDLE_INVALID, Reason.UNKNOWN_HANDLE, Reason.INVALID_VALUE)


class CustodyRoutes:
    """Handlers for Synapse admins."""

    def __init__(self, runtime: Runtime, own: OwnHandles) -> None:
        self._runtime = runtime
        self._own = own

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/handles",
                handler=self.log,
                response=HandleDeeds,
                query=DeedsWanted,
                auth=Auth.ADMIN,
                summary="What operators did to handles, newest first",
            ),
            Route(
                method="GET",
                path="admin/handles/{handle}",
                handler=self.file,
                response=HandleFile,
                auth=Auth.ADMIN,
                summary="What a handle of this homeserver is, and what operators did to it",
                reasons=(Reason.HANDLE_INVALID,),
            ),
            Route(
                method="PUT",
                path="admin/handles/{handle}",
                handler=self.grant,
                response=HandleRecord,
                body=HandleTo,
                auth=Auth.ADMIN,
                summary="Grant a handle (short or reserved, as an alias), or settle one that an account contests",
                reasons=(*_NAMED, Reason.HANDLE_RESERVED, Reason.HANDLE_TAKEN, Reason.HANDLE_LOOKALIKE),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/revoke",
                handler=self.revoke,
                response=HandleRecord,
                body=Because,
                auth=Auth.ADMIN,
                summary="Take a handle away from whoever has it; nobody gets it again unless you transfer it",
                reasons=(*_NAMED, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/freeze",
                handler=self.freeze,
                response=HandleRecord,
                body=Because,
                auth=Auth.ADMIN,
                summary="Freeze a handle: nobody is found or paid under it",
                reasons=(*_NAMED, Reason.HANDLE_FROZEN, Reason.AMBIGUOUS_PAYEE, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/dispute",
                handler=self.dispute,
                response=HandleRecord,
                body=Disputed,
                auth=Auth.ADMIN,
                summary="Freeze a handle until you have decided whose it is",
                reasons=(*_NAMED, Reason.HANDLE_FROZEN, Reason.AMBIGUOUS_PAYEE, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/unfreeze",
                handler=self.unfreeze,
                response=HandleRecord,
                body=Because,
                auth=Auth.ADMIN,
                summary="Whoever had a frozen handle has it again",
                reasons=(*_NAMED, Reason.AMBIGUOUS_PAYEE),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/transfer",
                handler=self.transfer,
                response=HandleRecord,
                body=HandleTo,
                auth=Auth.ADMIN,
                summary="Give somebody's handle to another account, as an alias",
                reasons=(*_NAMED, Reason.NOT_ALLOWED, Reason.AMBIGUOUS_PAYEE),
            ),
        )

    async def log(self, call: Call) -> HandleDeeds:
        wanted: DeedsWanted = call.query
        deeds = await self._own.log_of_deeds(wanted.before, wanted.limit)
        following = deeds[-1].seq if len(deeds) == wanted.limit and deeds[-1].seq > 1 else None
        return HandleDeeds(deeds=[self._deed(each) for each in deeds], next=following)

    async def file(self, call: Call) -> HandleFile | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        held, deeds = await self._own.deeds(name)
        shown = [self._deed(each) for each in deeds]
        if held is None:
            return HandleFile(handle=f"@{name}:{self._runtime.server_name}", held=False, deeds=shown)
        return self._file(held, shown)

    async def grant(self, call: Call) -> HandleRecord | Refused:
        body: HandleTo = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        user_id = await self._account(body.user_id)
        if isinstance(name, Refused):
            return name
        if isinstance(user_id, Refused):
            return user_id
        return _shown(await self._own.grant(user_id, name, _mandate(call, body.reason)))

    async def revoke(self, call: Call) -> HandleRecord | Refused:
        body: Because = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        return _shown(await self._own.revoke(name, _mandate(call, body.reason)))

    async def freeze(self, call: Call) -> HandleRecord | Refused:
        body: Because = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        return _shown(await self._own.freeze(name, FrozenFor.OPERATOR, _mandate(call, body.reason)))

    async def dispute(self, call: Call) -> HandleRecord | Refused:
        body: Disputed = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        claimant = None if body.claimant is None else parse_user_id(body.claimant)
        if isinstance(name, Refused):
            return name
        if claimant is None and body.claimant is not None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"claimant: {body.claimant[:255]!a} is no user id; write @bob:example.org, or leave it out.",
            )
        return _shown(await self._own.freeze(name, FrozenFor.DISPUTE, _mandate(call, body.reason), claimant))

    async def unfreeze(self, call: Call) -> HandleRecord | Refused:
        body: Because = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        return _shown(await self._own.unfreeze(name, _mandate(call, body.reason)))

    async def transfer(self, call: Call) -> HandleRecord | Refused:
        body: HandleTo = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        user_id = await self._account(body.user_id)
        if isinstance(name, Refused):
            return name
        if isinstance(user_id, Refused):
            return user_id
        return _shown(await self._own.transfer(name, user_id, _mandate(call, body.reason)))

    async def _account(self, text: str) -> UserId | Refused:
        user_id = parse_user_id(text)
        is_ours = user_id is not None and self._runtime.api.is_mine(user_id)
        if user_id is None or not is_ours or await self._runtime.api.check_user_exists(user_id) is None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"{text[:255]!a} is no account of this homeserver; give a user id of it.",
            )
        return user_id

    def _file(self, held: Holding, deeds: list[HandleDeed]) -> HandleFile:
        return HandleFile(
            handle=full(held.name, self._runtime.server_name),
            held=held.state.value != "free",
            user_id=held.user_id,
            state=held.state.value,
            frozen_for=None if held.frozen_for is None else held.frozen_for.value,
            contested_by=held.contested_by,
            kept_for=None if held.kept_for is None else held.kept_for.value,
            discover=held.discover.value,
            since=held.since_ms,
            released=held.released_ms,
            deeds=deeds,
        )

    def _deed(self, deed: Deed) -> HandleDeed:
        return HandleDeed.model_validate(
            {
                "number": deed.seq,
                "at": deed.at_ms,
                "operator": deed.operator,
                "act": deed.act.value,
                "handle": full(deed.name, self._runtime.server_name),
                "from": deed.from_user_id,
                "to": deed.to_user_id,
                "reason": deed.reason,
            }
        )


def _mandate(call: Call, reason: str) -> Mandate:
    return Mandate(operator=call.user_id, reason=reason)


def _shown(content: Mapping[str, Any] | Refused) -> HandleRecord | Refused:
    return content if isinstance(content, Refused) else HandleRecord.model_validate(dict(content))
