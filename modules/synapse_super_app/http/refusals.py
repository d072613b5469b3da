"""The one table from a refusal to its HTTP status and Matrix error code."""

from http import HTTPStatus
from typing import Any, Final

from synapse.module_api.errors import SynapseError

from super_app.errors import Reason, Refused
from super_app.names import ERRCODE_PREFIX

STATUS: Final[dict[Reason, HTTPStatus]] = {
    Reason.INVALID_VALUE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.UNKNOWN_FIELD: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.INVALID_AMOUNT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.UNKNOWN_CURRENCY: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.MEMO_TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.NOT_A_MESSAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.SERVER_ONLY: HTTPStatus.FORBIDDEN,
    Reason.HANDLE_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.UNKNOWN_PAYEE: HTTPStatus.NOT_FOUND,
    Reason.AMBIGUOUS_PAYEE: HTTPStatus.CONFLICT,
    Reason.PAYEE_IS_SELF: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.PAYEE_GONE: HTTPStatus.GONE,
    Reason.PAYEE_MOVED: HTTPStatus.GONE,
    Reason.MOVED_RECENTLY: HTTPStatus.FORBIDDEN,
    Reason.PAYEE_NOT_IN_ROOM: HTTPStatus.FORBIDDEN,
    Reason.NOT_IN_ROOM: HTTPStatus.FORBIDDEN,
    Reason.ROOM_ENCRYPTED: HTTPStatus.FORBIDDEN,
    Reason.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Reason.ADMIN_ONLY: HTTPStatus.FORBIDDEN,
    Reason.NOT_ROLLED_OUT: HTTPStatus.FORBIDDEN,
    Reason.FOUR_EYES: HTTPStatus.FORBIDDEN,
    Reason.OPENID_REFUSED: HTTPStatus.UNAUTHORIZED,
    Reason.UNKNOWN_SESSION: HTTPStatus.UNAUTHORIZED,
    Reason.SESSION_READS_ONLY: HTTPStatus.FORBIDDEN,
    Reason.UNKNOWN_PAYMENT: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_REQUEST: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_GIFT: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_CLAIM: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_SCHEDULE: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_DISPUTE: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_HANDLE: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_CONTACT: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_CALL: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_PEER: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_SETTLEMENT: HTTPStatus.NOT_FOUND,
    Reason.UNKNOWN_PROPOSAL: HTTPStatus.NOT_FOUND,
    Reason.INSUFFICIENT_FUNDS: HTTPStatus.PAYMENT_REQUIRED,
    Reason.CONFLICT: HTTPStatus.CONFLICT,
    Reason.FEE_NOT_CONFIRMED: HTTPStatus.CONFLICT,
    Reason.PAYMENT_ID_SPENT: HTTPStatus.GONE,
    Reason.ALREADY_DECIDED: HTTPStatus.CONFLICT,
    Reason.REFUND_EXCEEDS_PAYMENT: HTTPStatus.CONFLICT,
    Reason.DISPUTE_CLOSED: HTTPStatus.CONFLICT,
    Reason.REQUEST_CLOSED: HTTPStatus.CONFLICT,
    Reason.REQUEST_MISMATCH: HTTPStatus.CONFLICT,
    Reason.GIFT_GONE: HTTPStatus.GONE,
    Reason.WRONG_CLAIMER: HTTPStatus.FORBIDDEN,
    Reason.REMINDED_RECENTLY: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.LIMIT_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.PAYEE_LIMIT: HTTPStatus.FORBIDDEN,
    Reason.PIN_REQUIRED: HTTPStatus.FORBIDDEN,
    Reason.PIN_NOT_SET: HTTPStatus.FORBIDDEN,
    Reason.PIN_WRONG: HTTPStatus.FORBIDDEN,
    Reason.PIN_LOCKED: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.PASSKEY_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.PIN_UNFIT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Reason.WALLET_LOCKED: HTTPStatus.FORBIDDEN,
    Reason.COUNTRY_NOT_SERVED: HTTPStatus.FORBIDDEN,
    Reason.SIGN_IN_AGAIN: HTTPStatus.FORBIDDEN,
    Reason.PAYMENTS_HALTED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.ACCOUNT_FROZEN: HTTPStatus.FORBIDDEN,
    Reason.HOLD_EXCEEDED: HTTPStatus.CONFLICT,
    Reason.ENTRY_ARCHIVED: HTTPStatus.CONFLICT,
    Reason.UNKNOWN_ENTRY: HTTPStatus.NOT_FOUND,
    Reason.NOT_CORRECTABLE: HTTPStatus.CONFLICT,
    Reason.CORRECTION_EXCEEDS_ENTRY: HTTPStatus.CONFLICT,
    Reason.ARCHIVE_MISMATCH: HTTPStatus.CONFLICT,
    Reason.NO_LINK: HTTPStatus.FORBIDDEN,
    Reason.UNKNOWN_LINK: HTTPStatus.NOT_FOUND,
    Reason.LINK_HALTED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.LINK_SUSPENDED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.EPOCH_CLOSED: HTTPStatus.GONE,
    Reason.CREDIT_LIMIT: HTTPStatus.FORBIDDEN,
    Reason.EXCEEDS_DEBT: HTTPStatus.CONFLICT,
    Reason.BAD_SIGNATURE: HTTPStatus.FORBIDDEN,
    Reason.KEY_UNCONFIRMED: HTTPStatus.FORBIDDEN,
    Reason.BAD_COMMITMENT: HTTPStatus.FORBIDDEN,
    Reason.WRONG_ORIGIN: HTTPStatus.FORBIDDEN,
    Reason.PEER_UNREACHABLE: HTTPStatus.BAD_GATEWAY,
    Reason.DECLINED: HTTPStatus.FORBIDDEN,
    Reason.EXPIRED: HTTPStatus.GONE,
    Reason.CANCELLED: HTTPStatus.GONE,
    Reason.HANDLE_TAKEN: HTTPStatus.CONFLICT,
    Reason.HANDLE_RESERVED: HTTPStatus.FORBIDDEN,
    Reason.HANDLE_LOOKALIKE: HTTPStatus.CONFLICT,
    Reason.HANDLE_FROZEN: HTTPStatus.FORBIDDEN,
    Reason.TOO_MANY_HANDLES: HTTPStatus.CONFLICT,
    Reason.RENAMED_RECENTLY: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.BAD_RECORD: HTTPStatus.BAD_GATEWAY,
    Reason.SERVER_FROZEN: HTTPStatus.FORBIDDEN,
    Reason.UNKNOWN_REALM: HTTPStatus.NOT_FOUND,
    Reason.RECOVERY_UNKNOWN: HTTPStatus.NOT_FOUND,
    Reason.RECOVERY_GONE: HTTPStatus.GONE,
    Reason.RECOVERY_STALE: HTTPStatus.CONFLICT,
    Reason.RECOVERY_TAG_WRONG: HTTPStatus.FORBIDDEN,
    Reason.RECOVERY_UNWITNESSED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.RECOVERY_BEHIND: HTTPStatus.CONFLICT,
    Reason.NOT_AVAILABLE: HTTPStatus.FORBIDDEN,
    Reason.NO_TURN: HTTPStatus.NOT_FOUND,
    Reason.NOT_OFFERED: HTTPStatus.FORBIDDEN,
    Reason.CALL_CLOSED: HTTPStatus.FORBIDDEN,
    Reason.CALL_FULL: HTTPStatus.FORBIDDEN,
    Reason.TURNED_AWAY: HTTPStatus.FORBIDDEN,
    Reason.PRICE_NOT_CONFIRMED: HTTPStatus.PAYMENT_REQUIRED,
    Reason.DEPOSIT_REQUIRED: HTTPStatus.PAYMENT_REQUIRED,
    Reason.UNKNOWN_DEPOSIT: HTTPStatus.NOT_FOUND,
    Reason.PRICE_CHANGED: HTTPStatus.CONFLICT,
    Reason.UNKNOWN_CALL_LINK: HTTPStatus.NOT_FOUND,
    Reason.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.STARTING: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.DISK_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
}


def errcode_of(reason: Reason) -> str:
    return ERRCODE_PREFIX + reason.name


_REASONS: Final = {errcode_of(reason): reason for reason in Reason}


def error_of(refused: Refused) -> SynapseError:
    """The refusal as the exception that Synapse turns into a Matrix error."""
    fields: dict[str, Any] = dict(refused.fields)
    return SynapseError(STATUS[refused.reason], refused.message, errcode_of(refused.reason), additional_fields=fields)


def refusal_in(error: SynapseError) -> Refused | None:
    """The refusal that an exception of ``error_of`` tells of, after Synapse has carried it; None for one of its own."""
    reason = _REASONS.get(error.errcode)
    if reason is None:
        return None
    fields = {name: value for name, value in error.error_dict(None).items() if name not in ("errcode", "error")}
    return Refused(reason=reason, message=error.msg, fields=fields)
