"""What operators do with links: open them, change what they grant, and see how they stand."""

from typing import Annotated

from pydantic import BaseModel, Field

from super_app.clearing.model import (
    DEFAULT_MAX_COUNT,
    Evidence,
    Exposure,
    Grant,
    LinkPhase,
    LinkTerms,
    LinkView,
    Standing,
    StatementState,
)
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode
from super_app.wire import WireModel

MinorUnits = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]


class GrantBody(WireModel):
    """What we grant the peer in one currency."""

    currency: str
    credit_limit_minor: MinorUnits
    max_in_flight: MinorUnits = DEFAULT_MAX_COUNT
    max_in_flight_minor: MinorUnits = MAX_AMOUNT_MINOR


class LinkBody(WireModel):
    peer: Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-\[\]:]{1,255}$")]
    """Server name of the other homeserver."""
    currencies: Annotated[list[GrantBody], Field(min_length=1, max_length=64)]

    def terms(self, assets: dict[AssetCode, Asset]) -> LinkTerms | Refused:
        unknown = [each.currency for each in self.currencies if AssetCode(each.currency) not in assets]
        if unknown:
            known = ", ".join(sorted(assets))
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"This homeserver does not pay in {unknown[0][:16]!r}; it knows: {known}.",
            )
        grants = tuple(
            Grant(
                currency=AssetCode(each.currency),
                scale=assets[AssetCode(each.currency)].scale,
                limit_minor=each.credit_limit_minor,
                max_count=each.max_in_flight,
                max_sum_minor=each.max_in_flight_minor,
            )
            for each in self.currencies
        )
        return LinkTerms(peer=ServerName(self.peer), grants=grants)


class ExposureModel(BaseModel):
    """One currency of a link, in minor units."""

    currency: str
    scale: int
    usable: bool
    """Whether both sides carry it with the same scale."""
    granted_minor: int | None
    """The credit that we grant the peer; None if we grant none."""
    received_minor: int | None
    """The credit that the peer grants us."""
    due_to_minor: int
    """What we owe the peer."""
    due_from_minor: int
    """What the peer owes us."""
    reserved_minor: int
    """Accepted and not yet committed by the peer."""
    unreceipted_minor: int
    """Committed by us and not yet receipted by the peer."""
    net_minor: int
    """What the peer owes us when both debts are netted; negative where we owe it."""
    used_minor: int
    """What the peer uses of the credit that we grant it."""
    in_transit_minor: int
    """What settlements have sent to the peer and it has not confirmed."""
    settleable_minor: int
    """What of our debt may be settled: receipted by the peer, and claimed by no other settlement."""
    settle_net_minor: int
    """So much of that as the peer does not owe us back: what is proposed if no amount is said."""
    in_flight: int


class LinkModel(BaseModel):
    peer: str
    state: LinkPhase
    waits_for: str | None
    """Whose operator must act: ``us`` or ``peer``."""
    waits: list[str]
    """What it waits for, and who must act: a sentence each."""
    reason: str | None
    our_standing: Standing
    """What our operator has said: ready, suspended, closing."""
    their_standing: Standing
    our_fingerprint: str | None
    """Of the key that we sign with on this link, in groups of four, for operators to compare."""
    their_fingerprint: str | None
    present_fingerprint: str
    """Of the key in our key file; the link signs with another one until it has said KEY, or was pinned anew."""
    asked_fingerprint: str | None
    """Of a key that the peer wants pinned anew, and that nobody here has confirmed."""
    statement: StatementState | None
    """How the peer's last statement of its books compared with ours."""
    statement_ms: int | None
    """When it came."""
    currencies: list[ExposureModel]
    unsent: int
    """Objects that the peer has not acknowledged."""
    next_try_ms: int | None
    last_error: str | None
    evidence: dict[str, int]


class LinksModel(BaseModel):
    links: list[LinkModel]


class EvidenceModel(BaseModel):
    kind: str
    recorded_ms: int
    first: str
    """Canonical JSON of the object that we had; empty if there was none."""
    second: str
    """Canonical JSON of the object that contradicts it."""


class EvidenceListModel(BaseModel):
    evidence: list[EvidenceModel]


def link_model(view: LinkView) -> LinkModel:
    waits_for = {
        LinkPhase.WAITING_FOR_PEER: "peer",
        LinkPhase.CHECKING: "peer",
        LinkPhase.RECOVERING: "peer",
        LinkPhase.OPEN: None,
        LinkPhase.CLOSING: None,
        LinkPhase.CLOSED: None,
        LinkPhase.SUSPENDED: "peer" if view.our_standing is Standing.READY else "us",
    }.get(view.phase, "us")
    return LinkModel(
        peer=view.peer,
        state=view.phase,
        waits_for="us" if view.asked_fingerprint else waits_for,
        waits=list(view.waits),
        reason=view.why or None,
        our_standing=view.our_standing,
        their_standing=view.their_standing,
        our_fingerprint=view.our_fingerprint or None,
        their_fingerprint=view.their_fingerprint or None,
        present_fingerprint=view.present_fingerprint,
        asked_fingerprint=view.asked_fingerprint or None,
        statement=None if view.their_statement is None else view.their_statement.state,
        statement_ms=None if view.their_statement is None else view.their_statement.at_ms,
        currencies=[_exposure_model(each) for each in view.exposures],
        unsent=view.unsent,
        next_try_ms=view.next_try_ms or None,
        last_error=view.last_error or None,
        evidence={kind.value: count for kind, count in view.evidence.items()},
    )


def evidence_model(evidence: Evidence) -> EvidenceModel:
    return EvidenceModel(
        kind=evidence.kind.value, recorded_ms=evidence.recorded_ms, first=evidence.first, second=evidence.second
    )


def _exposure_model(exposure: Exposure) -> ExposureModel:
    return ExposureModel(
        currency=exposure.currency,
        scale=exposure.scale,
        usable=exposure.usable,
        granted_minor=None if exposure.granted is None else exposure.granted.limit_minor,
        received_minor=None if exposure.received is None else exposure.received.limit_minor,
        due_to_minor=exposure.due_to_minor,
        due_from_minor=exposure.due_from_minor,
        reserved_minor=exposure.reserved_minor,
        unreceipted_minor=exposure.unreceipted_minor,
        net_minor=exposure.due_from_minor - exposure.due_to_minor,
        used_minor=exposure.used_minor,
        in_transit_minor=exposure.in_transit_minor,
        settleable_minor=exposure.settleable_minor,
        settle_net_minor=exposure.net_minor,
        in_flight=exposure.in_flight_count,
    )
