"""The admin routes of the ledger: what operators do with people's money, and how they look into the books."""

from collections.abc import Sequence
from typing import Final, LiteralString, Protocol

from super_app.accounts import store as accounts
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId, parse_user_id
from super_app.ledger import journal, operators
from super_app.ledger.model import HOUSE, AccountKey, AccountKind, Entry, Freeze, Statement
from super_app.money import AssetCode, Money, check_money
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.ledger import bodies
from synapse_super_app.ledger.operator_routes import OperatorRoutes
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime

_KINDS: Final = {kind.value: kind for kind in AccountKind}
_OF_PEOPLE: Final = (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.GIFT, AccountKind.CLAIM)
_OF_A_MOVE: Final = (
    Reason.INVALID_AMOUNT,
    Reason.UNKNOWN_CURRENCY,
    Reason.UNKNOWN_PAYEE,
    Reason.INSUFFICIENT_FUNDS,
    Reason.CONFLICT,
    Reason.ENTRY_ARCHIVED,
)


class _Deed(Protocol):
    def __call__(
        self, cur: Cursor, owner: Acct, money: Money, *, reference: str, operator: str, now_ms: int
    ) -> Entry | Refused: ...


class LedgerAdmin(OperatorRoutes):
    def __init__(self, runtime: Runtime, writer: LedgerWriter) -> None:
        super().__init__(runtime, writer)
        self._assets = runtime.config.payments.by_code()

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="admin/burn",
                handler=self._burn,
                response=bodies.EntryJson,
                summary="Take money of a person out of the world; the same reference again changes nothing",
                auth=Auth.ADMIN,
                body=bodies.BurnBody,
                reasons=_OF_A_MOVE,
            ),
            Route(
                method="GET",
                path="admin/fees",
                handler=self._fees,
                response=bodies.FeesJson,
                summary="What the house has earned in fees and not paid to anybody yet",
                auth=Auth.ADMIN,
            ),
            Route(
                method="POST",
                path="admin/fees/pay",
                handler=self._pay_fees,
                response=bodies.EntryJson,
                summary="Give fees that were earned to a person; the same reference again changes nothing",
                auth=Auth.ADMIN,
                body=bodies.PayFeesBody,
                reasons=_OF_A_MOVE,
            ),
            Route(
                method="POST",
                path="admin/correct",
                handler=self._correct,
                response=bodies.EntryJson,
                summary="Take back what an entry moved, by a new entry; the same reference again changes nothing",
                auth=Auth.ADMIN,
                body=bodies.CorrectBody,
                reasons=(
                    Reason.UNKNOWN_ENTRY,
                    Reason.ENTRY_ARCHIVED,
                    Reason.NOT_CORRECTABLE,
                    Reason.CORRECTION_EXCEEDS_ENTRY,
                    Reason.INSUFFICIENT_FUNDS,
                    Reason.CONFLICT,
                ),
            ),
            Route(
                method="POST",
                path="admin/accounts/{user_id}/freeze",
                handler=self._freeze,
                response=bodies.AccountJson,
                summary="Let no payment touch a person's accounts; again it changes nothing",
                auth=Auth.ADMIN,
                body=bodies.ReasonBody,
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
            Route(
                method="POST",
                path="admin/accounts/{user_id}/unfreeze",
                handler=self._unfreeze,
                response=bodies.AccountJson,
                summary="Let a person pay and be paid again",
                auth=Auth.ADMIN,
                body=bodies.ReasonBody,
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
            Route(
                method="GET",
                path="admin/accounts/{user_id}",
                handler=self._account,
                response=bodies.AccountJson,
                summary="Whose account it is, and whether it is frozen",
                auth=Auth.ADMIN,
                reasons=(Reason.UNKNOWN_PAYEE,),
            ),
            Route(
                method="GET",
                path="admin/acts",
                handler=self._acts,
                response=bodies.ActsJson,
                summary="What operators did with the ledger, newest first",
                auth=Auth.ADMIN,
                query=bodies.ActsQuery,
            ),
            Route(
                method="GET",
                path="admin/trial_balance",
                handler=self._trial_balance,
                response=bodies.TrialBalanceJson,
                summary="All accounts, summed by currency and kind",
                auth=Auth.ADMIN,
            ),
            Route(
                method="GET",
                path="admin/statement",
                handler=self._statement,
                response=bodies.StatementJson,
                summary="What happened to an account in a time range, newest first",
                auth=Auth.ADMIN,
                query=bodies.StatementQuery,
                reasons=(Reason.UNKNOWN_PAYEE, Reason.UNKNOWN_CURRENCY),
            ),
            Route(
                method="GET",
                path="admin/verify",
                handler=self._verify,
                response=bodies.VerifiedJson,
                summary="Compute a stretch of the journal again; go on with after=through until done",
                auth=Auth.ADMIN,
                query=bodies.VerifyQuery,
            ),
            Route(
                method="GET",
                path="admin/archives",
                handler=self._archives,
                response=bodies.ArchivesJson,
                summary="The archives of old entries, oldest first",
                auth=Auth.ADMIN,
            ),
            Route(
                method="GET",
                path="admin/archive/plan",
                handler=self._plan,
                response=bodies.PlanJson,
                summary="What an archive of all entries before a time would hold",
                auth=Auth.ADMIN,
                query=bodies.PlanQuery,
                reasons=(Reason.UNKNOWN_ENTRY,),
            ),
            Route(
                method="GET",
                path="admin/archive/lines",
                handler=self._lines,
                response=bodies.LinesJson,
                summary="Lines of an archive's file",
                auth=Auth.ADMIN,
                query=bodies.LinesQuery,
            ),
            Route(
                method="POST",
                path="admin/archive",
                handler=self._archive,
                response=bodies.ArchiveJson,
                summary="Entries are safe in a file: let them leave the database; call again until none is left",
                auth=Auth.ADMIN,
                body=bodies.ArchiveBody,
                reasons=(Reason.ARCHIVE_MISMATCH, Reason.UNKNOWN_ENTRY, Reason.ENTRY_ARCHIVED, Reason.CONFLICT),
            ),
        )

    async def _burn(self, call: Call) -> bodies.EntryJson | Refused:
        return await self._move(call, "burn", operators.burn)

    async def _fees(self, call: Call) -> bodies.FeesJson:
        found, scales = await self._read("fees", lambda cur: (operators.fees(cur), operators.scales(cur)))
        return bodies.FeesJson(
            fees=[
                bodies.FeesOfJson(currency=code, scale=scales.get(code, 0), amount=amount_minor)
                for code, amount_minor in sorted(found.items())
            ]
        )

    async def _pay_fees(self, call: Call) -> bodies.EntryJson | Refused:
        return await self._move(call, "pay_fees", operators.pay_fees)

    async def _move(self, call: Call, name: LiteralString, deed: _Deed) -> bodies.EntryJson | Refused:
        """Move the money that the body names, of or to the person whom it names."""
        body: bodies.BurnBody | bodies.PayFeesBody = call.body
        money = check_money(body.amount, body.currency, self._assets)
        if isinstance(money, Refused):
            return money
        person = await self._person(body.user_id)
        if isinstance(person, Refused):
            return person
        _, acct = person
        return _entry(
            await self._write(
                name,
                lambda cur, now_ms: deed(
                    cur, acct, money, reference=body.reference, operator=call.user_id, now_ms=now_ms
                ),
            )
        )

    async def _correct(self, call: Call) -> bodies.EntryJson | Refused:
        body: bodies.CorrectBody = call.body
        return _entry(
            await self._write(
                "correct",
                lambda cur, now_ms: operators.correct(
                    cur,
                    body.seq,
                    body.amount,
                    reference=body.reference,
                    reason=body.reason,
                    operator=call.user_id,
                    now_ms=now_ms,
                ),
            )
        )

    async def _freeze(self, call: Call) -> bodies.AccountJson | Refused:
        return await self._set_frozen(call, operators.freeze)

    async def _unfreeze(self, call: Call) -> bodies.AccountJson | Refused:
        return await self._set_frozen(call, operators.unfreeze)

    async def _set_frozen(self, call: Call, act: "_FreezeAct") -> bodies.AccountJson | Refused:
        body: bodies.ReasonBody = call.body
        person = await self._person(call.path["user_id"])
        if isinstance(person, Refused):
            return person
        user_id, acct = person
        freeze = await self._write(
            "freeze", lambda cur, now_ms: act(cur, acct, reason=body.reason, operator=call.user_id, now_ms=now_ms)
        )
        return bodies.AccountJson.of(user_id, freeze)

    async def _account(self, call: Call) -> bodies.AccountJson | Refused:
        person = await self._person(call.path["user_id"])
        if isinstance(person, Refused):
            return person
        user_id, acct = person
        freeze = await self._read("freeze_of", lambda cur: operators.freeze_of(cur, acct))
        return bodies.AccountJson.of(user_id, freeze)

    async def _acts(self, call: Call) -> bodies.ActsJson:
        query: bodies.ActsQuery = call.query
        acts = await self._read("acts", lambda cur: operators.acts(cur, query.since, query.limit))
        return bodies.ActsJson(
            acts=[bodies.ActJson.of(act) for act in acts], next=acts[-1].act_id if len(acts) == query.limit else None
        )

    async def _trial_balance(self, call: Call) -> bodies.TrialBalanceJson:
        found, scales = await self._read(
            "trial_balance", lambda cur: (operators.trial_balance(cur), operators.scales(cur))
        )
        currencies: dict[AssetCode, list[bodies.TrialLineJson]] = {}
        for line in found.lines:
            currencies.setdefault(line.currency, []).append(
                bodies.TrialLineJson(
                    kind=line.kind.value, owner=line.owner, accounts=line.accounts, balance=line.balance_minor
                )
            )
        return bodies.TrialBalanceJson(
            seq=found.seq,
            hash=found.entry_hash,
            currencies=[
                bodies.TrialCurrencyJson(
                    currency=code,
                    scale=scales.get(code, 0),
                    lines=lines,
                    total=sum(line.balance for line in lines),
                )
                for code, lines in currencies.items()
            ],
        )

    async def _statement(self, call: Call) -> bodies.StatementJson | Refused:
        query: bodies.StatementQuery = call.query
        key = await self._key(query)
        if isinstance(key, Refused):
            return key

        def read(cur: Cursor) -> tuple[Statement | Refused, dict[AssetCode, int], dict[str, str]]:
            found = journal.statement(
                cur, key, from_ms=query.from_ts, until_ms=query.until_ts, since=query.since, limit=query.limit
            )
            return found, operators.scales(cur), {} if isinstance(found, Refused) else _names(cur, found)

        found, scales, names = await self._runtime.database.run_snapshot("statement", read)
        if isinstance(found, Refused):
            return found
        if key.currency not in scales:
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"Nothing was ever booked in {key.currency[:16]!r}; it knows: {', '.join(sorted(scales))}.",
            )
        return bodies.StatementJson(
            account=query.account,
            kind=query.kind,
            currency=key.currency,
            scale=scales[key.currency],
            opening=found.opening_minor,
            closing=found.closing_minor,
            entries=[_line(key, entry, names) for entry in found.entries],
            next=found.following,
            archived=None if found.archived is None else bodies.ArchiveJson.of(found.archived),
        )

    async def _verify(self, call: Call) -> bodies.VerifiedJson:
        query: bodies.VerifyQuery = call.query

        def read(cur: Cursor) -> bodies.VerifiedJson:
            after = query.after
            if after is None:
                after = journal.verify_from(cur, everything=query.everything)
            return bodies.VerifiedJson.of(journal.verify(cur, after, query.limit))

        # One state of the books, beside which payments go on.
        return await self._runtime.database.run_snapshot("verify", read)

    async def _archives(self, call: Call) -> bodies.ArchivesJson:
        def read(cur: Cursor) -> list[bodies.ArchiveJson]:
            return [
                bodies.ArchiveJson.of(each, journal.left_to_drop(cur, each.through_seq))
                for each in journal.archives(cur)
            ]

        return bodies.ArchivesJson(archives=await self._read("archives", read))

    async def _plan(self, call: Call) -> bodies.PlanJson | Refused:
        query: bodies.PlanQuery = call.query
        plan = await self._read("archive_plan", lambda cur: journal.plan_archive(cur, query.until_ts))
        return plan if isinstance(plan, Refused) else bodies.PlanJson.of(plan)

    async def _lines(self, call: Call) -> bodies.LinesJson:
        query: bodies.LinesQuery = call.query
        lines = await self._read("archive_lines", lambda cur: journal.archive_lines(cur, query.after, query.limit))
        return bodies.LinesJson(lines=list(lines))

    async def _archive(self, call: Call) -> bodies.ArchiveJson | Refused:
        body: bodies.ArchiveBody = call.body
        now_ms = self._runtime.now_ms()
        # It writes a snapshot, which takes long, and neither needs nor has the writer's turn.
        refused = await self._runtime.database.run(
            "archive_prepare", lambda cur: journal.prepare_archive(cur, body.through_seq, now_ms)
        )
        if refused is not None:
            return refused
        wanted = body.archive(now_ms)
        recorded = await self._write(
            "archive",
            lambda cur, _: journal.record_archive(
                cur, wanted, reason=body.reason, operator=call.user_id, now_ms=now_ms
            ),
        )
        if isinstance(recorded, Refused):
            return recorded
        archive, left = recorded
        if left:
            left = await self._write("archive_drop", lambda cur, _: journal.drop_archived(cur))
        return bodies.ArchiveJson.of(archive, left)

    async def _person(self, text: str) -> tuple[UserId, Acct] | Refused:
        api = self._runtime.api
        user_id = parse_user_id(text)
        if user_id is None or not api.is_mine(user_id) or await api.check_user_exists(user_id) is None:
            return Refused(
                reason=Reason.UNKNOWN_PAYEE,
                message=f"{text[:255]!r} is no account of this homeserver; the ledger is about its own people.",
            )
        return user_id, await self._runtime.accounts.acct_of(user_id)

    async def _key(self, query: bodies.StatementQuery) -> AccountKey | Refused:
        kind = _KINDS.get(query.kind)
        if kind is None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"kind: {query.kind[:16]!r} is no kind of account; they are: {', '.join(sorted(_KINDS))}.",
            )
        owner = query.account
        if owner != HOUSE and kind in _OF_PEOPLE:
            person = await self._person(owner)
            if isinstance(person, Refused):
                return person
            owner = person[1]
        return AccountKey(owner=owner, currency=AssetCode(query.currency), kind=kind)


class _FreezeAct(Protocol):
    """``operators.freeze`` or ``operators.unfreeze``."""

    def __call__(self, cur: Cursor, owner: Acct, *, reason: str, operator: str, now_ms: int) -> Freeze: ...


def _entry(entry: Entry | Refused) -> bodies.EntryJson | Refused:
    return entry if isinstance(entry, Refused) else bodies.EntryJson.of(entry)


def _names(cur: Cursor, found: Statement) -> dict[str, str]:
    """The user ids of those on the other sides, by acct."""
    owners = {_other(found.key, entry).owner for entry in found.entries}
    known = {owner: accounts.by_acct(cur, Acct(owner)) for owner in owners}
    return {owner: account.user_id for owner, account in known.items() if account is not None}


def _other(key: AccountKey, entry: Entry) -> AccountKey:
    return entry.transfer.debit if entry.transfer.credit == key else entry.transfer.credit


def _line(key: AccountKey, entry: Entry, names: dict[str, str]) -> bodies.StatementLineJson:
    other = _other(key, entry)
    return bodies.StatementLineJson(
        seq=entry.seq,
        ts=entry.posted_ms,
        id=entry.transfer.transfer_id,
        cause=entry.transfer.cause.value,
        reference=entry.transfer.reference,
        counterparty=names.get(other.owner, other.owner),
        counterparty_kind=other.kind.value,
        change=entry.change_of(key),
        balance=entry.after_of(key),
    )
