"""Sends events about calls as local people, and knows its own events at the gate."""

import json
import logging
from typing import Any

from prometheus_client import Counter
from synapse.module_api import EventBase, ModuleApi
from synapse.module_api.errors import SynapseError

from super_app.calls.model import Outgoing

logger = logging.getLogger(__name__)

_unsent_total = Counter(
    "superapp_call_events_unsent_total", "Events that this server owed to a room and could not send.", ["type"]
)


class Sender:
    """What is being sent right now stands in memory, so that the gate tells our events from a client's forgery."""

    def __init__(self, api: ModuleApi) -> None:
        self._api = api
        self._sending: set[str] = set()

    def is_ours(self, event: EventBase) -> bool:
        """Whether this process is sending exactly this event."""
        return _fingerprint(event.sender, event.room_id, event.type, dict(event.content)) in self._sending

    async def send(self, outgoing: Outgoing) -> bool:
        """Send one event. False if it could not be and trying again may help."""
        fingerprint = _fingerprint(outgoing.sender, outgoing.room_id, outgoing.event_type, outgoing.content)
        self._sending.add(fingerprint)
        try:
            await self._api.create_and_send_event_into_room(
                {
                    "type": outgoing.event_type,
                    "room_id": outgoing.room_id,
                    "sender": outgoing.sender,
                    "content": outgoing.content,
                }
            )
        except SynapseError as error:
            _unsent_total.labels(outgoing.event_type).inc()
            # Who left the room, or may not speak in it, says nothing more there: that is final.
            logger.info("Could not send %s into %s: %s", outgoing.event_type, outgoing.room_id, error)
            return error.code == 403
        except Exception:
            _unsent_total.labels(outgoing.event_type).inc()
            logger.exception("Sending %s into %s failed", outgoing.event_type, outgoing.room_id)
            return False
        finally:
            self._sending.discard(fingerprint)
        return True


def _fingerprint(sender: str, room_id: str, event_type: str, content: dict[str, Any]) -> str:
    return json.dumps([sender, room_id, event_type, content], sort_keys=True)
