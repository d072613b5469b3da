"""The operator's switch that halts payments, beside the halt file: in the database, so that it holds for all processes.

Its routes are carried out where payments are decided, and a process that begins to write reads it, so no order passes
it that is decided after the answer.
"""

from collections.abc import Sequence

from super_app.operations import service, store
from super_app.operations.model import Halt
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.operations.bodies import HaltBody, HaltJson
from synapse_super_app.payments import metrics
from synapse_super_app.payments.residents import Residents
from synapse_super_app.runtime import Runtime


class Halting:
    def __init__(self, runtime: Runtime, residents: Residents) -> None:
        self._runtime = runtime
        self._residents = residents

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/payments/halt",
                handler=self._look,
                response=HaltJson,
                summary="Whether payments are halted",
                auth=Auth.ADMIN,
            ),
            Route(
                method="PUT",
                path="admin/payments/halt",
                handler=self._halt,
                response=HaltJson,
                summary="Let no new payment start; what is held stays held",
                auth=Auth.ADMIN,
                body=HaltBody,
            ),
            Route(
                method="DELETE",
                path="admin/payments/halt",
                handler=self._end,
                response=HaltJson,
                summary="Let payments start again, unless the halt file is there",
                auth=Auth.ADMIN,
            ),
        )

    async def begin(self, epoch: int) -> None:
        """This process decides from now on."""
        self._set(await self._runtime.database.run("halt_read", store.halt))

    def end(self) -> None:
        metrics.halted.set(0)

    async def _look(self, call: Call) -> HaltJson:
        halt = await self._runtime.database.run("halt_read", store.halt)
        return HaltJson.of(halt, file=self._residents.is_halted_otherwise())

    async def _halt(self, call: Call) -> HaltJson:
        body: HaltBody = call.body
        now_ms = self._runtime.now_ms()
        halt = await self._runtime.database.run(
            "halt", lambda cur: service.halt(cur, call.user_id, body.reason, now_ms)
        )
        self._set(halt)
        return HaltJson.of(halt, file=self._residents.is_halted_otherwise())

    async def _end(self, call: Call) -> HaltJson:
        await self._runtime.database.run("halt_end", store.end_halt)
        self._set(None)
        return HaltJson.of(None, file=self._residents.is_halted_otherwise())

    def _set(self, halt: Halt | None) -> None:
        self._residents.halted_by_operator = halt is not None
        metrics.halted.set(halt is not None)
