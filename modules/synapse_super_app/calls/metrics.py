"""What the operator sees of calls."""

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from super_app.calls.model import Record, Rule, State

_rings_total = Counter(
    "superapp_call_rings_total", "Rings in people's records, by direction and outcome.", ["direction", "outcome"]
)
_decisions_total = Counter(
    "superapp_call_screening_total", "Decisions of screening, by the rule that spoke.", ["rule", "verdict"]
)
screening_seconds = Histogram(
    "superapp_call_screening_seconds",
    "Time to decide whether a ring is shown.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
record_seconds = Histogram(
    "superapp_call_record_seconds",
    "Time to write down what was decided of a ring, before it goes on.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)


def count_decision(rule: Rule, *, shown: bool) -> None:
    _decisions_total.labels(rule, "shown" if shown else "screened").inc()


def count_outcomes(reached: Iterable[Record]) -> None:
    """Each record counts once, when its outcome is known: an answered call when it is answered."""
    for record in reached:
        if record.state not in (State.NEW, State.RINGING, State.ENDED):
            _rings_total.labels(record.direction, record.state).inc()
