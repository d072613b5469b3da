"""Tells people of other homeservers that somebody here follows them, where that somebody wants it known; and hears it.

The query ``org.superapp.follow`` has ``follower``, ``follower_acct``, ``user_id``, ``acct`` and ``follows`` (``1`` or
``0``). It is believed of people of the homeserver that asks alone, and its answer is the same whoever is there. What
the network swallows is told again until it is heard.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from super_app.accounts import follow_word_store
from super_app.accounts.follow_word_store import FollowWord
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName, UserId, parse_user_id, server_of
from super_app.names import FederationQuery
from super_app.signing import from_b64
from synapse_super_app.directory.budget import Budget
from synapse_super_app.http.refusals import error_of
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.relations import Relations
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_ROUND_MS: Final = 60_000.0
_A_ROUND: Final = 200
_TIMEOUT_MS: Final = 10_000


class FollowWords:
    def __init__(self, runtime: Runtime, relations: Relations) -> None:
        self._runtime = runtime
        self._relations = relations
        self._heard = Budget(burst=200, every_ms=500)
        self._telling = False

    def register(self) -> None:
        self._runtime.private.answer_query(FederationQuery.FOLLOW, self.answer)

    def start(self) -> None:
        if self._runtime.is_main:
            self._runtime.api.looping_background_call(self.tell_all, _ROUND_MS, desc="superapp_follow_words")

    def soon(self) -> None:
        """Something is to be told; on another process than the main one the next round does it."""
        if self._runtime.is_main:
            self._runtime.api.run_as_background_process("superapp_follow_words", self.tell_all)

    async def tell_all(self) -> None:
        """Tell what is due. One that does not answer has all that is for it wait until later."""
        if self._telling:
            return
        self._telling = True
        try:
            due = partial(follow_word_store.due, now_ms=self._runtime.now_ms(), limit=_A_ROUND)
            silent: set[ServerName] = set()
            for word in await self._runtime.database.run("follow_words", due):
                server = server_of(word.peer)
                if server in silent or not await self._tell(word):
                    silent.add(server)
                    later = partial(follow_word_store.postpone, word=word, now_ms=self._runtime.now_ms())
                    await self._runtime.database.run("follow_word_later", later)
        except Exception:
            logger.exception("Telling of follows failed; it is tried again")
        finally:
            self._telling = False

    async def _tell(self, word: FollowWord) -> bool:
        server = server_of(word.peer)
        if server != self._runtime.server_name:
            arguments = {
                "follower": word.owner,
                "follower_acct": word.owner_acct,
                "user_id": word.peer,
                "acct": word.peer_acct,
                "follows": "1" if word.follows else "0",
            }
            try:
                await self._runtime.private.query(server, FederationQuery.FOLLOW, arguments, _TIMEOUT_MS)
            except NoAnswer as error:
                logger.debug("%s did not hear of a follow: %s", server, error)
                return False
        await self._runtime.database.run("follow_word_delivered", partial(follow_word_store.delivered, word=word))
        return True

    async def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The federation query. Whether such a person is here, or blocks the follower, its answer does not say."""
        origin = ServerName(str(arguments["origin"]))
        spent = self._heard.take(origin, self._runtime.now_ms())
        if spent is not None:
            raise error_of(spent)
        follower, user_id = parse_user_id(str(arguments.get("follower"))), parse_user_id(str(arguments.get("user_id")))
        accts = [str(arguments.get(name, "")) for name in ("follower_acct", "acct")]
        follows = str(arguments.get("follows"))
        if (
            follower is None
            or user_id is None
            or server_of(follower) != origin
            or server_of(user_id) != self._runtime.server_name
            or not all(_is_acct(acct) for acct in accts)
            or follows not in ("0", "1")
        ):
            raise error_of(
                Refused(
                    reason=Reason.INVALID_VALUE,
                    message=f"Tell of follows of your own people, and of people of {self._runtime.server_name}.",
                )
            )
        await self._runtime.database.run(
            "follow_heard",
            partial(
                self._hear,
                follower=follower,
                follower_acct=Acct(accts[0]),
                user_id=user_id,
                acct=Acct(accts[1]),
                follows=follows == "1",
            ),
        )
        return {"v": 1}

    def _hear(
        self, cur: Cursor, follower: UserId, follower_acct: Acct, user_id: UserId, acct: Acct, *, follows: bool
    ) -> None:
        if self._relations.blocks_in(cur, user_id, follower):
            follows = False
        now_ms = self._runtime.now_ms()
        follow_word_store.hear(cur, follower, follower_acct, user_id, acct, follows=follows, now_ms=now_ms)


def _is_acct(text: str) -> bool:
    try:
        return len(text) == 43 and len(from_b64(text)) == 32
    except ValueError:
        return False
