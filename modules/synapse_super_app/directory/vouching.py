"""Asks the issuers of the badges that other homeservers show whether they stand by them.

Runs on the main process, in turns and whoever looks at a person or not, so that nobody learns from the questions for
whom people here look. The badges of one server's people are asked about one after another, so a slow domain keeps only
badges of its own server waiting. Also says whether an organisation elsewhere is verified itself.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from super_app.db import Cursor
from super_app.directory import badges, store, vouching, vouching_store
from super_app.directory.badges import Badge, Kind
from super_app.directory.model import DAY_MS, AskedBy, Record, Status
from super_app.directory.vouching import House
from super_app.directory.vouching_store import Claim
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, server_of
from super_app.names import FederationQuery
from super_app.signing import canonical, public_b64
from synapse_super_app.directory.domains import Domains, Word, is_domain
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import NoDirectory, Peers
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

ROUND_MS: Final = 600_000.0
_AGAIN_MS: Final = DAY_MS
_AGAIN_AFTER_SILENCE_MS: Final = DAY_MS // 4
_PAGE: Final = 200
_SERVERS_A_ROUND: Final = 50
_CLAIMS_A_ROUND: Final = 50
"""Of one server's people; with rounds every ten minutes all that are kept are asked about in a day."""
_TIMEOUT_MS: Final = 10_000


class Vouching:
    def __init__(self, runtime: Runtime, own: OwnHandles, peers: Peers, domains: Domains) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._domains = domains
        self._asking: set[ServerName] = set()

    # What is believed.

    def house(self) -> House:
        return House(server=self._runtime.server_name, public_key=public_b64(self._own.signer.key))

    async def believed(self, shown: Sequence[Mapping[str, Any]], handle: Handle, acct: Acct) -> tuple[Badge, ...]:
        """Those among the badges of a record that can be believed; asks nobody."""
        if not shown:
            return ()
        work = partial(
            vouching.believed,
            house=self.house(),
            shown=shown,
            handle=handle,
            acct=acct,
            now_ms=self._runtime.now_ms(),
        )
        return await self._runtime.database.run("directory_believed", work)

    # Asking.

    def notice(self, found: Collection[Record]) -> None:
        """Records came; the issuers of their badges are asked soon. On the main process alone, as rounds are."""
        badged = [record for record in found if record.badges]
        if badged and self._runtime.is_main:
            self._runtime.api.run_as_background_process("superapp_directory_vouching", self._look_after, badged)

    async def _look_after(self, found: Sequence[Record]) -> None:
        if await self._take_on(found):
            await self._ask_all()

    async def round(self) -> None:
        """Look through the records that show badges, and ask the issuers whose turn it is."""
        try:
            after = Handle("")
            while True:
                page = await self._runtime.database.run(
                    "directory_badged_elsewhere",
                    partial(vouching_store.badged, after=after, limit=_PAGE, now_ms=self._runtime.now_ms()),
                )
                await self._take_on(page)
                if len(page) < _PAGE:
                    break
                after = page[-1].handle
            await self._ask_all()
        except Exception:
            logger.exception("Asking about badges of other homeservers failed; it is tried again in the next round")

    async def _take_on(self, found: Sequence[Record]) -> int:
        work = partial(
            vouching.look_after, found=found, own_server=self._runtime.server_name, now_ms=self._runtime.now_ms()
        )
        return await self._runtime.database.run("directory_look_after", work)

    async def _ask_all(self) -> None:
        due = partial(vouching_store.servers_due, now_ms=self._runtime.now_ms(), limit=_SERVERS_A_ROUND)
        for server in await self._runtime.database.run("directory_vouching_servers", due):
            if server not in self._asking:
                self._asking.add(server)
                self._runtime.api.run_as_background_process("superapp_directory_vouching", self._ask_of, server)

    async def _ask_of(self, server: ServerName) -> None:
        try:
            due = partial(vouching_store.due, server=server, now_ms=self._runtime.now_ms(), limit=_CLAIMS_A_ROUND)
            for claim in await self._runtime.database.run("directory_vouching_due", due):
                await self._ask(claim)
        except Exception:
            logger.exception("Asking about badges of people of %s failed; it is tried again in the next round", server)
        finally:
            self._asking.discard(server)

    async def _ask(self, claim: Claim) -> None:
        known = partial(store.known_by_handle, handle=claim.handle, now_ms=self._runtime.now_ms())
        found = await self._runtime.database.run("directory_known", known)
        badge = None if found is None else vouching.shown_by(found.record, claim)
        if badge is None:
            await self._runtime.database.run("directory_vouching_drop", partial(vouching_store.drop, claim=claim))
            return
        try:
            word = await self._word(claim, badge)
        except Exception:
            logger.exception("Asking about the badge of %s by %s failed; it is asked again", claim.handle, claim.issuer)
            word = Word.SILENT
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> None:
            match word:
                case Word.NAMES_IT:
                    vouching_store.hear(cur, claim, now_ms, now_ms + _AGAIN_MS)
                case Word.NAMES_OTHERS:
                    vouching_store.hear(cur, claim, 0, now_ms + _AGAIN_MS)
                case Word.SILENT:
                    vouching_store.hear(cur, claim, None, now_ms + _AGAIN_AFTER_SILENCE_MS)

        await self._runtime.database.run("directory_vouching_heard", work)

    async def _word(self, claim: Claim, badge: Mapping[str, Any]) -> Word:
        match claim.kind:
            case Kind.DOMAIN if is_domain(claim.issuer):
                return await self._domains.ask(claim.issuer, claim.handle)
            case Kind.ORGANISATION:
                said = await self.membership(Handle(claim.issuer), claim.handle, claim.acct, shown=badge)
                if isinstance(said, Refused):
                    return Word.SILENT
                return Word.NAMES_OTHERS if said is None else Word.NAMES_IT
            case _:
                return Word.NAMES_OTHERS

    # Organisations elsewhere.

    async def membership(
        self, organisation: Handle, member: Handle, acct: Acct, *, shown: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | Refused | None:
        """The badge that an organisation elsewhere gives somebody now; None if it gives none, or is nobody itself.

        Somebody else's member is told of only to who has seen the badge (``shown``).
        """
        server = server_of(organisation)
        arguments: dict[str, str] = {"organisation": organisation, "handle": member}
        if shown is not None:
            arguments["shown"] = canonical(dict(shown)).decode()
        try:
            said = await self._runtime.private.query(server, FederationQuery.DIRECTORY_BADGE, arguments, _TIMEOUT_MS)
        except NoAnswer:
            return Refused(reason=Reason.PEER_UNREACHABLE, message=f"{server} does not answer now; try again later.")
        key = await self._peers.trusted_key(server, said)
        if isinstance(key, Refused):
            return key
        found = said.get("badge")
        if not isinstance(found, dict):
            return None
        valid = badges.read(found, key.public_key, member, acct, self._runtime.now_ms())
        if valid is None or valid.issuer != organisation:
            return None
        stands = await self._is_verified(organisation)
        if isinstance(stands, Refused):
            return stands
        return valid.content if stands else None

    async def _is_verified(self, organisation: Handle) -> bool | Refused:
        """Whether an organisation elsewhere is verified itself: by its operator, or by a domain that says so to us."""
        server = server_of(organisation)
        found = await self._peers.ask(server, organisation, AskedBy.HANDLE, _TIMEOUT_MS)
        if isinstance(found, Refused):
            return found
        if isinstance(found, NoDirectory) or not isinstance(found, Record) or found.status is not Status.ACTIVE:
            return False
        peer = await self._peers.peer(server)
        if peer is None or peer.key is None:
            return False
        silent = False
        for each in found.badges[: badges.MAX_BADGES]:
            badge = badges.read(each, peer.key.public_key, found.handle, found.acct, self._runtime.now_ms())
            if badge is None or badge.kind is Kind.ORGANISATION:
                continue
            if badge.kind is Kind.OPERATOR:
                return True
            word = await self._domains.ask(badge.issuer, found.handle) if is_domain(badge.issuer) else Word.NAMES_OTHERS
            if word is Word.NAMES_IT:
                return True
            silent = silent or word is Word.SILENT
        if silent:
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"The domain that verifies {organisation} does not answer now; try again later.",
            )
        return False
