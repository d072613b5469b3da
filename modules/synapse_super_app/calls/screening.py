"""What screening must know of a callee: their policy, whom they ignore, what they share with the caller."""

import logging
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prometheus_client import Counter
from synapse.module_api import ModuleApi

from super_app.calls import policy as policies
from super_app.calls.model import Callee, Circumstances, Local, Policy, RateLimit, Ring, Who
from super_app.ids import UserId
from super_app.names import AccountDataType
from synapse_super_app.accounts import AccountBook
from synapse_super_app.config import CallsConfig
from synapse_super_app.people import People
from synapse_super_app.private_api import PrivateApi

logger = logging.getLogger(__name__)

_IGNORED_USERS: Final = "m.ignored_user_list"
_WARNED_MAX: Final = 10_000

_malformed_total = Counter(
    "superapp_call_policy_malformed_total", "Rings that met a call policy with a key that could not be read.", ["key"]
)


class Screening:
    """Gathers what a decision stands on; the decision itself is the domain's."""

    def __init__(
        self, api: ModuleApi, private: PrivateApi, accounts: AccountBook, people: People, config: CallsConfig
    ) -> None:
        self._api = api
        self._private = private
        self._accounts = accounts
        self._people = people
        self._default = Policy(
            who=frozenset(Who(each) for each in config.default_who),
            rate=RateLimit(
                caller=config.default_rate.caller,
                server=config.default_rate.server,
                window_ms=config.default_rate.window,
            ),
        )
        self._warned: set[UserId] = set()

    async def callee(self, user_id: UserId, ring: Ring) -> Callee:
        """A local callee of a ring, with all that their policy asks about its caller."""
        policy = await self._policy_of(user_id)
        names_people = bool(policy.allow or policy.deny)
        asks_rooms = Who.SHARED_ROOMS in policy.who
        circumstances = Circumstances(
            ignored=await self._ignores(user_id, ring.caller),
            shares_room=asks_rooms and await self._share_another_room(user_id, ring),
            handle=await self._people.handle_of(ring.caller) if names_people else None,
        )
        local = Local(acct=await self._accounts.acct_of(user_id), user_id=user_id)
        return Callee(local=local, policy=policy, circumstances=circumstances)

    async def _policy_of(self, user_id: UserId) -> Policy:
        content = await self._account_data(user_id, AccountDataType.CALL_POLICY)
        reading = policies.read(content, self._default, _zone)
        for key in reading.malformed:
            _malformed_total.labels(key).inc()
        if reading.malformed and user_id not in self._warned:
            if len(self._warned) >= _WARNED_MAX:
                self._warned.clear()
            self._warned.add(user_id)
            logger.warning(
                "The call policy of %s cannot be read at %s, so these restrict nothing",
                user_id,
                list(reading.malformed),
            )
        return reading.policy

    async def _ignores(self, user_id: UserId, caller: UserId) -> bool:
        content = await self._account_data(user_id, _IGNORED_USERS)
        ignored = (content or {}).get("ignored_users")
        return isinstance(ignored, dict) and caller in ignored

    async def _share_another_room(self, user_id: UserId, ring: Ring) -> bool:
        # The room that rings is no evidence: the caller may have made it for this.
        theirs, mine = await self._private.rooms_of(ring.caller), await self._private.rooms_of(user_id)
        return bool((theirs & mine) - {ring.room_id})

    async def _account_data(self, user_id: UserId, data_type: str) -> dict[str, Any] | None:
        content = await self._api.account_data_manager.get_global(user_id, data_type)
        return None if content is None else cast(dict[str, Any], _thawed(content))


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Not a zone, or not even a name of one: ZoneInfo takes names for paths.
        return None


def _thawed(value: object) -> object:
    # Synapse hands account data out frozen, in mappings and tuples; JSON is dicts and lists.
    match value:
        case Mapping():
            return {key: _thawed(item) for key, item in value.items()}
        case list() | tuple():
            return [_thawed(item) for item in value]
        case _:
            return value
