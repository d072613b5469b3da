"""What the assistant says, in a person's language: one method a message. Text in, ``Text`` out; it decides nothing.

Each sentence says what happened and what can be done next. The sentences are English in the code; gettext finds the
others in the catalogues of ``locale``. ``say`` and ``say_many`` are what the extraction looks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from babel import Locale
from babel.dates import format_datetime

from super_app.assistant import amounts
from super_app.assistant.amounts import Problem, Wrong
from super_app.assistant.refusals import SENTENCES
from super_app.assistant.text import EMPTY, Text, exact, fill, joined, lines, link, strong, value
from super_app.assistant.words import LANGUAGES
from super_app.errors import Refused
from super_app.money import Asset, AssetCode, Money


class Catalogue(Protocol):
    """Translations of one language, as ``gettext.NullTranslations`` has them."""

    def gettext(self, message: str) -> str: ...

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody as the assistant names them. ``handle`` is the full handle, or the user id where there is none."""

    handle: str
    name: str | None = None
    badges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A payment in a list."""

    incoming: bool
    other: str
    money: Money
    state: str
    memo: str | None
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLine:
    """A call in a list."""

    incoming: bool
    other: str
    outcome: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What somebody has of one asset."""

    asset: Asset
    available_minor: int
    held_minor: int


_MARKS: Final = {"paid": "✅", "declined": "✖", "excused": "✖", "paying": "⏳"}
_BAR: Final = 10
_SHOWN_CLAIMS: Final = 20
"""Of those who have claimed, the last ones; a card is a message, and not a ledger."""
FEATURES: Final = ("payments", "directory", "calls")


class Speech:
    """The sentences in one language."""

    def __init__(self, language: str, catalogue: Catalogue, assets: Mapping[AssetCode, Asset]) -> None:
        self.language = language
        self.locale: Locale = amounts.locale_of(language)
        self._catalogue = catalogue
        self._assets = assets

    def say(self, sentence: str, **values: str | int | Text) -> Text:
        return fill(self._catalogue.gettext(sentence), **values)

    def say_many(self, one: str, many: str, count: int, **values: str | int | Text) -> Text:
        return fill(self._catalogue.ngettext(one, many, count), count=count, **values)

    def money(self, money: Money) -> Text:
        return strong(amounts.show(money, self._assets, self.locale))

    def person(self, person: Person) -> Text:
        """Name, full handle and badges. The handle is what counts, so it always stands there."""
        parts = [] if person.name is None or person.name == person.handle else [value(person.name)]
        parts.append(exact(person.handle))
        parts += [self.say("(verified by {issuer})", issuer=issuer) for issuer in person.badges]
        return joined(parts)

    def time(self, at_ms: int) -> Text:
        return value(format_datetime(datetime.fromtimestamp(at_ms / 1000, UTC), "short", locale=self.locale) + " UTC")

    # Meeting.

    def greeting(self, handle: str, *, payments: bool, directory: bool, calls: bool) -> Text:
        tries = [
            *([self.say("`balance` to see what you have")] if payments else []),
            *([self.say("`pay @bob 5 lunch` to pay somebody")] if payments else []),
            *([self.say("`find bob` to find people on this homeserver and on others")] if directory else []),
            *([self.say("`call policy contacts` to choose who may call you")] if calls else []),
            *([self.say("`help` to see what else I can do")] if not (payments and directory) else []),
        ][:3]
        return lines(
            [
                self.say("Hello! I am the assistant of this homeserver. Write to me in plain words."),
                self.say("Your handle is {handle}: give it to people so that they find you.", handle=exact(handle))
                if directory
                else self.say("You are {handle}.", handle=exact(handle)),
                self.say("Three things to try:"),
                *[joined([value("•"), each]) for each in tries],
                self.say("Say `help` for everything I can do, and `lang` for other languages."),
            ]
        )

    def help(self, *, payments: bool, directory: bool, calls: bool, recovery: bool) -> Text:
        shown = [self.say("This is what you can say to me:")]
        if payments:
            shown += [
                self.say("`balance`: what you have"),
                self.say("`pay @bob 5 lunch`: pay somebody; you have ten seconds to `undo` it"),
                self.say("`request @bob 5 lunch`: ask somebody for money"),
                self.say("`accept` or `decline`: answer a payment or a request; reply to its message to say which"),
                self.say("`cancel`: take back what is still under way"),
                self.say("`!split 40 dinner` or `!collect 200 boat` in a room: ask several; `remind` reminds them"),
                self.say("`!gift 10 in 5` in a room: a gift in shares; `!claim` takes one"),
                self.say("`link 20`: money for somebody who has no account yet; `claim` and a link takes it"),
                self.say("`history`: your last payments; `statement`: what was booked this month"),
                self.say("`schedule @bob 50 monthly rent`: pay later, or again and again; `schedule` lists that"),
                self.say("`dispute`: what you dispute; reply with it to a payment, and with what happened"),
                self.say("`who may pay me`: see or choose who may, as in `who may pay me contacts`"),
                self.say("`lost phone`: stop all payments and sign out everywhere"),
            ]
        if directory:
            shown += [
                self.say("`find bob`: look for people"),
                self.say("`handle`: your handles"),
                self.say("`move`: how to take your account to another homeserver, and how far that is"),
            ]
        shown += [
            self.say("`contacts`: your contacts; `contacts add @bob:example.org` adds one"),
            self.say("`follow`: whom you follow and who follows you; `follow @bob:example.org` follows somebody"),
        ]
        if calls:
            shown += [
                self.say("`call`: your last calls; `call @bob` takes you to the place to call from"),
                self.say("`call policy`: see or choose who may call you, as in `call policy contacts`"),
                self.say(
                    "`call link plans`: a link into a call, for people of any homeserver; `call links` lists yours"
                ),
                self.say(
                    "`live room talk`: a link into a room in which you speak and the others listen until you let them "
                    "speak"
                ),
                self.say("`call back`: ask to be called back by whom you called in vain"),
            ]
        if calls and payments:
            shown += [
                self.say(
                    "`call price 1 EUR`: what a minute costs people you do not know; `call price @bob` what he asks"
                ),
                self.say(
                    "`paid call link 1 EUR lesson`: a link into a call that costs so much a minute; `enter call` and a "
                    "link shows what one costs, and confirms it"
                ),
                self.say("`deposit 2 EUR`: what strangers put down before they reach you; `deposit @bob` what he asks"),
            ]
        if recovery:
            shown.append(self.say("`recovery`: bring your encrypted messages back after you have lost your devices"))
        shown.append(self.say("`lang`: choose my language"))
        if payments:
            shown.append(
                self.say("In other rooms that are not encrypted, write `!pay 5 lunch` and the like; I answer here.")
            )
        return lines(shown)

    def not_understood(self) -> Text:
        return self.say("I did not understand that. Say `help` to see what I can do.")

    def too_fast(self) -> Text:
        return self.say("That was a lot at once. Wait a minute, then go on; I have not read your last message.")

    def unread_encrypted(self) -> Text:
        return self.say(
            "I cannot read encrypted rooms. I have opened a room for the two of us that is not encrypted; write to me "
            "there. It is on this homeserver, which reads what you write to me in any case."
        )

    def here_i_am(self) -> Text:
        return self.say(
            "Here I am. Write to me in this room; it is not encrypted, so I can read it. Say `help` to begin."
        )

    def moved_away(self, to: str) -> Text:
        return self.say("You have moved to {person}. Whoever looks for you here is led there.", person=exact(to))

    def arriving(self, come_from: str, own: str, state: str) -> Text:
        said = {"person": exact(come_from), "own": exact(own)}
        match state:
            case "done":
                return self.say("You have moved here from {person}. Those who know you find you here.", **said)
            case "recovering":
                return self.say(
                    "Your recovery key says that you were {person}. If that homeserver stays silent for three days, "
                    "those who know you follow you here.",
                    **said,
                )
            case _:
                return self.say(
                    "You say that you were {person}. Within a day, sign in there and have yourself moved to {own}. "
                    "`move cancel` takes it back.",
                    **said,
                )

    def how_to_move(self) -> Text:
        return self.say(
            "To come here from another homeserver, say `move from @you:example.org`. To leave for another one, say so "
            "there first; then sign in here anew and have yourself moved, with the command `super-app move account` or "
            "an app that offers it. Your money and your rooms stay where they are."
        )

    def how_to_recover(self, url: str) -> Text:
        return lines(
            [
                self.say(
                    "Here you set up a PIN that brings your recovery key back, and here it does: {url}",
                    url=link(url, url),
                ),
                self.say("It is another PIN than that of your wallet. Tell it to nobody, and not to me either."),
            ]
        )

    def feature_off(self) -> Text:
        return self.say("This homeserver does not offer that. Ask its operator, or say `help` to see what I can do.")

    def went_wrong(self) -> Text:
        return self.say(
            "Something went wrong on the homeserver, and I do not know whether it was done. Say `history` to see, "
            "before you try again."
        )

    def refused(self, refused: Refused) -> Text:
        """Why something was not done."""
        sentence = SENTENCES.get(refused.reason)
        if sentence is None:
            return value(refused.message)
        available = refused.fields.get("available")
        currency = refused.fields.get("currency")
        if (
            isinstance(available, int)
            and isinstance(currency, str)
            and (asset := self._assets.get(AssetCode(currency)))
        ):
            have = strong(amounts.show_minor(available, asset, self.locale))
            return self.say("You do not have enough money for that: you have {available}.", available=have)
        return fill(self._catalogue.gettext(sentence))

    # Money.

    def balances(self, balances: Sequence[Balance], *, frozen: bool) -> Text:
        shown: list[Text] = []
        for each in balances:
            have = strong(amounts.show_minor(each.available_minor, each.asset, self.locale))
            if each.held_minor:
                held = amounts.show_minor(each.held_minor, each.asset, self.locale)
                shown.append(self.say("You have {available}, and {held} set aside.", available=have, held=held))
            else:
                shown.append(self.say("You have {available}.", available=have))
        if frozen:
            shown.append(self.say("The operator has frozen your account; ask them what to do."))
        return lines(shown)

    def whom_to_pay(self) -> Text:
        return self.say("Whom do you want to pay, and how much? Write it as in `pay @bob 5 lunch`.")

    def whom_to_ask(self) -> Text:
        return self.say("Whom do you want to ask, and for how much? Write it as in `request @bob 5 lunch`.")

    def wrong_amount(self, wrong: Wrong) -> Text:
        text = strong(wrong.text)
        match wrong.problem:
            case Problem.AMBIGUOUS:
                return self.say(
                    "I cannot tell how much {text} is. Write it without thousands marks, as in 1234.50.", text=text
                )
            case Problem.TOO_PRECISE:
                code = "" if wrong.asset is None else wrong.asset.code
                return self.say("{text} has more digits after the point than {currency} has.", text=text, currency=code)
            case Problem.OUT_OF_RANGE:
                return self.say("{text} is not an amount that can be paid; it has to be more than nothing.", text=text)
            case Problem.WHICH_CURRENCY:
                known = ", ".join(sorted(self._assets))
                return self.say(
                    "Say in which currency {text} is; this homeserver knows {currencies}.", text=text, currencies=known
                )
            case Problem.NOT_A_NUMBER:
                return self.say("I cannot read {text} as an amount. Write it as in 1234.50.", text=text)

    def confirm_payment(
        self, person: Person, money: Money, memo: str, *, is_known: bool = False, fee_minor: int = 0
    ) -> Text:
        return lines(
            [
                EMPTY if is_known else self.say("You have not paid this person before. Look at the handle:"),
                self.say("Pay {amount} to {person}?", amount=self.money(money), person=self.person(person)),
                self.costs(money, fee_minor),
                self._what_for(memo),
                self.say("Answer `yes` or `no`."),
            ]
        )

    def costs(self, money: Money, fee_minor: int) -> Text:
        if not fee_minor:
            return EMPTY
        fee = replace(money, amount_minor=fee_minor)
        whole = replace(money, amount_minor=money.amount_minor + fee_minor)
        return self.say("With the fee of {fee} it costs you {whole}.", fee=self.money(fee), whole=self.money(whole))

    def choose(self, people: Sequence[Person]) -> Text:
        numbered = [joined([value(f"{number}."), self.person(each)]) for number, each in enumerate(people, start=1)]
        return lines([self.say("Whom do you mean? Answer with the number."), *numbered])

    def found_nobody(self, term: str) -> Text:
        return self.say(
            "I found nobody called {term}. Ask them for their full handle, which looks like @bob:example.org.",
            term=strong(term),
        )

    def paying_soon(self, person: Person, money: Money, memo: str, seconds: int) -> Text:
        return lines(
            [
                self.say(
                    "Paying {amount} to {person} in {seconds} seconds. Say `undo` to stop it.",
                    amount=self.money(money),
                    person=self.person(person),
                    seconds=seconds,
                ),
                self._what_for(memo),
            ]
        )

    def undone(self, person: Person, money: Money) -> Text:
        return self.say(
            "Stopped. Nothing was paid to {person} ({amount}).", person=value(person.handle), amount=self.money(money)
        )

    def confirm_lost(self) -> Text:
        return self.say(
            "Shall I stop all payments from your wallet, forget its passkeys and sign you out on all devices? "
            "Answer `yes` or `no`."
        )

    def locked(self, *, sessions_ended: bool) -> Text:
        signed_out = (
            self.say("You are signed out everywhere.")
            if sessions_ended
            else self.say("Your sessions go on: end them where you manage your account, at once.")
        )
        return lines(
            [
                self.say("Nothing goes out of your wallet any more, and its passkeys are forgotten."),
                signed_out,
                self.say(
                    "Sign in on a device that you trust and unlock the wallet there with its PIN. For a day after that "
                    "only small amounts go out."
                ),
            ]
        )

    def not_doing(self) -> Text:
        return self.say("All right, nothing was done.")

    def payment_is(self, person: Person, money: Money, state: str) -> Text:
        """How a payment of one's own stands."""
        amount, who = self.money(money), exact(person.handle)
        match state:
            case "completed":
                return self.say("Paid {amount} to {person}.", amount=amount, person=who)
            case "awaiting_acceptance":
                return self.say(
                    "{person} is being asked whether to take {amount}. Until they answer you can `cancel` it.",
                    amount=amount,
                    person=who,
                )
            case "declined":
                return self.say(
                    "{person} did not take your {amount}; the money is back with you.", amount=amount, person=who
                )
            case "expired":
                return self.say(
                    "{person} did not answer in time; your {amount} is back with you.", amount=amount, person=who
                )
            case "cancelled":
                return self.say(
                    "Your payment of {amount} to {person} is cancelled; the money is back with you.",
                    amount=amount,
                    person=who,
                )
            case "failed":
                return self.say(
                    "Your payment of {amount} to {person} failed; the money is back with you.",
                    amount=amount,
                    person=who,
                )
            case _:
                return self.say(
                    "{amount} is on its way to {person}. Say `history` to see whether it has arrived.",
                    amount=amount,
                    person=who,
                )

    def not_paid(self, person: Person, money: Money, why: Text) -> Text:
        return lines(
            [
                self.say("{amount} was not paid to {person}.", amount=self.money(money), person=exact(person.handle)),
                why,
            ]
        )

    def needs_confirmation(self, person: Person, money: Money, url: str) -> Text:
        """A payment that needs a PIN. It is never typed here."""
        return lines(
            [
                self.say(
                    "{amount} to {person} needs your PIN. Never write it to me or to anybody.",
                    amount=self.money(money),
                    person=exact(person.handle),
                ),
                self.say("Pay in your wallet instead: {url}", url=link(url, url)),
            ]
        )

    def history(self, payments: Sequence[Line]) -> Text:
        if not payments:
            return self.say("There are no payments yet. Say `pay @bob 5` to make one.")
        return lines([self.say("Your last payments:"), *map(self._payment_line, payments)])

    def _payment_line(self, payment: Line) -> Text:
        said = {"amount": self.money(payment.money), "person": value(payment.other), "time": self.time(payment.at_ms)}
        if payment.incoming:
            line = self.say("{time}: {amount} from {person}", **said)
        else:
            line = self.say("{time}: {amount} to {person}", **said)
        state = EMPTY if payment.state == "completed" else joined([value("–"), self.state(payment.state)])
        return joined([line, value(f"({payment.memo})") if payment.memo else EMPTY, state])

    def state(self, state: str) -> Text:
        match state:
            case "completed" | "paid":
                return self.say("paid")
            case "awaiting_acceptance":
                return self.say("waits for an answer")
            case "declined":
                return self.say("declined")
            case "expired":
                return self.say("expired")
            case "cancelled":
                return self.say("cancelled")
            case "failed":
                return self.say("failed")
            case "open":
                return self.say("open")
            case _:
                return self.say("under way")

    def nothing_to_answer(self) -> Text:
        return self.say("There is nothing that waits for your answer. Say `history` to see your payments.")

    def nothing_to_cancel(self) -> Text:
        return self.say(
            "There is nothing that could still be cancelled. What was paid can only be given back by who got it."
        )

    def which_one(self, waiting: Sequence[Text]) -> Text:
        numbered = [joined([value(f"{number}."), each]) for number, each in enumerate(waiting, start=1)]
        return lines([self.say("Which one? Answer with the number."), *numbered])

    def payment_from(self, person: str, money: Money) -> Text:
        return self.say("{amount} from {person}", amount=self.money(money), person=value(person))

    def payment_to(self, person: str, money: Money) -> Text:
        return self.say("{amount} to {person}", amount=self.money(money), person=value(person))

    def accepted(self, person: Person, money: Money, state: str) -> Text:
        if state == "completed":
            return self.say("You took {amount} from {person}.", amount=self.money(money), person=exact(person.handle))
        return self.say(
            "You said yes to {amount} from {person}; it is on its way.",
            amount=self.money(money),
            person=exact(person.handle),
        )

    def declined(self, person: Person, money: Money) -> Text:
        return self.say(
            "You did not take {amount}; it goes back to {person}.",
            amount=self.money(money),
            person=exact(person.handle),
        )

    # Requests.

    def requested(self, person: Person, money: Money) -> Text:
        return self.say(
            "Asked {person} for {amount}. I tell you when they answer; `cancel` takes it back.",
            amount=self.money(money),
            person=self.person(person),
        )

    def request_declined_by_you(self, person: Person, money: Money) -> Text:
        return self.say(
            "You declined to pay {amount} to {person}.", amount=self.money(money), person=exact(person.handle)
        )

    def request_cancelled(self, money: Money) -> Text:
        return self.say("Your request for {amount} is taken back.", amount=self.money(money))

    # Statements, payments to come, disputes.

    def statement_of(self, month: str) -> Text:
        return self.say("{month}, what was booked:", month=strong(month))

    def statement_is_empty(self, month: str) -> Text:
        return self.say(
            "Nothing was booked in {month}. For another month write it as in `statement 2026-11`.", month=month
        )

    def statement_line(self, asset: Asset, opening: int, came: int, went: int, closing: int) -> Text:
        def shown(minor: int) -> Text:
            return strong(amounts.show_minor(minor, asset, self.locale))

        return self.say(
            "{opening} at the beginning, {came} came in, {went} went out, {closing} at the end.",
            opening=shown(opening),
            came=shown(came),
            went=shown(went),
            closing=shown(closing),
        )

    def statement_files(self, url: str) -> Text:
        return self.say("As CSV, PDF or camt.053 you get it from your wallet: {url}", url=link(url, url))

    def how_to_schedule(self) -> Text:
        return self.say(
            "Write whom, how much, how often and from when, as in `schedule @bob 50 monthly 2026-12-31 rent`."
        )

    def scheduled(self, person: Person, money: Money, every: str, first: str, at: str, zone: str) -> Text:
        return self.say(
            "I pay {person} {amount}, {every} from {first} on, at {at} ({zone}). You hear of it a day before. "
            "`schedule` lists what is to come, `schedule cancel` ends it.",
            person=self.person(person),
            amount=self.money(money),
            every=self.every(every),
            first=first,
            at=at,
            zone=zone,
        )

    def every(self, every: str) -> Text:
        match every:
            case "daily":
                return self.say("daily")
            case "weekly":
                return self.say("weekly")
            case "monthly":
                return self.say("monthly")
            case _:
                return self.say("once")

    def schedules(self, shown: Sequence[Text]) -> Text:
        if not shown:
            return lines([self.say("You have no payments to come."), self.how_to_schedule()])
        return lines(
            [
                self.say("Payments to come:"),
                *shown,
                self.say(
                    "`schedule skip 1` leaves the next one out; `pause`, `resume` and `cancel` work like that too."
                ),
            ]
        )

    def schedule_line(self, place: int, payee: str, money: Money, every: str, next_ms: int | None) -> Text:
        said: dict[str, str | int | Text] = {
            "place": place,
            "person": exact(payee),
            "amount": self.money(money),
            "every": self.every(every),
        }
        if next_ms is None:
            return self.say("{place}. {amount} to {person}, {every}: paused", **said)
        return self.say("{place}. {amount} to {person}, {every}: next on {time}", time=self.time(next_ms), **said)

    def schedule_is(self, payee: str, money: Money, state: str, next_ms: int | None) -> Text:
        said = {"person": exact(payee), "amount": self.money(money)}
        match state:
            case "paused":
                return self.say("{amount} to {person}: paused. `schedule resume` goes on.", **said)
            case "active" if next_ms is not None:
                return self.say("{amount} to {person}: paid next on {time}.", time=self.time(next_ms), **said)
            case _:
                return self.say("{amount} to {person}: ended, nothing more is paid.", **said)

    def schedule_news(
        self, event: str, payee: str, money: Money, due_ms: int, why: Text | None, again_ms: int | None
    ) -> Text:
        said = {"person": exact(payee), "amount": self.money(money), "time": self.time(due_ms)}
        match event:
            case "upcoming":
                return self.say(
                    "On {time} I pay {person} {amount}. `schedule skip` leaves it out, `schedule` shows all.", **said
                )
            case "ordered":
                return self.say("As scheduled, I have paid {person} {amount}; `history` shows how it went.", **said)
            case "retrying":
                line = self.say(
                    "I could not pay {person} {amount} as scheduled. I try again on {again}.",
                    again=self.time(again_ms or due_ms),
                    **said,
                )
            case "missed":
                line = self.say(
                    "This homeserver was away when {person} was to be paid {amount} ({time}). It was not paid; pay it "
                    "yourself if you still want to.",
                    **said,
                )
            case _:
                line = self.say("{person} was not paid {amount} as scheduled, and I do not try again.", **said)
        return lines([line, EMPTY if why is None else why])

    def disputes(self, shown: Sequence[Text]) -> Text:
        how = self.say("To dispute a payment or to answer, reply to its message with `dispute` and what happened.")
        if not shown:
            return lines([self.say("You have no disputes."), how])
        return lines([self.say("Your disputes:"), *shown, how])

    def dispute_line(self, other: str, money: Money, state: str) -> Text:
        return self.say(
            "• {amount} with {person}: {state}", amount=self.money(money), person=exact(other), state=self.case(state)
        )

    def case(self, state: str) -> Text:
        match state:
            case "open":
                return self.say("open, both sides are heard")
            case "granted":
                return self.say("granted, the money is to come back")
            case "rejected":
                return self.say("rejected")
            case "withdrawn":
                return self.say("withdrawn")
            case _:
                return self.say("settled")

    def dispute_heard(self, other: str, money: Money, state: str) -> Text:
        return self.say(
            "Noted in the dispute with {person} about {amount} ({state}). I tell you when they answer.",
            person=exact(other),
            amount=self.money(money),
            state=self.case(state),
        )

    def dispute_news(self, act: str, other: str, money: Money, text: str) -> Text:
        said = {"person": exact(other), "amount": self.money(money)}
        match act:
            case "opened":
                line = self.say("{person} disputes {amount} that they paid you.", **said)
            case "stated":
                line = self.say("{person} says in your dispute about {amount}:", **said)
            case "withdrawn":
                line = self.say("{person} has withdrawn the dispute about {amount}.", **said)
            case "granted":
                line = self.say(
                    "The operator has decided the dispute with {person}: {amount} is to go back to who paid it.", **said
                )
            case _:
                line = self.say(
                    "The operator has decided the dispute with {person} about {amount}: nothing goes back.", **said
                )
        answer = self.say("Reply to this message with `dispute` and what you have to say.")
        return lines([line, value(text) if text else EMPTY, answer if act in ("opened", "stated") else EMPTY])

    # What happened meanwhile.

    def you_were_paid(self, person: Person, money: Money, memo: str, place: Text) -> Text:
        return lines(
            [
                self.say("{person} paid you {amount}.", person=self.person(person), amount=self.money(money)),
                self._what_for(memo),
                place,
            ]
        )

    def recovery_pin_was_wrong(self, device: str) -> Text:
        return self.say(
            "Somebody tried the PIN of your recovery key in vain, in the session {device}. If that was not you, sign "
            "that session out and change your password: after ten wrong PINs the way to your key by PIN is destroyed.",
            device=device or "?",
        )

    def recovery_pin_was_set(self, device: str) -> Text:
        return self.say(
            "A PIN for your recovery key was set up, in the session {device}; the one before does not work any more. "
            "If that was not you, sign that session out, change your password and set up a PIN anew.",
            device=device or "?",
        )

    def you_are_offered(self, person: Person, money: Money, memo: str, place: Text) -> Text:
        return lines(
            [
                self.say("{person} wants to pay you {amount}.", person=self.person(person), amount=self.money(money)),
                self._what_for(memo),
                self.say("Say `accept` or `decline`. Without an answer the money goes back after a day."),
                place,
            ]
        )

    def you_are_asked(self, person: Person, money: Money, memo: str, place: Text) -> Text:
        return lines(
            [
                self.say("{person} asks you for {amount}.", person=self.person(person), amount=self.money(money)),
                self._what_for(memo),
                self.say("Say `accept` to pay it or `decline`. You owe nothing because somebody asks."),
                place,
            ]
        )

    def request_was_declined(self, person: Person, money: Money) -> Text:
        return self.say(
            "{person} declined your request for {amount}.", person=self.person(person), amount=self.money(money)
        )

    def request_expired(self, money: Money) -> Text:
        return self.say("Your request for {amount} has expired.", amount=self.money(money))

    def you_missed_a_call(self, person: Person, at_ms: int, place: Text) -> Text:
        return lines(
            [
                self.say(
                    "You missed a call from {person} ({time}).", person=self.person(person), time=self.time(at_ms)
                ),
                place,
            ]
        )

    def place(self, url: str) -> Text:
        return self.say("Go to the room: {url}", url=link(url, url))

    def _what_for(self, memo: str) -> Text:
        return self.say("For: {memo}", memo=memo) if memo else EMPTY

    # Cards, which stand in rooms among others.

    def card_of_payment(self, payer: str, payee: str, money: Money, memo: str, state: str) -> Text:
        said = {"payer": value(payer), "payee": value(payee), "amount": self.money(money)}
        match state:
            case "completed":
                line = self.say("💸 {payer} paid {payee} {amount}.", **said)
            case "awaiting_acceptance":
                line = self.say("💸 {payer} wants to pay {payee} {amount}; {payee} has not answered yet.", **said)
            case "declined":
                line = self.say("💸 {payer} wanted to pay {payee} {amount}; {payee} declined.", **said)
            case "expired" | "cancelled" | "failed":
                line = self.say("💸 {payer} wanted to pay {payee} {amount}; it was not paid.", **said)
            case _:
                line = self.say("💸 {payer} is paying {payee} {amount}.", **said)
        return lines([line, self._what_for(memo)])

    def card_of_split(
        self,
        requester: str,
        parts: Sequence[tuple[str, Money, str]],
        money: Money,
        paid_minor: int,
        memo: str,
        state: str,
    ) -> Text:
        """``parts``: who owes how much, and how far they are (an answer, or ``left``)."""
        said = {"requester": value(requester), "amount": self.money(money)}
        head = self.say("🧾 {requester} splits {amount}.", **said)
        how = EMPTY if state == "open" else joined([value("–"), self.state(state)])
        shown = [
            joined([value(_MARKS.get(answer, "•")), value(user_id), self.money(part), self._answer(answer)])
            for user_id, part, answer in parts
        ]
        return lines([joined([head, how]), self._what_for(memo), *shown, self._progress(money, paid_minor)])

    def card_of_goal(self, requester: str, money: Money, paid_minor: int, people: int, memo: str, state: str) -> Text:
        said = {"requester": value(requester), "amount": self.money(money)}
        head = self.say("🎯 {requester} collects {amount}.", **said)
        how = EMPTY if state == "open" else joined([value("–"), self.state(state)])
        by = self.say_many("{count} person has put something in.", "{count} people have put something in.", people)
        return lines(
            [joined([head, how]), self._what_for(memo), self._progress(money, paid_minor), *([by] if people else [])]
        )

    def _progress(self, money: Money, paid_minor: int) -> Text:
        filled = min(_BAR, _BAR * paid_minor // money.amount_minor)
        asset = self._assets[money.currency]
        return joined(
            [
                value("▰" * filled + "▱" * (_BAR - filled)),
                self.say(
                    "{paid} of {amount}",
                    paid=amounts.show_minor(paid_minor, asset, self.locale),
                    amount=amounts.show_minor(money.amount_minor, asset, self.locale),
                ),
            ]
        )

    def _answer(self, answer: str) -> Text:
        match answer:
            case "paying":
                return self.say("(on its way)")
            case "declined":
                return self.say("(declined)")
            case "excused":
                return self.say("(let off)")
            case "left":
                return self.say("(left the room)")
            case _:
                return EMPTY

    def card_of_gift(
        self,
        giver: str,
        money: Money,
        shares: int,
        got: Sequence[tuple[str, Money]],
        memo: str,
        state: str,
        luckiest: str | None,
    ) -> Text:
        """``got``: who has claimed how much, so far."""
        head = self.say_many(
            "🧧 {giver} gives {amount}, to one of you.",
            "🧧 {giver} gives {amount}, in {count} shares.",
            shares,
            giver=value(giver),
            amount=self.money(money),
        )
        taken = self.say("{taken} of {shares} are taken.", taken=len(got), shares=shares)
        shown = [joined([value("•"), value(user_id), self.money(part)]) for user_id, part in got[-_SHOWN_CLAIMS:]]
        if luckiest is not None:
            shown.append(self.say("🍀 {person} was the luckiest.", person=value(luckiest)))
        match state:
            case "open":
                end = self.say("Write `!claim` to have a share.")
            case "emptied":
                end = self.say("That was all of it.")
            case _:
                end = self.say("It is over; what was left went back to {giver}.", giver=value(giver))
        return lines([head, self._what_for(memo), taken, *shown, end])

    def card_of_request(self, requester: str, asked: Sequence[str], money: Money, memo: str, state: str) -> Text:
        said = {
            "requester": value(requester),
            "asked": joined([value(each) for each in asked], between=", "),
            "amount": self.money(money),
        }
        line = self.say("🧾 {requester} asks {asked} for {amount}.", **said)
        how = EMPTY if state == "open" else joined([value("–"), self.state(state)])
        return lines([joined([line, how]), self._what_for(memo)])

    def how_to_give(self) -> Text:
        return self.say(
            "Say it in the room that the gift is for, as in `!gift 10 in 5 happy new year`: 10 in five random shares. "
            "`!gift 10 in 5 equal` makes them equal."
        )

    def gave(self, money: Money, shares: int) -> Text:
        return self.say_many(
            "{amount} lie there for whoever is first. What nobody takes in a day comes back.",
            "{amount} lie there in {count} shares. What nobody takes in a day comes back.",
            shares,
            amount=self.money(money),
        )

    def what_to_claim(self) -> Text:
        return self.say(
            "There is no gift to claim. Say `!claim` in the room of a gift, or here `claim` and the link that you got."
        )

    def claimed(self, giver: str, money: Money, state: str) -> Text:
        said = {"amount": self.money(money), "giver": value(giver)}
        match state:
            case "paid":
                return self.say("You got {amount} from {giver}.", **said)
            case "failed":
                return self.say("{amount} from {giver} could not be paid to you. Try again later.", **said)
            case _:
                return self.say("{amount} from {giver} are on their way to you.", **said)

    def how_to_link(self) -> Text:
        return self.say(
            "Say how much, as in `link 20 welcome`; `link 20 @bob:example.org` also writes to them. Whoever gets the "
            "link can claim the money, with an account that they may make for it."
        )

    def linked(self, money: Money, url: str, told: str | None, until_ms: int) -> Text:
        said = self.say("{amount} lie under this link: {url}", amount=self.money(money), url=link(url, url))
        how = (
            self.say("Send it to one person; whoever has it can claim the money.")
            if told is None
            else self.say("I have written to {person} how to claim it.", person=value(told))
        )
        return lines([said, how, self.say("If nobody claims it until {time}, it goes back.", time=self.time(until_ms))])

    def how_to_split(self) -> Text:
        return self.say(
            "Say it in the room of those who share, as in `!split 40 dinner`; it is split equally among all in the "
            "room, you too. `!split 40 @bob:example.org dinner` splits with those you name."
        )

    def how_to_collect(self) -> Text:
        return self.say("Say it in the room that you collect in, as in `!collect 200 for the boat`.")

    def asked_together(self, money: Money, parts: Sequence[tuple[str, Money]]) -> Text:
        if not parts:
            return self.say(
                "You collect {amount} in that room; the card there shows how far it is.", amount=self.money(money)
            )
        shown = [joined([value("•"), value(user_id), self.money(part)]) for user_id, part in parts]
        return lines([self.say("Of {amount} you ask:", amount=self.money(money)), *shown])

    def reminded(self) -> Text:
        return self.say("I have reminded them in the room.")

    def nobody_to_remind(self) -> Text:
        return self.say("Nobody owes you an answer.")

    def reminder(self, waiting: Sequence[str], money: Money, paid_minor: int, memo: str) -> Text:
        """In a room, to those who have not paid yet; to nobody in particular where a goal is collected for."""
        asked = joined([value(each) for each in waiting], between=", ")
        arrived = self.money(Money(amount_minor=paid_minor, currency=money.currency)) if paid_minor else value("0")
        said = {"paid": arrived, "amount": self.money(money)}
        line = (
            self.say("🔔 {waiting}: this is still open; {paid} of {amount} are paid.", waiting=asked, **said)
            if waiting
            else self.say("🔔 This is still open; {paid} of {amount} are paid.", **said)
        )
        return lines([line, self._what_for(memo)])

    def claim_invitation(self, payer: str, money: Money, memo: str, url: str, until_ms: int) -> Text:
        """For somebody who may never have heard of us."""
        said = {"payer": value(payer), "amount": self.money(money)}
        return lines(
            [
                self.say("{payer} has put {amount} aside for you.", **said),
                self._what_for(memo),
                self.say("To claim it, open this page, which says how: {url}", url=link(url, url)),
                self.say(
                    "With an account on a homeserver that has the Super App you can also write `claim` and that link "
                    "to its assistant. Whoever has the link can claim the money, so pass it on to nobody."
                ),
                self.say("If nobody claims it until {time}, it goes back.", time=self.time(until_ms)),
            ]
        )

    def card_of_missed_call(self, caller: str, at_ms: int) -> Text:
        return self.say(
            "📞 {caller} called, and nobody answered ({time}).", caller=value(caller), time=self.time(at_ms)
        )

    def card_of_contact(self, sharer: str, handle: str) -> Text:
        return self.say("👤 {person} shares a contact: {handle}", person=value(sharer), handle=value(handle))

    def card_of_paid_call(
        self, caller: str, callee: str, price: Money, talked_ms: int, paid_minor: int, *, is_over: bool
    ) -> Text:
        said = {"caller": value(caller), "callee": value(callee), "amount": self.money(price)}
        if not is_over:
            return self.say("📞 {caller} is in a call with {callee} for {amount} a minute.", **said)
        seconds = talked_ms // 1_000
        return self.say(
            "📞 {caller} was in a call with {callee} for {time}, at {amount} a minute, and paid {sum}.",
            **said,
            time=f"{seconds // 60}:{seconds % 60:02}",
            sum=amounts.show_minor(paid_minor, self._assets[price.currency], self.locale),
        )

    def card_of_deposit(self, payer: str, recipient: str, money: Money, state: str) -> Text:
        said = {"payer": value(payer), "recipient": value(recipient), "amount": self.money(money)}
        match state:
            case "returned":
                return self.say("🤝 {payer} had put down {amount} to reach {recipient}; it came back.", **said)
            case "kept":
                return self.say("🤝 {payer} had put down {amount} to reach {recipient}; it was kept.", **said)
            case _:
                return self.say(
                    "🤝 {payer} has put down {amount} to reach {recipient}. It goes back when {recipient} answers.",
                    **said,
                )

    # People.

    def found(self, people: Sequence[Person]) -> Text:
        return lines([self.say("I found:"), *[joined([value("•"), self.person(each)]) for each in people]])

    def whom_to_find(self) -> Text:
        return self.say("Whom are you looking for? Write it as in `find bob`.")

    def handles(self, handles: Sequence[str]) -> Text:
        shown = [joined([value("•"), exact(each)]) for each in handles]
        return lines(
            [
                self.say_many("Your handle:", "Your {count} handles, the first one is shown:", len(handles)),
                *shown,
                self.say("People find you by it and can pay you. Choose others in the web app."),
            ]
        )

    def contacts(self, handles: Sequence[str]) -> Text:
        if not handles:
            return self.say("You have no contacts yet. Say `contacts add @bob:example.org` to add one.")
        shown = [joined([value("•"), exact(each)]) for each in handles]
        return lines([self.say_many("You have {count} contact:", "You have {count} contacts:", len(handles)), *shown])

    def contact_added(self, handle: str) -> Text:
        return self.say("{person} is in your contacts now.", person=exact(handle))

    def contact_removed(self, handle: str) -> Text:
        return self.say("{person} is no longer in your contacts.", person=exact(handle))

    def follows(self, following: Sequence[str], followers: Sequence[str]) -> Text:
        shown: list[Text] = []
        if following:
            shown.append(self.say_many("You follow {count} person:", "You follow {count} people:", len(following)))
            shown += [joined([value("•"), exact(each)]) for each in following]
        else:
            shown.append(self.say("You follow nobody yet. Say `follow @bob:example.org` to follow somebody."))
        if followers:
            shown.append(self.say_many("{count} person follows you:", "{count} people follow you:", len(followers)))
            shown += [joined([value("•"), exact(each)]) for each in followers]
        else:
            shown.append(self.say("Nobody is known to follow you."))
        return lines(shown)

    def followed(self, handle: str, *, is_mutual: bool) -> Text:
        if is_mutual:
            return self.say("You follow {person} now, and they follow you.", person=exact(handle))
        return self.say("You follow {person} now.", person=exact(handle))

    def not_followed(self) -> Text:
        return self.say("You do not follow them. Say `follow` to see whom you follow.")

    def unfollowed(self, handle: str) -> Text:
        return self.say("You follow {person} no more.", person=exact(handle))

    # Calls.

    def calls(self, calls: Sequence[CallLine]) -> Text:
        if not calls:
            return self.say("There are no calls yet. Say `call @bob` to go to the place to call from.")
        return lines([self.say("Your last calls:"), *map(self._call_line, calls)])

    def _call_line(self, call: CallLine) -> Text:
        said = {"person": exact(call.other), "time": self.time(call.at_ms), "outcome": self.outcome(call.outcome)}
        if call.incoming:
            return self.say("{time}: from {person}, {outcome}", **said)
        return self.say("{time}: to {person}, {outcome}", **said)

    def outcome(self, outcome: str) -> Text:
        match outcome:
            case "answered":
                return self.say("answered")
            case "declined":
                return self.say("declined")
            case "missed":
                return self.say("missed")
            case "cancelled":
                return self.say("cancelled")
            case "busy":
                return self.say("busy")
            case "failed":
                return self.say("failed")
            case "screened":
                return self.say("not let through by your call policy")
            case _:
                return self.say("ringing")

    def call_from(self, person: Person, url: str) -> Text:
        return self.say(
            "Open {url} and press the call button there; I cannot hold the telephone for you.",
            url=link(url, person.handle),
        )

    def call_link(self, url: str) -> Text:
        return self.say("Whoever opens this link comes into your call: {url}", url=link(url, url))

    def paid_call_link(self, url: str, price: Money) -> Text:
        return self.say(
            "Whoever opens this link comes into your call, and pays you {amount} a minute: {url}",
            amount=self.money(price),
            url=link(url, url),
        )

    def paid_call_link_needs_amount(self) -> Text:
        return self.say("Say what a minute costs, as in `paid call link 1 EUR lesson`.")

    def which_call(self) -> Text:
        return self.say("Say which call: `enter call` and the link that you were given.")

    def call_behind(self, title: str, host: str, url: str, reference: str, price: Money | None) -> Text:
        """What a link leads to, and how its price is confirmed. ``reference`` is the link without its page."""
        named = strong(title) if title else self.say("a call")
        if price is None:
            return self.say(
                "{call} of {person} costs you nothing. Come in here: {url}",
                call=named,
                person=strong(host),
                url=link(url, url),
            )
        return self.say(
            "A minute in {call} costs {amount}, which {person} gets. Say `enter call {reference} {plain}` to confirm "
            "that.",
            call=named,
            amount=self.money(price),
            person=strong(host),
            reference=reference,
            plain=amounts.show(price, self._assets, self.locale),
        )

    def entry_confirmed(self, url: str, price: Money, most: Money, aside: Money) -> Text:
        return self.say(
            "Confirmed: {amount} a minute, {most} at most. Come in within half an hour: {url}. {aside} are set aside, "
            "and what the call does not cost comes back.",
            amount=self.money(price),
            most=self.money(most),
            aside=self.money(aside),
            url=link(url, url),
        )

    def live_room(self, url: str) -> Text:
        return self.say(
            "Whoever opens this link listens in your live room, and asks to speak by raising their hand: {url}",
            url=link(url, url),
        )

    def call_links(self, links: Sequence[tuple[str, str, Money | None]]) -> Text:
        """``links``: titles, addresses and what a minute costs."""
        if not links:
            return self.say("You have no links into calls. `call link` makes one.")
        shown: list[Text] = []
        for title, url, price in links:
            line = self.say("{title}: {url}", title=strong(title), url=link(url, url)) if title else link(url, url)
            costs = () if price is None else (self.say("({amount} a minute)", amount=self.money(price)),)
            shown.append(joined([line, *costs]))
        return lines([self.say("Your links into calls:"), *shown])

    def asked_back(self, person: str) -> Text:
        return self.say("{person} has been asked to call you back.", person=strong(person))

    def nobody_calls_back(self) -> Text:
        return self.say("You have called nobody in vain of late who offers to call back.")

    def call_policy(self, who: Sequence[str]) -> Text:
        return lines(
            [
                self.say("Who may call you: {who}.", who=self._who(who)),
                self.say(
                    "Choose with `call policy` and one or more of: everyone, contacts, shared rooms, verified, nobody."
                ),
            ]
        )

    def call_policy_set(self, who: Sequence[str]) -> Text:
        return self.say("From now on these may call you: {who}.", who=self._who(who))

    def call_price(self, who: str, price: Money | None) -> Text:
        if price is None:
            return self.say("Calls with {person} cost you nothing.", person=strong(who))
        return self.say(
            "A minute of a call with {person} costs {amount}. Say `call price {who} {plain}` to confirm that for your "
            "next call.",
            person=strong(who),
            amount=self.money(price),
            who=who,
            plain=amounts.show(price, self._assets, self.locale),
        )

    def call_confirmed(self, who: str, price: Money, most: Money, aside: Money) -> Text:
        return self.say(
            "Confirmed: {amount} a minute, {most} at most. Ring {person} within five minutes. {aside} are set aside, "
            "and what the call does not cost comes back.",
            amount=self.money(price),
            most=self.money(most),
            person=strong(who),
            aside=self.money(aside),
        )

    def call_is_ending(self, other: str, seconds: int) -> Text:
        return self.say(
            "Your call with {person} ends in {seconds} seconds: what was confirmed for it, or the money, is used up.",
            person=strong(other),
            seconds=seconds,
        )

    def own_call_price(self, price: Money | None) -> Text:
        if price is None:
            return self.say(
                "You ask no price for calls. `call price` with an amount asks so much a minute of people whom your "
                "call policy does not let through."
            )
        return self.say(
            "Whom your call policy does not let through pays {amount} a minute to call you. `call price off` takes "
            "that back.",
            amount=self.money(price),
        )

    def deposit_asked(self, who: str, money: Money | None) -> Text:
        if money is None:
            return self.say("{person} asks no deposit of you.", person=strong(who))
        return self.say(
            "{person} asks strangers for a deposit of {amount}. Say `deposit {who} {plain}` to put it down; it comes "
            "back when you are answered.",
            person=strong(who),
            amount=self.money(money),
            who=who,
            plain=amounts.show(money, self._assets, self.locale),
        )

    def deposit_is_down(self, who: str) -> Text:
        return self.say("Your deposit is put down. You can write to {person} now.", person=strong(who))

    def own_deposits(self, asked: Money | None, waiting: Sequence[tuple[str, Money]]) -> Text:
        policy = (
            self.say(
                "You ask strangers for no deposit. `deposit` with an amount asks for one before they can reach you."
            )
            if asked is None
            else self.say(
                "Strangers put down {amount} before they can reach you. `deposit off` takes that back.",
                amount=self.money(asked),
            )
        )
        return lines(
            [
                policy,
                *(self.deposit_waits(who, money) for who, money in waiting),
            ]
        )

    def deposit_waits(self, who: str, money: Money) -> Text:
        return self.say(
            "{person} has put down {amount}. Answer them, or say `deposit accept {who}` or `deposit spam {who}`.",
            person=strong(who),
            amount=self.money(money),
            who=who,
        )

    def no_deposit_of(self, who: str) -> Text:
        return self.say("No deposit of {person} waits for you.", person=strong(who))

    def deposit_decided(self, who: str, *, kept: bool) -> Text:
        if kept:
            return self.say("The deposit of {person} is kept.", person=strong(who))
        return self.say("The deposit of {person} goes back to them.", person=strong(who))

    def pay_policy(self, who: Sequence[str], *, asks: bool) -> Text:
        how = (
            self.say("Before you get the money you are asked. `who may pay me auto` takes it at once.")
            if asks
            else self.say("Money is taken at once. `who may pay me ask` lets me ask you each time.")
        )
        return lines(
            [
                self.say("Who may pay you and ask you for money: {who}.", who=self._who(who)),
                how,
                self.say("Choose with `who may pay me` and one or more of: everyone, contacts, shared rooms, nobody."),
            ]
        )

    def pay_policy_set(self, who: Sequence[str], *, asks: bool) -> Text:
        how = self.say("You are asked each time.") if asks else self.say("Money is taken at once.")
        return lines([self.say("From now on these may pay you: {who}.", who=self._who(who)), how])

    def _who(self, who: Sequence[str]) -> Text:
        named = {
            "everyone": self.say("everyone"),
            "contacts": self.say("your contacts"),
            "following": self.say("people you follow"),
            "verified": self.say("verified people"),
            "shared_rooms": self.say("people in rooms with you"),
            "nobody": self.say("nobody"),
        }
        return joined([named.get(each, value(each)) for each in who], between=", ")

    # Languages.

    def languages(self) -> Text:
        shown = [joined([value("•"), strong(tag), value(name)]) for tag, name in LANGUAGES.items()]
        return lines([self.say("I speak:"), *shown, self.say("Choose as in `lang de`.")])

    def language_set(self) -> Text:
        return self.say("From now on I speak English with you.")
