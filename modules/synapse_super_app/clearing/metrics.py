"""What operators see of clearing in Prometheus."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Gauge

from super_app.clearing.model import Alarm, LinkPhase, LinkView
from super_app.clearing.settlement_model import OPEN, Settlement, Way

objects_total: Final = Counter(
    "superapp_clearing_objects_total", "Clearing objects sent and received, by type.", ["way", "type"]
)
refused_total: Final = Counter(
    "superapp_clearing_refused_total", "Clearing objects refused, by us (in) or by peers (out).", ["way", "reason"]
)
unreachable_total: Final = Counter(
    "superapp_clearing_unreachable_total", "Requests to peers that were not answered.", ["peer"]
)
alarms_total: Final = Counter(
    "superapp_clearing_alarms_total", "Proofs and lies of peers, and signs that our database is old.", ["kind", "peer"]
)
links: Final = Gauge("superapp_clearing_links", "Links with other homeservers, by where they stand.", ["phase"])
unsent: Final = Gauge("superapp_clearing_unsent_objects", "Objects that a peer has not acknowledged.", ["peer"])
credit_used: Final = Gauge(
    "superapp_clearing_credit_used_minor", "What a peer uses of the credit we grant it.", ["peer", "currency"]
)
credit_limit: Final = Gauge(
    "superapp_clearing_credit_limit_minor", "The credit that we grant a peer.", ["peer", "currency"]
)

settlements: Final = Gauge(
    "superapp_clearing_settlements",
    "Settlements that are not ended, by where they stand; out: we pay, in: we are paid.",
    ["way", "state"],
)


def sound(alarm: Alarm) -> None:
    alarms_total.labels(alarm.kind.value, alarm.peer).inc()


def publish(views: Sequence[LinkView]) -> None:
    """Show how links stand now."""
    for phase in LinkPhase:
        links.labels(phase.value).set(sum(view.phase is phase for view in views))
    for view in views:
        unsent.labels(view.peer).set(view.unsent)
        for exposure in view.exposures:
            credit_used.labels(view.peer, exposure.currency).set(exposure.used_minor)
            limit_minor = 0 if exposure.granted is None else exposure.granted.limit_minor
            credit_limit.labels(view.peer, exposure.currency).set(limit_minor)


def publish_settlements(found: Sequence[Settlement]) -> None:
    """Show the settlements that are not ended."""
    for way in Way:
        for state in OPEN:
            count = sum(each.way is way and each.state is state for each in found)
            settlements.labels(way.value, state.value).set(count)
