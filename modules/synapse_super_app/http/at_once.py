"""How many requests of one homeserver are answered at a time, so that none keeps the others waiting."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from synapse_super_app.http.refusals import error_of

_RETRY_MS: Final = 1_000


class AtOnce:
    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[ServerName] = Counter()

    @contextmanager
    def one_of(self, origin: ServerName) -> Generator[None]:
        """Answer one within this.

        Raises:
            SynapseError: TOO_MANY_REQUESTS; as many of this origin as may be are being answered.
        """
        if self._under_way[origin] >= self._most:
            raise error_of(
                Refused(
                    reason=Reason.TOO_MANY_REQUESTS,
                    message="Too many requests at once; try again in a moment.",
                    fields={"retry_after_ms": _RETRY_MS},
                )
            )
        self._under_way[origin] += 1
        try:
            yield
        finally:
            self._under_way[origin] -= 1
            if self._under_way[origin] == 0:
                del self._under_way[origin]
