"""What people are to each other: contacts, follows, blocks. What calls, payments and searches ask of it.

A block stands in two places: in our table, which follows the account when it moves, and in the Matrix ignore list,
which every client knows and by which messages, search results and rings are left out. Either is enough.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from synapse.module_api import NOT_SPAM, ModuleApi
from synapse.module_api.errors import Codes

from super_app.accounts import relation_store, store
from super_app.db import Cursor
from super_app.ids import UserId
from synapse_super_app.accounts import AccountBook
from synapse_super_app.database import Database
from synapse_super_app.private_api import PrivateApi

logger = logging.getLogger(__name__)

IGNORED_USERS: Final = "m.ignored_user_list"

Verdict = Literal["NOT_SPAM"] | Codes


def blocks_in(private: PrivateApi, cur: Cursor, owner: UserId, other: UserId) -> bool:
    """Whether ``owner``, of this homeserver, wants nothing of ``other``."""
    return relation_store.blocks(cur, owner, other) or private.ignores(cur, owner, other)


class Relations:
    """Questions about two people, the first of them of this homeserver."""

    def __init__(self, api: ModuleApi, private: PrivateApi, accounts: AccountBook, database: Database) -> None:
        self._api = api
        self._private = private
        self._accounts = accounts
        self._database = database

    async def is_contact(self, owner: UserId, other: UserId) -> bool:
        acct = await self._accounts.acct_of(owner)
        return await self._database.run("is_contact", lambda cur: store.contact_of(cur, acct, other) is not None)

    async def follows(self, owner: UserId, other: UserId) -> bool:
        """Whether ``owner`` follows ``other``: what ``following`` in a policy of ``owner`` asks."""
        acct = await self._accounts.acct_of(owner)
        return await self._database.run("follows", lambda cur: relation_store.follows(cur, acct, other))

    async def blocks(self, owner: UserId, other: UserId) -> bool:
        """Whether ``owner`` wants nothing of ``other``."""
        return await self._database.run("blocks", lambda cur: self.blocks_in(cur, owner, other))

    def blocks_in(self, cur: Cursor, owner: UserId, other: UserId) -> bool:
        """The same, inside a transaction."""
        return blocks_in(self._private, cur, owner, other)

    async def ignore(self, owner: UserId, other: UserId) -> None:
        """Put somebody on the Matrix ignore list."""
        await self._change(owner, other, ignored=True)

    async def unignore(self, owner: UserId, other: UserId) -> None:
        await self._change(owner, other, ignored=False)

    async def _change(self, owner: UserId, other: UserId, *, ignored: bool) -> None:
        manager = self._api.account_data_manager
        content = await manager.get_global(owner, IGNORED_USERS)
        others: dict[str, dict[str, Any]] = {user_id: {} for user_id in _ignored(content)}
        if (other in others) is ignored:
            return
        if ignored:
            others[other] = {}
        else:
            del others[other]
        kept = {} if content is None else {key: value for key, value in content.items() if key != "ignored_users"}
        await manager.put_global(owner, IGNORED_USERS, {**kept, "ignored_users": others})


class Invites:
    """Keeps invitations of people whom somebody blocks away. Fails open: inviting does not depend on us."""

    def __init__(self, api: ModuleApi, relations: Relations) -> None:
        self._api = api
        self._relations = relations

    def register(self) -> None:
        self._api.register_spam_checker_callbacks(
            user_may_invite=self.user_may_invite, federated_user_may_invite=self.federated_user_may_invite
        )

    async def user_may_invite(self, inviter: str, invitee: str, room_id: str) -> Verdict:
        return await self._judge(inviter, invitee)

    async def federated_user_may_invite(self, event: Any) -> Verdict:
        return await self._judge(str(event.sender), str(event.state_key))

    async def _judge(self, inviter: str, invitee: str) -> Verdict:
        if not self._api.is_mine(invitee):
            return NOT_SPAM
        try:
            blocked = await self._relations.blocks(UserId(invitee), UserId(inviter))
        except Exception:
            logger.exception("Could not ask whether %s blocks %s; the invitation goes on", invitee, inviter)
            return NOT_SPAM
        return Codes.FORBIDDEN if blocked else NOT_SPAM


def _ignored(content: object) -> Mapping[str, Any]:
    ignored = cast(Mapping[str, Any], content).get("ignored_users") if isinstance(content, Mapping) else None
    return cast(Mapping[str, Any], ignored) if isinstance(ignored, Mapping) else {}
