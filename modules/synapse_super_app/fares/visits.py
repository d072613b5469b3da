"""Calls behind a link that cost money by the minute: who has confirmed the price, who is there, who has to go.

The caller's homeserver looks each second whether its person is in the call, and charges from when they came to when
they left; the payee's looks too. What they look at is the room, whose events both have, so nothing has to be remembered
and a restart loses nothing.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from super_app.calls import events
from super_app.calls import store as calls
from super_app.conferences.model import Stay
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.fares import rules
from super_app.fares.model import MINUTES_MAX, Fare, FareState, Terms
from super_app.fares.service import Fares
from super_app.ids import RoomId, UserId, parse_user_id, server_of
from super_app.money import Asset, AssetCode, Money, check_money
from synapse_super_app.conferences.entrance import Ask
from synapse_super_app.conferences.links import Asked, LinkShown
from synapse_super_app.payments import metrics
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_STICKS_MS: Final = 3_600_000
"""How long a sticky membership that was left has to say so: as long as one can stick."""
_NOBODY: Final = Stay(is_in=False)
ShowOut = Callable[[RoomId, frozenset[UserId]], Awaitable[None]]
"""Removes people from the call of a room at the SFU of this homeserver, if it has one."""


class CallLinks(Protocol):
    """What fares ask of links into calls."""

    async def look(self, link: str, user_id: UserId) -> LinkShown | Refused: ...

    async def asked_of(self, link_id: str, user_id: UserId) -> Asked | Refused: ...


class Entrances(Protocol):
    """What fares ask of the way into calls."""

    async def stay(self, room_id: RoomId, user_id: UserId) -> Stay: ...

    async def asked_in(self, room_id: RoomId, user_id: UserId) -> Ask | None: ...

    async def remove(self, room_id: RoomId, host: UserId, guest: UserId) -> None: ...


class Visits:
    """Conferences' ``Passes``, and the shell's eyes and hands for fares and terms of links."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        fares: Fares,
        assets: Mapping[AssetCode, Asset],
        links: CallLinks,
        entrance: Entrances,
        show_out: ShowOut,
    ) -> None:
        self._runtime = runtime
        self._fares = fares
        self._assets = assets
        self._links = links
        self._entrance = entrance
        self._show_out = show_out

    # What conferences ask.

    def judge_price(self, amount: object, currency: object) -> Money | Refused:
        money = check_money(amount, currency, self._assets)
        most = money if isinstance(money, Refused) else rules.ceiling_minor(money, MINUTES_MAX)
        return metrics.count(most) if isinstance(most, Refused) else money

    def is_admitted(self, cur: Cursor, user_id: UserId, link_id: str, price: Money) -> bool:
        return self._fares.is_admitted(cur, user_id, link_id, price)

    def may_enter(self, cur: Cursor, user_id: UserId, ask: Ask, room_id: RoomId) -> bool:
        link_id = ask.link.partition("@")[0]
        return self._fares.lets_in(cur, user_id, link_id, ask.payee, ask.price, room_id, self._runtime.now_ms())

    # Prices.

    async def price_of(self, link: str, caller: UserId) -> tuple[UserId, Money | None] | Refused:
        """Who is paid for a call behind a link, and what a minute costs, as the homeserver of the link says."""
        shown = await self._links.look(link, caller)
        if isinstance(shown, Refused):
            return shown
        payee, (_, _, server) = parse_user_id(shown.host), link.partition("@")
        if payee is None or server_of(payee) != (server or self._runtime.server_name):
            return Refused(
                reason=Reason.UNKNOWN_CALL_LINK,
                message="That link is of somebody whom its homeserver cannot speak for; ask for another one.",
            )
        if not shown.is_open:
            return Refused(
                reason=Reason.CALL_CLOSED,
                message="This call is not open now, so nothing was set aside; come back when it is.",
                fields={} if shown.opens_ts is None else {"opens_ts": shown.opens_ts},
            )
        if shown.price is None or payee == caller:
            return payee, None
        money = check_money(shown.price.amount, shown.price.currency, self._assets)
        if isinstance(money, Refused):
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message="This call costs money of a kind that this homeserver does not have; write to its host.",
            )
        return payee, money

    async def asked_here(self, link_id: str, callee: UserId, caller: UserId) -> Asked | Refused:
        """What a link of ours asks of a caller, if it is the callee's."""
        asked = await self._links.asked_of(link_id, caller)
        if isinstance(asked, Refused) or asked.host == callee:
            return asked
        return Refused(
            reason=Reason.UNKNOWN_CALL_LINK,
            message="There is no such link to a call of that person; ask them for another one.",
        )

    # Who is there.

    async def stay_of(self, fare: Fare) -> Stay:
        if fare.room_id is None or fare.state not in (FareState.AGREED, FareState.RUNNING):
            return _NOBODY
        stay = await self._entrance.stay(fare.room_id, fare.caller)
        if fare.state is FareState.RUNNING:
            return stay
        # It begins only where the room asks just what was confirmed.
        ask = await self._entrance.asked_in(fare.room_id, fare.caller)
        if ask is not None and (ask.link, ask.payee, ask.price) == (fare.link, fare.callee, fare.price):
            return stay
        if ask is not None and stay.is_in:
            # The price changed in the moment in which they came in.
            await self.leave_call(fare.room_id, fare.caller)
        return _NOBODY

    async def stay_under(self, terms: Terms) -> Stay:
        return _NOBODY if terms.room_id is None else await self._entrance.stay(terms.room_id, terms.caller)

    async def remove(self, terms: Terms) -> None:
        """Show somebody out who is not paid for."""
        if terms.room_id is not None:
            await self._entrance.remove(terms.room_id, terms.callee, terms.caller)

    async def see_out(self, room_id: RoomId, person: UserId) -> None:
        """Take one of ours out of the call of a room that costs money, unless they have confirmed what it asks.

        Whoever takes a price back while they come in is past the gate by then.
        """
        ask = await self._entrance.asked_in(room_id, person)
        if ask is None or await self._runtime.database.run(
            "fare_may_stay", lambda cur: self.may_enter(cur, person, ask, room_id)
        ):
            return
        await self.take_out(room_id, person)

    async def take_out(self, room_id: RoomId, person: UserId) -> None:
        await self.leave_call(room_id, person)
        await self._show_out(room_id, frozenset({person}))

    async def leave_call(self, room_id: RoomId, person: UserId) -> None:
        """Say in the words of MatrixRTC that one of ours has left the call of a room, with all their devices."""
        now_ms = self._runtime.now_ms()
        state = await self._runtime.api.get_room_state(room_id, [(events.CALL_MEMBER, None)])
        for (event_type, state_key), event in state.items():
            if event.sender == person and event.content:
                await self._send(person, room_id, event_type, {}, state_key=state_key)
        keys = await self._runtime.database.run(
            "fare_sticky", lambda cur: calls.member_keys(cur, room_id, person, now_ms)
        )
        # Which of the two types a device sticks by is not kept; leaving by the other says nothing.
        for key, event_type in itertools.product(keys, sorted(events.RTC_MEMBERS)):
            sticks = {events.STICKY_FIELD: {"duration_ms": _STICKS_MS}}
            await self._send(person, room_id, event_type, events.left_sticky(key), **sticks)

    async def _send(
        self, sender: UserId, room_id: RoomId, event_type: str, content: dict[str, Any], **more: Any
    ) -> None:
        await self._runtime.api.create_and_send_event_into_room(
            {"type": event_type, "room_id": room_id, "sender": sender, "content": content, **more}
        )
