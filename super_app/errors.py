"""Every "no" of the product. A refusal is a value; an exception means a bug or a broken world.

``Reason`` is the one list of refusals. The same name is the enum member, the Matrix error code
(``ORG.SUPERAPP.<NAME>``), the ``reason`` in room events and signed objects (the lower-case value), the metrics label
and the heading in ``docs/refusals.md``. The HTTP status of each stands in ``synapse_super_app.http.refusals``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Reason(StrEnum):
    """Why something is refused. Grouped by who can cure it."""

    # Malformed: the same request stays wrong.
    INVALID_VALUE = "invalid_value"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_AMOUNT = "invalid_amount"
    UNKNOWN_CURRENCY = "unknown_currency"
    MEMO_TOO_LONG = "memo_too_long"
    NOT_A_MESSAGE = "not_a_message"  # sent as state, sticky or delayed
    SERVER_ONLY = "server_only"  # an event type that only servers send
    HANDLE_INVALID = "handle_invalid"

    # Who and where.
    UNKNOWN_PAYEE = "unknown_payee"
    AMBIGUOUS_PAYEE = "ambiguous_payee"
    PAYEE_IS_SELF = "payee_is_self"
    PAYEE_GONE = "payee_gone"
    PAYEE_MOVED = "payee_moved"  # to another homeserver; ``moved_to`` says where
    MOVED_RECENTLY = "moved_recently"  # the payee moved within 72 h, and the amount is above the limit for that time
    PAYEE_NOT_IN_ROOM = "payee_not_in_room"
    NOT_IN_ROOM = "not_in_room"
    ROOM_ENCRYPTED = "room_encrypted"  # a bare payment event; the API posts a commitment instead
    NOT_ALLOWED = "not_allowed"
    ADMIN_ONLY = "admin_only"
    NOT_ROLLED_OUT = "not_rolled_out"
    FOUR_EYES = "four_eyes"
    OPENID_REFUSED = "openid_refused"
    UNKNOWN_SESSION = "unknown_session"
    SESSION_READS_ONLY = "session_reads_only"
    UNKNOWN_PAYMENT = "unknown_payment"
    UNKNOWN_REQUEST = "unknown_request"
    UNKNOWN_GIFT = "unknown_gift"
    UNKNOWN_CLAIM = "unknown_claim"
    UNKNOWN_SCHEDULE = "unknown_schedule"
    UNKNOWN_DISPUTE = "unknown_dispute"
    UNKNOWN_HANDLE = "unknown_handle"
    UNKNOWN_CONTACT = "unknown_contact"
    UNKNOWN_CALL = "unknown_call"
    UNKNOWN_PEER = "unknown_peer"
    UNKNOWN_SETTLEMENT = "unknown_settlement"
    UNKNOWN_PROPOSAL = "unknown_proposal"

    # Money.
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CONFLICT = "conflict"  # the id exists with another body
    FEE_NOT_CONFIRMED = "fee_not_confirmed"  # not the fee that the payer was shown
    PAYMENT_ID_SPENT = "payment_id_spent"  # the hold of this id was released; use a new id
    ALREADY_DECIDED = "already_decided"
    REFUND_EXCEEDS_PAYMENT = "refund_exceeds_payment"
    DISPUTE_CLOSED = "dispute_closed"
    REQUEST_CLOSED = "request_closed"  # paid, being paid, declined, cancelled or expired
    REQUEST_MISMATCH = "request_mismatch"  # not what the request asks for
    GIFT_GONE = "gift_gone"  # all of it is claimed
    WRONG_CLAIMER = "wrong_claimer"
    REMINDED_RECENTLY = "reminded_recently"
    LIMIT_EXCEEDED = "limit_exceeded"
    PAYEE_LIMIT = "payee_limit"
    PIN_REQUIRED = "pin_required"
    PIN_NOT_SET = "pin_not_set"
    PIN_WRONG = "pin_wrong"
    PIN_LOCKED = "pin_locked"
    PASSKEY_REFUSED = "passkey_refused"
    PIN_UNFIT = "pin_unfit"
    WALLET_LOCKED = "wallet_locked"
    COUNTRY_NOT_SERVED = "country_not_served"
    SIGN_IN_AGAIN = "sign_in_again"
    PAYMENTS_HALTED = "payments_halted"
    ACCOUNT_FROZEN = "account_frozen"
    HOLD_EXCEEDED = "hold_exceeded"
    ENTRY_ARCHIVED = "entry_archived"
    UNKNOWN_ENTRY = "unknown_entry"
    NOT_CORRECTABLE = "not_correctable"
    CORRECTION_EXCEEDS_ENTRY = "correction_exceeds_entry"
    ARCHIVE_MISMATCH = "archive_mismatch"

    # Between homeservers.
    NO_LINK = "no_link"
    UNKNOWN_LINK = "unknown_link"
    LINK_HALTED = "link_halted"
    LINK_SUSPENDED = "link_suspended"
    EPOCH_CLOSED = "epoch_closed"  # signed before a restore, and not among what its sender still stands by
    CREDIT_LIMIT = "credit_limit"
    EXCEEDS_DEBT = "exceeds_debt"  # a settlement of more than is owed
    BAD_SIGNATURE = "bad_signature"
    KEY_UNCONFIRMED = "key_unconfirmed"  # a payment key that no operator here has confirmed
    BAD_COMMITMENT = "bad_commitment"
    WRONG_ORIGIN = "wrong_origin"
    PEER_UNREACHABLE = "peer_unreachable"

    # How a payment can end without success; also the ``reason`` of its receipt.
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    # Directory.
    HANDLE_TAKEN = "handle_taken"
    HANDLE_RESERVED = "handle_reserved"
    HANDLE_LOOKALIKE = "handle_lookalike"
    HANDLE_FROZEN = "handle_frozen"
    TOO_MANY_HANDLES = "too_many_handles"
    RENAMED_RECENTLY = "renamed_recently"
    BAD_RECORD = "bad_record"
    SERVER_FROZEN = "server_frozen"  # a homeserver that contradicted itself about its directory

    # Recovery.
    UNKNOWN_REALM = "unknown_realm"
    RECOVERY_UNKNOWN = "recovery_unknown"
    RECOVERY_GONE = "recovery_gone"  # destroyed by guesses, or given up for a newer one
    RECOVERY_STALE = "recovery_stale"  # a version that was used before
    RECOVERY_TAG_WRONG = "recovery_tag_wrong"
    RECOVERY_UNWITNESSED = "recovery_unwitnessed"  # too few other realms answer to count a guess safely
    RECOVERY_BEHIND = "recovery_behind"  # a realm whose database is older than what it told before

    # Calls.
    NOT_AVAILABLE = "not_available"
    NO_TURN = "no_turn"
    NOT_OFFERED = "not_offered"
    CALL_CLOSED = "call_closed"
    CALL_FULL = "call_full"
    TURNED_AWAY = "turned_away"
    PRICE_NOT_CONFIRMED = "price_not_confirmed"  # ringing costs money by the minute, and nobody has agreed to it
    DEPOSIT_REQUIRED = "deposit_required"  # of strangers, before they write or ring
    UNKNOWN_DEPOSIT = "unknown_deposit"
    PRICE_CHANGED = "price_changed"  # since it was confirmed
    UNKNOWN_CALL_LINK = "unknown_call_link"

    # Time and load.
    TOO_MANY_REQUESTS = "too_many_requests"
    STARTING = "starting"
    DISK_FULL = "disk_full"


FINAL: Final = frozenset(
    {
        Reason.INVALID_VALUE,
        Reason.UNKNOWN_FIELD,
        Reason.INVALID_AMOUNT,
        Reason.UNKNOWN_CURRENCY,
        Reason.MEMO_TOO_LONG,
        Reason.NOT_A_MESSAGE,
        Reason.SERVER_ONLY,
        Reason.HANDLE_INVALID,
        Reason.PAYEE_IS_SELF,
        Reason.PAYEE_GONE,
        Reason.CONFLICT,
        Reason.PAYMENT_ID_SPENT,
        Reason.ALREADY_DECIDED,
        Reason.ENTRY_ARCHIVED,
        Reason.NOT_CORRECTABLE,
        Reason.EPOCH_CLOSED,
        Reason.BAD_SIGNATURE,
        Reason.BAD_COMMITMENT,
        Reason.WRONG_ORIGIN,
        Reason.DECLINED,
        Reason.EXPIRED,
        Reason.CANCELLED,
    }
)
"""Those that stay so for the same id or value, whatever happens meanwhile. All others time or the person can cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refusal. Whoever returns it has written nothing.

    ``message`` is a sentence for the person: what is wrong, the value and the limit, and what to do. It holds no
    secret. ``fields`` are JSON values that go beside ``errcode`` and ``error`` (``available``, ``retry_after_ms``).
    """

    reason: Reason
    message: str
    fields: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
