"""What guards a wallet: limits that the operator sets, a PIN, and the lock of a person who lost a device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from super_app.ids import Acct
from super_app.money import AssetCode

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
CAREFUL_MS: Final = DAY_MS
"""How long a wallet that was locked takes small amounts only once it is open again."""
TRIES: Final = 5
"""How many wrong PINs lock it."""
LOCKS_MS: Final = (HOUR_MS // 4, HOUR_MS, 4 * HOUR_MS, DAY_MS)
"""How long the first lock lasts, the second, … and all later ones."""


class Window(StrEnum):
    """Over what an amount is summed. Windows roll: a day is the last 24 hours."""

    PAYMENT = "payment"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @property
    def length_ms(self) -> int:
        """0 for a single payment."""
        return {Window.PAYMENT: 0, Window.DAY: DAY_MS, Window.WEEK: 7 * DAY_MS, Window.MONTH: 30 * DAY_MS}[self]


class Direction(StrEnum):
    SENT = "sent"
    RECEIVED = "received"


WindowLimits = Mapping[Window, int]
"""Minor units of one currency, by window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a kind of person may move, by currency; what is not named is not limited."""

    sent: Mapping[AssetCode, WindowLimits] = field(default_factory=lambda: MappingProxyType({}))
    received: Mapping[AssetCode, WindowLimits] = field(default_factory=lambda: MappingProxyType({}))
    balance: Mapping[AssetCode, int] = field(default_factory=lambda: MappingProxyType({}))
    """The most that one may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator says."""

    default_tier: str = ""
    """The tier of who was given none; empty: no limits."""
    tiers: Mapping[str, Tier] = field(default_factory=lambda: MappingProxyType({}))
    pin_above: Mapping[AssetCode, int] = field(default_factory=lambda: MappingProxyType({}))
    """A payment of more than that takes the PIN."""
    pin_new_payee: bool = False
    countries: frozenset[str] | None = None
    """Where people have to be at home to send and receive, as the operator has found out; None: anywhere."""
    after_lock: Mapping[AssetCode, int] = field(default_factory=lambda: MappingProxyType({}))
    """The most per day while a wallet that was locked is careful; nothing of a currency that is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """``above`` are the person's own thresholds. One who has none is asked at every payment."""

    hash: str
    set_ms: int
    tries: int = 0
    locked_until_ms: int | None = None
    above: Mapping[AssetCode, int] = field(default_factory=lambda: MappingProxyType({}))
    new_payee: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguard:
    """What guards the wallet of ``acct``; of an account that was never seen, nothing."""

    acct: Acct
    tier: str | None = None
    pin: Pin | None = None
    locked_ms: int | None = None
    careful_until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A key of WebAuthn that a device keeps. ``credential_id`` and ``public_key`` are unpadded base64url."""

    credential_id: str
    public_key: str
    sign_count: int
    name: str
    created_ms: int
    used_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a passkey is to sign: 32 random bytes as unpadded base64url, and the digest of what they stand for."""

    challenge: str
    about: str
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much of one limit is used."""

    direction: Direction
    window: Window
    currency: AssetCode
    limit_minor: int
    used_minor: int
