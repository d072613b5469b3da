"""What people hear when the disk of the database is full: a refusal instead of an internal error.

The transaction was rolled back by the database, so nothing is lost; whoever asked may ask again under the same id.
"""

import logging
from typing import Final

from prometheus_client import Counter
from synapse.module_api.errors import SynapseError

from super_app.errors import Reason, Refused
from synapse_super_app.http.refusals import error_of

logger = logging.getLogger(__name__)

_RETRY_AFTER_MS: Final = 10_000
_POSTGRESQL_DISK_FULL: Final = "53100"  # PostgreSQL, appendix A
_SQLITE_FULL: Final = "SQLITE_FULL"

_refused_total = Counter("superapp_disk_full_total", "Requests that were refused because the database could not grow.")


def is_full(error: BaseException) -> bool:
    """Whether a driver's error says that the database could not grow. By name, since drivers share no base class."""
    code: object = getattr(error, "pgcode", None) or getattr(error, "sqlite_errorname", None)
    return code in (_POSTGRESQL_DISK_FULL, _SQLITE_FULL)


def refusal_of(error: BaseException) -> SynapseError:
    """What to answer instead of such an error. It is logged and counted for the operator."""
    _refused_total.inc()
    logger.error("The disk of the database is full; make room on it (%s)", str(error).strip())
    return error_of(
        Refused(
            reason=Reason.DISK_FULL,
            message="The disk of this homeserver is full, so this could not be written down, and nothing is lost. Tell "
            "its operator, and try the same again later.",
            fields={"retry_after_ms": _RETRY_AFTER_MS},
        )
    )
