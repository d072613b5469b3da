"""Reads the call policy that a person keeps in private account data ``org.superapp.call.policy``.

A policy is read key by key. A key that is malformed restricts nothing (``who`` then means everyone) and is named in
``Reading.malformed``, so that a mistake never silences a person and the rest of what they asked for still holds.
Unknown keys are ignored; absent ones take the operator's default.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from super_app.calls.model import (
    DoNotDisturb,
    Offer,
    Per,
    Policy,
    Price,
    QuietHours,
    QuietWindow,
    RateLimit,
    Refusal,
    RoomChecks,
    ServerLists,
    Who,
)
from super_app.wire import OpenWireModel, Text, WireModel

VERSION: Final = 1
_ENTRIES_MAX: Final = 1_000
_WINDOWS_MAX: Final = 28
_RATE_MAX: Final = 1_000
_WINDOW_MAX_MS: Final = 7 * 24 * 3_600_000
_REPEAT_MAX_MS: Final = 3_600_000
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY: Final = frozenset(range(len(_DAYS)))
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")

_Name = Annotated[Text, Field(min_length=1, max_length=255)]
_Names = Annotated[list[_Name], Field(max_length=_ENTRIES_MAX)]
_Count = Annotated[int, Field(ge=0, le=_RATE_MAX)]

ZoneOf = Callable[[str], tzinfo | None]
"""The time zone of an IANA name, or None. The caller brings it, since zones are read from files."""

_T = TypeVar("_T")


class PolicyServers(OpenWireModel):
    allow: _Names | None = None
    deny: _Names | None = None


class PolicyRate(OpenWireModel):
    caller: _Count | None = None
    server: _Count | None = None
    strangers: _Count | None = None
    window_ms: Annotated[int | None, Field(ge=1_000, le=_WINDOW_MAX_MS)] = None


class PolicyWindow(OpenWireModel):
    from_: Annotated[str, Field(alias="from")]
    to: str
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = None


class PolicyQuiet(OpenWireModel):
    time_zone: str
    windows: Annotated[list[PolicyWindow], Field(max_length=_WINDOWS_MAX)]
    repeat_ms: Annotated[int, Field(ge=0, le=_REPEAT_MAX_MS)] = 0


class PolicyRooms(OpenWireModel):
    prior_conversation: bool = False
    groups: bool = True


class PolicyDoNotDisturb(OpenWireModel):
    until_ms: Annotated[int | None, Field(ge=0, le=2**53)] = None


class PolicyVerified(OpenWireModel):
    issuers: _Names = []


class _Price(OpenWireModel):
    amount: Annotated[int, Field(ge=1, le=2**53)]
    currency: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
    per: Literal["ring", "minute"] = "ring"


_WhoNames = list[Literal["everyone", "contacts", "following", "verified", "shared_rooms", "nobody"]]
_Refusal = Literal["polite", "silent"]
_Offers = list[Literal["message", "voicemail", "callback"]]


class PolicyChanges(WireModel):
    """Keys of your call policy to write; null takes one out, those that are absent stay. The price has its own call.

    ``v`` is needed only to write over a policy of a version that the homeserver does not know.
    """

    v: Literal[1] = VERSION
    who: _WhoNames | None = None
    allow: _Names | None = None
    deny: _Names | None = None
    servers: PolicyServers | None = None
    rooms: PolicyRooms | None = None
    rate: PolicyRate | None = None
    quiet: PolicyQuiet | None = None
    do_not_disturb: PolicyDoNotDisturb | None = None
    verified: PolicyVerified | None = None
    refusal: _Refusal | None = None
    offers: _Offers | None = None
    relay_only: bool | None = None

    def to_write(self) -> dict[str, Any]:
        """As the policy holds them, None where one is taken out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


_WHO: Final = TypeAdapter(_WhoNames)
_NAMES: Final = TypeAdapter(_Names)
_SERVERS: Final = TypeAdapter(PolicyServers)
_RATE: Final = TypeAdapter(PolicyRate)
_QUIET: Final = TypeAdapter(PolicyQuiet)
_REFUSAL: Final = TypeAdapter(_Refusal)
_ROOMS: Final = TypeAdapter(PolicyRooms)
_DO_NOT_DISTURB: Final = TypeAdapter(PolicyDoNotDisturb)
_VERIFIED: Final = TypeAdapter(PolicyVerified)
_PRICE: Final = TypeAdapter(_Price)
_OFFERS: Final = TypeAdapter(_Offers)
_RELAY_ONLY: Final = TypeAdapter(bool)

OPEN_WHO: Final = frozenset({Who.EVERYONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A policy as it is applied, and the keys that could not be read."""

    policy: Policy
    malformed: tuple[str, ...] = ()


def read(content: Mapping[str, Any] | None, default: Policy, zone_of: ZoneOf) -> Reading:
    """``content`` is the JSON object that the account data holds, in dicts and lists; None if there is none."""
    if content is None:
        return Reading(policy=default)
    if type(content.get("v")) is not int or content["v"] != VERSION:
        return Reading(policy=replace(default, who=OPEN_WHO), malformed=("v",))
    reader = _Reader(content)
    who = reader.take("who", _WHO, default=sorted(default.who), open_value=["everyone"])
    allow = reader.take("allow", _NAMES, default=[], open_value=[])
    deny = reader.take("deny", _NAMES, default=[], open_value=[])
    servers = reader.take("servers", _SERVERS, default=PolicyServers(), open_value=PolicyServers())
    rate = reader.take("rate", _RATE, default=PolicyRate(), open_value=PolicyRate(caller=0, server=0, strangers=0))
    quiet = reader.take("quiet", _QUIET, default=None, open_value=None)
    hours = None if quiet is None else _quiet_hours(quiet, zone_of)
    if quiet is not None and hours is None:
        reader.malformed.append("quiet")
    refusal = reader.take("refusal", _REFUSAL, default=default.refusal.value, open_value=default.refusal.value)
    rooms = reader.take("rooms", _ROOMS, default=PolicyRooms(), open_value=PolicyRooms())
    wish = reader.take("do_not_disturb", _DO_NOT_DISTURB, default=None, open_value=None)
    verified = reader.take("verified", _VERIFIED, default=PolicyVerified(), open_value=PolicyVerified())
    price = reader.take("price", _PRICE, default=None, open_value=None)
    offers = reader.take("offers", _OFFERS, default=sorted(default.offers), open_value=sorted(default.offers))
    # Who asked for the relay must not lose it to a typing mistake: this key guards an address, it hides no ring.
    relay_only = reader.take("relay_only", _RELAY_ONLY, default=default.relay_only, open_value=True)
    policy = Policy(
        who=frozenset(Who(each) for each in who),
        allow=frozenset(allow),
        deny=frozenset(deny),
        servers=ServerLists(
            allow=None if servers.allow is None else tuple(servers.allow),
            deny=tuple(servers.deny or ()),
        ),
        rate=RateLimit(
            caller=default.rate.caller if rate.caller is None else rate.caller,
            server=default.rate.server if rate.server is None else rate.server,
            window_ms=default.rate.window_ms if rate.window_ms is None else rate.window_ms,
            strangers=default.rate.strangers if rate.strangers is None else rate.strangers,
        ),
        quiet=hours,
        refusal=Refusal(refusal),
        rooms=RoomChecks(prior_conversation=rooms.prior_conversation, groups=rooms.groups),
        do_not_disturb=None if wish is None else DoNotDisturb(until_ms=wish.until_ms),
        issuers=frozenset(verified.issuers),
        price=None if price is None else Price(amount_minor=price.amount, currency=price.currency, per=Per(price.per)),
        offers=frozenset(Offer(each) for each in offers),
        relay_only=relay_only,
    )
    return Reading(policy=policy, malformed=tuple(reader.malformed))


def warning(reading: Reading) -> str:
    """What to tell the person whose policy could not be read in full."""
    if "v" in reading.malformed:
        return (
            f"Your call policy is of a version that this homeserver does not know, so everybody may ring you. Write it "
            f'with "v": {VERSION}.'
        )
    keys = ", ".join(sorted(set(reading.malformed)))
    return f"These keys of your call policy could not be read and restrict nothing: {keys}. Correct or remove them."


class _Reader:
    """Takes keys out of a policy and notes those that are not of their shape."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self.malformed: list[str] = []

    def take(self, key: str, shape: "TypeAdapter[_T]", *, default: Any, open_value: Any) -> Any:
        if key not in self._content:
            return default
        try:
            return shape.validate_python(self._content[key], strict=True)
        except ValidationError:
            self.malformed.append(key)
            return open_value


def _quiet_hours(quiet: PolicyQuiet, zone_of: ZoneOf) -> QuietHours | None:
    zone = zone_of(quiet.time_zone)
    windows: list[QuietWindow] = []
    for window in quiet.windows:
        start, end = _minute(window.from_), _minute(window.to)
        if start is None or end is None:
            return None
        days = _EVERY_DAY if window.days is None else frozenset(_DAYS.index(day) for day in window.days)
        windows.append(QuietWindow(days=days, from_minute=start, to_minute=end))
    return None if zone is None else QuietHours(zone=zone, windows=tuple(windows), repeat_ms=quiet.repeat_ms)


def _minute(text: str) -> int | None:
    match = _CLOCK.fullmatch(text)
    return None if match is None else int(match[1]) * 60 + int(match[2])
