"""Reads the answer of another homeserver, which may be anything, within limits of its size and of its number of values.

Synapse's own parser takes 100 MB. Text of empty lists takes 24 times its size once it is parsed, so the length alone is
no limit of the memory.
"""

import json
from typing import Any, Final, cast

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Of a federation query. A page of a feed, the longest honest one, has 500 objects of 8 KiB and some proofs."""
MAX_ANSWER_VALUES: Final = 200_000
"""An object of 8 KiB with eight badges has a hundred."""


class AnswerParser:
    """Has what Synapse's client asks of a ``ByteParser``; the answer is a JSON object."""

    CONTENT_TYPE = "application/json"
    MAX_RESPONSE_SIZE = MAX_ANSWER_BYTES

    def __init__(self) -> None:
        self._body = bytearray()

    def write(self, data: bytes) -> int:
        self._body += data
        return len(data)

    def finish(self) -> dict[str, Any]:
        """The answer.

        Raises:
            ValueError: it is no JSON object, or has more values than any honest one.
        """
        # Every value opens a list or an object, or is the first in one, or has a comma before it.
        if sum(self._body.count(mark) for mark in (b",", b"[", b"{")) > MAX_ANSWER_VALUES:
            raise ValueError(f"it has more than {MAX_ANSWER_VALUES} values")
        try:
            found: object = json.loads(self._body, parse_constant=_none)
        except RecursionError as error:
            raise ValueError("its objects are too deep in one another") from error
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        return cast(dict[str, Any], found)


def _none(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
