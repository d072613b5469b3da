"""The names on the wire, written once (design.md, "Names on the wire"). Owns no behaviour."""

from enum import StrEnum
from typing import Final

NAMESPACE: Final = "org.superapp"
ERRCODE_PREFIX: Final = "ORG.SUPERAPP."

CLIENT_API_PREFIX: Final = "/_synapse/client/superapp/v1"
WEB_PREFIX: Final = "/superapp"
LOG_PREFIX: Final = "/_synapse/client/superapp/log"
"""Where the files of the directory's log are: checkpoint, key, tiles. Not below the API, which is a leaf."""
LIVEKIT_PREFIX: Final = "/_synapse/client/superapp/livekit"
"""The MatrixRTC authorisation service of this homeserver, and where its SFU sends webhooks."""
CLEARING_PATH: Final = "/_matrix/federation/unstable/org.superapp/clearing"
POTS_PATH: Final = "/_matrix/federation/unstable/org.superapp/pots"
DEPOSITS_PATH: Final = "/_matrix/federation/unstable/org.superapp/deposits"
FARES_PATH: Final = "/_matrix/federation/unstable/org.superapp/fares"
RECOVERY_PATH: Final = "/_matrix/federation/unstable/org.superapp/recovery"

DISPUTES_PATH: Final = "/_matrix/federation/unstable/org.superapp/disputes"


class EventType(StrEnum):
    """Our room event types."""

    PAYMENT = "org.superapp.payment"
    PAYMENT_RECEIPT = "org.superapp.payment.receipt"
    PAYMENT_REQUEST = "org.superapp.payment.request"
    PAYMENT_REQUEST_END = "org.superapp.payment.request.end"
    GIFT = "org.superapp.gift"
    GIFT_CLAIM = "org.superapp.gift.claim"
    GIFT_END = "org.superapp.gift.end"
    CONTACT = "org.superapp.contact"
    CALL_RING = "org.superapp.call.ring"
    CALL_RINGING = "org.superapp.call.ringing"
    CALL_SCREENED = "org.superapp.call.screened"
    CALL_END = "org.superapp.call.end"
    CALL_LINK = "org.superapp.call.link"
    CALL_ROLES = "org.superapp.call.roles"
    CALL_HAND = "org.superapp.call.hand"


STATE_TYPES: Final = frozenset({EventType.CALL_LINK, EventType.CALL_ROLES})
"""Those of our types that are room state; the others are refused with a ``state_key``."""

CARD_KEY: Final = "org.superapp.card"
HANDLE_FIELD: Final = "org.superapp.handle"
"""A field of Matrix profiles (MSC4133). Its owner can write anything there, so it is for display and proves nothing."""


class AccountDataType(StrEnum):
    """Our private account data types."""

    CALL_POLICY = "org.superapp.call.policy"
    CALL_POLICY_WARNING = "org.superapp.call.policy.warning"
    PAYMENT_POLICY = "org.superapp.payment.policy"
    ATTENTION_POLICY = "org.superapp.attention.policy"
    CONTACTS = "org.superapp.contacts"
    PREFERENCES = "org.superapp.preferences"
    RECOVERY = "org.superapp.recovery"


WIDGETS: Final = "m.widgets"
"""The account data in which clients keep the widgets of a person, those of the sticker menu among them."""


class FederationQuery(StrEnum):
    """Our federation queries (``GET /_matrix/federation/v1/query/{name}``)."""

    DIRECTORY_RESOLVE = "org.superapp.directory.resolve"
    DIRECTORY_FEED = "org.superapp.directory.feed"
    DIRECTORY_HEAD = "org.superapp.directory.head"
    DIRECTORY_PEERS = "org.superapp.directory.peers"
    DIRECTORY_BADGE = "org.superapp.directory.badge"
    DIRECTORY_MOVE = "org.superapp.directory.move"
    FOLLOW = "org.superapp.follow"
    CALL_LINK = "org.superapp.call.link"
