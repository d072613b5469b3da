"""Shows a person's public primary handle in their Matrix profile (MSC4133), for clients that display it.

The person can overwrite it, so nothing of ours ever reads it.
"""

import logging
from functools import partial

from super_app.directory import store
from super_app.directory.model import Discover, full
from super_app.ids import UserId
from super_app.names import HANDLE_FIELD
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)


class ProfileField:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def refresh(self, user_id: UserId) -> None:
        """Bring the profile up to date in the background, after something changed about somebody's handles."""
        if self._runtime.config.directory.profile_field:
            self._runtime.api.run_as_background_process("superapp_profile_field", self._refresh, user_id)

    async def _refresh(self, user_id: UserId) -> None:
        try:
            held = await self._runtime.database.run("directory_primary", partial(store.primary_of, user_id=user_id))
            is_public = held is not None and held.discover is Discover.PUBLIC
            handle = full(held.name, self._runtime.server_name) if held is not None and is_public else None
            await self._runtime.private.show_in_profile(user_id, HANDLE_FIELD, handle)
        except Exception:
            # It is for display; the next change tries again.
            logger.exception("Showing the handle of %s in their profile failed", user_id)
