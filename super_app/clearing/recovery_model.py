"""Values of a recovery: how far a link is on its way back after a restore."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.clearing.model import LinkId, LinkState, MessageId, MessageType, Run, WireId

RestoreId = NewType("RestoreId", str)
"""One restore of this database, or one order of the operator to fence a link."""


class RecoveryPhase(StrEnum):
    """What is asked of the peer now. Each step is one request, and what its answer changes is one transaction."""

    ASKING = "asking"  # HEAD?: how far our chain and its own go
    COMPARING = "comparing"  # RANGE? of our chain: whether the end that we have is the one that the peer has
    LEARNING = "learning"  # RANGE? of its chain: what we have lost of it
    FENCING = "fencing"  # FENCE is signed; its answer, FENCED, is not all there
    COLLECTING = "collecting"  # RANGE? of both: what FENCED lists, and what the peer signed up to there
    NAMING = "naming"  # OPENINGS?: who the payments were between
    REPLAYING = "replaying"  # no more questions: the books follow, some payments at a time

    @property
    def is_fenced(self) -> bool:
        """Whether our new epoch is open, so that FENCED can be signed in it."""
        return self not in (RecoveryPhase.ASKING, RecoveryPhase.COMPARING, RecoveryPhase.LEARNING)


class Way(StrEnum):
    """Which way the money of a payment goes. In the order of the replay: what comes in may be spent."""

    IN = "in"
    OUT = "out"


PAYER_SAYS: Final = frozenset({MessageType.OFFER, MessageType.COMMIT, MessageType.ABORT})
PAYEE_SAYS: Final = frozenset({MessageType.PENDING, MessageType.ACCEPT, MessageType.REJECT, MessageType.RECEIPT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One link on its way back.

    ``new_epoch`` is the one that FENCE opens; ``their_epoch`` the newest of the peer's chain. ``at_epoch`` and
    ``at_seq`` are how far the present phase has come. ``then`` is the state of the link afterwards, and ``then_why``
    its reason. ``stood`` when our operator has suspended, resumed or closed the link meanwhile.
    """

    link_id: LinkId
    restore_id: RestoreId
    phase: RecoveryPhase
    new_epoch: int
    their_epoch: int
    at_epoch: int
    at_seq: int
    fence_id: MessageId
    then: LinkState
    then_why: str
    stood: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run of our objects that the peer holds. ``found`` once we have all of it."""

    run: Run
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A payment of which a recovery brought back objects, or lost some."""

    way: Way
    wire_id: WireId


@dataclass(frozen=True, slots=True, kw_only=True)
class Repin:
    """Payment keys of a link that are, or are to be, pinned anew. Fingerprints are empty where there are none.

    ``ordered`` by our operator, who was told that ``confirmed`` is the peer's; with ``take_back`` what the peer holds
    of ours and these books do not have is taken. ``asked`` is of a key that the peer has shown. ``vouched`` is the
    object up to which a FENCE of the confirmed key stands by what came before it; empty where none has come.
    """

    link_id: LinkId
    ordered: bool = False
    confirmed: str = ""
    take_back: bool = False
    asked: str = ""
    vouched: str = ""
