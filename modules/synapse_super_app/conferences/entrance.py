"""The way into a call that costs money by the minute: who may come in, who is in it, who is shown out.

The price stands in the terms of the link. Whether somebody has confirmed it payments know, which calls are strangers
to: they are asked by way of ``Passes``. The homeserver of who comes in refuses their membership at the gate; that of
the link invites nobody without, gives them no token, and shows out whom another homeserver let in all the same.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from synapse.module_api import EventBase
from synapse.module_api.errors import SynapseError

from super_app.calls import events
from super_app.calls import store as calls
from super_app.calls.model import Act
from super_app.conferences import rules, store
from super_app.conferences.content import link_name
from super_app.conferences.model import Hall, Link, LinkTerms, Role, Stay
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId
from super_app.money import Money
from synapse_super_app.calls.gate import is_refusal
from synapse_super_app.calls.room_events import room_event
from synapse_super_app.conferences.halls import Halls
from synapse_super_app.follower import EventHandler
from synapse_super_app.gate import GateHandler, Verdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MEMBER: Final = "m.room.member"
_UNPAID: Final = "This call has a price by the minute. Come in by its link, and confirm it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a call asks of somebody before they come in: so much for each minute, by the link."""

    link: str
    payee: UserId
    price: Money


class Passes(Protocol):
    """Payments, as far as links with a price need them."""

    def judge_price(self, amount: object, currency: object) -> Money | Refused:
        """A price that a host asks for a minute."""
        ...

    def is_admitted(self, cur: Cursor, user_id: UserId, link_id: str, price: Money) -> bool:
        """Whether somebody of whatever homeserver has agreed here to what a link of ours costs."""
        ...

    def may_enter(self, cur: Cursor, user_id: UserId, ask: Ask, room_id: RoomId) -> bool:
        """Whether somebody of ours has confirmed what the call of a room asks, whosever link leads into it."""
        ...

    async def see_out(self, room_id: RoomId, person: UserId) -> None:
        """Take one of ours out of the call of a room, unless they have confirmed what it asks."""
        ...


class Entrance:
    def __init__(self, runtime: Runtime, halls: Halls) -> None:
        self._runtime = runtime
        self._halls = halls
        self.passes: Passes | None = None

    # What is asked.

    def ask_of(self, hall: Hall, user_id: UserId) -> Ask | None:
        """What being in the call of a room costs somebody; nothing for its hosts."""
        terms = hall.link
        if hall.garbled or terms is None or rules.role_of(hall.roles, user_id) is Role.HOST:
            return None
        name = link_name(terms)
        if terms.price is None or terms.payee is None or name is None:
            return None
        return Ask(link=name, payee=terms.payee, price=terms.price)

    def unpaid(self, cur: Cursor, hall: Hall, room_id: RoomId, user_id: UserId) -> Ask | None:
        """What somebody has still to confirm before they come in, as far as it is for this homeserver to know."""
        ask, terms = self.ask_of(hall, user_id), hall.link
        if ask is None or terms is None:
            return None
        if self._runtime.api.is_mine(user_id):
            if not self._runtime.rollout.includes(user_id):
                return None
            is_paid = self.passes is not None and self.passes.may_enter(cur, user_id, ask, room_id)
        elif self._our_link(cur, terms, room_id) is not None:
            is_paid = self.passes is not None and self.passes.is_admitted(cur, user_id, terms.link_id, ask.price)
        else:
            # Of another homeserver's person at a third one's link those two are the judges.
            is_paid = True
        return None if is_paid else ask

    def judge(self, cur: Cursor, hall: Hall, room_id: RoomId, user_id: UserId) -> Refused | None:
        ask = self.unpaid(cur, hall, room_id, user_id)
        return None if ask is None else rules.price_unconfirmed(ask.price)

    def judge_guest(self, cur: Cursor, hall: Hall, user_id: UserId) -> Refused | None:
        """Whether somebody who opens a link of ours has agreed to what it costs."""
        ask, terms = self.ask_of(hall, user_id), hall.link
        if ask is None or terms is None:
            return None
        if self.passes is not None and self.passes.is_admitted(cur, user_id, terms.link_id, ask.price):
            return None
        return rules.price_unconfirmed(ask.price)

    @staticmethod
    def _our_link(cur: Cursor, terms: LinkTerms, room_id: RoomId) -> Link | None:
        link = store.link_of(cur, terms.link_id)
        return None if link is None or link.room_id != room_id else link

    # Who comes in.

    def gate(self, handlers: Mapping[str, GateHandler]) -> Mapping[str, GateHandler]:
        """The handlers of memberships in calls, which refuse one of ours that is not paid for."""
        return {event_type: self._gated(handlers[event_type]) for event_type in events.MEMBER_TYPES}

    def followed(self, handlers: Mapping[str, EventHandler]) -> Mapping[str, EventHandler]:
        """The followers of memberships in calls, which show out who has come in unpaid.

        Another homeserver let them in, or one of ours took back what they had confirmed once they had passed the gate.
        """
        return {event_type: self._following(handlers[event_type]) for event_type in events.MEMBER_TYPES}

    def _gated(self, handler: GateHandler) -> GateHandler:
        async def gated(event: EventBase) -> Verdict:
            if self._runtime.api.is_mine(event.sender) and self._comes(event):
                try:
                    await self._refuse_unpaid(RoomId(event.room_id), UserId(event.sender))
                except Exception as error:
                    if is_refusal(error):
                        raise
                    logger.exception("Whether %s is paid for could not be asked; it passes", event.event_id)
            return await handler(event)

        return gated

    async def _refuse_unpaid(self, room_id: RoomId, user_id: UserId) -> None:
        hall = self._halls.known(room_id) or await self._halls.now(room_id)
        if self.ask_of(hall, user_id) is None:
            return
        refused = await self._runtime.database.run("calls_entry", lambda cur: self.judge(cur, hall, room_id, user_id))
        if refused is not None:
            raise error_of(refused)

    def _following(self, handler: EventHandler) -> EventHandler:
        async def following(event: EventBase) -> None:
            await handler(event)
            if self._comes(event):
                await self._show_out_unpaid(RoomId(event.room_id), UserId(event.sender))

        return following

    async def _show_out_unpaid(self, room_id: RoomId, user_id: UserId) -> None:
        hall = await self._halls.now(room_id)
        terms = hall.link
        if terms is None or self.ask_of(hall, user_id) is None:
            return
        is_ours = self._runtime.api.is_mine(user_id)

        def look(cur: Cursor) -> tuple[bool, Link | None]:
            is_unpaid = self.unpaid(cur, hall, room_id, user_id) is not None
            return is_unpaid, self._our_link(cur, terms, room_id)

        is_unpaid, link = await self._runtime.database.run("calls_entry", look)
        if not is_unpaid:
            return
        if self._runtime.rollout.dry_run:
            self._runtime.rollout.would_refuse("call", Reason.PRICE_NOT_CONFIRMED.value)
        elif is_ours and self.passes is not None:
            await self.passes.see_out(room_id, user_id)
        elif not is_ours and link is not None:
            await self.remove(room_id, link.host, user_id)

    def _comes(self, event: EventBase) -> bool:
        signal = events.read_signal(room_event(event, self._runtime.now_ms()))
        return signal is not None and signal.act is Act.JOIN

    async def remove(self, room_id: RoomId, host: UserId, guest: UserId) -> None:
        """Out of the room, since there is no other way to keep somebody out of a call from browser to browser."""
        try:
            await self._runtime.api.update_room_membership(host, guest, room_id, "leave", {"reason": _UNPAID})
        except SynapseError as error:
            # The host has left, or has no power any more; what is owed stays owed.
            logger.info("%s could not be removed from the call of %s: %s", guest, room_id, error)

    # Who is there.

    async def asked_in(self, room_id: RoomId, user_id: UserId) -> Ask | None:
        """What being in the call of a room costs somebody now, as the room itself says."""
        return self.ask_of(await self._halls.now(room_id), user_id)

    async def stay(self, room_id: RoomId, user_id: UserId) -> Stay:
        """Whether somebody is in the call of a room: by a membership, or connected at the SFU of this homeserver."""
        now_ms = self._runtime.now_ms()
        state = await self._runtime.api.get_room_state(room_id, [(events.CALL_MEMBER, None), (_MEMBER, user_id)])
        member = state.get((_MEMBER, user_id))
        if member is None or member.content.get("membership") != "join":
            return Stay(is_in=False, left_ms=None if member is None else member.origin_server_ts)
        came: list[int] = []
        left: list[int] = []
        for (event_type, _), event in state.items():
            if event_type != events.CALL_MEMBER or event.sender != user_id:
                continue
            read = room_event(event, now_ms)
            until_ms = events.membership_until_ms(read)
            if not self._comes(event):
                left.append(event.origin_server_ts)
            elif until_ms <= now_ms:
                left.append(until_ms)
            else:
                came.append(event.origin_server_ts)
        if came:
            return Stay(is_in=True, since_ms=min(came))

        def is_there(cur: Cursor) -> bool:
            return calls.has_member(cur, room_id, user_id, "", now_ms) or user_id in store.people_in(cur, room_id)

        if await self._runtime.database.run("calls_stay", is_there):
            return Stay(is_in=True)
        return Stay(is_in=False, left_ms=max(left, default=None))


def no_money() -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_CURRENCY,
        message="This homeserver moves no money, so its links have no price; make one without.",
    )


def price_content(price: Money, payee: UserId) -> dict[str, Any]:
    return {"amount": price.amount_minor, "currency": price.currency, "payee": payee}
