"""The payments feature in the homeserver: builds its parts and connects them to Synapse and to clearing."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import Codes, ConfigError

from super_app.ledger import operators
from super_app.names import STATE_TYPES, EventType
from super_app.payments.model import Payment
from super_app.payments.service import Payments
from super_app.safeguards.service import Safeguards
from synapse_super_app.calls.feature import CallsFeature
from synapse_super_app.clearing.identity import build_clearing
from synapse_super_app.clearing.shell import ClearingShell
from synapse_super_app.config import FeatureName
from synapse_super_app.deposits.shell import DepositsShell
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.disputes.shell import DisputesShell
from synapse_super_app.fares.shell import FaresShell
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Route
from synapse_super_app.ledger.admin import LedgerAdmin
from synapse_super_app.ledger.relay import Relay
from synapse_super_app.ledger.tenure import Tenure
from synapse_super_app.ledger.writer import check_durability
from synapse_super_app.payments import metrics
from synapse_super_app.payments.announced import Announced
from synapse_super_app.payments.api import PaymentsApi
from synapse_super_app.payments.checks import Checks
from synapse_super_app.payments.commits import Committing, Heard, PaymentsWriter
from synapse_super_app.payments.deadlines import Deadlines
from synapse_super_app.payments.description import PaymentsDescription
from synapse_super_app.payments.follow import Follow
from synapse_super_app.payments.halting import Halting
from synapse_super_app.payments.leavers import Leavers
from synapse_super_app.payments.orders import Orders, not_a_message
from synapse_super_app.payments.receipts import Receipts
from synapse_super_app.payments.relayed_routes import relayed
from synapse_super_app.payments.residents import Residents
from synapse_super_app.payments.rooms import Rooms
from synapse_super_app.payments.watch import Watch
from synapse_super_app.people import UserIdsOnly
from synapse_super_app.pots.shell import PotsShell
from synapse_super_app.requests.shell import RequestsShell
from synapse_super_app.reviews.shell import ReviewsShell
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.api import SafeguardsApi
from synapse_super_app.safeguards.passkeys import Passkeys
from synapse_super_app.safeguards.pins import Pins
from synapse_super_app.safeguards.settings import after_move_of, settings_of
from synapse_super_app.schedules.shell import SchedulesShell
from synapse_super_app.statements.api import StatementsApi

logger = logging.getLogger(__name__)

_NEVER_STATE = frozenset(EventType) - STATE_TYPES


class PaymentsFeature:
    name = FeatureName.PAYMENTS
    packages: tuple[str, ...] = (
        "super_app.accounts",
        "super_app.operations",
        "super_app.ledger",
        "super_app.clearing",
        "super_app.payments",
        "super_app.safeguards",
        "super_app.requests",
        "super_app.pots",
        "super_app.schedules",
        "super_app.disputes",
        "super_app.reviews",
        "super_app.deposits",
    )

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime
        config = runtime.config.payments
        own, others = runtime.private.instance_name(), runtime.private.instances()
        unknown = [name for name in config.ledger_writers if name != own and name not in others]
        if unknown:
            raise ConfigError(
                f"payments.ledger_writers names {unknown[0]!r}, which no process can reach; add it to instance_map "
                "with host and port of its replication listener, or take it out",
                path=("modules",),
            )
        self._residents = Residents(runtime.private, config.halt_file, runtime.rollout, directory=directory is not None)
        self._halting = Halting(runtime, self._residents)
        self._people = UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people
        self.fares: FaresShell | None = None
        heard = Heard()
        self._writer = writer = PaymentsWriter(runtime, heard)
        settings = settings_of(config)
        safeguards = Safeguards(assets=config.by_code(), settings=settings)
        self._safeguards = safeguards
        passkeys = Passkeys(runtime, writer)
        self._pins = pins = Pins(runtime, writer, safeguards, passkeys)
        self._payments = payments = Payments(
            server_name=runtime.server_name,
            assets=config.by_code(),
            homeserver=self._residents,
            guards=safeguards,
            changes=heard,
            fees=[fee.fee() for fee in config.fees],
        )
        clearing = build_clearing(runtime, payee=payments, payer=payments)
        payments.clear_through(clearing)
        self.tenure = Tenure(
            api=runtime.api, database=runtime.database, writer=writer, own=own, writers=config.ledger_writers
        )
        self._relay = relay = Relay(runtime.api, runtime.private, self.tenure)
        self._clearing_shell = ClearingShell(runtime, writer, clearing, relay)
        announced = Announced()
        watch = Watch(runtime.api)
        rooms = Rooms(runtime.api, runtime.private, runtime.database)
        receipts = Receipts(runtime, announced)
        follow = Follow(
            runtime=runtime, payments=payments, writer=writer, receipts=receipts, clearing=self._clearing_shell
        )
        self.pots = PotsShell(
            runtime=runtime,
            payments=payments,
            safeguards=safeguards,
            residents=self._residents,
            writer=writer,
            people=UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people,
            rooms=rooms,
            announced=announced,
            watch=watch,
            relay=relay,
            clearing=self._clearing_shell,
            pins=pins,
        )
        self._checks = checks = Checks(runtime, payments, clearing, self.pots.pots)
        if directory is not None:
            directory.described.tell("payments", PaymentsDescription(runtime, clearing).describe)
        self._deadlines = Deadlines(
            runtime=runtime, payments=payments, writer=writer, receipts=receipts, follow=follow, checks=checks
        )
        orders = Orders(
            runtime=runtime,
            payments=payments,
            writer=writer,
            people=UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people,
            rooms=rooms,
            announced=announced,
            watch=watch,
            relay=relay,
            clearing=self._clearing_shell,
            pins=pins,
            after_move=after_move_of(config),
        )
        self._safeguards_api = SafeguardsApi(
            runtime=runtime,
            writer=writer,
            safeguards=safeguards,
            pins=pins,
            passkeys=passkeys,
            settings=settings,
        )
        self._api = PaymentsApi(
            runtime=runtime,
            payments=payments,
            orders=orders,
            writer=writer,
            rooms=rooms,
            checks=checks,
            clearing=self._clearing_shell,
            passkeys=passkeys,
        )
        self.requests = RequestsShell(
            runtime=runtime,
            payments=payments,
            writer=writer,
            people=UserIdsOnly(runtime.api, runtime.accounts) if directory is None else directory.people,
            rooms=rooms,
            announced=announced,
        )
        orders.answer_requests(self.requests)
        self.schedules = SchedulesShell(runtime=runtime, orders=orders, writer=writer, safeguards=safeguards, pins=pins)
        self._reviews = ReviewsShell(runtime=runtime, payments=payments, writer=writer, clearing=self._clearing_shell)
        self.disputes = DisputesShell(runtime=runtime, orders=orders, writer=writer, relay=relay)
        self._statements_api = StatementsApi(runtime, payments)
        self._ledger_admin = LedgerAdmin(runtime, writer)
        self._leavers = Leavers(runtime, writer, self._residents)
        self.deposits = self._ask_deposits()
        self.tenure.while_held(self._halting.begin, self._halting.end)
        self.tenure.while_held(self._clearing_shell.begin, self._clearing_shell.end)
        self.tenure.while_held(self._deadlines.begin, self._deadlines.end)
        self.tenure.while_held(self.schedules.begin, self.schedules.end)
        self.tenure.while_held(self.disputes.begin, self.disputes.end)
        self.tenure.while_held(self._leavers.begin, self._leavers.end)
        runtime.private.on_shutdown(self.tenure.stop)
        writer.on_payment(watch.heard)
        writer.on_payment(self._deadlines.payment_heard)
        writer.on_payment(_count_end)
        writer.on_receipt(self._deadlines.receipt_heard)
        writer.on_receipt(receipts.owed)
        runtime.gate.register({EventType.PAYMENT: orders.gate_payment, EventType.PAYMENT_RECEIPT: orders.gate_receipt})

        async def payment_persisted(event: EventBase) -> None:
            await follow.payment_persisted(event)
            await self.requests.payment_persisted(event)

        runtime.follower.register({EventType.PAYMENT: payment_persisted})
        runtime.api.register_spam_checker_callbacks(
            user_may_create_room=self._may_create_room, user_may_send_state_event=self._may_send_state_event
        )

    def _ask_deposits(self) -> DepositsShell:
        """Let people ask strangers for a deposit."""
        deposits = DepositsShell(
            runtime=self._runtime,
            payments=self._payments,
            safeguards=self._safeguards,
            residents=self._residents,
            writer=self._writer,
            people=self._people,
            clearing=self._clearing_shell,
            pins=self._pins,
        )
        self.pots.pots.lies_beside(deposits.deposits.beside)
        self.tenure.while_held(deposits.begin, deposits.end)
        return deposits

    def charge_for(self, calls: CallsFeature) -> None:
        """Let calls cost money by the minute. Once, before the module starts."""
        self.fares = fares = FaresShell(
            runtime=self._runtime,
            payments=self._payments,
            safeguards=self._safeguards,
            residents=self._residents,
            writer=self._writer,
            people=self._people,
            clearing=self._clearing_shell,
            pins=self._pins,
            prices=calls.screening,
            show_out=calls.show_out,
            links=calls.links,
            entrance=calls.entrance,
        )
        calls.entrance.passes = fares.visits
        self.packages = (*self.packages, "super_app.fares")
        self.pots.pots.lies_beside(fares.fares.beside)
        self._checks.look_at(fares.fares.violations)
        self.tenure.while_held(fares.begin, fares.end)
        calls.charge(fares)
        self.deposits.follow_calls()
        calls.when_reached(fares.reached)

    def while_committing(self, note: Committing, noted: Callable[[], None]) -> None:
        """See ``PaymentsWriter.while_committing``."""
        self._writer.while_committing(note, noted)

    def routes(self) -> Sequence[Route]:
        return [relayed(route, self._relay) for route in self._routes()]

    def _routes(self) -> Sequence[Route]:
        return (
            *self._api.routes(),
            *self._safeguards_api.routes(),
            *self.requests.routes(),
            *self.pots.routes(),
            *self.schedules.routes(),
            *self.disputes.routes(),
            *self._reviews.routes(),
            *self._statements_api.routes(),
            *self._ledger_admin.routes(),
            *self._halting.routes(),
            *self._leavers.routes(),
            *self._clearing_shell.routes(),
            *self.deposits.routes(),
            *(() if self.fares is None else self.fares.routes()),
        )

    async def start(self) -> None:
        self.deposits.start()
        if self.fares is not None:
            self.fares.start()
        database, assets = self._runtime.database, self._runtime.config.payments.by_code()
        refused = await database.run("durability", check_durability)
        if refused is None:
            refused = await database.run("asset_scales", lambda cur: operators.fix_scales(cur, assets.values()))
        if refused is not None:
            logger.error("No payment starts: %s", refused.message)
            self._residents.halt()
        self._clearing_shell.start()
        self._deadlines.start()
        self.requests.start()
        self.pots.start()
        self.schedules.start()
        self.disputes.start()
        self._reviews.start()
        self._leavers.start()

    async def _may_create_room(self, user_id: str, room_config: dict[str, Any]) -> Literal["NOT_SPAM"] | Codes:
        """The initial state of a room passes no gate, so our types are refused here. Fails closed.

        Synapse does not ask for server admins. What they slip in is state, and no reader of ours acts on it.
        """
        initial_state = room_config.get("initial_state")
        for event in initial_state if isinstance(initial_state, list) else []:
            if isinstance(event, dict) and event.get("type") in _NEVER_STATE:
                raise error_of(metrics.count(not_a_message()))
        return NOT_SPAM

    async def _may_send_state_event(
        self, user_id: str, room_id: str, event_type: str, state_key: str, content: dict[str, Any]
    ) -> Literal["NOT_SPAM"] | Codes:
        """A delayed state event is refused as soon as it is scheduled; the gate would refuse it when it fires."""
        if event_type in (EventType.PAYMENT, EventType.PAYMENT_RECEIPT):
            raise error_of(metrics.count(not_a_message()))
        return NOT_SPAM


def _count_end(payment: Payment) -> None:
    if payment.state.final:
        metrics.ended_total.labels(payment.state.value).inc()
