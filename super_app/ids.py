"""Kinds of identifiers, and how the strings that carry them are read. Owns parsing, not existence."""

import re
from typing import Final, NewType

from super_app.errors import Reason, Refused

Acct = NewType("Acct", str)
"""Stable account id of the directory: unpadded base64url of 32 bytes."""
UserId = NewType("UserId", str)
"""Matrix user id, ``@localpart:server``."""
ServerName = NewType("ServerName", str)
RoomId = NewType("RoomId", str)
EventId = NewType("EventId", str)
PaymentId = NewType("PaymentId", str)
"""128 random bits as 32 lower-case hex digits, made by the payer's client; unique per payer."""
Handle = NewType("Handle", str)
"""A full handle, ``@name:server``, normalised."""

_PAYMENT_ID: Final = re.compile(r"[0-9a-f]{32}")
# Matrix spec, appendices, "User Identifiers": historical localparts allow any printable ASCII but ":".
_USER_ID: Final = re.compile(r"@([\x21-\x39\x3b-\x7e]+):([A-Za-z0-9.\-\[\]:]+)")
_MAX_USER_ID_BYTES: Final = 255


def parse_payment_id(text: str) -> PaymentId | Refused:
    if _PAYMENT_ID.fullmatch(text) is None:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message="payment_id must be 32 lower-case hexadecimal digits (128 random bits); make a new one.",
        )
    return PaymentId(text)


def parse_user_id(text: str) -> UserId | None:
    """``text`` as a user id, or None if it does not have the form of one."""
    # The pattern is ASCII, so characters are bytes.
    if len(text) > _MAX_USER_ID_BYTES or _USER_ID.fullmatch(text) is None:
        return None
    return UserId(text)


def server_of(user_id: UserId | Handle) -> ServerName:
    """The server of a user id or a full handle: all after the first colon."""
    return ServerName(user_id.partition(":")[2])


def localpart_of(user_id: UserId | Handle) -> str:
    return user_id.partition(":")[0].removeprefix("@")
