"""Changes single keys of a person's call policy, which stands in their account data, and leaves the others as they are.

Account data is read whole and written whole, and the last word stands: of two who change different keys at once, one
would write back what the other had just replaced. So whoever changes a key here waits for who is at it, in whichever
process of the homeserver, and reads what the database holds, since a cache may be a moment behind. A client that writes
the account data itself asks nobody: what it writes stands for the whole.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from super_app.calls.policy import VERSION
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.names import AccountDataType
from synapse_super_app.runtime import Runtime

_LOCK: Final = "call_policy"


class OwnPolicy:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def stored(self, user_id: UserId) -> dict[str, Any]:
        """What the database holds of a local person's policy; empty if they have none."""

        def read(cur: Cursor) -> object:
            found = self._runtime.private.resident(cur, user_id, AccountDataType.CALL_POLICY)
            return None if found is None else found[1]

        content = await self._runtime.database.run("calls_policy", read)
        return dict(cast(dict[str, Any], content)) if isinstance(content, dict) else {}

    async def change(self, user_id: UserId, keys: Mapping[str, Any]) -> dict[str, Any] | Refused:
        """Write these keys, and take out those that are None; the policy as it is then.

        A policy of a version that is not known here is left alone, unless the version is among the keys.
        """
        async with self._runtime.private.one_at_a_time(_LOCK, user_id):
            content = await self.stored(user_id) or {"v": VERSION}
            version = content.get("v")
            if (type(version) is not int or version != VERSION) and "v" not in keys:
                return Refused(
                    reason=Reason.CONFLICT,
                    message="Your call policy is of a version that this homeserver does not know; write it anew first.",
                )
            gone = {key for key, value in keys.items() if value is None}
            content = {key: value for key, value in (content | dict(keys)).items() if key not in gone}
            kind = AccountDataType.CALL_POLICY.value
            await self._runtime.api.account_data_manager.put_global(user_id, kind, content)
            return content
