"""The directory feature in the homeserver: puts its parts together and starts them."""

import logging
from collections.abc import Collection, Sequence
from typing import Final

from super_app.directory import guess_store
from super_app.directory.model import TIDY_MS, Record
from super_app.names import LOG_PREFIX
from synapse_super_app.config import FeatureName
from synapse_super_app.directory.account_routes import AccountRoutes
from synapse_super_app.directory.answers import Answers
from synapse_super_app.directory.badge_routes import BadgeRoutes
from synapse_super_app.directory.card_routes import CardRoutes
from synapse_super_app.directory.chains import Chains
from synapse_super_app.directory.custody_routes import CustodyRoutes
from synapse_super_app.directory.description import SelfDescription
from synapse_super_app.directory.domains import Domains
from synapse_super_app.directory.feed import FeedReader
from synapse_super_app.directory.generations import OwnGenerations
from synapse_super_app.directory.gossip import Gossip
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.log import LogFiles, OwnLog
from synapse_super_app.directory.move_routes import MoveRoutes
from synapse_super_app.directory.moves import Moves
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import Peers
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.directory.public_routes import PublicRoutes
from synapse_super_app.directory.registration import Registration
from synapse_super_app.directory.routes import DirectoryRoutes
from synapse_super_app.directory.search import Search
from synapse_super_app.directory.signer import Signer
from synapse_super_app.directory.trust_routes import TrustRoutes
from synapse_super_app.directory.verifying import RECHECK_MS, Verifying
from synapse_super_app.directory.vouching import ROUND_MS, Vouching
from synapse_super_app.http.guards import AddressLimit
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_UPKEEP_MS: Final = float(TIDY_MS)
_GOSSIP_MS: Final = 60_000.0
_RENEWAL_MS: Final = 30_000.0
"""Accounts that another process registers get their public record within this time."""


class DirectoryFeature:
    """``people`` is how other features ask who somebody is; in ``described`` they say what they are."""

    name = FeatureName.DIRECTORY
    packages = ("super_app.accounts", "super_app.directory")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._own = OwnHandles(runtime)
        self._heads = Heads(runtime, self._own)
        self._peers = Peers(runtime, self._heads)
        self._log = OwnLog(runtime, self._own)
        self.described = SelfDescription(runtime, self._own)
        self._generations = OwnGenerations(runtime, self._own, self._peers)
        self._answers = Answers(
            runtime, self._own, self._peers, self._log, self._heads, self.described, self._generations
        )
        self.moves = Moves(runtime, self._own, self._peers)
        domains = Domains(runtime.private, runtime.config.directory.dns_servers)
        self._vouching = Vouching(runtime, self._own, self._peers, domains)
        self._reader = FeedReader(runtime, self._peers, self._notice)
        self._gossip = Gossip(runtime, self._peers, self._heads, self._generations)
        self._verifying = Verifying(runtime, self._own, domains, self._vouching)
        self.people = DirectoryPeople(
            runtime, self._own, self._peers, self._heads, self._verifying, self._vouching, self.moves
        )
        self._search = Search(runtime, self.people, self._heads)
        self._routes = DirectoryRoutes(runtime, self._own, self._peers, self.people, self._search, self._answers)
        self._custody = CustodyRoutes(runtime, self._own)
        self._account = AccountRoutes(runtime, self._own)
        chains = Chains(runtime, self._own, self._peers, self._heads, self._log)
        self._trust = TrustRoutes(runtime, self._own, self._peers, self._heads, self.described, chains)
        self._cards = CardRoutes(runtime, self._own, self._peers, self.people)
        self._badges = BadgeRoutes(runtime, self._verifying, self.people)
        self._public = PublicRoutes(runtime, self.people)
        self._move_routes = MoveRoutes(runtime, self._own, self.moves)
        self._answers.register(self._reader.heard)
        self.moves.register()
        self._verifying.register()
        Registration(runtime.api, runtime.private, self._own, runtime.rollout).register()
        runtime.private.wrap_user_search(self._search.in_user_directory)
        log_files = LogFiles(self._own, self._log, self.described, self._generations, AddressLimit(runtime))
        runtime.api.register_web_resource(LOG_PREFIX, log_files)

    def routes(self) -> Sequence[Route]:
        return (
            *self._routes.routes(),
            *self._custody.routes(),
            *self._account.routes(),
            *self._trust.routes(),
            *self._cards.routes(),
            *self._badges.routes(),
            *self._public.routes(),
            *self._move_routes.routes(),
        )

    async def start(self) -> None:
        runtime = self._runtime
        await self._own.start(Signer(runtime))
        await self._search.start()
        if runtime.is_main:
            runtime.api.run_as_background_process("superapp_directory_settle", self._generations.settle)
            await self._reader.start()
            runtime.api.looping_background_call(self._upkeep, _UPKEEP_MS, desc="superapp_directory_upkeep")
            runtime.api.looping_background_call(self._renew, _RENEWAL_MS, desc="superapp_directory_renewal")
            runtime.api.looping_background_call(self._verifying.recheck, RECHECK_MS, desc="superapp_directory_badges")
            runtime.api.looping_background_call(self._vouching.round, ROUND_MS, desc="superapp_directory_vouching")
            runtime.api.looping_background_call(self._gossip.round, _GOSSIP_MS, desc="superapp_directory_gossip")
            runtime.api.run_as_background_process("superapp_directory_upkeep", self._upkeep)

    def _notice(self, found: Collection[Record]) -> None:
        """Records of other homeservers came."""
        self.moves.notice(found)
        self._vouching.notice(found)

    async def _renew(self) -> None:
        self._own.renew_soon()

    async def _upkeep(self) -> None:
        try:
            await self._own.adopt_missing()
            await self._own.tidy()
            await self.moves.upkeep()
            now_ms = self._runtime.now_ms()
            await self._runtime.database.run("guesses_forget", lambda cur: guess_store.forget(cur, now_ms))
            # Readers have checkpoints made as they need them; this keeps few leaves waiting where there is none.
            await self._log.newest()
        except Exception:
            logger.exception("Upkeep of the directory failed; it is tried again in ten minutes")
