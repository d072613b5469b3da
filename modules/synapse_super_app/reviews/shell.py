"""Reviews in the homeserver: reads the operator's list of names, and lets operators decide about what it held back.

The list is a file. It is read at start, where it has to be there, and again whenever it changes; one that cannot be
read any more leaves the names of before in force.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field
from synapse.module_api.errors import ConfigError

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, parse_user_id
from super_app.payments.model import PaymentKey
from super_app.payments.service import Payments, payer_key_of
from super_app.reviews import rules
from super_app.reviews.model import Review, ReviewState
from super_app.reviews.service import Reviews
from super_app.wire import Text, WireModel
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.follow import Wakes
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_READ_MS: Final = 10_000.0
_MOST_BYTES: Final = 10_000_000


class StateQuery(WireModel):
    state: Literal["open", "released", "denied"] = "open"


class PayerQuery(WireModel):
    payer: Annotated[str, Field(max_length=255)]


class DecideBody(WireModel):
    decision: Literal["release", "deny"]
    reason: Annotated[Text, Field(min_length=1, max_length=1_000)]


class ReviewJson(WireModel):
    """``matched`` is the entry of the list. ``payment_state`` is how the payment itself stands now."""

    payment_id: str
    payer: str
    payee: str
    amount: int
    currency: str
    memo: str | None = None
    matched: str
    state: Literal["open", "released", "denied"]
    payment_state: str
    since_ts: int
    operator: str | None = None
    reason: str | None = None
    decided_ts: int | None = None

    @classmethod
    def of(cls, review: Review) -> Self:
        payment = review.payment
        return cls(
            payment_id=payment.payment_id,
            payer=payment.payer,
            payee=payment.payee.user_id,
            amount=payment.money.amount_minor,
            currency=payment.money.currency,
            memo=payment.memo,
            matched=review.matched,
            state=review.state.value,
            payment_state=payment.state.value,
            since_ts=review.noted_ms,
            operator=review.operator,
            reason=review.reason,
            decided_ts=review.decided_ms,
        )


class ReviewsJson(WireModel):
    reviews: list[ReviewJson]


class ReviewsShell:
    def __init__(self, *, runtime: Runtime, payments: Payments, writer: PaymentsWriter, clearing: Wakes) -> None:
        self._runtime = runtime
        self._payments = payments
        self._writer = writer
        self._clearing = clearing
        self._reviews = Reviews(runtime.private)
        self._read: tuple[int, int] | None = None
        config = runtime.config.payments.screening
        self._path = None if config is None else Path(config.list_path)
        if self._path is not None:
            try:
                self._read_list(self._path)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"payments.screening.list_path {self._path} cannot be read ({error}); write a name a line into it",
                    path=("modules",),
                ) from None
        payments.review_by(self._reviews)

    def start(self) -> None:
        if self._path is not None:
            self._runtime.api.looping_background_call(
                self._look, _READ_MS, desc="superapp_screening", run_on_all_instances=True
            )

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="admin/reviews",
                handler=self._queue,
                response=ReviewsJson,
                summary="Payments that were held back because of a name, oldest first",
                auth=Auth.ADMIN,
                query=StateQuery,
            ),
            Route(
                method="POST",
                path="admin/reviews/{payment_id}",
                handler=self._decide,
                response=ReviewJson,
                summary="Let a payment that was held back go on, or give its money back",
                auth=Auth.ADMIN,
                query=PayerQuery,
                body=DecideBody,
                reasons=(Reason.UNKNOWN_PAYMENT, Reason.ALREADY_DECIDED),
            ),
        )

    async def _queue(self, call: Call) -> ReviewsJson:
        query: StateQuery = call.query
        found = await self._runtime.database.run(
            "reviews", lambda cur: self._reviews.queue(cur, ReviewState(query.state))
        )
        return ReviewsJson(reviews=[ReviewJson.of(review) for review in found])

    async def _decide(self, call: Call) -> ReviewJson | Refused:
        body: DecideBody = call.body
        query: PayerQuery = call.query
        payer = parse_user_id(query.payer)
        if payer is None:
            return rules.unknown_review(call.path["payment_id"])
        wanted = ReviewState.RELEASED if body.decision == "release" else ReviewState.DENIED
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> Review | Refused:
            key = PaymentKey(
                payer_key=payer_key_of(cur, self._runtime.server_name, payer),
                payment_id=PaymentId(call.path["payment_id"]),
            )
            return self._reviews.decide(
                cur, self._payments, key, wanted, operator=call.user_id, reason=body.reason, now_ms=now_ms
            )

        done = await self._writer.run("review_decide", work)
        if isinstance(done, Refused):
            return done
        logger.info("%s: payment %s was %s", call.user_id, done.payment.payment_id, done.state.value)
        # It may have to be offered now.
        self._clearing.wake()
        return ReviewJson.of(done)

    async def _look(self) -> None:
        if self._path is not None:
            try:
                self._read_list(self._path)
            except (OSError, ValueError):
                logger.exception("%s cannot be read; the names that were in it stay in force", self._path)

    def _read_list(self, path: Path) -> None:
        """Raises OSError; ValueError if it is no text."""
        stat = path.stat()
        version = (stat.st_mtime_ns, stat.st_size)
        if version == self._read:
            return
        with path.open("rb") as file:
            self._reviews.names = rules.read_list(file.read(_MOST_BYTES).decode("utf-8"))
        self._read = version
        logger.info("%s has %d names that payments are screened for", path, len(self._reviews.names))
