"""Badges in the homeserver: who gets one, who loses it, and which of those that others show can be believed.

Domains and organisations are asked again every day, on the main process. One that says no takes its badge away at
once; one that is silent keeps it until it ends.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from super_app.db import Cursor
from super_app.directory import badges, custody, rules, store, verification, verification_store
from super_app.directory.badges import OPERATOR_LIFETIME_MS, RECHECKED_LIFETIME_MS, RENEW_BEFORE_END_MS, Badge, Kind
from super_app.directory.custody_model import Mandate
from super_app.directory.model import DAY_MS, Holding, Name, State, full
from super_app.directory.naming import spellings
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, localpart_of, server_of
from super_app.names import FederationQuery
from super_app.signing import public_b64
from synapse_super_app.directory.domains import TXT_NAME, WELL_KNOWN, Domains, Word, is_domain
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.vouching import Vouching
from synapse_super_app.http.refusals import error_of
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

RECHECK_MS: Final = DAY_MS / 4
"""Often enough that each is asked every day, also on a homeserver that is restarted every night."""
_PAGE: Final = 200


class Verifying:
    def __init__(self, runtime: Runtime, own: OwnHandles, domains: Domains, vouching: Vouching) -> None:
        self._runtime = runtime
        self._own = own
        self._domains = domains
        self._vouching = vouching

    def register(self) -> None:
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_BADGE, self.answer)

    # The operator.

    async def by_operator(self, text: str, mandate: Mandate, days: int) -> Mapping[str, Any] | Refused:
        held = await self._held(text)
        if isinstance(held, Refused):
            return held
        now_ms = self._runtime.now_ms()
        badge = self._badge(Kind.OPERATOR, self._runtime.server_name, held, now_ms, now_ms + days * DAY_MS)
        facts = await self._own.facts(held.user_id)
        work = partial(
            custody.verify,
            issuer=self._own.issuer,
            held=held,
            badge=badge,
            mandate=mandate,
            facts=facts,
            now_ms=now_ms,
        )
        return await self._run(work)

    async def not_by_operator(self, text: str, mandate: Mandate) -> Mapping[str, Any] | Refused:
        held = await self._held(text)
        if isinstance(held, Refused):
            return held
        work = partial(
            custody.unverify,
            issuer=self._own.issuer,
            held=held,
            mandate=mandate,
            facts=await self._own.facts(held.user_id),
            now_ms=self._runtime.now_ms(),
        )
        return await self._run(work)

    # Domains.

    async def by_domain(self, owner: UserId, text: str, domain: str) -> Mapping[str, Any] | Refused:
        """A badge for who names a domain that names them."""
        held = await self._own_held(owner, text)
        if isinstance(held, Refused):
            return held
        if not is_domain(domain):
            return Refused(
                reason=Reason.INVALID_VALUE, message=f"{domain[:255]!a} is no domain; write it as example.org."
            )
        handle = full(held.name, self._runtime.server_name)
        if await self._domains.ask(domain, handle) is not Word.NAMES_IT:
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=(
                    f'{domain} does not name {handle}: list it under "handles" at https://{domain}{WELL_KNOWN}, or '
                    f'make a TXT record "handle={handle}" at {TXT_NAME}.{domain}, and try again.'
                ),
            )
        return await self._add(held, self._rechecked(Kind.DOMAIN, domain, held))

    # Organisations.

    async def enrol(self, owner: UserId, text: str, member: Handle, acct: Acct) -> Mapping[str, Any] | Refused:
        """The badge that an organisation gives a member; the member decides whether to show it."""
        held = await self._own_held(owner, text)
        if isinstance(held, Refused):
            return held
        now_ms = self._runtime.now_ms()
        if not verification.vouches(held, now_ms):
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"{held.name} is not verified itself, so it cannot vouch for members; verify a domain first.",
            )
        work = partial(verification.enrol, organisation=held.name, member=member, acct=acct, now_ms=now_ms)
        await self._runtime.database.run("directory_enrol", work)
        return self._membership(held.name, member, acct)

    async def dismiss(self, owner: UserId, text: str, member: Handle) -> Refused | None:
        """Vouch for somebody no more. A member here loses the badge at once, others with the next check."""
        held = await self._own_held(owner, text)
        if isinstance(held, Refused):
            return held
        work = partial(verification.dismiss, organisation=held.name, member=member)
        if not await self._runtime.database.run("directory_dismiss", work):
            return Refused(reason=Reason.UNKNOWN_CONTACT, message=f"{member} is no member; nothing was changed.")
        if server_of(member) == self._runtime.server_name:
            found = await self._held(localpart_of(member))
            if not isinstance(found, Refused):
                await self._drop(found, Kind.ORGANISATION, full(held.name, self._runtime.server_name))
        return None

    async def members(self, owner: UserId, text: str) -> Sequence[tuple[Handle, int]] | Refused:
        held = await self._own_held(owner, text)
        if isinstance(held, Refused):
            return held
        work = partial(verification_store.members, organisation=held.name)
        return await self._runtime.database.run("directory_members", work)

    async def accept(self, owner: UserId, text: str, badge: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
        """Show a badge that an organisation gave."""
        held = await self._own_held(owner, text)
        if isinstance(held, Refused):
            return held
        handle = full(held.name, self._runtime.server_name)
        server = badges.server_of_badge(badge)
        organisation = badge.get("issuer")
        if server is None or badge.get("kind") != Kind.ORGANISATION.value or not isinstance(organisation, str):
            return Refused(reason=Reason.INVALID_VALUE, message="badge: this is no badge of an organisation.")
        # Asked for anew, so that only what stands now is shown, and its key comes with the answer.
        current = await self._ask(server, organisation, handle, held.acct)
        if isinstance(current, Refused):
            return current
        if current is None:
            return Refused(
                reason=Reason.NOT_ALLOWED, message=f"{organisation} does not vouch for {handle} now; ask them."
            )
        return await self._add(held, current)

    async def drop(self, owner: UserId, text: str, kind: Kind, by: str) -> Mapping[str, Any] | Refused:
        """Show a badge no more."""
        held = await self._own_held(owner, text)
        return held if isinstance(held, Refused) else await self._drop(held, kind, by)

    async def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The federation query: the badge that an organisation of this homeserver gives somebody now, or none.

        Who is a member is the member's to tell: only their homeserver is answered, and who has seen the badge.
        """
        if not self._own.ready:
            raise error_of(Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment."))
        organisation, member = str(arguments.get("organisation", "")), Handle(str(arguments.get("handle", "")))
        may_know = server_of(member) == str(arguments["origin"]) or self._was_shown(arguments, organisation, member)
        badge = await self._given(organisation, member) if may_know else None
        said = await self._own.signer.identity()
        return said if badge is None else {**said, "badge": badge}

    def _was_shown(self, arguments: Mapping[str, Any], organisation: str, member: Handle) -> bool:
        """Whether whoever asks has the badge of that member, which our key signed."""
        try:
            shown: object = json.loads(str(arguments.get("shown", "")))
        except (ValueError, RecursionError):
            return False
        if not isinstance(shown, dict):
            return False
        content = cast(dict[str, Any], shown)
        key, acct = public_b64(self._own.signer.key), Acct(str(content.get("acct", "")))
        badge = badges.read(content, key, member, acct, self._runtime.now_ms())
        return badge is not None and badge.issuer == organisation

    async def _given(self, organisation: str, member: Handle) -> Mapping[str, Any] | None:
        if server_of(Handle(organisation)) != self._runtime.server_name:
            return None
        held = await self._held(localpart_of(Handle(organisation)))
        if isinstance(held, Refused) or not verification.vouches(held, self._runtime.now_ms()):
            return None
        work = partial(verification_store.member_acct, organisation=held.name, member=member)
        acct = await self._runtime.database.run("directory_member", work)
        return None if acct is None else self._membership(held.name, member, acct)

    def _membership(self, organisation: Name, member: Handle, acct: Acct) -> Mapping[str, Any]:
        now_ms = self._runtime.now_ms()
        return badges.badge(
            Kind.ORGANISATION,
            full(organisation, self._runtime.server_name),
            self._runtime.server_name,
            member,
            acct,
            self._own.signer.key,
            issued_ms=now_ms,
            expires_ms=now_ms + RECHECKED_LIFETIME_MS,
        )

    async def _ask(
        self, server: ServerName, organisation: str, handle: Handle, acct: Acct
    ) -> Mapping[str, Any] | Refused | None:
        """The badge that an organisation gives now; None if it gives none."""
        if server == self._runtime.server_name:
            return await self._given(organisation, handle)
        return await self._vouching.membership(Handle(organisation), handle, acct, shown=None)

    # Checking again.

    async def recheck(self) -> None:
        """Ask every domain and organisation again that gave one of our people a badge."""
        after = Name("")
        while True:
            page = await self._runtime.database.run(
                "directory_badged", partial(verification_store.with_badges, after=after, limit=_PAGE)
            )
            for held in page:
                for badge in held.badges:
                    await self._recheck(held, badge)
            if len(page) < _PAGE:
                return
            after = page[-1].name

    async def _recheck(self, held: Holding, badge: Mapping[str, Any]) -> None:
        now_ms = self._runtime.now_ms()
        kind, by = Kind(str(badge["kind"])), str(badge["issuer"])
        try:
            renewed = await self._renewed(held, badge, kind, by)
        except Exception:
            logger.exception("Checking the badge of %s by %s failed; it is tried again tomorrow", held.name, by)
            return
        if renewed is False or int(badge["expires"]) <= now_ms:
            await self._drop(held, kind, by)
            logger.info("%s is no longer verified by %s", held.name, by)
        elif not isinstance(renewed, bool) and (
            int(badge["expires"]) - now_ms < RENEW_BEFORE_END_MS or renewed["key_id"] != badge["key_id"]
        ):
            # Readers believe a homeserver by the key that it has now.
            await self._add(held, renewed)

    async def _renewed(self, held: Holding, badge: Mapping[str, Any], kind: Kind, by: str) -> Mapping[str, Any] | bool:
        """A new badge, True if the old one stays as it is, False if it is to go."""
        handle = full(held.name, self._runtime.server_name)
        match kind:
            case Kind.OPERATOR:
                return True
            case Kind.DOMAIN:
                word = await self._domains.ask(by, handle)
                if word is Word.SILENT:
                    return True
                return self._rechecked(kind, by, held) if word is Word.NAMES_IT else False
            case Kind.ORGANISATION:
                current = await self._ask(ServerName(str(badge["server"])), by, handle, held.acct)
                if isinstance(current, Refused):
                    return True
                return current if current is not None else False

    # What others show.

    async def verified(self, shown: Sequence[Mapping[str, Any]], handle: Handle, acct: Acct) -> tuple[Badge, ...]:
        """Those among the badges of a record that can be believed, by what is known here."""
        return await self._vouching.believed(shown, handle, acct)

    async def badges_of(self, user_id: UserId) -> tuple[Badge, ...]:
        """The verified badges of somebody's primary handle as it is known here; asks no other server."""
        now_ms = self._runtime.now_ms()
        if server_of(user_id) == self._runtime.server_name:
            held = await self._runtime.database.run("directory_primary", partial(store.primary_of, user_id=user_id))
            if held is None or not held.badges:
                return ()
            return await self.verified(held.badges, full(held.name, self._runtime.server_name), held.acct)
        work = partial(store.known_by_user_id, user_id=user_id, now_ms=now_ms)
        known = await self._runtime.database.run("directory_known_user", work)
        if known is None or not known.record.badges:
            return ()
        return await self.verified(known.record.badges, known.record.handle, known.record.acct)

    # The rest.

    def _badge(self, kind: Kind, by: str, held: Holding, issued_ms: int, expires_ms: int) -> Mapping[str, Any]:
        server = self._runtime.server_name
        handle = full(held.name, server)
        key = self._own.signer.key
        return badges.badge(kind, by, server, handle, held.acct, key, issued_ms=issued_ms, expires_ms=expires_ms)

    def _rechecked(self, kind: Kind, by: str, held: Holding) -> Mapping[str, Any]:
        now_ms = self._runtime.now_ms()
        return self._badge(kind, by, held, now_ms, now_ms + RECHECKED_LIFETIME_MS)

    async def _add(self, held: Holding, badge: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
        work = partial(
            verification.add,
            issuer=self._own.issuer,
            name=held.name,
            acct=held.acct,
            badge=badge,
            facts=await self._own.facts(held.user_id),
            now_ms=self._runtime.now_ms(),
        )
        return await self._run(work)

    async def _drop(self, held: Holding, kind: Kind, by: str) -> Mapping[str, Any] | Refused:
        work = partial(
            verification.drop,
            issuer=self._own.issuer,
            name=held.name,
            acct=held.acct,
            kind=kind,
            by=by,
            facts=await self._own.facts(held.user_id),
            now_ms=self._runtime.now_ms(),
        )
        return await self._run(work)

    async def _run(self, work: Callable[[Cursor], Mapping[str, Any] | Refused]) -> Mapping[str, Any] | Refused:
        return await self._runtime.database.run("directory_badge", work)

    async def _held(self, text: str) -> Holding | Refused:
        held = await self._runtime.database.run("directory_held", partial(store.first_of, names=spellings(text)))
        if held is None or held.state in (State.FREE, State.RELEASED):
            return rules.no_such_handle(text)
        return held

    async def _own_held(self, owner: UserId, text: str) -> Holding | Refused:
        held = await self._held(text)
        if isinstance(held, Refused) or held.user_id != owner:
            return rules.no_such_handle(text)
        return held


DEFAULT_DAYS: Final = OPERATOR_LIFETIME_MS // DAY_MS
