"""This homeserver's own handles: first handles of its accounts, claims, releases, and records kept current."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from prometheus_client import Counter

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.db import Cursor
from super_app.directory import custody, custody_store, records, service, store, verification
from super_app.directory.custody_model import Act, Deed, Mandate, Pace, Reservation
from super_app.directory.model import (
    AskedBy,
    Discover,
    Facts,
    FrozenFor,
    Holding,
    Name,
    NewAccount,
    State,
)
from super_app.directory.naming import NamePolicy, normalise, spellings
from super_app.directory.service import Issuer, Wish
from super_app.errors import Refused
from super_app.ids import Acct, UserId, localpart_of
from super_app.signing import canonical, key_id_of
from synapse_super_app.directory.addresses import keyed
from synapse_super_app.directory.profile_field import ProfileField
from synapse_super_app.directory.signer import Signer
from synapse_super_app.directory.takings import PaymentTakings
from synapse_super_app.private_api import SynapseAccount
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_SWEEP_PAGE: Final = 500
_SWEEP_MARGIN_MS: Final = 3_600_000
"""How long an account may have been in the making when the last sweep passed."""
_RENEWAL_BATCH: Final = 50

_changes = Counter("superapp_directory_changes_total", "Claims and releases of handles by outcome.", ["outcome"])
_acts = Counter("superapp_directory_acts_total", "What operators did to handles, by outcome.", ["act", "outcome"])
_frozen = Counter("superapp_directory_frozen_total", "Handles frozen because an account of that localpart appeared.")


class OwnHandles:
    """All that changes or issues what this homeserver says about its own people."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._database = runtime.database
        self._signer: Signer | None = None
        features = runtime.config.features
        self._services = {"chat": True, "call": features.calls, "pay": features.payments}
        settings = runtime.config.directory
        self._policy = NamePolicy(min_length=settings.min_length, reserved=settings.reserved)
        self._takings = PaymentTakings()
        self._profile = ProfileField(runtime)
        self._existing_discover = Discover(settings.existing_users.discover)
        asked = settings.new_users.discover
        # "ask" is exact until the person has answered; ``chosen`` of the holding says whether they have.
        self._new_discover = Discover.EXACT if asked == "ask" else Discover(asked)
        self._installed_ms = 0
        self._renewing = False
        self._renew_again = False

    @property
    def ready(self) -> bool:
        return self._signer is not None

    @property
    def signer(self) -> Signer:
        if self._signer is None:
            raise RuntimeError("the directory has not started yet")
        return self._signer

    @property
    def issuer(self) -> Issuer:
        """For one transaction: another one gets other salts."""
        return self.signer.issuer()

    async def start(self, signer: Signer) -> None:
        """Read or write what is fixed at installation, and sign from now on."""
        now_ms = self._runtime.now_ms()
        if self._runtime.is_main:
            await self._database.run("directory_install", partial(store.install, now_ms=now_ms))
            await signer.settle()
            await self._issue_under(signer)
        self._installed_ms = await self._database.run("directory_installed", store.installed_ms)
        self._signer = signer

    async def _issue_under(self, signer: Signer) -> None:
        terms = canonical({"key": key_id_of(signer.key), "services": self._services}).decode()
        if await self._database.run("directory_terms", partial(store.issue_under, terms=terms)):
            logger.info("Records are issued anew under %s", terms)
            after: Name | None = Name("")
            while after is not None:
                work = partial(verification.sign_anew, issuer=signer.issuer(), after=after, limit=_SWEEP_PAGE)
                after = await self._database.run("directory_badges_anew", work)

    async def rotate_key(self) -> None:
        """A new directory key, which the old one signs; all records are issued anew under it."""
        self.signer.replace()
        await self.signer.settle()
        await self._issue_under(self.signer)
        self.renew_soon()

    # Looking up.

    async def find(self, text: str, by: AskedBy) -> Holding | None:
        """The holding that a name or localpart leads to; an account that nobody has asked about is adopted now."""
        held, account = await self._database.run("directory_find", partial(self._find, text=text, by=by))
        if account is None or (held is not None and held.state is not State.FREE):
            return held
        await self._adopt_now(account)
        held, _ = await self._database.run("directory_find", partial(self._find, text=text, by=by))
        return held

    def _find(self, cur: Cursor, text: str, by: AskedBy) -> tuple[Holding | None, UserId | None]:
        """The holding, and the account of that name. Both are looked for anyway, so that the time tells nothing."""
        held = service.find(cur, text, by)
        user_ids = [UserId(f"@{name}:{self._runtime.server_name}") for name in spellings(text)]
        is_there = [self._runtime.private.is_deactivated(cur, user_id) is not None for user_id in user_ids]
        return held, next((user_id for user_id, there in zip(user_ids, is_there, strict=True) if there), None)

    async def record(self, held: Holding) -> Mapping[str, Any] | None:
        """The signed record of a holding, current; None if it changed hands in this moment."""
        facts = await self.facts(held.user_id)
        now_ms = self._runtime.now_ms()
        current = service.up_to_date(held, self.issuer.server, facts, now_ms)
        if current is not None:
            return current
        return await self._database.run(
            "directory_issue",
            partial(
                service.current_record, issuer=self.issuer, acct=held.acct, name=held.name, facts=facts, now_ms=now_ms
            ),
        )

    async def services(self, held: Holding) -> dict[str, Any]:
        """The signed services part of a hidden person, whose acct is in use from now on."""
        await self._runtime.accounts.ensure(held.user_id)
        facts = await self.facts(held.user_id)
        now_ms = self._runtime.now_ms()
        return records.services_part(held, self.issuer.server, facts, self.issuer.key, issued_ms=now_ms)

    async def holdings(self, user_id: UserId) -> tuple[Holding, ...]:
        """The names of a local account that it has not given up for good."""
        acct = await self.acct_of(user_id)
        return await self._database.run("directory_mine", partial(store.holdings_of, acct=acct))

    async def acct_of(self, user_id: UserId) -> Acct:
        """The acct of a local account, which has its first handle from now on."""
        acct = await self._runtime.accounts.acct_of(user_id)
        held = await self._database.run("directory_first", partial(store.holding, name=Name(localpart_of(user_id))))
        if held is None:
            await self._adopt_now(user_id)
        return acct

    async def adopted(self, user_id: UserId) -> bool:
        """Whether somebody has an account with its first handle, now if not before. It is not in use by that."""
        held = await self._database.run("directory_first", partial(store.holding, name=Name(localpart_of(user_id))))
        if held is None or held.user_id != user_id:
            await self._adopt_now(user_id)
        return await self._database.run("account_known", partial(accounts.by_user_id, user_id=user_id)) is not None

    # Changing.

    async def put(self, user_id: UserId, text: str, wish: Wish, address: str) -> Mapping[str, Any] | Refused:
        acct = await self.acct_of(user_id)
        facts = await self.facts(user_id)
        now_ms = self._runtime.now_ms()
        pace = self._pace(address)

        def work(cur: Cursor) -> Mapping[str, Any] | Refused:
            return service.put(
                cur,
                self.issuer,
                acct,
                text,
                wish,
                facts=facts,
                policy=self._policy,
                localpart_of=self._account_called(cur, text),
                default_discover=self._new_discover,
                now_ms=now_ms,
                pace=pace,
            )

        answer = self._counted(await self._database.run("directory_put", work))
        self._profile.refresh(user_id)
        return answer

    async def reserve(self, user_id: UserId, text: str, address: str) -> Reservation | Refused:
        acct = await self.acct_of(user_id)
        now_ms = self._runtime.now_ms()
        pace = self._pace(address)

        def work(cur: Cursor) -> Reservation | Refused:
            localpart_of = self._account_called(cur, text)
            return service.reserve(
                cur, acct, text, policy=self._policy, localpart_of=localpart_of, now_ms=now_ms, pace=pace
            )

        return await self._database.run("directory_reserve", work)

    def _account_called(self, cur: Cursor, text: str) -> UserId | None:
        """The account whose localpart a name is.

        Asked in the same transaction as the claim, so that a registration in the meantime is seen if it committed.
        """
        name = normalise(text)
        owner = None if isinstance(name, Refused) else UserId(f"@{name}:{self.issuer.server}")
        return owner if owner is not None and self._runtime.private.is_deactivated(cur, owner) is not None else None

    def _pace(self, address: str) -> Pace:
        settings = self._runtime.config.directory
        return Pace(
            per_account=settings.claims_per_account,
            per_address=settings.claims_per_address,
            address=keyed(address, self.issuer.key),
        )

    async def release(self, user_id: UserId, text: str) -> Mapping[str, Any] | Refused:
        acct = await self.acct_of(user_id)
        facts = await self.facts(user_id)
        work = partial(
            service.release,
            issuer=self.issuer,
            acct=acct,
            text=text,
            facts=facts,
            takings=self._takings,
            now_ms=self._runtime.now_ms(),
        )
        answer = self._counted(await self._database.run("directory_release", work))
        self._profile.refresh(user_id)
        return answer

    def show_handle(self, user_id: UserId) -> None:
        """Bring what the Matrix profile shows up to date."""
        self._profile.refresh(user_id)

    async def retire(self, user_id: UserId) -> None:
        acct = await self.acct_of(user_id)
        facts = await self.facts(user_id)
        work = partial(
            service.retire,
            issuer=self.issuer,
            acct=acct,
            facts=facts,
            takings=self._takings,
            now_ms=self._runtime.now_ms(),
        )
        await self._database.run("directory_retire", work)

    # Acts of operators.

    async def grant(self, user_id: UserId, text: str, mandate: Mandate) -> Mapping[str, Any] | Refused:
        """Give a name, or settle one that an account contests."""
        acct = await self.acct_of(user_id)
        work = partial(
            custody.grant,
            issuer=self.issuer,
            acct=acct,
            user_id=user_id,
            text=text,
            mandate=mandate,
            facts=await self.facts(user_id),
            discover=self._new_discover,
            now_ms=self._runtime.now_ms(),
        )
        return await self._act(Act.GRANT, work)

    async def revoke(self, text: str, mandate: Mandate) -> Mapping[str, Any] | Refused:
        facts = await self._facts_of_holder(text)
        work = partial(
            custody.revoke, issuer=self.issuer, text=text, mandate=mandate, facts=facts, now_ms=self._runtime.now_ms()
        )
        return await self._act(Act.REVOKE, work)

    async def freeze(
        self, text: str, why: FrozenFor, mandate: Mandate, claimant: UserId | None = None
    ) -> Mapping[str, Any] | Refused:
        work = partial(
            custody.freeze,
            issuer=self.issuer,
            text=text,
            why=why,
            mandate=mandate,
            claimant=claimant,
            facts=await self._facts_of_holder(text),
            now_ms=self._runtime.now_ms(),
        )
        return await self._act(Act.FREEZE, work)

    async def unfreeze(self, text: str, mandate: Mandate) -> Mapping[str, Any] | Refused:
        facts = await self._facts_of_holder(text)
        work = partial(
            custody.unfreeze, issuer=self.issuer, text=text, mandate=mandate, facts=facts, now_ms=self._runtime.now_ms()
        )
        return await self._act(Act.UNFREEZE, work)

    async def transfer(self, text: str, to: UserId, mandate: Mandate) -> Mapping[str, Any] | Refused:
        acct = await self.acct_of(to)
        held = await self._database.run("directory_held", partial(store.first_of, names=spellings(text)))
        facts = {acct: await self.facts(to)}
        if held is not None:
            facts[held.acct] = await self.facts(held.user_id)
        work = partial(
            custody.transfer,
            issuer=self.issuer,
            text=text,
            to=acct,
            mandate=mandate,
            facts=facts,
            discover=self._new_discover,
            now_ms=self._runtime.now_ms(),
        )
        return await self._act(Act.TRANSFER, work)

    async def deeds(self, text: str) -> tuple[Holding | None, tuple[Deed, ...]]:
        """What a name is, and what operators did to it, newest first."""

        def work(cur: Cursor) -> tuple[Holding | None, tuple[Deed, ...]]:
            names = spellings(text)
            held = store.first_of(cur, names)
            about = [deed for name in names for deed in custody_store.deeds_about(cur, name, custody.MAX_PAGE)]
            return held, tuple(about)

        return await self._database.run("directory_deeds", work)

    async def log_of_deeds(self, before: int | None, limit: int) -> tuple[Deed, ...]:
        work = partial(custody_store.deeds, before=before, limit=min(limit, custody.MAX_PAGE))
        return await self._database.run("directory_deeds", work)

    async def _act(
        self, act: Act, work: Callable[[Cursor], Mapping[str, Any] | Refused]
    ) -> Mapping[str, Any] | Refused:
        answer = await self._database.run(f"directory_{act}", work)
        _acts.labels(act.value, answer.reason.value if isinstance(answer, Refused) else "done").inc()
        if not isinstance(answer, Refused):
            self._profile.refresh(UserId(str(answer["user_id"])))
        self.renew_soon()
        return answer

    async def _facts_of_holder(self, text: str) -> Facts:
        held = await self._database.run("directory_held", partial(store.first_of, names=spellings(text)))
        return Facts(msk=None, services=self._services) if held is None else await self.facts(held.user_id)

    async def blocks_registration(self, user_id: UserId) -> bool:
        work = partial(service.blocks_registration, user_id=user_id, now_ms=self._runtime.now_ms())
        return await self._database.run("directory_registration", work)

    @staticmethod
    def _counted(answer: Mapping[str, Any] | Refused) -> Mapping[str, Any] | Refused:
        _changes.labels(answer.reason.value if isinstance(answer, Refused) else "done").inc()
        return answer

    # First handles.

    async def adopt(self, accounts: Sequence[SynapseAccount]) -> None:
        """Give accounts their first handles."""
        if not accounts:
            return
        now_ms = self._runtime.now_ms()
        new = [self._new_account(account, now_ms) for account in accounts]
        frozen = await self._database.run("directory_adopt", partial(service.adopt, accounts=new, now_ms=now_ms))
        for name in frozen:
            _frozen.inc()
            logger.warning(
                "An account @%s:%s came to exist although somebody else has that handle; the handle is frozen, and "
                "nobody can be paid under it until `super-app handle grant %s` gives it to the account",
                name,
                self.issuer.server,
                name,
            )
        self.renew_soon()

    async def adopt_missing(self) -> None:
        """Find accounts that no callback told of: those from before the installation, and any that were missed."""
        started_ms = self._runtime.now_ms()
        known_ms = await self._database.run("directory_known", store.accounts_known_ms)
        since_s = max(0, known_ms - _SWEEP_MARGIN_MS) // 1000
        after = ""
        while True:
            page = await self._database.run(
                "directory_sweep",
                partial(self._runtime.private.accounts_since, created_s=since_s, after=after, limit=_SWEEP_PAGE),
            )
            await self.adopt(page)
            if len(page) < _SWEEP_PAGE:
                break
            after = page[-1].user_id
        await self._database.run("directory_swept", partial(store.set_accounts_known, known_ms=started_ms))

    async def registered(self, user_id: UserId) -> None:
        """An account has come to exist in this moment."""
        await self._adopt_now(user_id)
        if self._new_discover is Discover.PUBLIC:
            self.show_handle(user_id)

    async def _adopt_now(self, user_id: UserId) -> None:
        found = await self._runtime.api.get_userinfo_by_id(user_id)
        if found is None or found.is_guest:
            return
        account = SynapseAccount(
            user_id=user_id,
            created_ms=found.creation_ts * 1000,
            deactivated=found.is_deactivated,
            ghost=found.appservice_id is not None,
        )
        await self.adopt([account])

    def _new_account(self, account: SynapseAccount, now_ms: int) -> NewAccount:
        genesis = Genesis(
            server=self.issuer.server,
            localpart=localpart_of(account.user_id),
            created_ms=now_ms,
            nonce=secrets.token_hex(16),
        )
        if account.ghost or account.deactivated:
            discover = Discover.NONE
        elif account.created_ms < self._installed_ms:
            discover = self._existing_discover
        else:
            discover = self._new_discover
        return NewAccount(
            user_id=account.user_id,
            acct=genesis.acct(),
            genesis=canonical(genesis.content()).decode(),
            name=Name(localpart_of(account.user_id)),
            discover=discover,
            created_ms=now_ms,
        )

    # Renewal.

    def renew_soon(self) -> None:
        """Issue what is due among public records, in the background."""
        if not self._runtime.is_main:
            return
        if self._renewing:
            self._renew_again = True
            return
        self._renewing = True
        self._runtime.api.run_as_background_process("superapp_directory_renew", self._renew)

    async def _renew(self) -> None:
        try:
            self._renew_again = True
            while self._renew_again:
                self._renew_again = False
                await self.renew()
        except Exception:
            logger.exception("Issuing public records anew failed; it is tried again")
        finally:
            self._renewing = False

    async def renew(self) -> None:
        """Issue every public record that is due, a batch a transaction."""
        while True:
            now_ms = self._runtime.now_ms()
            due = await self._database.run(
                "directory_due", partial(store.due_for_renewal, now_ms=now_ms, limit=_RENEWAL_BATCH)
            )
            if not due:
                return
            facts = {held.acct: await self.facts(held.user_id) for held in due}

            work = partial(service.renew, issuer=self.issuer, due=due, facts=facts, now_ms=now_ms)
            await self._database.run("directory_renew", work)

    async def tidy(self) -> None:
        await self._database.run("directory_tidy", partial(service.tidy, now_ms=self._runtime.now_ms()))

    async def facts(self, user_id: UserId) -> Facts:
        return Facts(msk=await self._runtime.private.master_key(user_id), services=self._services)
