"""The wallet behind the sticker button of clients: an entry in a person's ``m.widgets`` account data.

Written for new people where the operator lets us, and for anybody who asks. Taken away it stays away. Other widgets of
the person are left as they are. Clients write the same account data; whoever writes last wins, as among clients.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from super_app.ids import UserId
from super_app.names import NAMESPACE, WEB_PREFIX, WIDGETS
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_WIDGET_ID: Final = f"{NAMESPACE}.wallet"
# Clients fill these in. None of them is believed: who somebody is says their OpenID token.
_VARIABLES: Final = (
    "widgetId=$matrix_widget_id&roomId=$matrix_room_id&theme=$org.matrix.msc2873.client_theme"
    "&language=$org.matrix.msc2873.client_language"
)


class StickerMenuEntry(BaseModel):
    installed: bool
    """Whether the wallet opens from the sticker button."""


class StickerMenu:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        if runtime.config.web.sticker_menu and runtime.config.features.payments:
            runtime.api.register_account_validity_callbacks(on_user_registration=self.on_user_registration)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="widget",
                handler=self._look,
                response=StickerMenuEntry,
                summary="Whether your wallet opens from the sticker button of other clients",
            ),
            Route(
                method="PUT",
                path="widget",
                handler=self._put,
                response=StickerMenuEntry,
                summary="Put your wallet behind the sticker button",
            ),
            Route(
                method="DELETE",
                path="widget",
                handler=self._delete,
                response=StickerMenuEntry,
                summary="Take your wallet away from the sticker button",
            ),
        )

    async def on_user_registration(self, user_id: str) -> None:
        # Fails open: somebody without the entry has an account all the same.
        try:
            account = await self._runtime.api.get_userinfo_by_id(user_id)
            is_person = account is not None and not account.is_guest and account.appservice_id is None
            if is_person and self._runtime.rollout.includes(user_id):
                await self._install(UserId(user_id))
        except Exception:
            logger.exception("Putting the wallet behind the sticker button of %s failed", user_id)

    async def _look(self, call: Call) -> StickerMenuEntry:
        return StickerMenuEntry(installed=_WIDGET_ID in await self._widgets(call.user_id))

    async def _put(self, call: Call) -> StickerMenuEntry:
        await self._install(call.user_id)
        return StickerMenuEntry(installed=True)

    async def _delete(self, call: Call) -> StickerMenuEntry:
        widgets = dict(await self._widgets(call.user_id))
        if widgets.pop(_WIDGET_ID, None) is not None:
            await self._runtime.api.account_data_manager.put_global(call.user_id, WIDGETS, widgets)
        return StickerMenuEntry(installed=False)

    async def _install(self, user_id: UserId) -> None:
        widgets = await self._widgets(user_id)
        entry = self._entry(user_id)
        if widgets.get(_WIDGET_ID) != entry:
            await self._runtime.api.account_data_manager.put_global(user_id, WIDGETS, {**widgets, _WIDGET_ID: entry})

    async def _widgets(self, user_id: UserId) -> Mapping[str, Any]:
        return await self._runtime.api.account_data_manager.get_global(user_id, WIDGETS) or {}

    def _entry(self, user_id: UserId) -> dict[str, Any]:
        """In the form in which clients keep a widget of a person's own, which is that of an event."""
        base = self._runtime.api.public_baseurl.rstrip("/")
        return {
            "type": "m.widget",
            "id": _WIDGET_ID,
            "state_key": _WIDGET_ID,
            "sender": user_id,
            "content": {
                "id": _WIDGET_ID,
                "type": "m.stickerpicker",
                "name": "Wallet",
                "url": f"{base}{WEB_PREFIX}/widget/?{_VARIABLES}",
                "creatorUserId": user_id,
                "data": {},
            },
        }
