"""Operations in the homeserver: the routes, and the order in which a proposal becomes an entry."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel

from super_app.db import migrations
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.money import AssetCode, check_money
from super_app.operations import service, store
from super_app.operations.model import Kind, Proposal, ProposalId, State
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.operations import bodies
from synapse_super_app.operations.erasure import Erasure
from synapse_super_app.operations.export import Export
from synapse_super_app.runtime import Runtime

DIRECT: Final[Mapping[Kind, str]] = {
    Kind.ISSUE: "admin/issue",
    Kind.BURN: "admin/burn",
    Kind.PAY_FEES: "admin/fees/pay",
}
"""The routes that do at once what a proposal asks for."""


class OperationsFeature:
    name = "operations"
    packages = ("super_app.accounts", "super_app.operations")

    def __init__(self, runtime: Runtime, packages: Sequence[str], features: Sequence[str]) -> None:
        """``packages`` are those whose migrations this homeserver needs."""
        self._runtime = runtime
        self._packages = tuple(dict.fromkeys((*packages, *self.packages)))
        self._features = list(features)
        self._direct: dict[str, Route] = {}
        self._exported = Export(runtime)
        self._erasure = Erasure(runtime, self._packages)
        runtime.api.register_third_party_rules_callbacks(on_user_deactivation_status_changed=self._erasure.deactivated)

    def connect(self, routes: Sequence[Route]) -> None:
        """The routes of the ledger, as they are without anybody else's consent."""
        self._direct = {route.path: route for route in routes if route.path in DIRECT.values()}
        self._exported.connect(routes)

    def routes(self) -> Sequence[Route]:
        own = [
            self._exported.route(),
            self._erasure.route(),
            Route(
                method="GET",
                path="admin/overview",
                handler=self._overview,
                response=bodies.OverviewJson,
                summary="What runs here, and what waits for an operator",
                auth=Auth.ADMIN,
            ),
            Route(
                method="GET",
                path="admin/audit",
                handler=self._audit,
                response=bodies.AuditJson,
                summary="What operators asked for by the admin routes and what became of it, newest first",
                auth=Auth.ADMIN,
                query=bodies.AuditQuery,
            ),
            Route(
                method="GET",
                path="admin/audit/verify",
                handler=self._verify,
                response=bodies.AuditVerified,
                summary="Whether a line of the audit log was changed or taken away",
                auth=Auth.ADMIN,
            ),
            Route(
                method="POST",
                path="admin/migrate",
                handler=self._migrate,
                response=bodies.MigrationsJson,
                summary="Apply the migrations that waited until no process of the version before ran any more",
                auth=Auth.ADMIN,
            ),
        ]
        return [*own, *self._of_proposals()] if self._direct else own

    def _of_proposals(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/proposals",
                handler=self._proposals,
                response=bodies.ProposalsJson,
                summary="Money that an admin wants to move and that another one has to agree to",
                auth=Auth.ADMIN,
            ),
            Route(
                method="POST",
                path="admin/proposals",
                handler=self._propose,
                response=bodies.ProposalJson,
                summary="Propose to issue, to burn or to pay fees out; the same again changes nothing",
                auth=Auth.ADMIN,
                body=bodies.ProposalBody,
                reasons=(Reason.INVALID_AMOUNT, Reason.UNKNOWN_CURRENCY, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="admin/proposals/{proposal_id}/approve",
                handler=self._approve,
                response=bodies.ProposalJson,
                summary="Agree to what another admin proposed, and do it; again it changes nothing",
                auth=Auth.ADMIN,
                reasons=(
                    Reason.UNKNOWN_PROPOSAL,
                    Reason.FOUR_EYES,
                    Reason.ALREADY_DECIDED,
                    Reason.UNKNOWN_PAYEE,
                    Reason.INSUFFICIENT_FUNDS,
                    Reason.CONFLICT,
                ),
            ),
            Route(
                method="POST",
                path="admin/proposals/{proposal_id}/reject",
                handler=self._reject,
                response=bodies.ProposalJson,
                summary="Let nothing come of a proposal; again it changes nothing",
                auth=Auth.ADMIN,
                reasons=(Reason.UNKNOWN_PROPOSAL, Reason.ALREADY_DECIDED),
            ),
        )

    async def start(self) -> None:
        self._erasure.start()

    async def _overview(self, call: Call) -> bodies.OverviewJson:
        config, private = self._runtime.config, self._runtime.private
        return bodies.OverviewJson(
            server_name=self._runtime.server_name,
            version=version("super-app-matrix"),
            features=self._features,
            process=private.instance_name(),
            has_workers=private.has_workers,
            four_eyes=config.payments.four_eyes,
            rollout_is_for_everybody=self._runtime.rollout.is_for_everybody,
            dry_run=self._runtime.rollout.dry_run,
            waiting_migrations=[each.name for each in await self._waiting()],
        )

    # The audit log.

    async def _audit(self, call: Call) -> bodies.AuditJson:
        query: bodies.AuditQuery = call.query
        lines = await self._runtime.database.run(
            "audit_read", lambda cur: store.lines_before(cur, query.before, query.limit)
        )
        return bodies.AuditJson(lines=[bodies.AuditLine.of(line) for line in lines])

    async def _verify(self, call: Call) -> bodies.AuditVerified:
        broken, (seq, head) = await self._runtime.database.run_snapshot(
            "audit_verify", lambda cur: (service.broken_at(cur), store.head(cur))
        )
        return bodies.AuditVerified(ok=broken is None, seq=seq, hash=head, broken_at=broken)

    # Migrations.

    async def _waiting(self) -> list[migrations.Migration]:
        database = self._runtime.database
        found: list[migrations.Migration] = []
        for package in self._packages:
            done = await database.run("migrations_read", partial(migrations.applied, package=package))
            found += migrations.load(package, database.engine)[done:]
        return found

    async def _migrate(self, call: Call) -> bodies.MigrationsJson:
        for migration in await self._waiting():
            await self._runtime.database.run("migrate", partial(migrations.apply, migration=migration))
        return bodies.MigrationsJson(waiting=[each.name for each in await self._waiting()])

    # Proposals.

    async def _proposals(self, call: Call) -> bodies.ProposalsJson:
        found = await self._runtime.database.run("proposals", lambda cur: store.proposals(cur, tuple(State), 200))
        return bodies.ProposalsJson(
            proposals=[bodies.ProposalJson.of(each) for each in found],
            four_eyes=self._runtime.config.payments.four_eyes,
        )

    async def _propose(self, call: Call) -> bodies.ProposalJson | Refused:
        body: bodies.ProposalBody = call.body
        money = check_money(body.amount, AssetCode(body.currency), self._runtime.config.payments.by_code())
        if isinstance(money, Refused):
            return money
        wanted = Proposal(
            proposal_id=ProposalId(body.proposal_id),
            kind=Kind(body.kind),
            user_id=UserId(body.user_id),
            money=money,
            reference=body.reference,
            proposed_by=call.user_id,
            proposed_ms=self._runtime.now_ms(),
        )
        made = await self._runtime.database.run("propose", lambda cur: service.propose(cur, wanted))
        return made if isinstance(made, Refused) else bodies.ProposalJson.of(made)

    async def _approve(self, call: Call) -> BaseModel | Refused:
        decided = await self._decide(call, State.APPROVED)
        if isinstance(decided, Refused):
            return decided
        # The reference is the proposal's: should this fail or the process die here, approving again does it, and once.
        route = self._direct[DIRECT[decided.kind]]
        order: dict[str, Any] = {
            "user_id": decided.user_id,
            "amount": decided.money.amount_minor,
            "currency": decided.money.currency,
            "reference": decided.reference,
        }
        body = None if route.body is None else route.body.parse(order)
        if isinstance(body, Refused):
            return body
        done = await route.handler(replace(call, path={}, body=body))
        return done if isinstance(done, Refused) else bodies.ProposalJson.of(decided)

    async def _reject(self, call: Call) -> bodies.ProposalJson | Refused:
        decided = await self._decide(call, State.REJECTED)
        return decided if isinstance(decided, Refused) else bodies.ProposalJson.of(decided)

    async def _decide(self, call: Call, state: State) -> Proposal | Refused:
        proposal_id, now_ms = ProposalId(call.path["proposal_id"]), self._runtime.now_ms()
        return await self._runtime.database.run(
            "proposal_decide", lambda cur: service.decide(cur, proposal_id, call.user_id, state, now_ms)
        )
