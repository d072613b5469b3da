"""What guards names: how fast they may be claimed, reservations, and what operators do to them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from super_app.directory.model import DAY_MS, Name
from super_app.ids import Acct, UserId

ACCOUNT_WINDOW_MS: Final = 7 * DAY_MS
ADDRESS_WINDOW_MS: Final = DAY_MS
RESERVED_FOR_MS: Final = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many names an account may take in seven days, and all accounts of one address in a day.

    Without it somebody could burn names by taking and releasing them, since each is then nobody's for 90 days.
    ``address`` stands for a network address; empty for one that many may share, which is not counted.
    """

    per_account: int
    per_address: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A name that is held for an account until it confirms, or until the time is over. An account has one at most."""

    name: Name
    acct: Acct
    until_ms: int


class Act(StrEnum):
    """What an operator does to a name."""

    GRANT = "grant"
    SETTLE = "settle"  # a contested name goes to the account whose localpart it is
    REVOKE = "revoke"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    TRANSFER = "transfer"
    DISPUTE = "dispute"  # freeze it until it is decided whose it is
    VERIFY = "verify"
    UNVERIFY = "unverify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """Who acts, and why."""

    operator: UserId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One entry of the log. ``seq`` is 0 until it is appended; the user ids are those that the accounts have now."""

    seq: int = 0
    at_ms: int
    operator: UserId
    act: Act
    name: Name
    from_acct: Acct | None
    to_acct: Acct | None
    reason: str
    from_user_id: UserId | None = None
    to_user_id: UserId | None = None
