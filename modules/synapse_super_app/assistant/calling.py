"""What the assistant does about calls beside listing them: links into calls, and wishes to be called back.

Each command goes through the client API as its person, like those in ``conversation``.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import unquote

from super_app.assistant.amounts import Wrong
from super_app.assistant.model import Outcome
from super_app.assistant.words import Command
from super_app.errors import Refused
from super_app.money import AssetCode, Money
from super_app.names import WEB_PREFIX
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.http.inside import Inside, Json, part
from synapse_super_app.runtime import Runtime

_RECENT: Final = 50
_CALLBACK: Final = "callback"
_LINK: Final = re.compile(r"[0-9a-f]{32}@[^\s/?#]+")


def _price(link: Json) -> Money | None:
    price = link.get("price")
    return None if price is None else Money(amount_minor=price["amount"], currency=AssetCode(price["currency"]))


class Calling:
    def __init__(self, runtime: Runtime, inside: Inside) -> None:
        self._runtime = runtime
        self._inside = inside

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {
            Command.CALL_LINK: self._make,
            Command.CALL_LINKS: self._list,
            Command.PAID_CALL_LINK: self._make_paid,
            Command.ENTER_CALL: self._enter,
            Command.LIVE_ROOM: self._go_live,
            Command.CALL_BACK: self._ask_back,
        }

    async def _make(self, heard: Heard) -> Outcome:
        body: Json = {"title": heard.intent.rest.strip()[:200]}
        made = await self._inside.ask(heard.user_id, "POST", "call_links", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.call_link(self._url(made)))

    async def _go_live(self, heard: Heard) -> Outcome:
        """A room of sound in which only they are heard until they let somebody else speak."""
        body: Json = {
            "title": heard.intent.rest.strip()[:200],
            "stage": True,
            "media": "audio",
            "screen_share": "hosts",
        }
        made = await self._inside.ask(heard.user_id, "POST", "call_links", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.live_room(self._url(made)))

    async def _list(self, heard: Heard) -> Outcome:
        found = await self._inside.ask(heard.user_id, "GET", "call_links")
        if isinstance(found, Refused):
            return refusing(heard, found)
        links = [(each["title"], self._url(each), _price(each)) for each in found["links"]]
        return saying(heard, heard.speech.call_links(links))

    async def _make_paid(self, heard: Heard) -> Outcome:
        price = heard.intent.amount
        if isinstance(price, Wrong):
            return saying(heard, heard.speech.wrong_amount(price))
        if price is None:
            return saying(heard, heard.speech.paid_call_link_needs_amount())
        asked = {"amount": price.amount_minor, "currency": price.currency}
        body: Json = {"title": heard.intent.rest.strip()[:200], "price": asked}
        made = await self._inside.ask(heard.user_id, "POST", "call_links", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.paid_call_link(self._url(made), price))

    async def _enter(self, heard: Heard) -> Outcome:
        """Show what a call behind a link costs, or confirm that: naming the amount binds it."""
        money, found = heard.intent.amount, _LINK.search(unquote(heard.intent.rest))
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if found is None:
            return saying(heard, heard.speech.which_call())
        link = found[0]
        url = self._url({"link": link})
        if money is None:
            shown = await self._inside.ask(heard.user_id, "GET", f"call_links/{part(link)}")
            if isinstance(shown, Refused):
                return refusing(heard, shown)
            price = None if shown["host"] == heard.user_id else _price(shown)
            return saying(heard, heard.speech.call_behind(shown["title"], shown["host"], url, link, price))
        body: Json = {"fare_id": heard.number, "link": link, "amount": money.amount_minor, "currency": money.currency}
        made = await self._inside.ask(heard.user_id, "POST", "paid_calls", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        most = Money(amount_minor=made["most"], currency=money.currency)
        aside = Money(amount_minor=made["aside"], currency=money.currency)
        return saying(heard, heard.speech.entry_confirmed(url, money, most, aside))

    async def _ask_back(self, heard: Heard) -> Outcome:
        """About the newest call of theirs in vain whose callee offers it, or the newest to whom they name."""
        page = await self._inside.ask(heard.user_id, "GET", "calls", query={"limit": str(_RECENT)})
        if isinstance(page, Refused):
            return refusing(heard, page)
        whom = heard.intent.person
        for each in page["calls"]:
            names = (each["peer"], each.get("peer_handle"))
            is_meant = whom is None or any(name == whom or (name or "").startswith(f"{whom}:") for name in names)
            if is_meant and each.get("callback_ts") is None and _CALLBACK in (each.get("offers") or ()):
                done = await self._inside.ask(heard.user_id, "POST", f"calls/{part(each['call_id'])}/callback")
                if isinstance(done, Refused):
                    return refusing(heard, done)
                return saying(heard, heard.speech.asked_back(each.get("peer_handle") or each["peer"]))
        return saying(heard, heard.speech.nobody_calls_back())

    def _url(self, link: Json) -> str:
        """The page of the web app that leads into the call."""
        base = self._runtime.api.public_baseurl.rstrip("/")
        return f"{base}{WEB_PREFIX}/app/#/call-link/{part(link['link'])}"
