"""Which requests a generic worker may answer, as patterns of paths. The rest belongs to the main process.

They follow the list in Synapse's documentation of workers for the version that pyproject.toml pins, and leave out what
must be answered by the writer of a stream (devices, key uploads, tags, account data, receipts, presence, typing,
to-device messages), or where all requests of a room must meet one process (``messages``). A system test asks a worker
for one path of each. The entrance of ``super-app up --workers`` reads them, and docker/nginx/workers.conf has the same.
"""

import re
from typing import Final

_ANY: Final = "(api/v1|r0|v3|unstable)"
_STABLE: Final = "(r0|v3|unstable)"

SYNC: Final = (
    "/_matrix/client/(r0|v3)/sync",
    "/_matrix/client/(api/v1|r0|v3)/events",
    "/_matrix/client/(api/v1|r0|v3)/initialSync",
)
"""What one person asks for again and again: cheaper when it is the same process each time."""

CLIENTS: Final = (
    *SYNC,
    "/_matrix/client/versions",
    f"/_matrix/client/{_ANY}/createRoom",
    f"/_matrix/client/{_ANY}/publicRooms",
    f"/_matrix/client/{_ANY}/joined_rooms",
    f"/_matrix/client/{_ANY}/join/[^/]+",
    f"/_matrix/client/{_ANY}/knock/[^/]+",
    f"/_matrix/client/{_ANY}/rooms/[^/]+/(joined_members|members|state|aliases)",
    f"/_matrix/client/{_ANY}/rooms/[^/]+/(context|event|send|redact|state)/.+",
    f"/_matrix/client/{_ANY}/rooms/[^/]+/(join|invite|leave|ban|unban|kick)",
    "/_matrix/client/v1/rooms/[^/]+/(hierarchy|threads|timestamp_to_event)",
    "/_matrix/client/(v1|unstable)/rooms/[^/]+/relations/.+",
    f"/_matrix/client/{_STABLE}/account/whoami",
    f"/_matrix/client/{_ANY}/voip/turnServer",
    f"/_matrix/client/{_ANY}/search",
    f"/_matrix/client/{_STABLE}/user/[^/]+/filter(/.*)?",
    f"/_matrix/client/{_STABLE}/(capabilities|notifications|password_policy)",
    f"/_matrix/client/{_STABLE}/keys/(query|changes|claim)",
    f"/_matrix/client/{_ANY}/login",
    f"/_matrix/client/{_STABLE}/register(/available)?",
    f"/_matrix/client/{_ANY}/profile/.+",
    f"/_matrix/client/{_STABLE}/user_directory/search",
)

FEDERATION: Final = (
    "/_matrix/federation/v1/(version|publicRooms)",
    "/_matrix/federation/v1/(event|state|state_ids|backfill|get_missing_events|event_auth|timestamp_to_event)/.+",
    "/_matrix/federation/v1/(query|make_join|make_leave|make_knock|send_knock|exchange_third_party_invite)/.+",
    "/_matrix/federation/v1/(user/devices|hierarchy|send)/.+",
    "/_matrix/federation/(v1|v2)/(send_join|send_leave|invite)/.+",
    "/_matrix/key/v2/query(/.*)?",
)

OURS: Final = (
    "/_synapse/client/superapp(/.*)?",
    "/superapp(/.*)?",
    "/_matrix/federation/unstable/org\\.superapp/.+",
)

ALL: Final = (*CLIENTS, *FEDERATION, *OURS)

_WORKER: Final = re.compile("|".join(f"(?:{pattern})" for pattern in ALL))
_SYNC: Final = re.compile("|".join(f"(?:{pattern})" for pattern in SYNC))


def is_for_workers(path: str) -> bool:
    """Whether any generic worker may answer this path, without its query."""
    return _WORKER.fullmatch(path) is not None


def is_sync(path: str) -> bool:
    return _SYNC.fullmatch(path) is not None
