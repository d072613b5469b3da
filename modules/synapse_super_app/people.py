"""The port through which payments, calls and contacts ask who somebody is. The directory implements it.

With the directory off a person is a user id (``UserIdsOnly``), and nothing else changes.
"""

from dataclasses import dataclass
from typing import Protocol

from synapse.module_api import ModuleApi

from super_app.directory.badges import Badge
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, parse_user_id, server_of
from synapse_super_app.accounts import AccountBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An account somewhere on the federation. ``acct`` and ``handle`` are None where no directory vouches for them."""

    user_id: UserId
    acct: Acct | None = None
    handle: Handle | None = None
    moved_ms: int | None = None
    """When they last moved between homeservers, if that is known: for some days a large payment to them waits."""
    was: UserId | None = None
    """Who was asked for, where they have moved since: what was paid from there goes back there."""

    @property
    def server(self) -> ServerName:
        return server_of(self.user_id)


class People(Protocol):
    async def resolve(self, who: str, *, asker: UserId, max_age_ms: int, timeout_ms: int = 2_000) -> Person | Refused:
        """The person of a user id or a full handle (``@bob:other.example``).

        ``max_age_ms`` bounds how old a cached answer may be: 60 000 for payments, more for chat. Refusals:
        UNKNOWN_HANDLE (nobody, or hidden from ``asker``), AMBIGUOUS_PAYEE, HANDLE_FROZEN, PEER_UNREACHABLE,
        BAD_RECORD, TOO_MANY_REQUESTS (``asker`` tried out too many names), PAYEE_MOVED (their homeserver says that
        they moved, and the new one does not confirm it). Whoever moved for certain is the person at the new place: its
        ``user_id`` is another one than was asked for.
        """
        ...

    async def handle_of(self, user_id: UserId) -> Handle | None:
        """The current primary handle of an account as far as this server knows; asks no other server."""
        ...

    async def badges_of(self, user_id: UserId) -> tuple[Badge, ...]:
        """The verified badges of an account's primary handle, as far as this server knows; asks no other server."""
        ...


class UserIdsOnly:
    """``People`` for a homeserver whose directory is off."""

    def __init__(self, api: ModuleApi, accounts: AccountBook) -> None:
        self._api = api
        self._accounts = accounts

    async def resolve(self, who: str, *, asker: UserId, max_age_ms: int, timeout_ms: int = 2_000) -> Person | Refused:
        user_id = parse_user_id(who)
        if user_id is None or (self._api.is_mine(user_id) and await self._api.check_user_exists(user_id) is None):
            return Refused(
                reason=Reason.UNKNOWN_HANDLE,
                message=f"There is no account {who[:255]!r}; give a full user id such as @bob:example.org.",
            )
        acct = await self._accounts.acct_of(user_id) if self._api.is_mine(user_id) else None
        return Person(user_id=user_id, acct=acct)

    async def handle_of(self, user_id: UserId) -> Handle | None:
        return None

    async def badges_of(self, user_id: UserId) -> tuple[Badge, ...]:
        return ()
