"""The invariants of money as far as one homeserver can see them: ledger, links, and payments against both."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from super_app.db import Cursor
from super_app.ledger import service as ledger
from super_app.ledger import store as ledger_store
from super_app.ledger.model import Violation
from super_app.payments import store
from super_app.payments.service import Payments
from super_app.pots.service import Pots
from synapse_super_app.payments import metrics
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)


class ClearingBooks(Protocol):
    def violations(self, cur: Cursor) -> tuple[Violation, ...]: ...

    def links(self, cur: Cursor) -> Sequence[object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """``checked`` says what was looked at, and how much of it there is."""

    violations: tuple[Violation, ...]
    checked: dict[str, int]


class Checks:
    def __init__(self, runtime: Runtime, payments: Payments, clearing: ClearingBooks, pots: Pots) -> None:
        self._runtime = runtime
        self._payments = payments
        self._clearing = clearing
        self._pots = pots
        self._others: list[Callable[[Cursor], tuple[Violation, ...]]] = []

    def look_at(self, violations: Callable[[Cursor], tuple[Violation, ...]]) -> None:
        """Check what another part of payments keeps, too."""
        self._others.append(violations)

    async def look(self) -> Findings:
        """Check everything in one snapshot of the database, beside which payments go on."""
        findings = await self._runtime.database.run_snapshot("invariants", self._check)
        metrics.violations.set(len(findings.violations))
        metrics.violations_checked.set(self._runtime.now_ms() / 1000)
        for violation in findings.violations:
            logger.error("Money: %s does not hold: %s by %d", violation.invariant, violation.where, violation.off_by)
        return findings

    async def measure(self) -> None:
        await self.look()

    def _check(self, cur: Cursor) -> Findings:
        payments, unended = store.counts(cur)
        return Findings(
            violations=(
                *ledger.violations(cur),
                *self._clearing.violations(cur),
                *self._payments.violations(cur),
                *self._pots.violations(cur),
                *(found for violations in self._others for found in violations(cur)),
            ),
            checked={
                "links": len(self._clearing.links(cur)),
                "entries": ledger_store.head(cur).seq,
                "payments": payments,
                "unended_payments": unended,
            },
        )
