"""Contact cards: a signed record with the certificate of its key, to be shared in any room and checked without asking.

Whoever has the directory key of the card's server pinned checks a card alone. Whoever has not needs that server's
Matrix key once, which homeservers have of every server that they are in a room with.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from super_app.directory import records
from super_app.directory.model import Record
from super_app.errors import Reason, Refused
from super_app.ids import Handle, ServerName, server_of
from super_app.wire import WireModel

VERSION: Final = 1


class _Card(WireModel):
    v: Literal[1]
    record: dict[str, Any]
    certificate: dict[str, Any]


def card(record: Mapping[str, Any], certificate: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an ``org.superapp.contact`` event."""
    return {"v": VERSION, "record": dict(record), "certificate": dict(certificate)}


def server_of_card(content: object) -> ServerName | Refused:
    """Whose card it says it is. Nothing is believed yet."""
    found = _Card.parse(content)
    if isinstance(found, Refused):
        return found
    handle = found.record.get("handle")
    if not isinstance(handle, str) or not server_of(Handle(handle)):
        return Refused(reason=Reason.INVALID_VALUE, message="record.handle: a full handle such as @bob:example.org.")
    return server_of(Handle(handle))


def read(content: Mapping[str, Any], server: ServerName, public_key: str, now_ms: int) -> Record | Refused:
    """The record of a card, if the key of its server signed it and it has not expired."""
    return records.read_record(_Card.model_validate(content).record, server, public_key, now_ms)
