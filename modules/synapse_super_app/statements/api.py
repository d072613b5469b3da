"""The routes of activity, statements and receipts. They read, and change nothing."""

from collections.abc import Sequence
from datetime import tzinfo
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId, parse_payment_id, parse_user_id
from super_app.money import Asset, AssetCode
from super_app.payments.model import PayerKey, Payment
from super_app.payments.service import MAX_PAGE, Payments, payer_key_of
from super_app.signing import key_id_of, public_b64
from super_app.statements import proof, rules, service, tables
from super_app.statements.model import Statement
from super_app.statements.proof import ProofContent
from synapse_super_app.clearing.identity import payment_keys
from synapse_super_app.http.routes import Auth, Call, FileAnswer, Route, Sessions
from synapse_super_app.payments.bodies import PaymentJson, token_at
from synapse_super_app.runtime import Runtime
from synapse_super_app.statements import bodies, pdf

_CSV: Final = "text/csv; charset=utf-8"
_PDF: Final = "application/pdf"
_XML: Final = "application/xml"


class StatementsApi:
    def __init__(self, runtime: Runtime, payments: Payments) -> None:
        self._runtime = runtime
        self._payments = payments
        self._assets = runtime.config.payments.by_code()

    def routes(self) -> Sequence[Route]:
        of_month = (Reason.UNKNOWN_CURRENCY,)
        of_receipt = (Reason.UNKNOWN_PAYMENT, Reason.CONFLICT, Reason.ALREADY_DECIDED)
        return (
            Route(
                method="GET",
                path="activity",
                sessions=Sessions.READ,
                handler=self._activity,
                response=bodies.ActivityPage,
                summary="Search your payments by person, amount, currency, time, text, kind and state, newest first",
                query=bodies.ActivityQuery,
            ),
            Route(
                method="GET",
                path="statements/{month}",
                sessions=Sessions.READ,
                handler=self._month,
                response=bodies.StatementJson,
                summary="What was booked in a month such as 2026-11, with the balances before and after",
                query=bodies.StatementQuery,
                reasons=of_month,
            ),
            Route(
                method="GET",
                path="statements/{month}/file",
                sessions=Sessions.READ,
                handler=self._file,
                response=FileAnswer,
                media_types=("text/csv", _PDF, _XML),
                summary="The statement of a month as CSV, PDF or camt.053",
                query=bodies.FileQuery,
                reasons=of_month,
            ),
            Route(
                method="GET",
                path="summaries/{year}",
                sessions=Sessions.READ,
                handler=self._year,
                response=bodies.SummaryJson,
                summary="What a year came to, by months, people and kinds of bookings",
                query=bodies.StatementQuery,
                reasons=of_month,
            ),
            Route(
                method="GET",
                path="payments/{payment_id}/receipt",
                sessions=Sessions.READ,
                handler=self._proof,
                response=bodies.ProofJson,
                summary="A completed payment as signed text that anybody can check offline",
                query=bodies.ReceiptQuery,
                reasons=of_receipt,
            ),
            Route(
                method="GET",
                path="payments/{payment_id}/receipt/file",
                sessions=Sessions.READ,
                handler=self._receipt,
                response=FileAnswer,
                media_types=(_PDF,),
                summary="A completed payment as a PDF with its signed proof in a QR code",
                query=bodies.ReceiptQuery,
                reasons=of_receipt,
            ),
            Route(
                method="GET",
                path="receipts/keys",
                auth=Auth.PUBLIC,
                handler=self._keys,
                response=bodies.KeysJson,
                summary="The keys that receipts of this homeserver are checked with",
            ),
        )

    async def _activity(self, call: Call) -> bodies.ActivityPage | Refused:
        query: bodies.ActivityQuery = call.query
        before = query.before()
        if isinstance(before, Refused):
            return before
        acct = await self._runtime.accounts.acct_of(call.user_id)
        found = await self._runtime.database.run(
            "activity",
            lambda cur: service.search(cur, acct, query.wanted(), before, min(query.limit, MAX_PAGE)),
        )
        return bodies.ActivityPage(
            payments=[PaymentJson.of(payment, call.user_id) for payment in found.payments],
            next=None if found.following is None else token_at(*found.following),
        )

    async def _month(self, call: Call) -> bodies.StatementJson | Refused:
        query: bodies.StatementQuery = call.query
        found = await self._statement(call, query)
        return found if isinstance(found, Refused) else bodies.StatementJson.of(found[0])

    async def _file(self, call: Call) -> FileAnswer | Refused:
        query: bodies.FileQuery = call.query
        found = await self._statement(call, query)
        if isinstance(found, Refused):
            return found
        statement, zone, acct = found
        name = f"{call.path['month']}-{statement.asset.code}"
        server = self._runtime.server_name
        match query.format:
            case "csv":
                content = tables.as_csv(statement, zone).encode()
                return FileAnswer(name=f"{name}.csv", media_type=_CSV, content=content)
            case "pdf":
                write = partial(pdf.statement_pdf, statement, zone, query.tz, server, query.language)
                content = await self._runtime.api.defer_to_thread(write)
                return FileAnswer(name=f"{name}.pdf", media_type=_PDF, content=content)
            case "camt.053":
                written = tables.as_camt(statement, zone, acct, server, self._runtime.now_ms())
                if isinstance(written, Refused):
                    return written
                return FileAnswer(name=f"{name}.camt053.xml", media_type=_XML, content=written)

    async def _year(self, call: Call) -> bodies.SummaryJson | Refused:
        query: bodies.StatementQuery = call.query
        year, zone, asset = rules.year_of(call.path["year"]), _zone(query.tz), self._asset(query.currency)
        if isinstance(year, Refused):
            return year
        if isinstance(zone, Refused):
            return zone
        if isinstance(asset, Refused):
            return asset
        starts_ms = rules.months_of(year, zone)
        found = await self._read(call.user_id, asset, starts_ms[0], starts_ms[-1])
        if isinstance(found, Refused):
            return found
        statement, _ = found
        return bodies.SummaryJson.of(year, rules.summary(statement, starts_ms), rules.sum_of(statement.lines))

    async def _proof(self, call: Call) -> bodies.ProofJson | Refused:
        found = await self._proven(call)
        if isinstance(found, Refused):
            return found
        said, _ = found
        return bodies.ProofJson(
            receipt=proof.word_of(said),
            payment_id=said.payment_id,
            payer=said.payer,
            payee=said.payee,
            amount=said.amount,
            currency=said.currency,
            ordered_ts=said.ordered_ms,
            server=said.server,
            key_id=said.key_id,
        )

    async def _receipt(self, call: Call) -> FileAnswer | Refused:
        query: bodies.ReceiptQuery = call.query
        zone = _zone(query.tz)
        if isinstance(zone, Refused):
            return zone
        found = await self._proven(call)
        if isinstance(found, Refused):
            return found
        said, payment = found
        # What it cost the payer besides is nobody else's.
        is_payer = payment.payer_acct == await self._runtime.accounts.acct_of(call.user_id)
        fee_minor = payment.fee_minor if is_payer else 0
        write = partial(pdf.receipt_pdf, said, payment.memo, zone, query.language, fee_minor=fee_minor)
        content = await self._runtime.api.defer_to_thread(write)
        return FileAnswer(name=f"receipt-{said.payment_id}.pdf", media_type=_PDF, content=content)

    async def _keys(self, call: Call) -> bodies.KeysJson:
        key, _, retired = payment_keys(self._runtime)
        return bodies.KeysJson(
            server=self._runtime.server_name,
            keys=[bodies.KeyJson(key_id=key_id_of(each), public_key=public_b64(each)) for each in (key, *retired)],
        )

    # What these share.

    async def _statement(self, call: Call, query: bodies.StatementQuery) -> tuple[Statement, tzinfo, Acct] | Refused:
        zone, asset = _zone(query.tz), self._asset(query.currency)
        if isinstance(zone, Refused):
            return zone
        if isinstance(asset, Refused):
            return asset
        span = rules.month_ms(call.path["month"], zone)
        if isinstance(span, Refused):
            return span
        found = await self._read(call.user_id, asset, *span)
        return found if isinstance(found, Refused) else (found[0], zone, found[1])

    async def _read(
        self, user_id: UserId, asset: Asset, from_ms: int, until_ms: int
    ) -> tuple[Statement, Acct] | Refused:
        acct = await self._runtime.accounts.acct_of(user_id)
        found = await self._runtime.database.run_snapshot(
            "statement", lambda cur: service.statement(cur, acct, user_id, asset, from_ms, until_ms)
        )
        return found if isinstance(found, Refused) else (found, acct)

    async def _proven(self, call: Call) -> tuple[ProofContent, Payment] | Refused:
        query: bodies.ReceiptQuery = call.query
        payment_id = parse_payment_id(call.path["payment_id"])
        if isinstance(payment_id, Refused):
            return payment_id
        acct = await self._runtime.accounts.acct_of(call.user_id)
        payment = await self._runtime.database.run(
            "payment_find",
            lambda cur: self._payments.find(cur, acct, payment_id, self._payer_key(cur, query.payer)),
        )
        if isinstance(payment, Refused):
            return payment
        key, _, _ = payment_keys(self._runtime)
        asset = self._assets.get(payment.money.currency) or Asset(code=payment.money.currency, scale=0)
        said = proof.prove(payment, asset, self._runtime.server_name, key)
        return said if isinstance(said, Refused) else (said, payment)

    def _payer_key(self, cur: Cursor, payer: str | None) -> PayerKey | None:
        if payer is None:
            return None
        user_id = parse_user_id(payer)
        # What is no user id has paid nobody.
        return PayerKey("") if user_id is None else payer_key_of(cur, self._runtime.server_name, user_id)

    def _asset(self, currency: str) -> Asset | Refused:
        asset = self._assets.get(AssetCode(currency))
        if asset is not None:
            return asset
        known = ", ".join(sorted(self._assets))
        return Refused(
            reason=Reason.UNKNOWN_CURRENCY, message=f"This homeserver does not pay in {currency}; it knows: {known}."
        )


def _zone(name: str) -> ZoneInfo | Refused:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return rules.unknown_zone(name)
