"""What operators do in the life of a link: suspend it, resume it, close it, and replace the payment key.

Each answers with the link as it then stands. Opening and listing stand with the rest of clearing's routes.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, LiteralString

from pydantic import BaseModel, Field

from super_app.clearing.model import LinkView
from super_app.clearing.objects import fingerprint_of
from super_app.clearing.recovery_model import RestoreId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.signing import key_id_of, public_b64
from super_app.wire import Text, WireModel
from synapse_super_app.clearing.admin import LinkModel, link_model
from synapse_super_app.clearing.identity import payment_keys, replace_key
from synapse_super_app.clearing.operator_routes import LinkOperatorRoutes, peer_of
from synapse_super_app.http.routes import Auth, Call, Route

logger = logging.getLogger(__name__)

_Word = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]


class WhyBody(WireModel):
    reason: _Word | None = None
    """A word of small letters and underscores that the other operator sees, such as ``maintenance``."""


class RepinBody(WireModel):
    fingerprint: Annotated[Text, Field(min_length=1, max_length=128)]
    """Of the peer's payment key, as its operator has told it in another way than over the two homeservers."""
    take_back: bool = False
    """Whether this database may lack what was signed here, so that what the peer holds of it is taken. Not where the
    key may be in other hands."""


class PaymentKeyModel(BaseModel):
    key_id: str
    fingerprint: str
    """Of the new key, in groups of four, to be read out to the other operators."""
    links: list[LinkModel]


class LinkRoutes(LinkOperatorRoutes):
    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/links/{peer}",
                handler=self._get,
                response=LinkModel,
                auth=Auth.ADMIN,
                summary="One link: where it stands, what it waits for, who owes what",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/suspend",
                handler=self._suspend,
                response=LinkModel,
                body=WhyBody,
                auth=Auth.ADMIN,
                summary="Agree on nothing new with a homeserver until it is resumed; what is under way ends normally",
                reasons=(Reason.UNKNOWN_PEER, Reason.ALREADY_DECIDED),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/resume",
                handler=self._resume,
                response=LinkModel,
                auth=Auth.ADMIN,
                summary="Take back a suspension, or the closing of a link, from this side",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/close",
                handler=self._close,
                response=LinkModel,
                body=WhyBody,
                auth=Auth.ADMIN,
                summary="End a link: nothing new; what is under way ends, and what is owed is settled",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/fence",
                handler=self._fence,
                response=LinkModel,
                auth=Auth.ADMIN,
                summary="Bring a halted link back on this database, an old copy: no newer one may ever run again",
                reasons=(Reason.UNKNOWN_PEER, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="admin/links/{peer}/repin",
                handler=self._repin,
                response=LinkModel,
                body=RepinBody,
                auth=Auth.ADMIN,
                summary="Pin the payment keys of a link anew, after a loss, a theft or a freeze; both operators do",
                reasons=(Reason.UNKNOWN_PEER, Reason.NO_LINK, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="admin/payment-key",
                handler=self._rotate,
                response=PaymentKeyModel,
                auth=Auth.ADMIN,
                summary="Replace the payment key on all links; the old one is kept and says so to every peer",
            ),
        )

    def read_keys(self) -> None:
        """Take up what the key files hold: another process may have replaced the key."""
        key, certificate, retired = payment_keys(self._runtime)
        self._clearing.use_key(key, certificate, retired)

    async def _get(self, call: Call) -> LinkModel | Refused:
        peer = peer_of(call)
        return _answer(await self._read("clearing_link", lambda cur: self._clearing.link(cur, peer)))

    async def _suspend(self, call: Call) -> LinkModel | Refused:
        body: WhyBody = call.body
        peer, why, now_ms = peer_of(call), body.reason or "", self._runtime.now_ms()
        return await self._act(peer, "clearing_suspend", lambda cur: self._clearing.suspend(cur, peer, why, now_ms))

    async def _resume(self, call: Call) -> LinkModel | Refused:
        peer, now_ms = peer_of(call), self._runtime.now_ms()
        return await self._act(peer, "clearing_resume", lambda cur: self._clearing.resume(cur, peer, now_ms))

    async def _close(self, call: Call) -> LinkModel | Refused:
        body: WhyBody = call.body
        peer, why, now_ms = peer_of(call), body.reason or "", self._runtime.now_ms()
        return await self._act(peer, "clearing_close", lambda cur: self._clearing.close(cur, peer, why, now_ms))

    async def _fence(self, call: Call) -> LinkModel | Refused:
        peer, now_ms = peer_of(call), self._runtime.now_ms()
        order = RestoreId(f"operator:{call.request_id}")
        logger.warning("The link with %s is fenced, as %s asked", peer, call.user_id)
        return await self._act(peer, "clearing_fence", lambda cur: self._clearing.fence(cur, peer, order, now_ms))

    async def _repin(self, call: Call) -> LinkModel | Refused:
        body: RepinBody = call.body
        peer, now_ms = peer_of(call), self._runtime.now_ms()
        order = RestoreId(f"repin:{call.request_id}")
        logger.warning("The payment keys of the link with %s are pinned anew, as %s asked", peer, call.user_id)
        return await self._act(
            peer,
            "clearing_repin",
            lambda cur: self._clearing.repin(cur, peer, body.fingerprint, order, now_ms, take_back=body.take_back),
        )

    async def _act(
        self, peer: ServerName, name: LiteralString, work: Callable[[Cursor], LinkView | Refused]
    ) -> LinkModel | Refused:
        return _answer(await self._write_towards(peer, name, work))

    async def _rotate(self, call: Call) -> PaymentKeyModel:
        # The file first: from the moment that a KEY is committed, the new key must be there after any crash.
        await self._runtime.api.defer_to_thread(replace_key, self._runtime, call.request_id)
        self.read_keys()
        key = self._clearing.key
        logger.info("The payment key was replaced by %s, as %s asked", key_id_of(key), call.user_id)
        shown: list[LinkModel] = []
        now_ms = self._runtime.now_ms()
        for peer in await self._read("clearing_peers", self._clearing.peers):
            said = await self._act(peer, "clearing_key", partial(self._say_key, peer=peer, now_ms=now_ms))
            if not isinstance(said, Refused):
                shown.append(said)
        return PaymentKeyModel(key_id=key_id_of(key), fingerprint=fingerprint_of(public_b64(key)), links=shown)

    def _say_key(self, cur: Cursor, peer: ServerName, now_ms: int) -> LinkView | Refused:
        return self._clearing.say_key(cur, peer, now_ms)


def _answer(view: LinkView | Refused) -> LinkModel | Refused:
    return view if isinstance(view, Refused) else link_model(view)
