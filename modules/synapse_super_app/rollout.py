"""For whom the modules act yet, and whether what they would refuse is refused: a careful start on a running Synapse.

``users_file`` names the people for whom everything here is on, one user id or pattern a line; without it that is
everybody. It is read again when it changes, so more can be let in without a restart. ``dry_run`` concerns what people
could do before the modules were there (ring, send events, register a name): what would be refused is logged and
counted, and let through. It never lets money move that would not have moved.
"""

import logging
import re
from pathlib import Path
from typing import Final

from prometheus_client import Counter

from super_app.errors import Reason, Refused
from synapse_super_app.config import RolloutConfig

logger = logging.getLogger(__name__)

_dry_total: Final = Counter(
    "superapp_dry_run_refusals_total",
    "What a dry run let through and would have refused, by what and why.",
    ["what", "why"],
)


class Rollout:
    def __init__(self, config: RolloutConfig) -> None:
        self._path = None if config.users_file is None else Path(config.users_file)
        self.dry_run = config.dry_run
        self._read_of: tuple[int, int] | None = None
        self._names: frozenset[str] = frozenset()
        self._patterns: re.Pattern[str] | None = None

    @property
    def is_for_everybody(self) -> bool:
        return self._path is None

    def includes(self, user_id: str) -> bool:
        """Whether the modules act for a person of this homeserver. A file that cannot be read names nobody."""
        if self._path is None:
            return True
        self._read_again(self._path)
        return user_id in self._names or (self._patterns is not None and self._patterns.fullmatch(user_id) is not None)

    def would_refuse(self, what: str, why: str, event_id: str | None = None) -> None:
        """Write down what a dry run lets through. No names of people: what matters is which rule strikes how often."""
        _dry_total.labels(what, why).inc()
        logger.info("Dry run: %s would be refused: %s%s", what, why, f" ({event_id})" if event_id else "")

    def _read_again(self, path: Path) -> None:
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size) == self._read_of:
                return
            lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
            self._read_of = (stat.st_mtime_ns, stat.st_size)
        except (OSError, UnicodeDecodeError) as error:
            if self._read_of is not None or self._names or self._patterns:
                logger.error("rollout.users_file cannot be read, so the modules act for nobody: %s", error)  # noqa: TRY400 - one line
            self._read_of, self._names, self._patterns = None, frozenset(), None
            return
        named = [line for line in lines if line]
        self._names = frozenset(line for line in named if "*" not in line)
        patterns = [".*".join(map(re.escape, line.split("*"))) for line in named if "*" in line]
        self._patterns = re.compile("|".join(patterns)) if patterns else None
        logger.info("rollout.users_file names %d people and %d patterns", len(self._names), len(patterns))


def not_rolled_out() -> Refused:
    return Refused(
        reason=Reason.NOT_ROLLED_OUT,
        message="This is not open for you on this homeserver yet; the operator lets people in step by step.",
    )
