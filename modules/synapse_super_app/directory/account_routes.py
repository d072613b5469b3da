"""The client API's part about one's own account: what its id is the hash of, and the recovery key in that."""

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from super_app.accounts import store
from super_app.accounts.model import Genesis
from super_app.db import Cursor
from super_app.directory import first_use
from super_app.errors import Reason, Refused
from super_app.ids import UserId, localpart_of
from super_app.signing import from_b64
from super_app.wire import WireModel
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.runtime import Runtime

_KEY_BYTES = 32


def _public_key(value: str) -> str:
    if len(from_b64(value)) != _KEY_BYTES:
        raise ValueError("is no ed25519 public key of 32 bytes in unpadded base64url")
    return value


class RecoveryKey(WireModel):
    recovery_key: Annotated[str, AfterValidator(_public_key)]
    """An ed25519 public key, unpadded base64url. Keep the secret half where nobody else has it."""


class GenesisContent(BaseModel):
    """What ``acct`` is the SHA-256 of, as canonical JSON."""

    v: int
    server: str
    localpart: str
    created_ms: int
    nonce: str
    recovery_key: str | None = None


class OwnAccount(BaseModel):
    user_id: str
    acct: str
    genesis: GenesisContent
    """Keep it with the recovery key: it proves that the account is the key's."""
    used: bool
    """Whether the id is fixed; until then a recovery key can be set."""


class AccountRoutes:
    def __init__(self, runtime: Runtime, own: OwnHandles) -> None:
        self._runtime = runtime
        self._own = own

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="account",
                handler=self.show,
                response=OwnAccount,
                summary="Your account: its stable id, and what that is the hash of",
                reasons=(Reason.NOT_ALLOWED,),
            ),
            Route(
                method="PUT",
                path="account/recovery-key",
                handler=self.set_recovery_key,
                response=OwnAccount,
                body=RecoveryKey,
                summary="Set the recovery key of your account, before it is first used",
                reasons=(Reason.CONFLICT, Reason.NOT_ALLOWED),
            ),
        )

    async def show(self, call: Call) -> OwnAccount | Refused:
        return await self._shown(call.user_id)

    async def set_recovery_key(self, call: Call) -> OwnAccount | Refused:
        body: RecoveryKey = call.body
        if not await self._own.adopted(call.user_id):
            return _no_account(call.user_id)
        genesis = Genesis(
            server=self._runtime.server_name,
            localpart=localpart_of(call.user_id),
            created_ms=self._runtime.now_ms(),
            nonce=secrets.token_hex(16),
            recovery_key=body.recovery_key,
        )
        work = partial(first_use.set_recovery_key, user_id=call.user_id, genesis=genesis)
        done = await self._runtime.database.run("account_recovery_key", work)
        return done if isinstance(done, Refused) else await self._shown(call.user_id)

    async def _shown(self, user_id: UserId) -> OwnAccount | Refused:
        if not await self._own.adopted(user_id):
            return _no_account(user_id)

        def work(cur: Cursor) -> OwnAccount:
            account = store.by_user_id(cur, user_id)
            if account is None:
                raise RuntimeError(f"{user_id} was adopted and has no account")
            genesis = GenesisContent.model_validate(store.genesis_of(cur, user_id))
            return OwnAccount(user_id=user_id, acct=account.acct, genesis=genesis, used=account.used)

        return await self._runtime.database.run("account_shown", work)


def _no_account(user_id: UserId) -> Refused:
    return Refused(
        reason=Reason.NOT_ALLOWED, message=f"{user_id} is a guest, and guests have no account here; register one."
    )
