"""What screening must know of a callee, and the decision itself, out of memory: policy, ignore list, past, rooms.

What is read here Synapse keeps in its caches; what it does not is kept by ``RecentBook`` and below. A decision about
somebody who was rung before waits for no database.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any, Final, cast
from typing import Protocol as Interface
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prometheus_client import Counter
from synapse.module_api import ModuleApi

from super_app.calls import policy as policies
from super_app.calls import rules
from super_app.calls.model import (
    DEFAULT_LIFETIME_MS,
    SCREENED_RECORDS_WINDOW_MS,
    Callee,
    CallId,
    Circumstances,
    Decision,
    Local,
    Media,
    Per,
    Policy,
    Price,
    Protocol,
    RateLimit,
    RecentRing,
    Ring,
    Rule,
    Who,
)
from super_app.calls.policy import Reading
from super_app.errors import Refused
from super_app.ids import Acct, EventId, Handle, RoomId, UserId
from super_app.names import AccountDataType
from synapse_super_app.accounts import AccountBook
from synapse_super_app.calls.recent import Mirrors, RecentBook
from synapse_super_app.config import CallsConfig
from synapse_super_app.people import People
from synapse_super_app.private_api import PrivateApi
from synapse_super_app.relations import IGNORED_USERS, Relations
from synapse_super_app.rollout import Rollout

logger = logging.getLogger(__name__)

_INVITES_4380: Final = "m.invite_permission_config"
_INVITES_4155: Final = "org.matrix.msc4155.invite_permission_config"
_READINGS_MAX: Final = 20_000
_HANDLES_MAX: Final = 10_000
_HANDLE_MS: Final = 30_000
_FARE_MS: Final = 24 * 3_600_000
"""How long what was paid for a ring counts."""

_malformed_total = Counter(
    "superapp_call_policy_malformed_total", "Call policies that were read anew, by key that could not be read.", ["key"]
)


class Fares(Interface):
    """What calls ask of payments, which are strangers to them: whether somebody paid to ring."""

    async def paid_minor(self, payee: Acct, payer: UserId, currency: str, since_ms: int) -> int:
        """What a payer has paid an account of this homeserver since a time, refunds taken off."""
        ...

    async def agreed_ms(self, payee: Acct, payer: UserId, price: Price) -> int | None:
        """Since when a payer has agreed to pay so much a minute for their next ring; None if they have not."""
        ...

    async def judge_ring(self, caller: UserId, callee: UserId, call_id: CallId | None) -> Refused | None:
        """Whether somebody of ours may ring with what they have confirmed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A callee with the decision about a ring, and what the past now holds of it."""

    callee: Callee
    decision: Decision
    noted: RecentRing


class Screening:
    """Gathers what a decision stands on; the decision itself is the domain's."""

    def __init__(
        self,
        api: ModuleApi,
        private: PrivateApi,
        accounts: AccountBook,
        people: People,
        config: CallsConfig,
        recent: RecentBook,
        relations: Relations,
        rollout: Rollout,
    ) -> None:
        self._rollout = rollout
        self._relations = relations
        self._fares: Fares | None = None
        self._api = api
        self._private = private
        self._accounts = accounts
        self._people = people
        self._recent = recent
        self._default = Policy(
            who=frozenset(Who(each) for each in config.default_who),
            rate=RateLimit(
                caller=config.default_rate.caller,
                server=config.default_rate.server,
                strangers=config.default_rate.strangers,
                window_ms=config.default_rate.window,
            ),
        )
        self._readings: OrderedDict[UserId, tuple[Mapping[str, Any] | None, Reading]] = OrderedDict()
        self._handles: OrderedDict[UserId, tuple[int, Handle | None]] = OrderedDict()

    def charge(self, fares: Fares) -> None:
        """Connect payments, which calls do not know. Without them nobody who has to pay gets through."""
        self._fares = fares

    async def judge_price(self, ring: Ring, callee: UserId) -> Refused | None:
        """Whether a ring of somebody of ours lacks a price that they have to confirm first."""
        if self._fares is None or not self._rollout.includes(ring.caller):
            return None
        return await self._fares.judge_ring(ring.caller, callee, ring.call_id)

    async def price_for(self, user_id: UserId, caller: UserId) -> Price | None:
        """What a callee of ours asks of a caller who would ring now: None unless the price alone stands in the way."""
        policy = (await self.policy_of(user_id)).policy
        if policy.price is None or not self._rollout.includes(user_id):
            return None
        now_ms = self._api.get_current_time_msec()
        ring = Ring(
            room_id=RoomId(""),
            event_id=EventId(""),
            caller=caller,
            protocol=Protocol.SUPERAPP,
            call_id=None,
            reference=None,
            media=Media.AUDIO,
            lifetime_ms=DEFAULT_LIFETIME_MS,
            callees=frozenset({user_id}),
            start_ms=now_ms,
        )
        callee = await self._callee(user_id, ring, is_group=False)
        # Which room would ring nobody knows yet, and what was paid before is for another ring.
        asked = replace(
            callee,
            policy=replace(policy, rooms=replace(policy.rooms, prior_conversation=False)),
            circumstances=replace(callee.circumstances, has_paid=False),
        )
        decision = await self.decide(asked, ring, now_ms)
        return policy.price if decision.rule is Rule.PRICE and not decision.shown else None

    async def judge(self, user_id: UserId, ring: Ring, *, is_group: bool, now_ms: int) -> Judged:
        """Decide whether a local callee is shown a ring. It counts from now on; see ``take_back``."""
        callee = await self._callee(user_id, ring, is_group=is_group)
        decision = self._rolled_out(callee, await self.decide(callee, ring, now_ms))
        noted = RecentRing(ring_ms=ring.start_ms, caller=ring.caller, shown=decision.shown)
        self._recent.note(callee.local.acct, noted)
        return Judged(callee=callee, decision=decision, noted=noted)

    def _rolled_out(self, callee: Callee, decision: Decision, *, again: bool = False) -> Decision:
        """What becomes of a decision: who is not let in yet is rung as ever, and a dry run only says, once."""
        if decision.shown or not self._rollout.includes(callee.local.user_id):
            return decision if decision.shown else replace(decision, shown=True)
        if self._rollout.dry_run:
            if not again:
                self._rollout.would_refuse("ring", decision.rule.value)
            return replace(decision, shown=True)
        return decision

    def hide(self, judged: Judged, rule: Rule) -> Judged:
        """Screen a ring after all, by a rule that is no matter of the callee's policy."""
        decision = self._rolled_out(judged.callee, Decision(shown=False, rule=rule))
        if decision.shown:
            return judged
        self.take_back(judged)
        noted = replace(judged.noted, shown=False)
        self._recent.note(judged.callee.local.acct, noted)
        return Judged(callee=judged.callee, decision=decision, noted=noted)

    def take_back(self, judged: Judged) -> None:
        """The ring had been decided before: it counts once."""
        self._recent.take_back(judged.callee.local.acct, judged.noted)

    async def callee_and_decision(self, user_id: UserId, ring: Ring, *, is_group: bool) -> tuple[Callee, Decision]:
        """The same without counting it: the gate has counted it, if it saw the ring."""
        callee = await self._callee(user_id, ring, is_group=is_group)
        decision = await self.decide(callee, ring, self._api.get_current_time_msec())
        return callee, self._rolled_out(callee, decision, again=True)

    async def assess(self, user_id: UserId, ring: Ring, *, is_group: bool, now_ms: int) -> Decision:
        """What the policy says of a ring that came out of a room's past: no rate holds, and it counts towards none."""
        callee = await self._callee(user_id, ring, is_group=is_group)
        no_limit = replace(callee.policy.rate, caller=0, server=0, strangers=0)
        unlimited = replace(callee, policy=replace(callee.policy, rate=no_limit))
        return self._rolled_out(callee, await self.decide(unlimited, ring, now_ms), again=True)

    async def decide(self, callee: Callee, ring: Ring, now_ms: int) -> Decision:
        policy = callee.policy
        repeat_ms = policy.quiet.repeat_ms if policy.quiet is not None else 0
        since_ms = now_ms - max(policy.rate.window_ms, repeat_ms, SCREENED_RECORDS_WINDOW_MS)
        mirrors = await self._mirrors(callee.local.user_id)
        recent = await self._recent.of(callee.local.acct, since_ms, now_ms, mirrors)
        return rules.screen(policy, rules.facts_of(now_ms, ring.caller, callee.circumstances, policy, recent))

    async def knows(self, callee: Callee, caller: UserId, now_ms: int) -> bool:
        """Whether a callee knows a caller: a contact, or somebody whom they talked with before."""
        mirrors = await self._mirrors(callee.local.user_id)
        since_ms = now_ms - SCREENED_RECORDS_WINDOW_MS
        recent = await self._recent.of(callee.local.acct, since_ms, now_ms, mirrors)
        return caller in recent.known or caller in recent.contacts

    async def _mirrors(self, user_id: UserId) -> Mirrors:
        contacts = await self._private.account_data_of(user_id, AccountDataType.CONTACTS)
        return contacts, await self._private.account_data_of(user_id, IGNORED_USERS)

    def read(self, content: dict[str, Any] | None) -> Reading:
        """A policy as it is applied here, the operator's defaults filled in."""
        return policies.read(content, self._default, _zone)

    async def policy_of(self, user_id: UserId) -> Reading:
        """A local person's policy as it is applied, read again only when they changed it."""
        content = await self._private.account_data_of(user_id, AccountDataType.CALL_POLICY)
        known = self._readings.get(user_id)
        if known is not None and known[0] is content:
            self._readings.move_to_end(user_id)
            return known[1]
        reading = self.read(thawed(content))
        self._readings[user_id] = (content, reading)
        while len(self._readings) > _READINGS_MAX:
            self._readings.popitem(last=False)
        for key in reading.malformed:
            _malformed_total.labels(key).inc()
        if reading.malformed:
            logger.warning(
                "The call policy of %s cannot be read at %s, so these restrict nothing",
                user_id,
                list(reading.malformed),
            )
        await self._warn(user_id, reading)
        return reading

    async def _warn(self, user_id: UserId, reading: Reading) -> None:
        """Tell a person's clients that their policy does not say what they may think it says."""
        kind = AccountDataType.CALL_POLICY_WARNING
        warned = await self._private.account_data_of(user_id, kind)
        keys = sorted(reading.malformed)
        if keys == list((warned or {}).get("malformed", ())):
            return
        content: dict[str, Any] = {"malformed": keys}
        if keys:
            content["warning"] = policies.warning(reading)
        try:
            await self._api.account_data_manager.put_global(user_id, kind.value, content)
        except Exception:
            # They see it in GET calls/policy too; the ring must not wait for a better day.
            logger.exception("Telling %s that their call policy is malformed failed", user_id)

    async def _callee(self, user_id: UserId, ring: Ring, *, is_group: bool) -> Callee:
        """A local callee of a ring, with all that their policy asks about its caller."""
        policy = (await self.policy_of(user_id)).policy
        caller = ring.caller
        names_handles = bool((policy.allow | policy.deny) - {caller})
        asks_words = policy.rooms.prior_conversation and not is_group
        circumstances = Circumstances(
            ignored=await self._ignores(user_id, caller),
            invites_blocked=await self._blocks_invites(user_id, caller),
            shares_room=Who.SHARED_ROOMS in policy.who and await self._share_another_room(user_id, ring),
            handle=await self._handle_of(caller) if names_handles else None,
            conversed=asks_words and await self._private.has_spoken(ring.room_id, user_id),
            is_group=is_group,
            follows=Who.FOLLOWING in policy.who and await self._relations.follows(user_id, caller),
            verified=Who.VERIFIED in policy.who and await self._is_verified(policy, caller),
            has_paid=policy.price is not None and await self._has_paid(user_id, caller, policy.price),
        )
        local = Local(acct=await self._accounts.acct_of(user_id), user_id=user_id)
        return Callee(local=local, policy=policy, circumstances=circumstances)

    async def _is_verified(self, policy: Policy, caller: UserId) -> bool:
        """Whether a caller has a badge that counts: of an issuer that the policy names, or of our operator."""
        issuers = policy.issuers or {self._api.server_name}
        return any(badge.vouched_by & issuers for badge in await self._people.badges_of(caller))

    async def _has_paid(self, user_id: UserId, caller: UserId, price: Price) -> bool:
        """Whether what a caller paid in a day covers this ring and those that were shown in that time."""
        if self._fares is None:
            return False
        since_ms = self._api.get_current_time_msec() - _FARE_MS
        owner = await self._accounts.acct_of(user_id)
        if price.per is Per.MINUTE:
            agreed_ms = await self._fares.agreed_ms(owner, caller, price)
            return agreed_ms is not None and await self._recent.shown_since(owner, caller, agreed_ms) == 0
        paid_minor = await self._fares.paid_minor(owner, caller, price.currency, since_ms)
        shown = await self._recent.shown_since(owner, caller, since_ms)
        return paid_minor >= price.amount_minor * (shown + 1)

    async def _handle_of(self, caller: UserId) -> Handle | None:
        now_ms = self._api.get_current_time_msec()
        known = self._handles.get(caller)
        if known is None or now_ms - known[0] >= _HANDLE_MS:
            known = self._handles[caller] = (now_ms, await self._people.handle_of(caller))
            while len(self._handles) > _HANDLES_MAX:
                self._handles.popitem(last=False)
        return known[1]

    async def _ignores(self, user_id: UserId, caller: UserId) -> bool:
        content = await self._private.account_data_of(user_id, IGNORED_USERS)
        ignored = (content or {}).get("ignored_users")
        return isinstance(ignored, Mapping) and caller in ignored

    async def _blocks_invites(self, user_id: UserId, caller: UserId) -> bool:
        """Whether Matrix itself keeps a caller from inviting somebody: whoever may not invite may not ring."""
        for kind in (_INVITES_4380, _INVITES_4155):
            content = await self._private.account_data_of(user_id, kind)
            if content is not None and self._private.blocks_invites(kind, content, caller):
                return True
        return False

    async def _share_another_room(self, user_id: UserId, ring: Ring) -> bool:
        # The room that rings is no evidence: the caller may have made it for this.
        theirs, mine = await self._private.rooms_of(ring.caller), await self._private.rooms_of(user_id)
        return any(room_id != ring.room_id for room_id in theirs & mine)


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Not a zone, or not even a name of one: ZoneInfo takes names for paths.
        return None


def thawed(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else cast(dict[str, Any], _plain(value))


def _plain(value: object) -> object:
    # Synapse hands account data out frozen, in mappings and tuples; JSON is dicts and lists.
    match value:
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
