"""Reads the room state that rules a call of many: ``org.superapp.call.link`` and ``org.superapp.call.roles``.

What cannot be read closes: everybody only listens in a call whose rules are garbled, and nobody comes in by its link.
Who may change the state of the room can mend it.
"""

import re
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from super_app.conferences.model import Hours, LinkTerms, Roles, ScreenShare, Window
from super_app.errors import Reason, Refused
from super_app.ids import UserId, parse_user_id, server_of
from super_app.money import AssetCode, Money
from super_app.wire import OpenWireModel, Text

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY: Final = frozenset(range(len(_DAYS)))
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
PEOPLE_MAX: Final = 500
"""Hosts, speakers and hands that one state event names of each, since it is sent anew whenever one changes."""

ZoneOf = Callable[[str], tzinfo | None]
"""The time zone of an IANA name, or None. The caller brings it, since zones are read from files."""

_Person = Annotated[str, Field(min_length=1, max_length=255)]
_People = Annotated[list[_Person], Field(max_length=PEOPLE_MAX)]
LAST_TIME_MS: Final = 253_402_300_799_999
"""The end of the year 9999, beyond which nobody can say a time."""
_Time = Annotated[int | None, Field(ge=0, le=LAST_TIME_MS)]


class WindowBody(OpenWireModel):
    """From a time of the day to another, over midnight if that is the lesser; without ``days`` every day."""

    from_: Annotated[str, Field(alias="from")]
    to: str
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = None


class HoursBody(OpenWireModel):
    """Opening hours by the clock of a time zone (an IANA name)."""

    time_zone: Annotated[str, Field(max_length=64)]
    windows: Annotated[list[WindowBody], Field(min_length=1, max_length=28)]


PRICE_MAX_MINOR: Final = 10**12
"""What a minute may cost at most."""


class LinkPrice(OpenWireModel):
    """What a minute in the call costs, and whom it is paid to."""

    amount: Annotated[int, Field(ge=1, le=PRICE_MAX_MINOR)]
    currency: Annotated[str, Field(min_length=1, max_length=16)]
    payee: _Person


class LinkBody(OpenWireModel):
    """The content of ``org.superapp.call.link``."""

    link_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    title: Annotated[Text, Field(max_length=200)] = ""
    opens_ms: _Time = None
    closes_ms: _Time = None
    hours: HoursBody | None = None
    waiting_room: bool = False
    max: Annotated[int, Field(ge=0, le=100_000)] = 0
    price: LinkPrice | None = None


class RolesBody(OpenWireModel):
    """The content of ``org.superapp.call.roles``."""

    stage: bool = False
    media: Literal["audio", "video"] = "video"
    screen_share: Literal["speakers", "hosts", "nobody"] = "speakers"
    hosts: _People = []
    speakers: _People = []
    hands: _People = []


def read_link(content: Mapping[str, Any], zone_of: ZoneOf) -> LinkTerms | Refused:
    body = LinkBody.parse(content)
    if isinstance(body, Refused):
        return body
    hours = None if body.hours is None else read_hours(body.hours, zone_of)
    if isinstance(hours, Refused):
        return hours
    if body.opens_ms is not None and body.closes_ms is not None and body.closes_ms <= body.opens_ms:
        return _wrong("closes_ms must be later than opens_ms.")
    payee = None if body.price is None else parse_user_id(body.price.payee)
    if body.price is not None and payee is None:
        return _wrong(f"price.payee {body.price.payee[:100]!r} is no user id.")
    return LinkTerms(
        link_id=body.link_id,
        title=body.title,
        opens_ms=body.opens_ms,
        closes_ms=body.closes_ms,
        hours=hours,
        waiting_room=body.waiting_room,
        most=body.max,
        price=None
        if body.price is None
        else Money(amount_minor=body.price.amount, currency=AssetCode(body.price.currency)),
        payee=payee,
    )


def read_hours(body: HoursBody, zone_of: ZoneOf) -> Hours | Refused:
    zone = zone_of(body.time_zone)
    if zone is None:
        return _wrong(f"hours.time_zone {body.time_zone!r} is no time zone; write one such as Europe/Berlin.")
    windows: list[Window] = []
    for each in body.windows:
        start, end = _minute(each.from_), _minute(each.to)
        if start is None or end is None:
            return _wrong('hours.windows: times are written as "09:00", from 00:00 to 23:59.')
        days = _EVERY_DAY if each.days is None else frozenset(_DAYS.index(day) for day in each.days)
        windows.append(Window(days=days, from_minute=start, to_minute=end))
    return Hours(zone=zone, windows=tuple(windows))


def read_roles(content: Mapping[str, Any]) -> Roles | Refused:
    body = RolesBody.parse(content)
    if isinstance(body, Refused):
        return body
    for person in (*body.hosts, *body.speakers, *body.hands):
        if parse_user_id(person) is None:
            return _wrong(f"{person[:100]!r} is no user id; hosts, speakers and hands are lists of them.")
    return Roles(
        stage=body.stage,
        audio_only=body.media == "audio",
        screen_share=ScreenShare(body.screen_share),
        hosts=tuple(UserId(each) for each in body.hosts),
        speakers=tuple(UserId(each) for each in body.speakers),
        hands=tuple(UserId(each) for each in body.hands),
    )


def link_name(terms: LinkTerms) -> str | None:
    """How a link with a price is passed on; it is of the homeserver of who is paid."""
    return None if terms.payee is None else f"{terms.link_id}@{server_of(terms.payee)}"


def roles_content(roles: Roles) -> dict[str, Any]:
    return {
        "stage": roles.stage,
        "media": "audio" if roles.audio_only else "video",
        "screen_share": roles.screen_share.value,
        "hosts": list(roles.hosts),
        "speakers": list(roles.speakers),
        "hands": list(roles.hands),
    }


def _minute(text: str) -> int | None:
    match = _CLOCK.fullmatch(text)
    return None if match is None else int(match[1]) * 60 + int(match[2])


def _wrong(message: str) -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message=message)
