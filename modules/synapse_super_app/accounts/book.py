"""The accounts of this homeserver, made at first use."""

import secrets
from typing import Final

from synapse.module_api import ModuleApi

from super_app.accounts import store
from super_app.accounts.model import Account, Genesis
from super_app.ids import Acct, ServerName, UserId, localpart_of
from synapse_super_app.database import Database

_CACHE_ENTRIES: Final = 50_000


class AccountBook:
    """From user ids to accounts. An account never changes its acct, so what was read once stays true."""

    def __init__(self, api: ModuleApi, database: Database, server_name: ServerName) -> None:
        self._api = api
        self._database = database
        self._server_name = server_name
        self._known: dict[UserId, Account] = {}

    async def ensure(self, user_id: UserId) -> Account:
        """The account of a local user; made now if this is its first use."""
        known = self._known.get(user_id)
        if known is not None:
            return known
        if not self._api.is_mine(user_id):
            raise ValueError(f"{user_id} is not an account of this homeserver")
        genesis = Genesis(
            server=self._server_name,
            localpart=localpart_of(user_id),
            created_ms=self._api.get_current_time_msec(),
            nonce=secrets.token_hex(16),
        )
        account = await self._database.run("account_ensure", lambda cur: store.ensure(cur, user_id, genesis))
        if len(self._known) >= _CACHE_ENTRIES:
            self._known.clear()
        self._known[user_id] = account
        return account

    async def acct_of(self, user_id: UserId) -> Acct:
        return (await self.ensure(user_id)).acct
