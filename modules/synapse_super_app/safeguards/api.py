"""What people do with the safeguards of their wallet, and operators with limits, over HTTP.

A PIN is never logged and never answered. What loosens takes the PIN, or a session that has just begun.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId, parse_user_id
from super_app.money import MAX_AMOUNT_MINOR, AssetCode
from super_app.safeguards import passkey_store, rules
from super_app.safeguards.model import Direction, Passkey, Safeguard, Settings, Use, Window
from super_app.safeguards.service import Safeguards
from super_app.sessions import service as sessions
from super_app.wire import WireModel, is_text
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.passkeys import Passkeys
from synapse_super_app.safeguards.pins import Pins

PinText = Annotated[str, Field(max_length=64, description="4 to 8 digits.")]
_Minor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
_TRIED = (Reason.PIN_NOT_SET, Reason.PIN_WRONG, Reason.PIN_LOCKED)


class SetPinBody(WireModel):
    """``current`` is the PIN until now, where there is one."""

    pin: PinText
    current: PinText | None = None


class PinBody(WireModel):
    pin: PinText


class AskForPinBody(WireModel):
    """When to ask for the PIN, besides when the operator says. What is left out stays."""

    pin: PinText
    above: Annotated[
        dict[str, _Minor] | None, Field(description="Amounts by currency; with none, at every payment.")
    ] = None
    new_payee: bool | None = None


class AddPasskeyBody(WireModel):
    """``credential`` is what ``navigator.credentials.create()`` gave, as JSON."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    credential: dict[str, Any]


class NewPasskeyJson(BaseModel):
    """``public_key`` goes to ``navigator.credentials.create()`` of a browser."""

    public_key: dict[str, Any]


class PasskeyJson(BaseModel):
    credential_id: str
    name: str
    created_ts: int
    used_ts: int | None

    @classmethod
    def of(cls, passkey: Passkey) -> Self:
        return cls(
            credential_id=passkey.credential_id,
            name=passkey.name,
            created_ts=passkey.created_ms,
            used_ts=passkey.used_ms,
        )


class PasskeysJson(BaseModel):
    passkeys: list[PasskeyJson]


class LostJson(BaseModel):
    """``sessions_ended`` is false where sign-in is delegated: there the account service ends them."""

    locked_since: int
    sessions_ended: bool


class TierBody(WireModel):
    """None is the default tier."""

    tier: str | None = None


class CountryBody(WireModel):
    """None forgets it."""

    country: str | None = None


class CountryJson(BaseModel):
    user_id: str
    country: str | None = None
    served: bool


class LimitJson(BaseModel):
    direction: Direction
    window: Window
    currency: str
    limit: int
    used: int

    @classmethod
    def of(cls, use: Use) -> Self:
        return cls(
            direction=use.direction,
            window=use.window,
            currency=use.currency,
            limit=use.limit_minor,
            used=use.used_minor,
        )


class SafeguardsJson(BaseModel):
    pin_set: bool
    pin_locked_until: int | None
    pin_above: dict[str, int]
    """Above which amounts the PIN is asked for, by whoever said it."""
    pin_new_payee: bool
    locked_since: int | None
    careful_until: int | None
    """Until then small amounts only, after a lock."""
    tier: str
    limits: list[LimitJson]


class TierJson(BaseModel):
    user_id: str
    tier: str


class SafeguardsApi:
    def __init__(
        self,
        *,
        runtime: Runtime,
        writer: LedgerWriter,
        safeguards: Safeguards,
        pins: Pins,
        passkeys: Passkeys,
        settings: Settings,
    ) -> None:
        self._passkeys = passkeys
        self._runtime = runtime
        self._writer = writer
        self._safeguards = safeguards
        self._pins = pins
        self._settings = settings
        self._assets = runtime.config.payments.by_code()

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="wallet/safeguards",
                handler=self._get,
                response=SafeguardsJson,
                summary="What guards your wallet: PIN, lock, limits and what is used of them",
            ),
            Route(
                method="PUT",
                path="wallet/pin",
                handler=self._set_pin,
                response=SafeguardsJson,
                body=SetPinBody,
                summary="Set your PIN, or change it with the one until now",
                reasons=(Reason.PIN_UNFIT, Reason.PIN_REQUIRED, Reason.CONFLICT, *_TRIED),
            ),
            Route(
                method="DELETE",
                path="wallet/pin",
                handler=self._drop_pin,
                response=SafeguardsJson,
                auth=Auth.FRESH,
                summary="Forget your PIN, if you have forgotten it; for a day only small amounts can be sent",
            ),
            Route(
                method="PUT",
                path="wallet/safeguards",
                handler=self._ask_for_pin,
                response=SafeguardsJson,
                body=AskForPinBody,
                summary="Say when you want to be asked for your PIN",
                reasons=(Reason.UNKNOWN_CURRENCY, *_TRIED),
            ),
            Route(
                method="POST",
                path="wallet/lock",
                handler=self._lock,
                response=SafeguardsJson,
                summary="Send nothing more, for instance because a phone was lost; end the other sessions as well",
            ),
            Route(
                method="POST",
                path="wallet/lost",
                handler=self._lose,
                response=LostJson,
                summary="A device was lost: send nothing more, forget the passkeys, end all sessions but this one",
            ),
            Route(
                method="GET",
                path="wallet/passkeys",
                handler=self._list_passkeys,
                response=PasskeysJson,
                summary="The passkeys that confirm payments of yours in the place of the PIN",
            ),
            Route(
                method="POST",
                path="wallet/passkeys/begin",
                handler=self._begin_passkey,
                response=NewPasskeyJson,
                body=PinBody,
                summary="Begin to add a passkey; takes the PIN",
                reasons=(Reason.PASSKEY_REFUSED, *_TRIED),
            ),
            Route(
                method="POST",
                path="wallet/passkeys",
                handler=self._add_passkey,
                response=PasskeysJson,
                body=AddPasskeyBody,
                summary="Add the passkey that a device has made",
                reasons=(Reason.PASSKEY_REFUSED,),
            ),
            Route(
                method="DELETE",
                path="wallet/passkeys/{credential_id}",
                handler=self._drop_passkey,
                response=PasskeysJson,
                summary="Take a passkey away",
            ),
            Route(
                method="POST",
                path="wallet/unlock",
                handler=self._unlock_by_pin,
                response=SafeguardsJson,
                body=PinBody,
                summary="Unlock it with your PIN; for a day only small amounts can be sent",
                reasons=_TRIED,
            ),
            Route(
                method="POST",
                path="wallet/unlock/fresh",
                handler=self._unlock,
                response=SafeguardsJson,
                auth=Auth.FRESH,
                summary="Unlock it from a session that has just begun; for a day only small amounts can be sent",
            ),
            Route(
                method="PUT",
                path="admin/people/{user_id}/tier",
                handler=self._put_in_tier,
                response=TierJson,
                auth=Auth.ADMIN,
                body=TierBody,
                summary="Put a person under other limits",
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
            Route(
                method="PUT",
                path="admin/people/{user_id}/country",
                handler=self._put_in_country,
                response=CountryJson,
                auth=Auth.ADMIN,
                body=CountryBody,
                summary="Say where a person is at home, as you have found out, for payments.jurisdictions",
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
            Route(
                method="DELETE",
                path="admin/people/{user_id}/pin",
                handler=self._drop_pin_of,
                response=TierJson,
                auth=Auth.ADMIN,
                summary="Make a person's PIN be forgotten, once you know who asks; for a day only small amounts",
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
        )

    async def _get(self, call: Call) -> SafeguardsJson:
        return await self._of(await self._acct(call))

    async def _set_pin(self, call: Call) -> SafeguardsJson | Refused:
        body: SetPinBody = call.body
        unfit = rules.judge_new_pin(body.pin)
        if unfit is not None:
            return unfit
        acct = await self._acct(call)
        found = await self._runtime.database.run("safeguards", lambda cur: self._safeguards.find(cur, acct))
        if found.pin is not None:
            refused = _current_is_missing() if body.current is None else await self._pins.prove(acct, body.current)
            if refused is not None:
                return refused
        pin_hash, before = await self._pins.hashed(body.pin), found.pin
        now_ms = self._runtime.now_ms()
        done = await self._writer.run(
            "pin_set", lambda cur: self._safeguards.set_pin(cur, acct, pin_hash, before, now_ms)
        )
        return done if isinstance(done, Refused) else await self._of(acct)

    async def _drop_pin(self, call: Call) -> SafeguardsJson:
        acct, now_ms = await self._acct(call), self._runtime.now_ms()
        await self._writer.run("pin_drop", lambda cur: self._safeguards.drop_pin(cur, acct, now_ms))
        return await self._of(acct)

    async def _ask_for_pin(self, call: Call) -> SafeguardsJson | Refused:
        body: AskForPinBody = call.body
        unknown = sorted(set(body.above or ()).difference(self._assets))
        if unknown:
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY, message=f"This homeserver does not pay in {unknown[0][:16]!r}."
            )
        acct = await self._acct(call)
        refused = await self._pins.prove(acct, body.pin)
        if refused is not None:
            return refused
        above = None if body.above is None else {AssetCode(code): most for code, most in body.above.items()}
        done = await self._writer.run(
            "pin_ask", lambda cur: self._safeguards.ask_for_pin(cur, acct, above=above, new_payee=body.new_payee)
        )
        return done if isinstance(done, Refused) else await self._of(acct)

    async def _lock(self, call: Call) -> SafeguardsJson:
        acct, now_ms = await self._acct(call), self._runtime.now_ms()
        await self._writer.run("wallet_lock", lambda cur: self._safeguards.lock(cur, acct, now_ms))
        return await self._of(acct)

    async def _lose(self, call: Call) -> LostJson:
        # First the money, then the sessions: a homeserver that stops in between has done what matters.
        acct, now_ms = await self._acct(call), self._runtime.now_ms()
        await self._writer.run("wallet_lock", lambda cur: self._safeguards.lock(cur, acct, now_ms))
        if self._runtime.config.features.web:
            await self._runtime.database.run(
                "sessions_end", lambda cur: sessions.end_sessions(cur, acct=acct, now_ms=now_ms)
            )
        ended = await self._runtime.private.end_sessions(call.user_id, call.device_id)
        return LostJson(locked_since=now_ms, sessions_ended=ended)

    async def _list_passkeys(self, call: Call) -> PasskeysJson:
        return await self._passkeys_of(await self._acct(call))

    async def _begin_passkey(self, call: Call) -> NewPasskeyJson | Refused:
        body: PinBody = call.body
        acct = await self._acct(call)
        refused = await self._pins.prove(acct, body.pin)
        if refused is not None:
            return refused
        options = await self._passkeys.begin(acct, call.user_id)
        return options if isinstance(options, Refused) else NewPasskeyJson(public_key=options)

    async def _add_passkey(self, call: Call) -> PasskeysJson | Refused:
        body: AddPasskeyBody = call.body
        if not is_text(body.name):
            return Refused(reason=Reason.INVALID_VALUE, message="name contains a NUL character; remove it.")
        acct = await self._acct(call)
        added = await self._passkeys.register(acct, body.name, body.credential)
        return added if isinstance(added, Refused) else await self._passkeys_of(acct)

    async def _drop_passkey(self, call: Call) -> PasskeysJson:
        acct, credential_id = await self._acct(call), call.path["credential_id"]
        await self._writer.run("passkey_drop", lambda cur: passkey_store.drop(cur, acct, credential_id))
        return await self._passkeys_of(acct)

    async def _passkeys_of(self, acct: Acct) -> PasskeysJson:
        found = await self._runtime.database.run("passkeys", lambda cur: passkey_store.of(cur, acct))
        return PasskeysJson(passkeys=[PasskeyJson.of(each) for each in found])

    async def _unlock_by_pin(self, call: Call) -> SafeguardsJson | Refused:
        body: PinBody = call.body
        refused = await self._pins.prove(await self._acct(call), body.pin)
        return refused or await self._unlock(call)

    async def _unlock(self, call: Call) -> SafeguardsJson:
        acct, now_ms = await self._acct(call), self._runtime.now_ms()
        await self._writer.run("wallet_unlock", lambda cur: self._safeguards.unlock(cur, acct, now_ms))
        return await self._of(acct)

    async def _put_in_tier(self, call: Call) -> TierJson | Refused:
        body: TierBody = call.body
        person = await self._person(call)
        if isinstance(person, Refused):
            return person
        acct = await self._runtime.accounts.acct_of(person)
        done = await self._writer.run("tier", lambda cur: self._safeguards.put_in_tier(cur, acct, body.tier))
        return done if isinstance(done, Refused) else self._tier(person, done)

    async def _put_in_country(self, call: Call) -> CountryJson | Refused:
        body: CountryBody = call.body
        person = await self._person(call)
        if isinstance(person, Refused):
            return person
        acct = await self._runtime.accounts.acct_of(person)
        refused = await self._writer.run(
            "country", lambda cur: self._safeguards.put_in_country(cur, acct, body.country)
        )
        if refused is not None:
            return refused
        served = rules.judge_country(body.country, self._settings) is None
        return CountryJson(user_id=person, country=body.country, served=served)

    async def _drop_pin_of(self, call: Call) -> TierJson | Refused:
        person = await self._person(call)
        if isinstance(person, Refused):
            return person
        acct, now_ms = await self._runtime.accounts.acct_of(person), self._runtime.now_ms()
        done = await self._writer.run("pin_drop", lambda cur: self._safeguards.drop_pin(cur, acct, now_ms))
        return self._tier(person, done)

    async def _acct(self, call: Call) -> Acct:
        return await self._runtime.accounts.acct_of(call.user_id)

    async def _person(self, call: Call) -> UserId | Refused:
        user_id, api = parse_user_id(call.path["user_id"]), self._runtime.api
        if user_id is None or not api.is_mine(user_id) or await api.check_user_exists(user_id) is None:
            return Refused(
                reason=Reason.UNKNOWN_PAYEE, message=f"{call.path['user_id'][:255]!r} is no account of this homeserver."
            )
        return user_id

    def _tier(self, person: UserId, safeguard: Safeguard) -> TierJson:
        return TierJson(user_id=person, tier=safeguard.tier or self._settings.default_tier)

    async def _of(self, acct: Acct) -> SafeguardsJson:
        now_ms = self._runtime.now_ms()
        found, limits = await self._runtime.database.run(
            "safeguards",
            lambda cur: (self._safeguards.find(cur, acct), self._safeguards.limits(cur, acct, now_ms)),
        )
        pin, thresholds = (
            found.pin,
            {code: rules.pin_threshold_minor(found.pin, self._settings, code) for code in self._assets},
        )
        locked_until_ms = None if pin is None else pin.locked_until_ms
        careful_until_ms = found.careful_until_ms
        return SafeguardsJson(
            pin_set=pin is not None,
            pin_locked_until=locked_until_ms if locked_until_ms is not None and locked_until_ms > now_ms else None,
            pin_above={code: above for code, above in thresholds.items() if above is not None},
            pin_new_payee=rules.minds_new_payees(pin, self._settings),
            locked_since=found.locked_ms,
            careful_until=careful_until_ms if careful_until_ms is not None and careful_until_ms > now_ms else None,
            tier=found.tier or self._settings.default_tier,
            limits=[LimitJson.of(use) for use in limits],
        )


def _current_is_missing() -> Refused:
    return Refused(
        reason=Reason.PIN_REQUIRED, message="You have a PIN already; give it as current, or sign in again to drop it."
    )
