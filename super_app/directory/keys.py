"""How one directory key follows another: the one before signs who comes next, and the Matrix key certifies it too."""

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from nacl.signing import SigningKey
from pydantic import ValidationError

from super_app.directory.model import DirectoryKey
from super_app.ids import ServerName
from super_app.names import NAMESPACE
from super_app.signing import public_b64, signed, verify
from super_app.wire import OpenWireModel

ROTATION_TYPE: Final = f"{NAMESPACE}.directory.rotation"
MAX_ROTATIONS: Final = 200
_VERSION: Final = 1


class _Rotation(OpenWireModel):
    type: Literal["org.superapp.directory.rotation"]
    v: Literal[1]
    server: str
    public_key: str
    issued: int
    key_id: str
    signature: str


def rotation(server: ServerName, before: SigningKey, after: SigningKey, *, issued_ms: int) -> dict[str, Any]:
    """The word of a key that another one takes its place."""
    return signed(
        {
            "type": ROTATION_TYPE,
            "v": _VERSION,
            "server": server,
            "public_key": public_b64(after),
            "issued": issued_ms,
        },
        before,
    )


def leads_to(pinned: str, rotations: object, key: DirectoryKey) -> bool:
    """Whether a chain of rotations, oldest first, leads from the public key that is pinned to another one.

    Each is signed by the key before it. Those from before the pinned key are passed over.
    """
    if not isinstance(rotations, list):
        return False
    current = pinned
    for each in cast(list[object], rotations)[-MAX_ROTATIONS:]:
        try:
            read = _Rotation.model_validate(each)
        except ValidationError:
            continue
        if read.server == key.server and verify(cast(Mapping[str, Any], each), current):
            current = read.public_key
    return current == key.public_key and current != pinned
