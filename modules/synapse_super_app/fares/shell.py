"""Calls by the minute in the homeserver: what a ring costs, the meter, and what homeservers say to each other of it.

The callee's homeserver says the price, since it has the policy; it is asked over federation, authenticated by
X-Matrix, so that each homeserver asks for its own people only. The caller's homeserver has the meter, which the process
that writes the ledger reads each second. Asking fails open: a ring whose price cannot be asked goes on, and the
callee's homeserver screens it, if it costs something. Paying fails closed: nothing is charged that was not confirmed.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from prometheus_client import Counter
from pydantic import ValidationError

from super_app.calls import events
from super_app.calls import store as calls
from super_app.calls.model import CallId, HistoryEntry, Per, Price, Record, SessionId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.fares import rules, store
from super_app.fares.model import MINUTES_MAX, Fare, FareId, FareKey, FareState, Stepped, Terms, TermsState
from super_app.fares.service import Fares, Note
from super_app.ids import Acct, RoomId, ServerName, UserId, parse_user_id, server_of
from super_app.ledger.lease import NotTheWriter
from super_app.money import AssetCode, Money, check_money
from super_app.names import FARES_PATH, AccountDataType
from super_app.payments import store as payment_store
from super_app.payments.model import Salts
from super_app.payments.service import Payments
from super_app.safeguards.passkeys import about_payment
from super_app.safeguards.service import Safeguards
from synapse_super_app.calls.own_policy import OwnPolicy
from synapse_super_app.calls.screening import thawed
from synapse_super_app.fares import bodies
from synapse_super_app.fares.asking import Asking
from synapse_super_app.fares.visits import CallLinks, Entrances, ShowOut, Visits
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

_SERVLET_GROUP: Final = "superapp_fares"
_SALT_BYTES: Final = 16
_TICK_MS: Final = 1_000.0
_FORGET_MS: Final = 3_600_000.0
_TERMS_KEPT_MS: Final = 90 * 86_400_000
_PAGE: Final = 100
_CALLS_MAX: Final = 10_000
"""How many calls by the minute are looked after at once."""
_RELOAD_MS: Final = 30_000
_FREE_AGE_MS: Final = 60_000
"""How long it is believed at the gate that ringing somebody elsewhere costs nothing."""
_PRICE_AGE_MS: Final = 5_000
"""And that it costs something: a ring is refused for it, and meanwhile they may have taken the price back."""
_PRICES_MAX: Final = 10_000
_MAX_AGE_MS: Final = 300_000
_RING_PATIENCE_MS: Final = 1_000
_ASK_TIMEOUT_MS: Final = 5_000
_HANG_UP_AGAIN_MS: Final = 5_000
_MAX_UNDER_WAY: Final = 100
"""Requests of one origin at a time."""

_ended_total = Counter("superapp_paid_calls_ended_total", "Calls by the minute that are over, by reason.", ["reason"])
_hung_up_total = Counter("superapp_paid_calls_hung_up_total", "Calls that were ended for money, by side.", ["side"])
_SETTLED_REASONS: Final = ("used_up", "expired", "cancelled", "declined", "missed", "busy", "failed", "screened")


class Prices(Protocol):
    """What fares ask of calls: the price that a person's policy asks of a caller now, None if it asks none."""

    async def price_for(self, user_id: UserId, caller: UserId) -> Price | None: ...


class Sends(Protocol):
    """Clearing, as far as fares need it."""

    async def run_and_send(
        self, name: Any, work: Callable[[Cursor], Any], peer_of: Callable[[Any], ServerName | None]
    ) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A call that is about to end for money, for whoever tells people."""

    fare: Fare
    left_ms: int


class FaresShell:
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
        prices: Prices,
        show_out: ShowOut,
        links: CallLinks,
        entrance: Entrances,
    ) -> None:
        self._runtime = runtime
        self._writer = writer
        self._people = people
        self._clearing = clearing
        self._pins = pins
        self._prices = prices
        self._show_out = show_out
        self._policy = OwnPolicy(runtime)
        self._assets = runtime.config.payments.by_code()
        self.fares = Fares(
            server_name=runtime.server_name,
            payments=payments,
            guards=safeguards,
            is_halted=residents.payments_are_halted,
        )
        self.visits = Visits(
            runtime=runtime,
            fares=self.fares,
            assets=self._assets,
            links=links,
            entrance=entrance,
            show_out=show_out,
        )
        payments.pay_out_of(self.fares)
        safeguards.count_aside(self.fares.aside_minor)
        self._known: OrderedDict[tuple[UserId, UserId], tuple[int, Money | None]] = OrderedDict()
        self._at_once = AtOnce(_MAX_UNDER_WAY)
        self._asking = Asking(runtime, self._ask_how_long)
        self._hung_up: dict[SessionId, int] = {}
        self._listeners: list[Callable[[Ending], Awaitable[None]]] = []
        self._noted: list[Callable[[], None]] = []
        self._on = False
        self._busy = False
        self._reload_ms = 0
        runtime.private.answer_put(_SERVLET_GROUP, FARES_PATH, self._put)

    def while_changing(self, note: Note, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction that changes the state of a fare, ``noted`` when one has committed."""
        self.fares.while_changing(note)
        self._noted.append(noted)

    def when_ending(self, listener: Callable[[Ending], Awaitable[None]]) -> None:
        """Call ``listener`` with calls whose money is nearly used up, in the process that writes."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        api = self._runtime.api
        api.looping_background_call(self._tick, _TICK_MS, desc="superapp_fares", run_on_all_instances=True)
        api.looping_background_call(self._forget, _FORGET_MS, desc="superapp_fares_forget", run_on_all_instances=True)

    async def begin(self, epoch: int) -> None:
        """This process writes: whatever is due is found now."""
        self._reload_ms = 0
        self._on = True

    def end(self) -> None:
        self._on = False

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="paid_calls",
                handler=self._confirm,
                response=bodies.PaidCallJson,
                summary="Confirm the price of a call, for your next ring or visit; the same again changes nothing",
                body=bodies.PaidCallBody,
                reasons=(
                    Reason.PRICE_CHANGED,
                    Reason.UNKNOWN_CALL_LINK,
                    Reason.CALL_CLOSED,
                    Reason.UNKNOWN_HANDLE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.HANDLE_FROZEN,
                    Reason.BAD_RECORD,
                    Reason.PEER_UNREACHABLE,
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.CONFLICT,
                    Reason.INSUFFICIENT_FUNDS,
                    Reason.LIMIT_EXCEEDED,
                    Reason.NO_LINK,
                    Reason.LINK_HALTED,
                    Reason.WALLET_LOCKED,
                    Reason.ACCOUNT_FROZEN,
                    Reason.PIN_NOT_SET,
                    Reason.PIN_REQUIRED,
                    Reason.PIN_WRONG,
                    Reason.PIN_LOCKED,
                    Reason.PASSKEY_REFUSED,
                    Reason.PAYMENTS_HALTED,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="GET",
                path="paid_calls",
                sessions=Sessions.READ,
                handler=self._all,
                response=bodies.PaidCallsJson,
                summary="Your calls by the minute, newest first",
            ),
            Route(
                method="GET",
                path="paid_calls/{fare_id}",
                sessions=Sessions.READ,
                handler=self._one,
                response=bodies.PaidCallJson,
                summary="One call by the minute, and what it costs so far",
                reasons=(Reason.UNKNOWN_CALL,),
            ),
            Route(
                method="POST",
                path="paid_calls/{fare_id}/cancel",
                handler=self._cancel,
                response=bodies.PaidCallJson,
                summary="Do without a call that nobody has answered yet; what was set aside comes back",
                reasons=(Reason.UNKNOWN_CALL, Reason.ALREADY_DECIDED),
            ),
            Route(
                method="GET",
                path="call_prices/{callee}",
                handler=self._price,
                response=bodies.MinutePriceJson,
                summary="What a minute of a call with somebody costs you now",
                reasons=(
                    Reason.UNKNOWN_HANDLE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.HANDLE_FROZEN,
                    Reason.BAD_RECORD,
                    Reason.PEER_UNREACHABLE,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="GET",
                path="call_price",
                sessions=Sessions.READ,
                handler=self._own_price,
                response=bodies.OwnPriceJson,
                summary="What you ask of callers whom your call policy does not let through",
            ),
            Route(
                method="PUT",
                path="call_price",
                handler=self._set_price,
                response=bodies.OwnPriceJson,
                summary="Ask so much a minute of callers whom your call policy does not let through",
                body=bodies.PriceBody,
                reasons=(Reason.INVALID_AMOUNT, Reason.UNKNOWN_CURRENCY, Reason.CONFLICT),
            ),
            Route(
                method="DELETE",
                path="call_price",
                handler=self._drop_price,
                response=bodies.OwnPriceJson,
                summary="Ask nothing of callers any more; your call policy alone says who may ring",
                reasons=(Reason.CONFLICT,),
            ),
        )

    # What calls ask: ``synapse_super_app.calls.screening.Fares``.

    async def paid_minor(self, payee: Acct, payer: UserId, currency: str, since_ms: int) -> int:
        """What a payer has paid an account of this homeserver since a time, refunds taken off."""
        return await self._runtime.database.run(
            "paid_fares", lambda cur: payment_store.paid_minor(cur, payee, payer, currency, since_ms)
        )

    async def agreed_ms(self, payee: Acct, payer: UserId, price: Price) -> int | None:
        """Since when a caller may ring, because they have agreed to pay what a minute costs; None if not."""
        now_ms, money = (
            self._runtime.now_ms(),
            Money(amount_minor=price.amount_minor, currency=AssetCode(price.currency)),
        )
        return await self._runtime.database.run(
            "fare_agreed", lambda cur: self.fares.agreed_ms(cur, payee, payer, money, now_ms)
        )

    async def judge_ring(self, caller: UserId, callee: UserId, call_id: CallId | None) -> Refused | None:
        """PRICE_NOT_CONFIRMED, if somebody of ours rings without having confirmed what it costs."""
        owner, now_ms = await self._runtime.accounts.acct_of(caller), self._runtime.now_ms()
        price = await self._price_at_gate(callee, caller, now_ms)
        if price is None or await self._runtime.database.run(
            "fare_may_ring", lambda cur: self.fares.may_ring(cur, owner, callee, call_id, now_ms)
        ):
            return None
        return metrics.count(rules.price_unconfirmed(callee, price))

    async def _price_at_gate(self, callee: UserId, caller: UserId, now_ms: int) -> Money | None:
        if self._runtime.api.is_mine(callee):
            return await self._price_here(callee, caller)
        known = self._known.get((callee, caller))
        if known is not None and now_ms - known[0] < (_FREE_AGE_MS if known[1] is None else _PRICE_AGE_MS):
            return known[1]
        found = await self._ask_price(callee, caller, _RING_PATIENCE_MS)
        # Whoever does not answer is asked again with the next ring but one: this one is not to wait for ever.
        price = None if isinstance(found, Refused) else found
        self._remember(callee, caller, price)
        return price

    def _remember(self, callee: UserId, caller: UserId, price: Money | None) -> None:
        self._known[(callee, caller)] = (self._runtime.now_ms(), price)
        self._known.move_to_end((callee, caller))
        while len(self._known) > _PRICES_MAX:
            self._known.popitem(last=False)

    # Prices.

    async def price_of(self, callee: UserId, caller: UserId) -> Money | Refused | None:
        """What a minute costs now, asked of whoever knows it."""
        if self._runtime.api.is_mine(callee):
            return await self._price_here(callee, caller)
        found = await self._ask_price(callee, caller, _ASK_TIMEOUT_MS)
        if not isinstance(found, Refused):
            self._remember(callee, caller, found)
        return found

    async def _price_here(self, callee: UserId, caller: UserId) -> Money | None:
        price = await self._prices.price_for(callee, caller)
        if price is None or price.per is not Per.MINUTE:
            return None
        money = check_money(price.amount_minor, price.currency, self._assets)
        # A currency that is no longer one here cannot be paid in, so nobody is asked for it.
        return None if isinstance(money, Refused) else money

    async def _ask_price(self, callee: UserId, caller: UserId, timeout_ms: int) -> Money | Refused | None:
        answer = await self._ask("price", callee, caller, {}, timeout_ms)
        return answer if isinstance(answer, Refused) else self._read_price(answer, callee)

    def _read_price(self, answer: Mapping[str, Any], callee: UserId) -> Money | Refused | None:
        if answer.get("amount") is None:
            return None
        money = check_money(answer.get("amount"), answer.get("currency"), self._assets)
        if isinstance(money, Refused):
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"Ringing {callee} costs money of a kind that this homeserver does not have; write to them.",
            )
        return money

    async def _price(self, call: Call) -> bodies.MinutePriceJson | Refused:
        callee = await self._resolve(call, call.path["callee"])
        if isinstance(callee, Refused):
            return callee
        price = await self.price_of(callee, call.user_id)
        if isinstance(price, Refused):
            return price
        if price is None:
            return bodies.MinutePriceJson(callee=callee)
        return bodies.MinutePriceJson(
            callee=callee,
            amount=price.amount_minor,
            currency=price.currency,
            first=rules.first_minor(price, price.amount_minor * MINUTES_MAX),
        )

    async def _resolve(self, call: Call, who: str) -> UserId | Refused:
        name = who.removeprefix("@")
        full = f"@{name}" if ":" in name else f"@{name}:{self._runtime.server_name}"
        person = await self._people.resolve(full, asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        return person if isinstance(person, Refused) else person.user_id

    async def _own_price(self, call: Call) -> bodies.OwnPriceJson:
        stored = await self._runtime.private.account_data_of(call.user_id, AccountDataType.CALL_POLICY)
        return self._price_in(thawed(stored) or {})

    @staticmethod
    def _price_in(policy: Mapping[str, Any]) -> bodies.OwnPriceJson:
        price = policy.get("price")
        if not isinstance(price, dict):
            return bodies.OwnPriceJson()
        try:
            return bodies.OwnPriceJson.model_validate({"per": "ring", **price})
        except ValidationError:
            return bodies.OwnPriceJson()

    async def _set_price(self, call: Call) -> bodies.OwnPriceJson | Refused:
        body: bodies.PriceBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        refused = money if isinstance(money, Refused) else rules.ceiling_minor(money, MINUTES_MAX)
        if isinstance(refused, Refused):
            return metrics.count(refused)
        return await self._put_price(call, {"amount": body.amount, "currency": body.currency, "per": "minute"})

    async def _drop_price(self, call: Call) -> bodies.OwnPriceJson | Refused:
        return await self._put_price(call, None)

    async def _put_price(self, call: Call, price: dict[str, Any] | None) -> bodies.OwnPriceJson | Refused:
        policy = await self._policy.change(call.user_id, {"price": price})
        return policy if isinstance(policy, Refused) else self._price_in(policy)

    # The caller.

    async def _confirm(self, call: Call) -> bodies.PaidCallJson | Refused:
        body: bodies.PaidCallBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        if isinstance(money, Refused):
            return metrics.count(money)
        owner = await self._runtime.accounts.acct_of(call.user_id)
        key = FareKey(owner=owner, fare_id=FareId(body.fare_id))
        known = await self._runtime.database.run("fare_find", lambda cur: store.find(cur, key))
        whom = await self._whom(call, body, money, known)
        if isinstance(whom, Refused):
            return metrics.count(whom)
        callee, link_id = whom
        most_minor = rules.ceiling_minor(money, body.minutes)
        if isinstance(most_minor, Refused):
            return metrics.count(most_minor)
        now_ms = self._runtime.now_ms()
        is_here = self._runtime.api.is_mine(callee)
        wanted = Fare(
            owner=owner,
            fare_id=key.fare_id,
            caller=call.user_id,
            callee=callee,
            callee_acct=await self._runtime.accounts.acct_of(callee) if is_here else "",
            price=money,
            ceiling_minor=most_minor,
            aside_minor=rules.first_minor(money, most_minor),
            paid_minor=0,
            state=FareState.AGREED,
            session_id=None,
            answer_ms=None,
            end_ms=None,
            talked_ms=None,
            parts=0,
            moves=0,
            failures=0,
            retry_ms=None,
            warned=False,
            reason=None,
            agreed_ms=now_ms,
            link_id=link_id,
        )
        made = await self._agree(wanted, body.pin, body.passkey)
        if isinstance(made, Refused):
            return metrics.count(made)
        if made.state is FareState.AGREED and made.session_id is None:
            refused = await self._tell_agreed(made)
            if refused is not None:
                await self._let_go(key)
                return metrics.count(refused)
        self._reload_ms = 0
        return bodies.paid_call_json(made, self._runtime.now_ms())

    async def _whom(
        self, call: Call, body: bodies.PaidCallBody, money: Money, known: Fare | None
    ) -> tuple[UserId, str | None] | Refused:
        """Who is paid and the link that it is for, if the price is still the one that was confirmed."""
        if body.callee is not None and body.link is None:
            callee = await self._resolve(call, body.callee)
            if isinstance(callee, Refused) or known is not None:
                return callee if isinstance(callee, Refused) else (callee, None)
            price = await self.price_of(callee, call.user_id)
            if isinstance(price, Refused):
                return price
            return (callee, None) if price == money else rules.price_changed(callee, price)
        if body.link is None or body.callee is not None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="Name either callee, for a ring, or link, for the call behind a link.",
            )
        link_id = body.link.partition("@")[0]
        if known is not None:
            return known.callee, link_id
        found = await self.visits.price_of(body.link, call.user_id)
        if isinstance(found, Refused):
            return found
        payee, asked = found
        return (payee, link_id) if asked == money else rules.entry_changed(asked)

    async def _agree(self, wanted: Fare, pin: str | None, passkey: Mapping[str, Any] | None) -> Fare | Refused:
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor, *, proven: bool) -> Fare | Refused:
            return self.fares.agree(cur, wanted, now_ms, proven=proven)

        made = await self._writer.run("fare_agree", lambda cur: work(cur, proven=False))
        if isinstance(made, Refused) and made.reason is Reason.PIN_REQUIRED and (pin or passkey):
            # A passkey confirms the most that the call may come to, which is what the person was shown.
            about = about_payment(wanted.callee, replace(wanted.price, amount_minor=wanted.ceiling_minor), 0)
            refused = await self._pins.confirm(wanted.owner, pin=pin, passkey=passkey, about=about)
            if refused is not None:
                return refused
            made = await self._writer.run("fare_agree", lambda cur: work(cur, proven=True))
        return made

    async def _tell_agreed(self, fare: Fare) -> Refused | None:
        """Let the callee's homeserver know that this caller may ring; what it says if it may not."""
        if fare.is_local:
            return await self._accept(fare.callee, fare.caller, fare.fare_id, fare.price, fare.link_id)
        fields: dict[str, Any] = {
            "fare_id": fare.fare_id,
            "amount": fare.price.amount_minor,
            "currency": fare.price.currency,
        }
        if fare.link_id is not None:
            fields["link_id"] = fare.link_id
        answer = await self._ask("agree", fare.callee, fare.caller, fields, _ASK_TIMEOUT_MS)
        if isinstance(answer, Refused):
            return answer
        if answer.get("agreed") is True:
            return None
        price = self._read_price(answer, fare.callee)
        if fare.link_id is not None:
            return price if isinstance(price, Refused) else rules.entry_changed(price)
        self._remember(fare.callee, fare.caller, None if isinstance(price, Refused) else price)
        return price if isinstance(price, Refused) else rules.price_changed(fare.callee, price)

    async def _let_go(self, key: FareKey) -> Fare | Refused:
        known = await self._runtime.database.run("fare_find", lambda cur: store.find(cur, key))
        stay = None if known is None or known.link_id is None else await self.visits.stay_of(known)
        now_ms = self._runtime.now_ms()
        cancelled = await self._writer.run("fare_cancel", lambda cur: self.fares.cancel(cur, key, now_ms, stay))
        if isinstance(cancelled, Refused):
            # Whoever has come in meanwhile is charged from then on.
            self._reload_ms = 0
        else:
            await self._see_out(cancelled)
        return cancelled

    async def _see_out(self, fare: Fare) -> None:
        """Nobody stays in the call behind a link whose fare has ended: they may have come in at that very moment."""
        if fare.state is FareState.ENDED and fare.room_id is not None:
            await self.visits.see_out(fare.room_id, fare.caller)

    async def _cancel(self, call: Call) -> bodies.PaidCallJson | Refused:
        cancelled = await self._let_go(await self._key(call))
        return cancelled if isinstance(cancelled, Refused) else self._shown(cancelled)

    async def _all(self, call: Call) -> bodies.PaidCallsJson:
        owner = await self._runtime.accounts.acct_of(call.user_id)
        found = await self._runtime.database.run("fares", lambda cur: store.page(cur, owner, _PAGE))
        return bodies.PaidCallsJson(calls=[self._shown(each) for each in found])

    async def _one(self, call: Call) -> bodies.PaidCallJson | Refused:
        key = await self._key(call)
        found = await self._runtime.database.run("fare_find", lambda cur: self.fares.find(cur, key))
        return found if isinstance(found, Refused) else self._shown(found[0])

    async def _key(self, call: Call) -> FareKey:
        owner = await self._runtime.accounts.acct_of(call.user_id)
        return FareKey(owner=owner, fare_id=FareId(call.path["fare_id"]))

    def _shown(self, fare: Fare) -> bodies.PaidCallJson:
        return bodies.paid_call_json(fare, self._runtime.now_ms())

    # Other homeservers.

    async def _ask(
        self, deed: str, callee: UserId, caller: UserId, fields: Mapping[str, Any], timeout_ms: int
    ) -> Mapping[str, Any] | Refused:
        body = {"caller": caller, "callee": callee, **fields}
        server = server_of(callee)
        try:
            return await self._runtime.private.put(server, f"{FARES_PATH}/{deed}", body, timeout_ms)
        except PutFailed as failure:
            if failure.status == 404 and failure.errcode == "M_UNRECOGNIZED":
                # It sells no calls.
                return {}
            logger.info("%s could not be asked for the price of a call: %s", server, failure)
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
        caller, callee = parse_user_id(wanted.caller), parse_user_id(wanted.callee)
        if caller is None or server_of(caller) != origin:
            return Refused(
                reason=Reason.WRONG_ORIGIN, message="A homeserver asks for its own people only; ask for one of yours."
            )
        # Whoever is not here asks nothing, as whoever has no price.
        is_here = callee is not None and self._runtime.api.is_mine(callee)
        if callee is None or not is_here or await self._runtime.api.check_user_exists(callee) is None:
            return {}
        match deed:
            case "price":
                return _price_json(await self._price_here(callee, caller))
            case "agree" if wanted.fare_id is not None:
                money = check_money(wanted.amount, wanted.currency, self._assets)
                if isinstance(money, Refused):
                    return money
                return await self._agreed(callee, caller, wanted, FareId(wanted.fare_id), money)
            case "ended" if wanted.fare_id is not None:
                return await self._ended(callee, caller, FareId(wanted.fare_id))
            case _:
                return Refused(reason=Reason.INVALID_VALUE, message="Ask for price, agree or ended, with a fare_id.")

    async def _agreed(
        self, callee: UserId, caller: UserId, wanted: bodies.WantedJson, fare_id: FareId, price: Money
    ) -> dict[str, Any] | Refused:
        """What a homeserver hears whose person has confirmed a price of one of ours."""
        link_id = wanted.link_id
        refused = await self._accept(callee, caller, fare_id, price, link_id)
        if refused is not None:
            if refused.reason is not Reason.PRICE_CHANGED:
                return refused
            asked = check_money(refused.fields.get("amount"), refused.fields.get("currency"), self._assets)
            return _price_json(None if isinstance(asked, Refused) else asked)
        return {"agreed": True}

    async def _accept(
        self, callee: UserId, caller: UserId, fare_id: FareId, price: Money, link_id: str | None
    ) -> Refused | None:
        """A caller has confirmed a price of one of ours. It must be what the policy, or the link, asks now."""
        known = await self._runtime.database.run("fare_terms", lambda cur: store.terms_of(cur, caller, fare_id))
        if known is not None and (known.callee, known.price, known.link_id) == (callee, price, link_id):
            return None
        room_id: RoomId | None = None
        if link_id is None:
            asked = await self._price_here(callee, caller)
            if asked != price:
                return rules.price_changed(callee, asked)
        else:
            found = await self.visits.asked_here(link_id, callee, caller)
            if isinstance(found, Refused):
                return found
            if found.price != price:
                return rules.entry_changed(found.price)
            room_id = found.room_id
        terms = Terms(
            callee_acct=await self._runtime.accounts.acct_of(callee),
            callee=callee,
            caller=caller,
            fare_id=fare_id,
            price=price,
            state=TermsState.OPEN,
            session_id=None,
            agreed_ms=self._runtime.now_ms(),
            link_id=link_id,
            room_id=room_id,
        )
        accepted = await self._runtime.database.run("fare_accept", lambda cur: self.fares.accept(cur, terms))
        if isinstance(accepted, Refused):
            return accepted
        if (accepted.callee, accepted.price, accepted.link_id) != (callee, price, link_id):
            return rules.conflict(fare_id)
        self._reload_ms = 0
        return None

    async def _ended(self, callee: UserId, caller: UserId, fare_id: FareId) -> dict[str, Any]:
        now_ms = self._runtime.now_ms()

        def read(cur: Cursor) -> tuple[Terms | None, int | None]:
            terms = store.terms_of(cur, caller, fare_id)
            if terms is None or terms.callee != callee:
                return None, None
            if terms.link_id is not None:
                terms = self.fares.left(cur, caller, terms, now_ms)
            return terms, self.fares.talked_ms(cur, caller, terms)

        terms, talked_ms = await self._runtime.database.run("fare_ended", read)
        if terms is not None and terms.room_id is not None:
            # For their homeserver they have left, so it pays for no more.
            await self._show_out(terms.room_id, frozenset({caller}))
        return {} if talked_ms is None else {"talked_ms": talked_ms}

    # The meter.

    async def reached(self, records: Sequence[Record]) -> None:
        """Calls have come into another state: look at once."""
        self._reload_ms = 0
        await self._tick()

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if not self._on or self._busy or now_ms < self._reload_ms or not self._runtime.follower.follows:
            return
        self._busy = True
        try:
            fares, terms = await self._runtime.database.run(
                "fares_open", lambda cur: (store.open_fares(cur, _CALLS_MAX), store.live_terms(cur, _CALLS_MAX))
            )
            # Without any, somebody who confirms one in this process is heard of at once, in others a while later.
            self._reload_ms = now_ms + (int(_TICK_MS) if fares or terms else _RELOAD_MS)
            for fare in fares:
                await self._guarded(self._look_at(fare), fare.fare_id)
            for each in terms:
                await self._guarded(self._follow(each), each.fare_id)
        finally:
            self._busy = False

    async def _guarded(self, look: Awaitable[None], fare_id: FareId) -> None:
        try:
            await look
        except NotTheWriter:
            # It is looked at where the writer is now.
            logger.info("Call %s is looked at by another process", fare_id)
        except Exception:
            # It is looked at again; the others' calls do not wait for it.
            logger.exception("Call %s could not be looked at", fare_id)

    async def _look_at(self, fare: Fare) -> None:
        stepped = await self._step(fare)
        if stepped is not None and stepped.ask:
            self._asking.soon(fare)
        elif stepped is not None:
            await self._act_on(stepped)

    async def _act_on(self, stepped: Stepped) -> None:
        now_ms = self._runtime.now_ms()
        if stepped.hang_up and stepped.fare.link_id is not None:
            await self._leave(stepped.fare)
        elif stepped.hang_up:
            await self._hang_up(stepped.fare.owner, stepped.fare.session_id, stepped.fare.caller, "caller")
        if stepped.warn:
            left_ms = rules.covered_ms(stepped.fare.price.amount_minor, stepped.fare.funds_minor) - rules.talked(
                stepped.fare.answer_ms, now_ms
            )
            await self._tell(Ending(fare=stepped.fare, left_ms=max(0, left_ms)))
        if stepped.fare.state is FareState.ENDED:
            await self._see_out(stepped.fare)
            reason = stepped.fare.reason or "hung_up"
            _ended_total.labels(reason if reason in (*_SETTLED_REASONS, "hung_up") else "unpaid").inc()

    async def _step(self, fare: Fare, *, theirs_ms: int | None = None, told: bool = False) -> Stepped | None:
        stay = None if fare.link_id is None else await self.visits.stay_of(fare)
        salts, now_ms = _fresh_salts(), self._runtime.now_ms()

        def work(cur: Cursor) -> Stepped | None:
            return self.fares.step(cur, fare.key, salts, now_ms, stay=stay, theirs_ms=theirs_ms, told=told)

        def peer_of(stepped: Stepped | None) -> ServerName | None:
            return server_of(fare.callee) if stepped is not None and stepped.paying else None

        found: Stepped | None = await self._clearing.run_and_send("fare_step", work, peer_of)
        if found is not None and found.fare.state is not fare.state:
            for noted in self._noted:
                noted()
        return found

    async def _ask_how_long(self, fare: Fare) -> bool:
        """Whether the callee's homeserver answered; what it says is done at once."""
        answer = await self._ask("ended", fare.callee, fare.caller, {"fare_id": fare.fare_id}, _ASK_TIMEOUT_MS)
        if isinstance(answer, Refused):
            return False
        await self._guarded(self._hear_how_long(fare, answer.get("talked_ms")), fare.fare_id)
        return True

    async def _hear_how_long(self, fare: Fare, theirs_ms: object) -> None:
        known_ms = theirs_ms if type(theirs_ms) is int and theirs_ms >= 0 else None
        stepped = await self._step(fare, theirs_ms=known_ms, told=True)
        if stepped is not None:
            await self._act_on(stepped)

    async def _follow(self, terms: Terms) -> None:
        if terms.link_id is not None:
            await self._follow_visit(terms)
            return
        now_ms = self._runtime.now_ms()
        if await self._runtime.database.run("fare_is_quiet", lambda cur: self.fares.is_quiet(cur, terms, None, now_ms)):
            return
        unpaid = await self._writer.run("fare_follow", lambda cur: self.fares.follow(cur, terms.caller, terms, now_ms))
        if unpaid is not None:
            await self._hang_up(terms.callee_acct, unpaid, terms.callee, "callee")

    async def _follow_visit(self, terms: Terms) -> None:
        stay, now_ms = await self.visits.stay_under(terms), self._runtime.now_ms()
        if await self._runtime.database.run("fare_is_quiet", lambda cur: self.fares.is_quiet(cur, terms, stay, now_ms)):
            return
        unpaid = await self._writer.run("fare_follow", lambda cur: self.fares.follow_stay(cur, terms, stay, now_ms))
        if unpaid:
            _hung_up_total.labels("callee").inc()
            await self.visits.remove(terms)

    async def _leave(self, fare: Fare) -> None:
        """Take somebody of ours out of the call behind a link. What fails is tried again with the next look."""
        if fare.room_id is not None:
            _hung_up_total.labels("caller").inc()
            await self.visits.take_out(fare.room_id, fare.caller)

    async def _tell(self, ending: Ending) -> None:
        for listener in self._listeners:
            try:
                await listener(ending)
            except Exception:
                # The call ends all the same.
                logger.exception("Telling that call %s is about to end failed", ending.fare.fare_id)

    async def _hang_up(self, owner: Acct, session_id: SessionId | None, person: UserId, side: str) -> None:
        """End a call as one of ours, in the words of its protocol. What fails is tried again a moment later."""
        now_ms = self._runtime.now_ms()
        if session_id is None or now_ms < self._hung_up.get(session_id, 0) + _HANG_UP_AGAIN_MS:
            return
        self._hung_up = {each: at_ms for each, at_ms in self._hung_up.items() if at_ms > now_ms - _RELOAD_MS}
        self._hung_up[session_id] = now_ms

        def read(cur: Cursor) -> HistoryEntry | None:
            return calls.of_person(cur, owner, session_id)

        entry = await self._runtime.database.run("fare_call", read)
        if entry is None or not entry.record.state.is_open:
            return
        _hung_up_total.labels(side).inc()
        room_id, session = RoomId(entry.session.room_id), entry.session
        if session.rtc_event_id is not None:
            await self.visits.leave_call(room_id, person)
        content = {"call_id": session.call_id, "version": "1", "party_id": events.PARTY_ID, "reason": "user_hangup"}
        await self._runtime.api.create_and_send_event_into_room(
            {"type": events.HANGUP, "room_id": room_id, "sender": person, "content": content}
        )
        # Clients leave by themselves when they read this; who does not is removed where media goes through our SFU.
        both = (session.caller, session.callee)
        await self._show_out(room_id, frozenset(each for each in both if each is not None))

    async def _forget(self) -> None:
        if self._on:
            before_ms = self._runtime.now_ms() - _TERMS_KEPT_MS
            await self._runtime.database.run("fares_forget", lambda cur: store.forget(cur, before_ms))


def _price_json(price: Money | None) -> dict[str, Any]:
    return {} if price is None else {"amount": price.amount_minor, "currency": price.currency}


def _fresh_salts() -> Salts:
    wire, payer, payee, memo, room = (secrets.token_hex(_SALT_BYTES) for _ in range(5))
    return Salts(wire=wire, parties=(payer, payee, memo), room=room)
