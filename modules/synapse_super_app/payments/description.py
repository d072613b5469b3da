"""What the server record says of payments: the key that signs them, what can be paid with, fees, and open links."""

from collections.abc import Mapping
from typing import Any, Final

from super_app.clearing.model import LinkPhase, LinkView, Standing
from super_app.clearing.service import Clearing
from synapse_super_app.clearing.identity import payment_keys
from synapse_super_app.runtime import Runtime

_MAX_LINKS: Final = 200


class PaymentsDescription:
    def __init__(self, runtime: Runtime, clearing: Clearing) -> None:
        self._runtime = runtime
        self._clearing = clearing

    async def describe(self) -> Mapping[str, Any]:
        """Links are named without their limits, which are for the two operators alone."""
        _, certificate, _ = payment_keys(self._runtime)
        config = self._runtime.config.payments
        views = await self._runtime.database.run("payments_described", self._clearing.links)
        return {
            "key": certificate,
            "mode": config.mode,
            "assets": [{"code": asset.code, "scale": asset.scale} for asset in config.by_code().values()],
            "fees": [fee.model_dump(mode="json", exclude_none=True) for fee in config.fees],
            "links": [
                {
                    "server": view.peer,
                    "currencies": sorted({each.currency for each in view.exposures if each.granted and each.received}),
                }
                for view in sorted(views, key=lambda each: each.peer)
                if _is_offered(view)
            ][:_MAX_LINKS],
        }


def _is_offered(view: LinkView) -> bool:
    """By what is in the database alone, so that every process says the same."""
    gone = view.phase in (LinkPhase.FROZEN, LinkPhase.CLOSED)
    return not gone and view.our_standing is view.their_standing is Standing.READY
