"""Whether a request comes from a session that has just begun, so that one that was left open or stolen is not enough.

Synapse knows when its own sessions began. With delegated sign-in it does not: there a person says first that they will
sign in again, and does what takes a fresh session from the device that comes of it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from pydantic import BaseModel

from super_app.accounts import sign_in_store
from super_app.ids import UserId
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.runtime import Runtime

_FRESH_MS: Final = 600_000


class AnnouncedJson(BaseModel):
    """Until when, in milliseconds since 1970, a session that you sign in to now counts as one that has just begun."""

    until: int


class SignIns:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="sign_ins",
                handler=self._announce,
                response=AnnouncedJson,
                summary="Say that you will sign in again, where that is done at another place than this homeserver",
            ),
        )

    async def is_fresh(self, user_id: UserId, access_token_id: int | None, device_id: str) -> bool:
        """``access_token_id`` is None with delegated sign-in, whose tokens Synapse does not keep."""
        runtime = self._runtime
        now_ms = runtime.now_ms()
        if access_token_id is None:
            acct = await runtime.accounts.acct_of(user_id)
            announced = await runtime.database.run("sign_in_find", lambda cur: sign_in_store.find(cur, acct))
            return announced is not None and announced.is_followed_by(device_id, now_ms)
        signed_in_ms = await runtime.database.run(
            "signed_in", lambda cur: runtime.private.signed_in_ms(cur, access_token_id)
        )
        return signed_in_ms is not None and now_ms - signed_in_ms < _FRESH_MS

    async def _announce(self, call: Call) -> AnnouncedJson:
        runtime, user_id = self._runtime, call.user_id
        acct = await runtime.accounts.acct_of(user_id)
        devices = await runtime.database.run("devices", lambda cur: runtime.private.devices(cur, user_id))
        announce = partial(sign_in_store.announce, acct=acct, devices=devices, now_ms=runtime.now_ms())
        return AnnouncedJson(until=await runtime.database.run("sign_in_announce", announce))
