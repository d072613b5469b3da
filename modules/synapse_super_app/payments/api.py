"""The routes of payments. Each reads its body, asks the orders or the service, and answers in the pinned shapes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from pydantic import BaseModel

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, RoomId, UserId, parse_payment_id, parse_user_id
from super_app.ledger import operators
from super_app.ledger import service as ledger
from super_app.ledger.model import aside
from super_app.money import Money, check_money
from super_app.payments.model import PayerKey, Payment, PaymentContent, PaymentKey
from super_app.payments.service import Payments, payer_key_of
from super_app.safeguards.passkeys import about_payment
from super_app.wire import is_text
from synapse_super_app.http.routes import Auth, Call, Handler, Route, Sessions
from synapse_super_app.payments import bodies, metrics
from synapse_super_app.payments.checks import Checks
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.follow import Wakes
from synapse_super_app.payments.orders import Orders
from synapse_super_app.payments.rooms import Rooms
from synapse_super_app.payments.watch import is_settled
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.passkeys import Passkeys

_ORDER_REASONS: Final = (
    Reason.INVALID_AMOUNT,
    Reason.UNKNOWN_CURRENCY,
    Reason.MEMO_TOO_LONG,
    Reason.UNKNOWN_PAYEE,
    Reason.AMBIGUOUS_PAYEE,
    Reason.PAYEE_IS_SELF,
    Reason.PAYEE_GONE,
    Reason.PAYEE_MOVED,
    Reason.MOVED_RECENTLY,
    Reason.HANDLE_FROZEN,
    Reason.BAD_RECORD,
    Reason.PAYEE_NOT_IN_ROOM,
    Reason.NOT_IN_ROOM,
    Reason.NOT_ALLOWED,
    Reason.NO_LINK,
    Reason.LINK_HALTED,
    Reason.PEER_UNREACHABLE,
    Reason.DEPOSIT_REQUIRED,
    Reason.FEE_NOT_CONFIRMED,
    Reason.INSUFFICIENT_FUNDS,
    Reason.ACCOUNT_FROZEN,
    Reason.WALLET_LOCKED,
    Reason.LIMIT_EXCEEDED,
    Reason.PAYEE_LIMIT,
    Reason.PIN_NOT_SET,
    Reason.PIN_REQUIRED,
    Reason.PIN_WRONG,
    Reason.PIN_LOCKED,
    Reason.PASSKEY_REFUSED,
    Reason.CONFLICT,
    Reason.PAYMENT_ID_SPENT,
    Reason.PAYMENTS_HALTED,
)

_QUOTE_REASONS: Final = (
    Reason.INVALID_AMOUNT,
    Reason.UNKNOWN_CURRENCY,
    Reason.UNKNOWN_PAYEE,
    Reason.AMBIGUOUS_PAYEE,
    Reason.PAYEE_IS_SELF,
    Reason.PAYEE_GONE,
    Reason.MOVED_RECENTLY,
    Reason.HANDLE_FROZEN,
    Reason.BAD_RECORD,
    Reason.NO_LINK,
    Reason.LINK_HALTED,
    Reason.PEER_UNREACHABLE,
)

_Deed = Callable[[Cursor, Acct, Payment, int], Payment | Refused]


class PaymentsApi:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        orders: Orders,
        writer: PaymentsWriter,
        rooms: Rooms,
        checks: Checks,
        clearing: Wakes,
        passkeys: Passkeys,
    ) -> None:
        self._passkeys = passkeys
        self._runtime = runtime
        self._payments = payments
        self._orders = orders
        self._writer = writer
        self._rooms = rooms
        self._checks = checks
        self._clearing = clearing
        self._assets = runtime.config.payments.by_code()

    def routes(self) -> Sequence[Route]:
        answers = (Reason.UNKNOWN_PAYMENT, Reason.CONFLICT, Reason.ALREADY_DECIDED, Reason.EXPIRED)
        return (
            Route(
                method="GET",
                path="wallet",
                sessions=Sessions.READ,
                handler=self._wallet,
                response=bodies.Wallet,
                summary="What you have, in every currency that this homeserver knows",
            ),
            Route(
                method="POST",
                path="payments",
                handler=_counted(self._pay),
                response=bodies.PaymentAnswer,
                summary="Pay somebody; the same order again gives the payment as it now is",
                body=bodies.PayBody,
                reasons=_ORDER_REASONS,
            ),
            Route(
                method="POST",
                path="payments/quote",
                sessions=Sessions.READ,
                handler=_counted(self._quote),
                response=bodies.QuoteJson,
                summary="What a payment would cost now, fee and all; nothing is paid",
                body=bodies.QuoteBody,
                reasons=_QUOTE_REASONS,
            ),
            Route(
                method="POST",
                path="payments/challenge",
                handler=_counted(self._challenge),
                response=bodies.ChallengeJson,
                summary="Ask for something that a passkey signs to confirm just this payment",
                body=bodies.ChallengeBody,
                reasons=(*_QUOTE_REASONS, Reason.PIN_NOT_SET, Reason.PASSKEY_REFUSED),
            ),
            Route(
                method="GET",
                path="payments",
                sessions=Sessions.READ,
                handler=self._page,
                response=bodies.PaymentsPage,
                summary="Your payments in both directions, newest first",
                query=bodies.PageQuery,
            ),
            Route(
                method="GET",
                path="payments/{payment_id}",
                sessions=Sessions.READ,
                handler=self._payment,
                response=bodies.PaymentJson,
                summary="One payment; if it was paid to you, name its payer",
                query=bodies.PayerQuery,
                reasons=(Reason.UNKNOWN_PAYMENT, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="payments/{payment_id}/accept",
                handler=_counted(self._accept),
                response=bodies.PaymentJson,
                summary="Take a payment that waits for your answer",
                query=bodies.PayerQuery,
                reasons=(
                    *answers,
                    Reason.PAYMENTS_HALTED,
                    Reason.ACCOUNT_FROZEN,
                    Reason.CREDIT_LIMIT,
                    Reason.NO_LINK,
                    Reason.LINK_HALTED,
                ),
            ),
            Route(
                method="POST",
                path="payments/{payment_id}/decline",
                handler=_counted(self._decline),
                response=bodies.PaymentJson,
                summary="Refuse a payment that waits for your answer; the money goes back",
                query=bodies.PayerQuery,
                reasons=(*answers, Reason.NO_LINK, Reason.LINK_HALTED),
            ),
            Route(
                method="POST",
                path="payments/{payment_id}/cancel",
                handler=_counted(self._cancel),
                response=bodies.PaymentJson,
                summary="Take back a payment of yours that is not yet committed",
                reasons=(Reason.UNKNOWN_PAYMENT, Reason.ALREADY_DECIDED, Reason.LINK_HALTED),
            ),
            Route(
                method="POST",
                path="payments/{payment_id}/refund",
                handler=_counted(self._refund),
                response=bodies.PaymentJson,
                summary="Give a payment back, in part or whole, as a payment of its own",
                body=bodies.RefundBody,
                query=bodies.PayerQuery,
                reasons=(*_ORDER_REASONS, Reason.UNKNOWN_PAYMENT, Reason.REFUND_EXCEEDS_PAYMENT),
            ),
            Route(
                method="POST",
                path="admin/issue",
                handler=_counted(self._issue),
                response=bodies.IssuedJson,
                summary="Issue money to a person; the same reference again changes nothing",
                auth=Auth.ADMIN,
                body=bodies.IssueBody,
                reasons=(
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.UNKNOWN_PAYEE,
                    Reason.LIMIT_EXCEEDED,
                    Reason.CONFLICT,
                    Reason.ENTRY_ARCHIVED,
                ),
            ),
            Route(
                method="GET",
                path="admin/invariants",
                handler=self._invariants,
                response=bodies.InvariantsJson,
                summary="Whether the books are right, and what is broken if not",
                auth=Auth.ADMIN,
            ),
        )

    async def _wallet(self, call: Call) -> bodies.Wallet:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        codes = tuple(self._assets)
        balances, scales, freeze, lying = await self._runtime.database.run(
            "wallet",
            lambda cur: (
                ledger.wallet(cur, acct),
                operators.scales(cur),
                operators.freeze_of(cur, acct),
                ledger.balances(cur, [aside(acct, code) for code in codes]),
            ),
        )
        aside_minor = dict(zip(codes, lying, strict=True))
        # What is booked counts, also where the config says something else: payments are halted then.
        scales = {code: asset.scale for code, asset in self._assets.items()} | scales
        by_code = {balance.currency: balance for balance in balances}
        accounts: list[bodies.WalletAccount] = []
        for code in sorted({*self._assets, *by_code}):
            # An asset that the operator has taken out of the config keeps its money and is still shown.
            balance = by_code.get(code)
            accounts.append(
                bodies.WalletAccount(
                    currency=code,
                    scale=scales[code],
                    available=0 if balance is None else balance.available_minor,
                    held=0 if balance is None else balance.held_minor,
                    aside=aside_minor.get(code) or None,
                )
            )
        return bodies.Wallet(accounts=accounts, frozen_since=freeze.since_ms)

    async def _pay(self, call: Call) -> bodies.PaymentAnswer | Refused:
        body: bodies.PayBody = call.body
        room_id = None if body.room_id is None else RoomId(body.room_id)
        payment = await self._orders.pay(
            call.user_id, body.content(), room_id, body.pin, passkey=body.passkey, fee_minor=body.fee
        )
        return payment if isinstance(payment, Refused) else bodies.PaymentAnswer.of(payment)

    async def _quote(self, call: Call) -> bodies.QuoteJson | Refused:
        body: bodies.QuoteBody = call.body
        order = await self._orders.resolve(call.user_id, body.content())
        if isinstance(order, Refused):
            return order
        fee_minor = self._payments.fee_minor(order)
        return bodies.QuoteJson(
            payee=order.payee.handle or order.payee.user_id,
            payee_user_id=order.payee.user_id,
            amount=order.money.amount_minor,
            fee=fee_minor,
            total=order.money.amount_minor + fee_minor,
            currency=order.money.currency,
        )

    async def _challenge(self, call: Call) -> bodies.ChallengeJson | Refused:
        body: bodies.ChallengeBody = call.body
        payee: UserId | None = None
        if body.payee is None:
            money = check_money(body.amount, body.currency, self._assets)
            if isinstance(money, Refused):
                return money
        else:
            wanted = bodies.QuoteBody(payee=body.payee, amount=body.amount, currency=body.currency)
            order = await self._orders.resolve(call.user_id, wanted.content())
            if isinstance(order, Refused):
                return order
            payee, money = order.payee.user_id, order.money
        acct = await self._runtime.accounts.acct_of(call.user_id)
        options = await self._passkeys.ask(acct, about_payment(payee, money, body.fee))
        return options if isinstance(options, Refused) else bodies.ChallengeJson(public_key=options)

    async def _page(self, call: Call) -> bodies.PaymentsPage | Refused:
        query: bodies.PageQuery = call.query
        before = query.before()
        if isinstance(before, Refused):
            return before
        acct = await self._runtime.accounts.acct_of(call.user_id)
        page = await self._runtime.database.run(
            "payments_page", lambda cur: self._payments.page(cur, acct, before, query.limit)
        )
        return bodies.PaymentsPage(
            payments=[bodies.PaymentJson.of(payment, call.user_id) for payment in page.payments],
            next=bodies.page_token(page.payments[-1]) if page.more else None,
        )

    async def _payment(self, call: Call) -> bodies.PaymentJson | Refused:
        found = await self._find(call, received_only=False)
        return found if isinstance(found, Refused) else bodies.PaymentJson.of(found, call.user_id)

    async def _accept(self, call: Call) -> bodies.PaymentJson | Refused:
        return await self._answer(call, self._payments.accept)

    async def _decline(self, call: Call) -> bodies.PaymentJson | Refused:
        return await self._answer(
            call, lambda cur, _payee, payment, now_ms: self._payments.decline(cur, payment, now_ms)
        )

    async def _answer(self, call: Call, deed: _Deed) -> bodies.PaymentJson | Refused:
        """The payee answers; what comes of it is awaited for a moment."""
        payment_id = parse_payment_id(call.path["payment_id"])
        if isinstance(payment_id, Refused):
            return payment_id
        acct = await self._runtime.accounts.acct_of(call.user_id)
        payer = call.query.payer
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> Payment | Refused:
            found = self._payments.find_received(cur, acct, payment_id, self._payer_key(cur, payer))
            return found if isinstance(found, Refused) else deed(cur, acct, found, now_ms)

        answered = await self._writer.run("payment_answer", work)
        if isinstance(answered, Refused):
            return answered
        if not answered.is_local:
            self._clearing.wake()
        if answered.answered and not answered.state.final:
            answered = await self._orders.wait(answered.key, is_settled)
        return bodies.PaymentJson.of(answered, call.user_id)

    async def _cancel(self, call: Call) -> bodies.PaymentJson | Refused:
        payment_id = parse_payment_id(call.path["payment_id"])
        if isinstance(payment_id, Refused):
            return payment_id
        acct = await self._runtime.accounts.acct_of(call.user_id)
        now_ms = self._runtime.now_ms()
        cancelled = await self._writer.run(
            "payment_cancel", lambda cur: self._payments.cancel(cur, acct, payment_id, now_ms)
        )
        if isinstance(cancelled, Refused):
            return cancelled
        if not cancelled.is_local:
            self._clearing.wake()
        return bodies.PaymentJson.of(cancelled, call.user_id)

    async def _refund(self, call: Call) -> bodies.PaymentJson | Refused:
        body: bodies.RefundBody = call.body
        original = await self._find(call, received_only=True)
        if isinstance(original, Refused):
            return original
        refund_id = parse_payment_id(body.payment_id)
        if isinstance(refund_id, Refused):
            return refund_id
        money = await self._refund_money(call.user_id, refund_id, original, body)
        if isinstance(money, Refused):
            return money
        content = PaymentContent(
            payment_id=refund_id,
            payee=original.payer,
            amount=money.amount_minor,
            currency=money.currency,
            refund_of=original.payment_id,
        )
        refund = await self._orders.pay(call.user_id, content, await self._refund_room(call.user_id, original))
        return refund if isinstance(refund, Refused) else bodies.PaymentJson.of(refund, call.user_id)

    async def _refund_money(
        self, payee: UserId, refund_id: PaymentId, original: Payment, body: bodies.RefundBody
    ) -> Money | Refused:
        if body.amount is not None:
            return check_money(body.amount, original.money.currency, self._assets)
        acct = await self._runtime.accounts.acct_of(payee)
        existing = await self._orders.find(PaymentKey(payer_key=PayerKey(acct), payment_id=refund_id))
        if existing is not None and existing.refund_of == original.payment_id:
            # The same call again: what was left then, and not what is left now.
            return existing.money
        return await self._runtime.database.run("refund_left", lambda cur: self._payments.refund_left(cur, original))

    async def _refund_room(self, payee: UserId, original: Payment) -> RoomId | None:
        """The room of the payment, where both are still there; else their direct room."""
        if original.room_id is None:
            return None
        view = await self._rooms.look(original.room_id, payee, original.payer)
        return original.room_id if view.payer == view.payee == "join" else None

    async def _issue(self, call: Call) -> bodies.IssuedJson | Refused:
        body: bodies.IssueBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        if isinstance(money, Refused):
            return money
        if not is_text(body.reference):
            return Refused(reason=Reason.INVALID_VALUE, message="reference contains a NUL character; remove it.")
        api = self._runtime.api
        user_id = parse_user_id(body.user_id)
        if user_id is None or not api.is_mine(user_id) or await api.check_user_exists(user_id) is None:
            return Refused(
                reason=Reason.UNKNOWN_PAYEE,
                message=f"{body.user_id[:255]!r} is no account of this homeserver; money is issued to its own people.",
            )
        acct = await self._runtime.accounts.acct_of(user_id)
        now_ms = self._runtime.now_ms()
        issued = await self._writer.run(
            "issue",
            lambda cur: ledger.issue(cur, acct, money, reference=body.reference, operator=call.user_id, now_ms=now_ms),
        )
        return issued if isinstance(issued, Refused) else bodies.IssuedJson.of(issued, user_id)

    async def _invariants(self, call: Call) -> bodies.InvariantsJson:
        findings = await self._checks.look()
        broken = [bodies.ViolationJson.of(violation) for violation in findings.violations]
        return bodies.InvariantsJson(ok=not broken, checked=findings.checked, broken=broken or None)

    async def _find(self, call: Call, *, received_only: bool) -> Payment | Refused:
        payment_id = parse_payment_id(call.path["payment_id"])
        if isinstance(payment_id, Refused):
            return payment_id
        acct = await self._runtime.accounts.acct_of(call.user_id)
        find = self._payments.find_received if received_only else self._payments.find
        return await self._runtime.database.run(
            "payment_find", lambda cur: find(cur, acct, payment_id, self._payer_key(cur, call.query.payer))
        )

    def _payer_key(self, cur: Cursor, payer: str | None) -> PayerKey | None:
        if payer is None:
            return None
        user_id = parse_user_id(payer)
        # What is no user id has paid nobody.
        return PayerKey("") if user_id is None else payer_key_of(cur, self._runtime.server_name, user_id)


def _counted(handler: Handler) -> Handler:
    """``handler``, its refusals counted."""
    return partial(_count, handler)


async def _count(handler: Callable[[Call], Awaitable[BaseModel | Refused]], call: Call) -> BaseModel | Refused:
    answer = await handler(call)
    return metrics.count(answer) if isinstance(answer, Refused) else answer
