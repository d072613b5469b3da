"""What a person sees and when: their ``/sync``, asked again as soon as it answers. Owns no figure."""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from synapse_super_app.commands.matrix_client import Json, MatrixClient

_SYNC_MS: Final = 10_000


class Watch:
    """One person's ``/sync`` of one room."""

    def __init__(self, client: MatrixClient, room: str) -> None:
        self.client = client
        self._room = room
        self._token = str(client.sync()["next_batch"])
        self._filter: dict[str, Any] = {"room": {"rooms": [room], "timeline": {"limit": 50}}, "presence": {"types": []}}

    def until(self, wanted: Callable[[Json], bool]) -> None:
        """Return when an event comes for which ``wanted`` is true."""
        while True:
            answer = self.client.sync(self._token, timeout_ms=_SYNC_MS, filter_json=self._filter)
            self._token = str(answer["next_batch"])
            joined = answer.get("rooms", {}).get("join", {}).get(self._room, {})
            if any(wanted(event) for event in joined.get("timeline", {}).get("events", [])):
                return


def message_ms(watch: Watch, sender: MatrixClient, room: str) -> float:
    """From sending a plain message to seeing it."""
    text = secrets.token_hex(8)
    began_s = time.perf_counter()
    sender.send_text(room, text)
    watch.until(lambda event: event["content"].get("body") == text)
    return (time.perf_counter() - began_s) * 1000
