"""What operators see of payments in Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge

from super_app.errors import Refused

refused_total: Final = Counter(
    "superapp_payments_refused_total", "Orders and answers that were refused, by reason.", ["reason"]
)
ended_total: Final = Counter("superapp_payments_total", "Payments that ended, by outcome.", ["outcome"])
receipts_total: Final = Counter(
    "superapp_payment_receipts_total", "Receipts by what became of them: posted, found, retried, dropped.", ["result"]
)
released_total: Final = Counter(
    "superapp_payment_holds_released_total", "Holds that were released because their event never came to exist."
)
violations: Final = Gauge("superapp_invariant_violations", "Invariants of money that did not hold at the last check.")
violations_checked: Final = Gauge(
    "superapp_invariants_checked_timestamp_seconds", "When the invariants of money were last checked."
)

halted: Final = Gauge(
    "superapp_payments_halted", "1 where payments are decided and an operator has halted them by the admin API."
)


def count(refused: Refused) -> Refused:
    refused_total.labels(refused.reason.value).inc()
    return refused
