"""Deposits of strangers in the homeserver: invitations, routes, other homeservers, and time.

Who has no deposit down cannot invite, and without an invitation there is no room in which to write or to ring. It costs
an ordinary message nothing, since only invitations are looked at. A local inviter gets the refusal with the amount as
the answer; one of another homeserver is turned away by the code that every homeserver knows, with the amount beside it,
and is asked for it beforehand by their own homeserver, if that runs us too. Fails open: what cannot be asked lets the
invitation through.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from prometheus_client import Counter
from synapse.module_api import NOT_SPAM
from synapse.module_api.errors import Codes

from super_app.accounts import store as accounts
from super_app.calls import store as calls
from super_app.calls.model import Direction, State
from super_app.clearing.ports import Party
from super_app.db import Cursor
from super_app.deposits import rules, store
from super_app.deposits.model import INVOICE_PREFIX, Cue, Deposit, DepositKey, DepositState, Terms
from super_app.deposits.service import Deposits
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, RoomId, ServerName, UserId, localpart_of, parse_user_id, server_of
from super_app.ledger.lease import NotTheWriter
from super_app.money import Money, check_money
from super_app.names import DEPOSITS_PATH, AccountDataType
from super_app.payments.model import Order, Payment, Salts
from super_app.payments.service import Payments
from super_app.safeguards.passkeys import about_payment
from super_app.safeguards.service import Safeguards
from synapse_super_app.calls.screening import thawed
from synapse_super_app.deposits import bodies
from synapse_super_app.http.at_once import AtOnce
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.payments import metrics
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.residents import Residents
from synapse_super_app.people import People
from synapse_super_app.private_api import PutFailed
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.pins import Pins

logger = logging.getLogger(__name__)

InviteVerdict = Literal["NOT_SPAM"] | Codes | tuple[Codes, dict[str, Any]]

_SERVLET_GROUP: Final = "superapp_deposits"
_FIELD: Final = "org.superapp.deposit"
_SALT_BYTES: Final = 16
_TICK_MS: Final = 1_000.0
_LOOK_MS: Final = 15_000
_RELOAD_MS: Final = 30_000
_PAGE: Final = 100
_LOOKED_AT: Final = 100
_TERMS_AGE_MS: Final = 60_000
_TERMS_MAX: Final = 10_000
_MAX_AGE_MS: Final = 300_000
_INVITE_PATIENCE_MS: Final = 1_000
_ASK_TIMEOUT_MS: Final = 5_000
_MAX_UNDER_WAY: Final = 100
_CALLS: Final = 10
_FIRST: Final = (-1, "")

_decided_total = Counter("superapp_deposits_decided_total", "Deposits that were decided, by cue.", ["cue"])
_asked_total = Counter("superapp_deposits_asked_total", "Invitations that a deposit was asked for.", ["side"])


class Sends(Protocol):
    """Clearing, as far as deposits need it."""

    async def run_and_send(
        self, name: Any, work: Callable[[Cursor], Any], peer_of: Callable[[Any], ServerName | None]
    ) -> Any: ...


class DepositsShell:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        safeguards: Safeguards,
        residents: Residents,
        writer: PaymentsWriter,
        people: People,
        clearing: Sends,
        pins: Pins,
    ) -> None:
        self._runtime = runtime
        self._residents = residents
        self._writer = writer
        self._people = people
        self._clearing = clearing
        self._pins = pins
        self._has_calls = False
        self._assets = runtime.config.payments.by_code()
        self.deposits = Deposits(server_name=runtime.server_name, payments=payments, guards=safeguards)
        payments.pay_out_of(self.deposits)
        self._known: OrderedDict[tuple[UserId, UserId], tuple[int, Money | None]] = OrderedDict()
        self._at_once = AtOnce(_MAX_UNDER_WAY)
        self._on = False
        self._busy = False
        self._next_ms = 0
        self._after = _FIRST
        runtime.private.answer_put(_SERVLET_GROUP, DEPOSITS_PATH, self._put)
        runtime.api.register_spam_checker_callbacks(user_may_invite=self.may_invite)

    def follow_calls(self) -> None:
        """There are records of calls: one that was taken is an answer."""
        self._has_calls = True

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        api = self._runtime.api
        api.looping_background_call(self._tick, _TICK_MS, desc="superapp_deposits", run_on_all_instances=True)

    async def begin(self, epoch: int) -> None:
        """This process writes: whatever is due is found now."""
        self._next_ms = 0
        self._on = True

    def end(self) -> None:
        self._on = False

    def routes(self) -> Sequence[Route]:
        who = (
            Reason.UNKNOWN_HANDLE,
            Reason.AMBIGUOUS_PAYEE,
            Reason.HANDLE_FROZEN,
            Reason.BAD_RECORD,
            Reason.PEER_UNREACHABLE,
            Reason.TOO_MANY_REQUESTS,
        )
        decided = (Reason.UNKNOWN_DEPOSIT, Reason.ALREADY_DECIDED)
        return (
            Route(
                method="POST",
                path="deposits",
                handler=self._put_down,
                response=bodies.PutDownJson,
                summary="Put down what somebody asks of strangers; the same again changes nothing",
                body=bodies.PutDownBody,
                reasons=(
                    *who,
                    Reason.PRICE_CHANGED,
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.CONFLICT,
                    Reason.INSUFFICIENT_FUNDS,
                    Reason.LIMIT_EXCEEDED,
                    Reason.NO_LINK,
                    Reason.LINK_HALTED,
                    Reason.WALLET_LOCKED,
                    Reason.ACCOUNT_FROZEN,
                    Reason.PAYEE_LIMIT,
                    Reason.PIN_NOT_SET,
                    Reason.PIN_REQUIRED,
                    Reason.PIN_WRONG,
                    Reason.PIN_LOCKED,
                    Reason.PASSKEY_REFUSED,
                    Reason.PAYMENTS_HALTED,
                ),
            ),
            Route(
                method="GET",
                path="deposits",
                sessions=Sessions.READ,
                handler=self._all,
                response=bodies.DepositsJson,
                summary="What strangers have put down for you, newest first",
            ),
            Route(
                method="POST",
                path="deposits/{deposit_id}/accept",
                handler=self._deciding("accept", Cue.ACCEPT),
                response=bodies.DepositJson,
                summary="Give a deposit back without answering first",
                query=bodies.PayerQuery,
                reasons=decided,
            ),
            Route(
                method="POST",
                path="deposits/{deposit_id}/spam",
                handler=self._deciding("spam", Cue.SPAM),
                response=bodies.DepositJson,
                summary="Keep the deposit of somebody who sent you spam, or let it go where you have said",
                query=bodies.PayerQuery,
                reasons=decided,
            ),
            Route(
                method="GET",
                path="deposit_terms/{recipient}",
                handler=self._asked_by,
                response=bodies.AskedJson,
                summary="What somebody asks you to put down before you write to them or ring them",
                reasons=who,
            ),
            Route(
                method="GET",
                path="deposit_policy",
                sessions=Sessions.READ,
                handler=self._policy,
                response=bodies.PolicyJson,
                summary="What you ask strangers to put down",
            ),
            Route(
                method="PUT",
                path="deposit_policy",
                handler=self._set_policy,
                response=bodies.PolicyJson,
                summary="Ask strangers to put something down before they write to you or ring you",
                body=bodies.PolicyBody,
                reasons=(Reason.INVALID_AMOUNT, Reason.UNKNOWN_CURRENCY, Reason.INVALID_VALUE),
            ),
            Route(
                method="DELETE",
                path="deposit_policy",
                handler=self._drop_policy,
                response=bodies.PolicyJson,
                summary="Ask strangers for nothing any more; what lies here still goes back in time",
            ),
        )

    # Invitations.

    async def may_invite(self, inviter: str, invitee: str, room_id: str) -> InviteVerdict:
        """Also asked for invitations of other homeservers, whose senders never get an error of ours."""
        stranger, recipient = UserId(inviter), UserId(invitee)
        is_local = self._runtime.api.is_mine(inviter)
        try:
            if self._runtime.api.is_mine(invitee):
                money = await self._asks(recipient, stranger)
            else:
                money = await self._asked_elsewhere(recipient, stranger) if is_local else None
        except Exception:
            logger.exception("Could not ask what %s wants of strangers; the invitation goes on", invitee)
            return NOT_SPAM
        if money is None:
            return NOT_SPAM
        _asked_total.labels("local" if is_local else "remote").inc()
        if is_local:
            raise error_of(metrics.count(rules.required(recipient, money)))
        return Codes.FORBIDDEN, {_FIELD: _money_json(money)}

    async def _asks(self, recipient: UserId, stranger: UserId) -> Money | None:
        """What one of ours asks of somebody now; None if they are no stranger, or have put it down."""
        terms = await self._terms(recipient)
        if terms is None or recipient == stranger or not self._runtime.rollout.includes(recipient):
            return None
        if self._runtime.api.is_mine(stranger) and localpart_of(stranger) == self._runtime.config.assistant.localpart:
            return None
        acct = await self._runtime.accounts.acct_of(recipient)

        def known(cur: Cursor) -> bool:
            if accounts.contact_of(cur, acct, stranger) is not None or self.deposits.admits(cur, acct, stranger):
                return True
            if terms.shared_rooms and self._residents.share_a_room(cur, recipient, stranger):
                return True
            return any(room.only_two for room in self._runtime.private.common_rooms(cur, recipient, stranger))

        return None if await self._runtime.database.run("deposit_known", known) else terms.deposit

    async def _terms(self, user_id: UserId) -> Terms | None:
        content = await self._runtime.private.account_data_of(user_id, AccountDataType.ATTENTION_POLICY)
        return rules.read_policy(thawed(content), self._assets)

    async def _asked_elsewhere(self, recipient: UserId, stranger: UserId) -> Money | None:
        now_ms = self._runtime.now_ms()
        known = self._known.get((recipient, stranger))
        if known is not None and now_ms - known[0] < _TERMS_AGE_MS:
            return known[1]
        found = await self._ask_terms(recipient, stranger, _INVITE_PATIENCE_MS)
        money = None if isinstance(found, Refused) else found
        self._known[(recipient, stranger)] = (now_ms, money)
        while len(self._known) > _TERMS_MAX:
            self._known.popitem(last=False)
        return money

    # The stranger.

    async def _asked_by(self, call: Call) -> bodies.AskedJson | Refused:
        recipient = await self._resolve(call, call.path["recipient"])
        if isinstance(recipient, Refused):
            return recipient
        money = await self._asked_now(recipient, call.user_id)
        if isinstance(money, Refused):
            return money
        return bodies.AskedJson(recipient=recipient, **({} if money is None else _money_json(money)))

    async def _asked_now(self, recipient: UserId, stranger: UserId) -> Money | Refused | None:
        if self._runtime.api.is_mine(recipient):
            return await self._asks(recipient, stranger)
        found = await self._ask_terms(recipient, stranger, _ASK_TIMEOUT_MS)
        if not isinstance(found, Refused):
            self._known[(recipient, stranger)] = (self._runtime.now_ms(), found)
        return found

    async def _put_down(self, call: Call) -> bodies.PutDownJson | Refused:
        body: bodies.PutDownBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        if isinstance(money, Refused):
            return metrics.count(money)
        recipient = await self._resolve(call, body.recipient)
        if isinstance(recipient, Refused):
            return recipient
        deposit_id = PaymentId(body.deposit_id)
        refused = await self._announce(recipient, call.user_id, deposit_id, money)
        if refused is not None:
            return metrics.count(refused)
        is_here = self._runtime.api.is_mine(recipient)
        order = Order(
            payment_id=deposit_id,
            payer_acct=await self._runtime.accounts.acct_of(call.user_id),
            payer=call.user_id,
            payee=Party(
                user_id=recipient,
                acct=await self._runtime.accounts.acct_of(recipient) if is_here else "",
                handle=None,
            ),
            money=money,
            invoice=f"{INVOICE_PREFIX}{deposit_id}",
        )
        paid = await self._pay(order, proven=False)
        if isinstance(paid, Refused) and paid.reason is Reason.PIN_REQUIRED and (body.pin or body.passkey):
            unproven = await self._pins.confirm(
                order.payer_acct, pin=body.pin, passkey=body.passkey, about=about_payment(recipient, money, 0)
            )
            paid = unproven or await self._pay(order, proven=True)
        self._known.pop((recipient, call.user_id), None)
        if isinstance(paid, Refused):
            return metrics.count(paid)
        return bodies.PutDownJson(
            deposit_id=deposit_id,
            recipient=recipient,
            amount=money.amount_minor,
            currency=money.currency,
            state=paid.state.value,
        )

    async def _pay(self, order: Order, *, proven: bool) -> Payment | Refused:
        salts, now_ms = _fresh_salts(), self._runtime.now_ms()

        def work(cur: Cursor) -> Payment | Refused:
            return self.deposits.put_down(cur, order, salts, now_ms, proven=proven)

        def peer_of(paid: Payment | Refused) -> ServerName | None:
            return server_of(order.payee.user_id) if isinstance(paid, Payment) and paid.payee_acct is None else None

        found: Payment | Refused = await self._clearing.run_and_send("deposit_put_down", work, peer_of)
        return found

    async def _announce(
        self, recipient: UserId, stranger: UserId, deposit_id: PaymentId, money: Money
    ) -> Refused | None:
        """Let the recipient's homeserver know that this payment is a deposit; its no if it asks something else."""
        if self._runtime.api.is_mine(recipient):
            return await self._expect(recipient, stranger, deposit_id, money)
        fields = {"deposit_id": deposit_id, **_money_json(money)}
        answer = await self._ask("expect", recipient, stranger, fields, _ASK_TIMEOUT_MS)
        if isinstance(answer, Refused):
            return answer
        if answer.get("expected") is True:
            return None
        asked = self._read_money(answer, recipient)
        return asked if isinstance(asked, Refused) else rules.changed(recipient, asked)

    async def _resolve(self, call: Call, who: str) -> UserId | Refused:
        name = who.removeprefix("@")
        full = f"@{name}" if ":" in name else f"@{name}:{self._runtime.server_name}"
        person = await self._people.resolve(full, asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        return person if isinstance(person, Refused) else person.user_id

    # The recipient.

    async def _all(self, call: Call) -> bodies.DepositsJson:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        found = await self._runtime.database.run("deposits", lambda cur: store.of(cur, acct, _PAGE))
        return bodies.DepositsJson(deposits=[bodies.DepositJson.of(each) for each in found])

    def _deciding(self, name: str, cue: Cue) -> Callable[[Call], Awaitable[bodies.DepositJson | Refused]]:
        async def handle(call: Call) -> bodies.DepositJson | Refused:
            query: bodies.PayerQuery = call.query
            key = DepositKey(payer=UserId(query.payer), payment_id=PaymentId(call.path["deposit_id"]))
            acct = await self._runtime.accounts.acct_of(call.user_id)
            decided = await self._decide(key, acct, cue)
            if isinstance(decided, Refused):
                return metrics.count(decided)
            await self._carry_out(decided)
            found = await self._runtime.database.run("deposit_find", lambda cur: store.find(cur, key))
            return bodies.DepositJson.of(found or decided)

        handle.__name__ = f"deposit_{name}"
        return handle

    async def _decide(self, key: DepositKey, acct: Acct, cue: Cue) -> Deposit | Refused:
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> Deposit | Refused:
            return self.deposits.decide(cur, key, acct, cue, now_ms)

        decided = await self._writer.run("deposit_decide", work)
        if isinstance(decided, Deposit):
            _decided_total.labels(cue.value).inc()
        return decided

    async def _carry_out(self, deposit: Deposit) -> None:
        """Give it back, or on; what cannot be done now stays due and is tried again."""
        terms = await self._terms(deposit.recipient) if deposit.cue is Cue.SPAM else None
        to = None if terms is None else terms.spam_to
        spam_to = None
        if to is not None and to != deposit.recipient:
            acct = await self._runtime.accounts.acct_of(to) if self._runtime.api.is_mine(to) else ""
            spam_to = Party(user_id=to, acct=acct, handle=None)
        salts, now_ms = _fresh_salts(), self._runtime.now_ms()
        payee = deposit.payer if spam_to is None else spam_to.user_id

        def work(cur: Cursor) -> Deposit | None:
            return self.deposits.carry_out(cur, deposit.key, spam_to, salts, now_ms)

        def peer_of(done: Deposit | None) -> ServerName | None:
            going = done is not None and done.state is DepositState.RETURNING
            return server_of(payee) if going and not self._runtime.api.is_mine(payee) else None

        await self._clearing.run_and_send("deposit_carry_out", work, peer_of)

    async def _policy(self, call: Call) -> bodies.PolicyJson:
        terms = await self._terms(call.user_id)
        if terms is None:
            return bodies.PolicyJson()
        return bodies.PolicyJson(
            **_money_json(terms.deposit), days=terms.days, spam_to=terms.spam_to, shared_rooms=terms.shared_rooms
        )

    async def _set_policy(self, call: Call) -> bodies.PolicyJson | Refused:
        body: bodies.PolicyBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        if isinstance(money, Refused):
            return metrics.count(money)
        content: dict[str, Any] = {"v": rules.VERSION, "deposit": _money_json(money), "days": body.days}
        if body.spam_to is not None:
            to = parse_user_id(body.spam_to)
            if to is None:
                return metrics.count(
                    Refused(reason=Reason.INVALID_VALUE, message="spam_to: name a user id such as @bob:example.org.")
                )
            content["spam_to"] = to
        if body.shared_rooms:
            content["free"] = ["shared_rooms"]
        await self._write(call.user_id, content)
        return await self._policy(call)

    async def _drop_policy(self, call: Call) -> bodies.PolicyJson:
        await self._write(call.user_id, {"v": rules.VERSION})
        return bodies.PolicyJson()

    async def _write(self, user_id: UserId, content: dict[str, Any]) -> None:
        kind = AccountDataType.ATTENTION_POLICY.value
        await self._runtime.api.account_data_manager.put_global(user_id, kind, content)

    # Other homeservers.

    async def _ask_terms(self, recipient: UserId, stranger: UserId, timeout_ms: int) -> Money | Refused | None:
        answer = await self._ask("terms", recipient, stranger, {}, timeout_ms)
        return answer if isinstance(answer, Refused) else self._read_money(answer, recipient)

    def _read_money(self, answer: Mapping[str, Any], recipient: UserId) -> Money | Refused | None:
        if answer.get("amount") is None:
            return None
        money = check_money(answer.get("amount"), answer.get("currency"), self._assets)
        if isinstance(money, Refused):
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"{recipient} asks a deposit of a kind that this homeserver does not have.",
            )
        return money

    async def _ask(
        self, deed: str, recipient: UserId, stranger: UserId, fields: Mapping[str, Any], timeout_ms: int
    ) -> Mapping[str, Any] | Refused:
        body = {"payer": stranger, "recipient": recipient, **fields}
        server = server_of(recipient)
        try:
            return await self._runtime.private.put(server, f"{DEPOSITS_PATH}/{deed}", body, timeout_ms)
        except PutFailed as failure:
            if failure.status == 404 and failure.errcode == "M_UNRECOGNIZED":
                # It knows no deposits.
                return {}
            logger.info("%s could not be asked about deposits: %s", server, failure)
            return Refused(
                reason=Reason.PEER_UNREACHABLE, message=f"{server} does not answer; try again later. Nothing was paid."
            )

    async def _put(self, origin: ServerName, deed: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Another homeserver asks for one of its people."""
        with self._at_once.one_of(origin):
            answer = await self._answered(origin, deed, body)
        if isinstance(answer, Refused):
            raise error_of(metrics.count(answer))
        return answer

    async def _answered(self, origin: ServerName, deed: str, body: Mapping[str, Any]) -> dict[str, Any] | Refused:
        wanted = bodies.WantedJson.parse(dict(body))
        if isinstance(wanted, Refused):
            return wanted
        payer, recipient = parse_user_id(wanted.payer), parse_user_id(wanted.recipient)
        if payer is None or server_of(payer) != origin:
            return Refused(
                reason=Reason.WRONG_ORIGIN, message="A homeserver asks for its own people only; ask for one of yours."
            )
        # Whoever is not here asks nothing, as most people do.
        is_here = recipient is not None and self._runtime.api.is_mine(recipient)
        if recipient is None or not is_here or await self._runtime.api.check_user_exists(recipient) is None:
            return {}
        match deed:
            case "terms":
                asked = await self._asks(recipient, payer)
                return {} if asked is None else _money_json(asked)
            case "expect" if wanted.deposit_id is not None:
                money = check_money(wanted.amount, wanted.currency, self._assets)
                if isinstance(money, Refused):
                    return money
                if await self._expect(recipient, payer, PaymentId(wanted.deposit_id), money) is None:
                    return {"expected": True}
                asked = await self._asks(recipient, payer)
                return {} if asked is None else _money_json(asked)
            case _:
                return Refused(reason=Reason.INVALID_VALUE, message="Ask for terms, or expect with a deposit_id.")

    async def _expect(self, recipient: UserId, stranger: UserId, deposit_id: PaymentId, money: Money) -> Refused | None:
        key = DepositKey(payer=stranger, payment_id=deposit_id)
        known = await self._runtime.database.run("deposit_find", lambda cur: store.find(cur, key))
        if known is not None and known.recipient == recipient and known.money == money:
            return None
        asked, terms = await self._asks(recipient, stranger), await self._terms(recipient)
        if asked != money or terms is None:
            return rules.changed(recipient, asked)
        now_ms = self._runtime.now_ms()
        deposit = Deposit(
            payer=stranger,
            payment_id=deposit_id,
            acct=await self._runtime.accounts.acct_of(recipient),
            recipient=recipient,
            money=money,
            state=DepositState.EXPECTED,
            cue=None,
            made_ms=now_ms,
            until_ms=rules.until_ms(terms, now_ms),
            tries=0,
            retry_ms=None,
        )
        expected = await self._runtime.database.run("deposit_expect", lambda cur: self.deposits.expect(cur, deposit))
        self._next_ms = 0
        if expected.recipient != recipient or expected.money != money:
            return Refused(
                reason=Reason.CONFLICT, message=f"{deposit_id} is the id of another deposit; make a new one."
            )
        return None

    # Time, and answers.

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if not self._on or self._busy or now_ms < self._next_ms:
            return
        self._busy = True
        try:
            after = self._after
            live = await self._runtime.database.run("deposits_live", lambda cur: store.live(cur, after, _LOOKED_AT))
            if len(live) == _LOOKED_AT:
                # The others a moment later, so that many deposits keep nobody else waiting.
                self._after, self._next_ms = (live[-1].made_ms, live[-1].payment_id), now_ms
            else:
                # Without any, one that is announced to another process is heard of a while later.
                self._next_ms = now_ms + (_LOOK_MS if live or after != _FIRST else _RELOAD_MS)
                self._after = _FIRST
            for deposit in live:
                try:
                    await self._look_at(deposit, now_ms)
                except NotTheWriter:
                    return
                except Exception:
                    # It is looked at again; the others' money does not wait for it.
                    logger.exception("Deposit %s could not be looked at", deposit.payment_id)
        finally:
            self._busy = False

    async def _look_at(self, deposit: Deposit, now_ms: int) -> None:
        match deposit.state:
            case DepositState.EXPECTED:
                await self._writer.run("deposit_lapse", lambda cur: self.deposits.lapse(cur, deposit.key, now_ms))
                return
            case DepositState.OPEN if now_ms >= deposit.until_ms:
                decided = await self._decide(deposit.key, deposit.acct, Cue.TIME)
            case DepositState.OPEN:
                if not await self._has_answered(deposit):
                    return
                decided = await self._decide(deposit.key, deposit.acct, Cue.ANSWER)
            case _:
                decided = deposit
        if isinstance(decided, Deposit):
            await self._carry_out(decided)

    async def _has_answered(self, deposit: Deposit) -> bool:
        """Whether the recipient has said a word in a room of the two, or taken a call, since it was put down."""

        def look(cur: Cursor) -> tuple[tuple[RoomId, ...], bool]:
            rooms = self._runtime.private.common_rooms(cur, deposit.recipient, deposit.payer)
            talked = False
            if self._has_calls:
                rang = calls.with_peer(cur, deposit.acct, deposit.payer, Direction.INCOMING, deposit.made_ms, _CALLS)
                entries = [calls.of_person(cur, deposit.acct, session_id) for session_id in rang]
                talked = any(
                    each is not None and each.record.state in (State.ANSWERED, State.ENDED) for each in entries
                )
            return tuple(room.room_id for room in rooms if room.only_two), talked

        rooms, talked = await self._runtime.database.run("deposit_answered", look)
        if talked:
            return True
        for room_id in rooms:
            if await self._runtime.private.has_spoken(room_id, deposit.recipient):
                return True
        return False


def _money_json(money: Money) -> dict[str, Any]:
    return {"amount": money.amount_minor, "currency": money.currency}


def _fresh_salts() -> Salts:
    wire, payer, payee, memo, room = (secrets.token_hex(_SALT_BYTES) for _ in range(5))
    return Salts(wire=wire, parties=(payer, payee, memo), room=room)
