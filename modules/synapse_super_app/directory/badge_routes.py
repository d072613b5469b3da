"""Verification through the client API: domains, organisations and their members, and the operator's badge."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from super_app.directory.badges import MAX_BADGES, Kind
from super_app.directory.custody_model import Mandate
from super_app.directory.naming import split
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName
from super_app.wire import Text, WireModel
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.directory.routes import HandleRecord, own_name
from synapse_super_app.directory.verifying import DEFAULT_DAYS, Verifying
from synapse_super_app.http.routes import Auth, Call, Route, Sessions
from synapse_super_app.relation_routes import full_name
from synapse_super_app.runtime import Runtime

_Why = Annotated[Text, Field(min_length=1, max_length=1_000)]


class VerifyHandle(WireModel):
    reason: _Why
    """How you know, for the log."""
    days: Annotated[int, Field(ge=1, le=3_650)] = DEFAULT_DAYS


class UnverifyHandle(WireModel):
    reason: _Why


class GivenBadge(WireModel):
    badge: dict[str, Any]
    """As the organisation got it."""


class BelievedBadge(BaseModel):
    """``issuer`` is a server name, a domain, or the handle of an organisation, as ``kind`` says."""

    kind: Literal["operator", "domain", "organisation"]
    issuer: str
    server: str
    """Whose signature it bears."""
    expires: int


class BelievedBadges(BaseModel):
    badges: list[BelievedBadge]


class MemberBadge(BaseModel):
    """The badge of a member, for the member to accept."""

    badge: dict[str, Any]


class Member(BaseModel):
    handle: str
    since: int


class MemberList(BaseModel):
    members: list[Member]


class Dismissed(BaseModel):
    handle: str


_NAMED: Final = (Reason.HANDLE_INVALID, Reason.UNKNOWN_HANDLE)


class BadgeRoutes:
    """Handlers."""

    def __init__(self, runtime: Runtime, verifying: Verifying, people: DirectoryPeople) -> None:
        self._runtime = runtime
        self._verifying = verifying
        self._people = people
        # Each asks web and name servers that somebody else chose.
        self._checks = Budget(burst=10, every_ms=60_000)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="PUT",
                path="handles/{handle}/domains/{domain}",
                handler=self.by_domain,
                response=HandleRecord,
                summary="Be verified by a domain that names your handle (web file or DNS)",
                reasons=(
                    *_NAMED,
                    Reason.INVALID_VALUE,
                    Reason.NOT_ALLOWED,
                    Reason.LIMIT_EXCEEDED,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="handles/{handle}/badges/{kind}/{issuer}",
                handler=self.drop,
                response=HandleRecord,
                summary=f"Drop a badge (domain, organisation or operator); a handle has {MAX_BADGES} at most",
                reasons=(*_NAMED, Reason.INVALID_VALUE),
            ),
            Route(
                method="GET",
                path="handles/{handle}/badges",
                sessions=Sessions.READ,
                handler=self.believed,
                response=BelievedBadges,
                summary="The badges of a handle whose signatures hold here; a record may show others",
                reasons=(*_NAMED, Reason.PEER_UNREACHABLE, Reason.BAD_RECORD, Reason.TOO_MANY_REQUESTS),
            ),
            Route(
                method="POST",
                path="handles/{handle}/badges",
                handler=self.accept,
                response=HandleRecord,
                body=GivenBadge,
                summary="Show the badge that an organisation gave you",
                reasons=(
                    *_NAMED,
                    Reason.INVALID_VALUE,
                    Reason.NOT_ALLOWED,
                    Reason.LIMIT_EXCEEDED,
                    Reason.PEER_UNREACHABLE,
                    Reason.BAD_RECORD,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="GET",
                path="handles/{handle}/members",
                handler=self.members,
                response=MemberList,
                summary="For whom your organisation vouches",
                reasons=_NAMED,
            ),
            Route(
                method="PUT",
                path="handles/{handle}/members/{member}",
                handler=self.enrol,
                response=MemberBadge,
                summary="Vouch for a member of your organisation, which has to be verified itself",
                reasons=(
                    *_NAMED,
                    Reason.NOT_ALLOWED,
                    Reason.HANDLE_FROZEN,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.PEER_UNREACHABLE,
                    Reason.BAD_RECORD,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="handles/{handle}/members/{member}",
                handler=self.dismiss,
                response=Dismissed,
                summary="Vouch for a member no more",
                reasons=(*_NAMED, Reason.UNKNOWN_CONTACT),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/verify",
                handler=self.verify,
                response=HandleRecord,
                body=VerifyHandle,
                auth=Auth.ADMIN,
                summary="Put this homeserver's badge on a handle of whose owner you are sure",
                reasons=(*_NAMED, Reason.LIMIT_EXCEEDED),
            ),
            Route(
                method="POST",
                path="admin/handles/{handle}/unverify",
                handler=self.unverify,
                response=HandleRecord,
                body=UnverifyHandle,
                auth=Auth.ADMIN,
                summary="Take this homeserver's badge off a handle",
                reasons=(*_NAMED, Reason.INVALID_VALUE),
            ),
        )

    async def by_domain(self, call: Call) -> HandleRecord | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        spent = self._checks.take(call.user_id, self._runtime.now_ms())
        if isinstance(name, Refused):
            return name
        if spent is not None:
            return spent
        return _shown(await self._verifying.by_domain(call.user_id, name, call.path["domain"].lower()))

    async def drop(self, call: Call) -> HandleRecord | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        try:
            kind = Kind(call.path["kind"])
        except ValueError:
            return Refused(reason=Reason.INVALID_VALUE, message="kind is one of operator, domain, organisation.")
        return _shown(await self._verifying.drop(call.user_id, name, kind, call.path["issuer"]))

    async def believed(self, call: Call) -> BelievedBadges | Refused:
        parts = split(call.path["handle"], self._runtime.server_name)
        if isinstance(parts, Refused):
            return parts
        record = await self._people.record(*parts, asker=call.user_id)
        if isinstance(record, Refused):
            return record
        found = await self._verifying.verified(record["badges"], Handle(record["handle"]), Acct(record["acct"]))
        return BelievedBadges(
            badges=[
                BelievedBadge(kind=each.kind.value, issuer=each.issuer, server=each.server, expires=each.expires_ms)
                for each in found
            ]
        )

    async def accept(self, call: Call) -> HandleRecord | Refused:
        body: GivenBadge = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        spent = self._checks.take(call.user_id, self._runtime.now_ms())
        if isinstance(name, Refused):
            return name
        if spent is not None:
            return spent
        return _shown(await self._verifying.accept(call.user_id, name, body.badge))

    async def members(self, call: Call) -> MemberList | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        found = await self._verifying.members(call.user_id, name)
        if isinstance(found, Refused):
            return found
        return MemberList(members=[Member(handle=handle, since=since) for handle, since in found])

    async def enrol(self, call: Call) -> MemberBadge | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        typed = full_name(call.path["member"], self._runtime.server_name)
        text, _, server = typed.removeprefix("@").partition(":")
        record = await self._people.record(text, ServerName(server), asker=call.user_id)
        if isinstance(record, Refused):
            return record
        found = await self._verifying.enrol(call.user_id, name, Handle(record["handle"]), record["acct"])
        return found if isinstance(found, Refused) else MemberBadge(badge=dict(found))

    async def dismiss(self, call: Call) -> Dismissed | Refused:
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        member = Handle(full_name(call.path["member"], self._runtime.server_name))
        return await self._verifying.dismiss(call.user_id, name, member) or Dismissed(handle=member)

    async def verify(self, call: Call) -> HandleRecord | Refused:
        body: VerifyHandle = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        mandate = Mandate(operator=call.user_id, reason=body.reason)
        return _shown(await self._verifying.by_operator(name, mandate, body.days))

    async def unverify(self, call: Call) -> HandleRecord | Refused:
        body: UnverifyHandle = call.body
        name = own_name(call.path["handle"], self._runtime.server_name)
        if isinstance(name, Refused):
            return name
        mandate = Mandate(operator=call.user_id, reason=body.reason)
        return _shown(await self._verifying.not_by_operator(name, mandate))


def _shown(content: Mapping[str, Any] | Refused) -> HandleRecord | Refused:
    return content if isinstance(content, Refused) else HandleRecord.model_validate(dict(content))
