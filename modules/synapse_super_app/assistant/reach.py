"""What the assistant does about being reached for money: prices of calls, and deposits of strangers.

Each command goes through the client API as its person. What costs something is confirmed by naming person and amount,
so it is bound to both: if another amount is asked by then, the API refuses and nothing is set aside.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from super_app.assistant.amounts import Wrong
from super_app.assistant.model import Outcome
from super_app.assistant.words import OFF_WORDS, Command
from super_app.errors import Refused
from super_app.money import AssetCode, Money
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.http.inside import Inside, Json, part

_ACCEPT: Final = frozenset({"accept", "annehmen", "zurückgeben"})
_SPAM: Final = frozenset({"spam"})


class Reach:
    def __init__(self, *, inside: Inside) -> None:
        self._inside = inside

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {Command.CALL_PRICE: self._call_price, Command.DEPOSIT: self._deposit}

    # Calls by the minute.

    async def _call_price(self, heard: Heard) -> Outcome:
        money = heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if heard.intent.people:
            return await self._call_of(heard, heard.intent.people[0], money)
        return await self._own_price(heard, money)

    async def _call_of(self, heard: Heard, who: str, money: Money | None) -> Outcome:
        if money is None:
            asked = await self._inside.ask(heard.user_id, "GET", f"call_prices/{part(who)}")
            if isinstance(asked, Refused):
                return refusing(heard, asked)
            return saying(heard, heard.speech.call_price(who, _money(asked)))
        body = {"fare_id": heard.number, "callee": who, "amount": money.amount_minor, "currency": money.currency}
        made = await self._inside.ask(heard.user_id, "POST", "paid_calls", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        most = Money(amount_minor=made["most"], currency=money.currency)
        aside = Money(amount_minor=made["aside"], currency=money.currency)
        return saying(heard, heard.speech.call_confirmed(who, money, most, aside))

    async def _own_price(self, heard: Heard, money: Money | None) -> Outcome:
        if money is not None:
            body = {"amount": money.amount_minor, "currency": money.currency}
            price = await self._inside.ask(heard.user_id, "PUT", "call_price", body)
        else:
            price = await self._inside.ask(heard.user_id, "DELETE" if _is_off(heard) else "GET", "call_price")
        if isinstance(price, Refused):
            return refusing(heard, price)
        return saying(heard, heard.speech.own_call_price(_money(price)))

    # Deposits.

    async def _deposit(self, heard: Heard) -> Outcome:
        money = heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        word = heard.intent.rest.split()[0].casefold() if heard.intent.rest else ""
        if heard.intent.people and word in _ACCEPT | _SPAM:
            return await self._decide(heard, heard.intent.people[0], "spam" if word in _SPAM else "accept")
        if heard.intent.people:
            return await self._deposit_for(heard, heard.intent.people[0], money)
        return await self._own_deposits(heard, money)

    async def _deposit_for(self, heard: Heard, who: str, money: Money | None) -> Outcome:
        if money is None:
            asked = await self._inside.ask(heard.user_id, "GET", f"deposit_terms/{part(who)}")
            if isinstance(asked, Refused):
                return refusing(heard, asked)
            return saying(heard, heard.speech.deposit_asked(who, _money(asked)))
        body = {"deposit_id": heard.number, "recipient": who, "amount": money.amount_minor, "currency": money.currency}
        made = await self._inside.ask(heard.user_id, "POST", "deposits", body)
        return refusing(heard, made) if isinstance(made, Refused) else saying(heard, heard.speech.deposit_is_down(who))

    async def _own_deposits(self, heard: Heard, money: Money | None) -> Outcome:
        if money is not None:
            body = {"amount": money.amount_minor, "currency": money.currency}
            policy = await self._inside.ask(heard.user_id, "PUT", "deposit_policy", body)
        else:
            policy = await self._inside.ask(heard.user_id, "DELETE" if _is_off(heard) else "GET", "deposit_policy")
        if isinstance(policy, Refused):
            return refusing(heard, policy)
        waiting = await self._waiting(heard)
        shown = [(str(each["payer"]), money) for each in waiting if (money := _money(each)) is not None]
        return saying(heard, heard.speech.own_deposits(_money(policy), shown))

    async def _decide(self, heard: Heard, who: str, deed: str) -> Outcome:
        meant = [each for each in await self._waiting(heard) if each["payer"] == who]
        if not meant:
            return saying(heard, heard.speech.no_deposit_of(who))
        deposit_id = part(str(meant[0]["deposit_id"]))
        done = await self._inside.ask(heard.user_id, "POST", f"deposits/{deposit_id}/{deed}", query={"payer": who})
        if isinstance(done, Refused):
            return refusing(heard, done)
        return saying(heard, heard.speech.deposit_decided(who, kept=deed == "spam"))

    async def _waiting(self, heard: Heard) -> list[Json]:
        found = await self._inside.ask(heard.user_id, "GET", "deposits")
        return [] if isinstance(found, Refused) else [each for each in found["deposits"] if each["state"] == "open"]


def _is_off(heard: Heard) -> bool:
    return any(word.casefold() in OFF_WORDS for word in heard.intent.rest.split())


def _money(found: Json) -> Money | None:
    if found.get("amount") is None:
        return None
    return Money(amount_minor=found["amount"], currency=AssetCode(found["currency"]))
