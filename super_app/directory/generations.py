"""A new generation of a log: what a homeserver signs that was restored from a backup and had issued records since.

Pure. Such a log contradicts what others have seen of it, as that of a liar does. It goes on only where the homeserver
declares the restore, names the very checkpoint that the reader knew among those that it gives up, and begins where its
backup ended. All of that is kept and shown; and a name that changed its owner on the way is not believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

from nacl.signing import SigningKey
from pydantic import Field, ValidationError

from super_app.directory.heads import EVIDENCE_TYPE, Evidence, Growth, Kind, SeenHead, root_before
from super_app.directory.model import DAY_MS, Record
from super_app.errors import Reason, Refused
from super_app.ids import Handle, ServerName
from super_app.names import NAMESPACE
from super_app.signing import from_b64, signed, to_b64, verify
from super_app.wire import OpenWireModel

GENERATION_TYPE: Final = f"{NAMESPACE}.directory.generation"
MAX_GIVEN_UP: Final = 500
_VERSION: Final = 1
AT_MOST_EVERY_MS: Final = 30 * DAY_MS
"""A homeserver that is restored more often than that is believed only once an operator lifts its freeze."""
EXCUSED_MS: Final = 7 * DAY_MS
"""How long a declared restore that does not name what we have seen is merely refused, before it is a contradiction."""
GUARDED_MS: Final = 90 * DAY_MS
"""How long after a restore names keep the owner whom we knew."""

_Size = Annotated[int, Field(ge=0, le=2**53 - 1)]


class _Place(OpenWireModel):
    size: _Size
    root: str


class _Wire(OpenWireModel):
    type: Literal["org.superapp.directory.generation"]
    v: Literal[1]
    server: str
    number: Annotated[int, Field(ge=1, le=2**53 - 1)]
    base: _Place
    base_time: _Size
    declared: _Size
    given_up: Annotated[list[_Place], Field(max_length=MAX_GIVEN_UP)]
    key_id: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A verified declaration. ``base_s`` is the time of the newest checkpoint that the backup had."""

    server: ServerName
    number: int
    base_size: int
    base_root: bytes
    base_s: int
    declared_ms: int
    given_up: frozenset[tuple[int, bytes]]
    content: Mapping[str, Any]

    def gives_up(self, head: SeenHead) -> bool:
        return (head.size, head.root) in self.given_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A generation with which we went on, and what we knew until then."""

    generation: Generation
    before_note: str
    begun_ms: int


def statement(
    key: SigningKey,
    server: ServerName,
    *,
    number: int,
    base: tuple[int, bytes],
    base_s: int,
    declared_ms: int,
    given_up: Sequence[tuple[int, bytes]],
) -> dict[str, Any]:
    return signed(
        {
            "type": GENERATION_TYPE,
            "v": _VERSION,
            "server": server,
            "number": number,
            "base": {"size": base[0], "root": to_b64(base[1])},
            "base_time": base_s,
            "declared": declared_ms,
            "given_up": [{"size": size, "root": to_b64(root)} for size, root in sorted(given_up)],
        },
        key,
    )


def read(content: object, server: ServerName, public_key: str) -> Generation | None:
    """What ``server`` declared, if it signed it."""
    try:
        wire = _Wire.model_validate(content)
    except ValidationError:
        return None
    found = cast(Mapping[str, Any], content)
    return kept(found) if wire.server == server and verify(found, public_key) else None


def kept(content: Mapping[str, Any]) -> Generation | None:
    """A declaration that was verified before."""
    try:
        wire = _Wire.model_validate(content)
        given_up = frozenset((each.size, from_b64(each.root)) for each in wire.given_up)
        base_root = from_b64(wire.base.root)
    except (ValidationError, ValueError):
        return None
    return Generation(
        server=ServerName(wire.server),
        number=wire.number,
        base_size=wire.base.size,
        base_root=base_root,
        base_s=wire.base_time,
        declared_ms=wire.declared,
        given_up=given_up,
        content=content,
    )


def judge(
    declared: Generation, known: SeenHead, fresh: SeenHead, growth: Growth, last: Begun | None, now_ms: int
) -> Refused | None:
    """Whether to go on with ``fresh`` in place of ``known``. ``growth`` is that of the new log from the base."""
    if not declared.gives_up(known):
        return _bad(declared.server, "it declares a restore that does not name the log which was seen here")
    if last is not None and declared.number <= last.generation.number:
        return _bad(declared.server, "it declares a restore again that was over")
    if last is not None and now_ms - last.begun_ms < AT_MOST_EVERY_MS:
        return _bad(declared.server, "it declares a restore for the second time within 30 days")
    if declared.base_size > known.size or declared.base_s > known.time_s:
        return _bad(declared.server, "what it declares is no restore: its backup is newer than what it lost")
    if declared.base_size and root_before(declared.base_size, fresh, growth) != declared.base_root:
        return _bad(declared.server, "its log does not begin with that of the backup which it declares")
    return None


def is_excused(seen_ms: int, now_ms: int) -> bool:
    """Whether a declared restore may still come to name what was seen here: it asks its peers for that."""
    return now_ms - seen_ms < EXCUSED_MS


def not_named(server: ServerName) -> Refused:
    return _bad(server, "it was restored from a backup and has not heard yet what was seen of it here")


def is_rewritten(before: Record, after: Record) -> bool:
    """Whether a name has another owner than before a restore that may have lost whose it was."""
    return after.acct != before.acct and after.issued_ms >= before.issued_ms


def rewrite(begun: Begun, before: Record, after: Record) -> Evidence:
    """The proof: two signed records of one name with two owners, and the restore between them."""
    content = {
        "type": EVIDENCE_TYPE,
        "v": _VERSION,
        "kind": Kind.REWRITE.value,
        "server": before.server,
        "generation": dict(begun.generation.content),
        "first": dict(before.content),
        "second": dict(after.content),
    }
    return Evidence(server=before.server, kind=Kind.REWRITE, content=content)


def changed_hands(handle: Handle) -> Refused:
    return Refused(
        reason=Reason.HANDLE_FROZEN,
        message=(
            f"{handle} became somebody else's when its homeserver was restored from a backup, so nobody is reached "
            "under it here for 90 days; ask the person for another handle."
        ),
        fields={"handle": handle},
    )


def _bad(server: ServerName, what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=f"The directory of {server} cannot be trusted with this answer: {what}. Its operator has to look.",
    )
