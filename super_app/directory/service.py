"""The directory's operations, each inside the caller's transaction. A refusal has written nothing that counts.

Who changes an account's names, or issues its records, first locks the account's standing, so that ``seq`` is a chain
without forks. The look of a new name is decided by the primary key of the skeletons. The counters of the log and of
the feed are the last things that a transaction touches.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nacl.signing import SigningKey

from super_app.db import Cursor
from super_app.directory import (
    custody_store,
    generation_store,
    generations,
    heads_store,
    log,
    records,
    rules,
    search_store,
    store,
    verification_store,
)
from super_app.directory.custody_model import ACCOUNT_WINDOW_MS, ADDRESS_WINDOW_MS, RESERVED_FOR_MS, Pace, Reservation
from super_app.directory.heads import Evidence
from super_app.directory.model import (
    FEED_PAGE,
    RECORD_LIFETIME_MS,
    RENEW_AFTER_MS,
    TIDY_MS,
    AskedBy,
    Discover,
    Facts,
    FeedPage,
    FrozenFor,
    Holding,
    KeptFor,
    Name,
    NewAccount,
    Origin,
    Record,
    Role,
    State,
    Withdrawal,
    full,
)
from super_app.directory.naming import NamePolicy, check_grant, skeleton, spellings
from super_app.directory.ports import Takings
from super_app.errors import Refused
from super_app.ids import Acct, ServerName, UserId, localpart_of
from super_app.signing import canonical, digest

# Fields of a record that differ between two records which say the same.
_CHANGING: Final = frozenset({"seq", "prev", "issued", "expires", "key_id", "signature"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """In whose name records are signed, in one transaction. ``salt_seed`` is random, and fresh for each."""

    server: ServerName
    key: SigningKey
    salt_seed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asks for with a name; None leaves it to the rules."""

    role: Role | None
    discover: Discover | None


def put(
    cur: Cursor,
    issuer: Issuer,
    acct: Acct,
    text: str,
    wish: Wish,
    *,
    facts: Facts,
    policy: NamePolicy,
    localpart_of: UserId | None,
    default_discover: Discover,
    now_ms: int,
    pace: Pace | None = None,
) -> Mapping[str, Any] | Refused:
    """Claim a name, take a released one back, or change one's own; the signed record.

    ``localpart_of`` is the account of this homeserver whose localpart the name is, if any. A name that the account
    reserved is confirmed by this. Only names that nobody had count for the pace.
    """
    standing = store.lock_standing(cur, acct)
    held = store.first_of(cur, spellings(text))
    claim = rules.decide_claim(
        standing, text, held, role=wish.role, policy=policy, localpart_of=localpart_of, now_ms=now_ms
    )
    if isinstance(claim, Refused):
        return claim
    match claim.step:
        case rules.Step.KEEP:
            pass
        case rules.Step.TAKE_BACK:
            store.set_state(cur, claim.name, State.ACTIVE, None)
        case rules.Step.TAKE:
            inherited = next((each.discover for each in standing.holdings if each.primary), default_discover)
            refused = _too_fast(cur, acct, pace, now_ms) or take(
                cur, claim.name, acct, origin=Origin.CLAIMED, discover=inherited, now_ms=now_ms
            )
            if refused is not None:
                return refused
            if pace is not None:
                custody_store.note_claim(cur, acct, pace.address, now_ms)
    if wish.discover is not None:
        store.set_discover(cur, claim.name, wish.discover, chosen=True)
    was_primary = any(each.primary and each.name == claim.name for each in standing.holdings)
    if claim.role is Role.PRIMARY and not was_primary:
        _make_primary(cur, standing.acct, claim, now_ms if claim.renames else standing.renamed_ms)
    return issue_changed(cur, issuer, acct, facts, now_ms)[claim.name]


def reserve(
    cur: Cursor,
    acct: Acct,
    text: str,
    *,
    policy: NamePolicy,
    localpart_of: UserId | None,
    now_ms: int,
    pace: Pace | None = None,
) -> Reservation | Refused:
    """Hold a name for ten minutes, in place of another one that the account held so; ``put`` confirms it."""
    standing = store.lock_standing(cur, acct)
    held = store.first_of(cur, spellings(text))
    claim = rules.decide_claim(standing, text, held, role=None, policy=policy, localpart_of=localpart_of, now_ms=now_ms)
    if isinstance(claim, Refused):
        return claim
    reservation = Reservation(name=claim.name, acct=acct, until_ms=now_ms + RESERVED_FOR_MS)
    if claim.step is not rules.Step.TAKE:
        # It is the account's own already, so there is nobody to hold it against.
        return reservation
    seen = skeleton(claim.name)
    refused = _too_fast(cur, acct, pace, now_ms) or _take_look(cur, claim.name, seen, acct, now_ms)
    if refused is not None:
        return refused
    # Its own former one; if that was this very name, taking the look has dropped it.
    former = custody_store.reservation_of(cur, acct)
    if former is not None:
        _drop(cur, former)
    custody_store.reserve(cur, reservation, seen)
    return reservation


def _too_fast(cur: Cursor, acct: Acct, pace: Pace | None, now_ms: int) -> Refused | None:
    if pace is None:
        return None
    since_ms = now_ms - ACCOUNT_WINDOW_MS
    taken_ms = custody_store.nth_claim_of_account(cur, acct, since_ms, pace.per_account)
    if taken_ms is not None:
        return rules.claims_too_fast(f"{pace.per_account} new handles in seven days", taken_ms - since_ms)
    since_ms = now_ms - ADDRESS_WINDOW_MS
    taken_ms = custody_store.nth_claim_from_address(cur, pace.address, since_ms, pace.per_address)
    if taken_ms is not None and pace.address:
        return rules.claims_too_fast(f"{pace.per_address} new handles a day from one network", taken_ms - since_ms)
    return None


def grant(
    cur: Cursor, issuer: Issuer, acct: Acct, text: str, *, facts: Facts, discover: Discover, now_ms: int
) -> Mapping[str, Any] | Refused:
    """The operator gives a name, short or reserved, as an alias; the look must be nobody's all the same."""
    name = check_grant(text)
    if isinstance(name, Refused):
        return name
    standing = store.lock_standing(cur, acct)
    held = store.holding(cur, name)
    if held is not None and not rules.is_free(held, now_ms):
        return rules.name_taken(name)
    refused = take(cur, name, standing.acct, origin=Origin.GRANTED, discover=discover, now_ms=now_ms)
    return refused if refused is not None else issue_changed(cur, issuer, acct, facts, now_ms)[name]


def settle(
    cur: Cursor, issuer: Issuer, name: Name, acct: Acct, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """A contested name goes to the account whose localpart it is; it could never name anybody else again."""
    held = store.holding(cur, name)
    if held is None or held.frozen_for is not FrozenFor.AMBIGUOUS:
        return rules.no_such_handle(name)
    standings = {each: store.lock_standing(cur, each) for each in sorted({held.acct, acct})}
    loser = standings[held.acct]
    store.drop_skeleton(cur, name)
    verification_store.clear_badges_of(cur, name)
    store.renew_all(cur, loser.acct)
    if loser.primary == name:
        store.set_primary(cur, loser.acct, None, loser.last_primary, loser.renamed_ms)
    store.give_to_localpart(cur, name, acct, held.discover, now_ms)
    return issue_changed(cur, issuer, acct, facts, now_ms)[name]


def release(
    cur: Cursor, issuer: Issuer, acct: Acct, text: str, *, facts: Facts, takings: Takings, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Give a claimed name up; the signed record that says so."""
    standing = store.lock_standing(cur, acct)
    held = rules.decide_release(store.first_of(cur, spellings(text)), acct, text)
    if isinstance(held, Refused):
        return held
    give_up(cur, issuer, held, takings, now_ms)
    if held.primary:
        store.set_primary(cur, acct, None, standing.last_primary, standing.renamed_ms)
    return issue_changed(cur, issuer, acct, facts, now_ms)[held.name]


def give_up(cur: Cursor, issuer: Issuer, held: Holding, takings: Takings, now_ms: int) -> None:
    """A name goes into quarantine, for good if people were paid under it: they may pay under it again."""
    store.set_state(cur, held.name, State.RELEASED, now_ms)
    verification_store.clear_badges_of(cur, held.name)
    if takings.has_received(cur, held.acct, full(held.name, issuer.server)):
        store.keep(cur, held.name, KeptFor.PAID)


def retire(cur: Cursor, issuer: Issuer, acct: Acct, *, facts: Facts, takings: Takings, now_ms: int) -> None:
    """A deactivated account is found no more, and its claimed names go the way of released ones."""
    standing = store.lock_standing(cur, acct)
    for held in standing.holdings:
        if held.state is not State.ACTIVE:
            continue
        if held.origin is Origin.LOCALPART:
            store.set_discover(cur, held.name, Discover.NONE, chosen=held.chosen)
        else:
            give_up(cur, issuer, held, takings, now_ms)
    if standing.primary is not None:
        store.set_primary(cur, acct, None, standing.last_primary, standing.renamed_ms)
    issue_changed(cur, issuer, acct, facts, now_ms)


def adopt(cur: Cursor, accounts: Sequence[NewAccount], now_ms: int) -> tuple[Name, ...]:
    """Give accounts their first handle. Names that somebody else holds freeze; those are returned."""
    store.add_accounts(cur, accounts, [skeleton(each.name) for each in accounts])
    frozen: list[Name] = []
    for account, held in store.held_by_others(cur, accounts):
        if rules.is_free(held, now_ms):
            store.drop_skeleton(cur, held.name)
            owner = store.acct_of(cur, account.user_id)
            store.give_to_localpart(cur, held.name, owner, account.discover, now_ms)
        elif store.freeze(cur, held.name, FrozenFor.AMBIGUOUS, account.user_id):
            frozen.append(held.name)
    return tuple(frozen)


def blocks_registration(cur: Cursor, user_id: UserId, now_ms: int) -> bool:
    """Whether the localpart of an account that is about to exist is somebody's handle, alias or quarantined name."""
    names = spellings(localpart_of(user_id))
    held = store.first_of(cur, names)
    if held is not None and rules.blocks_registration(held, user_id, now_ms):
        return True
    reserved = (custody_store.reservation_named(cur, name) for name in names)
    return any(found is not None and found.until_ms > now_ms for found in reserved)


def find(cur: Cursor, text: str, by: AskedBy) -> Holding | None:
    """The holding that a handle (or the user id that it spells) leads to; who may see it is not asked here.

    By user id, a public primary handle answers for the localpart.
    """
    held = store.first_of(cur, spellings(text))
    if by is AskedBy.HANDLE:
        return held
    # Asked for nobody too: who is not there must take as long as who hides.
    primary = store.primary_of(cur, UserId("") if held is None else held.user_id)
    if held is None or held.state is not State.ACTIVE or held.origin is not Origin.LOCALPART:
        return held
    return primary if primary is not None and primary.discover is Discover.PUBLIC else held


def up_to_date(held: Holding, server: ServerName, facts: Facts, now_ms: int) -> Mapping[str, Any] | None:
    """The newest record of a holding, if it still says what is true. What it is an alias of, a change issues anew."""
    if held.record is None or held.renew_ms <= now_ms:
        return None
    content = store.loaded(held.record)
    said = {name: value for name, value in content.items() if name not in _CHANGING and name != "alias_of"}
    return content if said == records.stable_part(held, server, facts, alias_of=None) else None


def current_record(
    cur: Cursor, issuer: Issuer, acct: Acct, name: Name, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | None:
    """The record of an account's name, issued anew if need be; None if the name is the account's no more."""
    store.lock_standing(cur, acct)
    return issue_changed(cur, issuer, acct, facts, now_ms).get(name)


def renew(cur: Cursor, issuer: Issuer, due: Collection[Holding], facts: Mapping[Acct, Facts], *, now_ms: int) -> None:
    """Issue records that are due. All accounts are locked before the feed is touched, as everywhere."""
    accts = sorted({held.acct for held in due})
    for acct in accts:
        store.lock_standing(cur, acct)
    for acct in accts:
        issue_changed(cur, issuer, acct, facts[acct], now_ms)


def take(cur: Cursor, name: Name, acct: Acct, *, origin: Origin, discover: Discover, now_ms: int) -> Refused | None:
    seen = skeleton(name)
    refused = _take_look(cur, name, seen, acct, now_ms)
    if refused is not None:
        return refused
    if not store.take(cur, name, acct, origin=origin, skeleton=seen, discover=discover, now_ms=now_ms):
        store.drop_skeleton(cur, name)
        return rules.name_taken(name)
    return None


def _take_look(cur: Cursor, name: Name, seen: str, acct: Acct, now_ms: int) -> Refused | None:
    """Make ``name`` the one claimed name that looks like ``seen``. What the account itself reserved gives way."""
    store.free_expired(cur, seen, now_ms - rules.FREE_AFTER_MS)
    reserved = custody_store.reservation_with_skeleton(cur, seen)
    if reserved is not None and (reserved.acct == acct or reserved.until_ms <= now_ms):
        _drop(cur, reserved)
    if store.looks_like_an_account(cur, seen, acct):
        return rules.looks_taken(name)
    if not store.take_skeleton(cur, seen, name):
        return rules.name_taken(name) if store.name_with_skeleton(cur, seen) == name else rules.looks_taken(name)
    return None


def _drop(cur: Cursor, reservation: Reservation) -> None:
    # Whoever deletes the reservation, and nobody else, gives up its look.
    if custody_store.drop_reservation(cur, reservation):
        store.drop_skeleton(cur, reservation.name)


def _make_primary(cur: Cursor, acct: Acct, claim: rules.Claim, renamed_ms: int) -> None:
    # Whoever was verified was so under the name that people knew; under another one they are to be verified again.
    verification_store.clear_badges(cur, acct)
    held = store.holding(cur, claim.name)
    # No primary name means the localpart.
    primary = None if held is None or held.origin is Origin.LOCALPART else claim.name
    store.set_primary(cur, acct, primary, claim.name, renamed_ms)


def issue_changed(cur: Cursor, issuer: Issuer, acct: Acct, facts: Facts, now_ms: int) -> dict[Name, Mapping[str, Any]]:
    """The records of all names of an account whose standing is locked; those that are out of date issued anew."""
    holdings = store.holdings_of(cur, acct)
    primary = next((each for each in holdings if each.primary and rules.in_feed(each)), None)
    issued: dict[Name, Mapping[str, Any]] = {}
    for held in holdings:
        # Only a public primary handle is named; a hidden one must not leak through its aliases.
        alias_of = None if primary is None or held.primary or held.state is not State.ACTIVE else primary.name
        current = up_to_date(held, issuer.server, facts, now_ms)
        named = None if alias_of is None else full(alias_of, issuer.server)
        if current is None or current.get("alias_of") != named:
            current = _issue(cur, issuer, held, facts, alias_of=alias_of, now_ms=now_ms)
        issued[held.name] = current
    return issued


def _issue(
    cur: Cursor, issuer: Issuer, held: Holding, facts: Facts, *, alias_of: Name | None, now_ms: int
) -> Mapping[str, Any]:
    content = records.record(
        held,
        issuer.server,
        facts,
        issuer.key,
        seq=held.seq + 1,
        prev=held.digest,
        alias_of=alias_of,
        issued_ms=now_ms,
    )
    text, hashed = canonical(content).decode(), digest(content)
    store.save_record(cur, held.name, seq=held.seq + 1, digest=hashed, record=text, renew_ms=now_ms + RENEW_AFTER_MS)
    # The log's counter before that of the feed, everywhere, so that two transactions cannot wait for each other.
    log.append(cur, held.name, hashed, issuer.salt_seed)
    if rules.in_feed(held):
        store.publish(cur, held.name, text, None)
    elif store.is_published(cur, held.name):
        gone = records.withdrawal(full(held.name, issuer.server), held.seq + 1, issuer.key, issued_ms=now_ms)
        store.publish(cur, held.name, canonical(gone).decode(), now_ms)
    return content


# The feed, ours and others'.


def feed(cur: Cursor, since: int, limit: int) -> FeedPage:
    return store.feed(cur, since, max(1, min(limit, FEED_PAGE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """What became of a page.

    ``rewritten`` is what it proves of names that changed hands on the way through a restore, ``added`` how many handles
    it brought at most that were not here, and ``left_out`` the records for which there was no room.
    """

    rewritten: tuple[Evidence, ...]
    added: int
    left_out: int


def replicate(
    cur: Cursor,
    server: ServerName,
    entries: Collection[Record | Withdrawal],
    *,
    position: int,
    at_end: bool,
    now_ms: int,
    room: int | None = None,
) -> Replicated:
    """Keep a verified page of a peer's feed; ``at_end`` if the feed was read to its end, and so is current.

    ``room`` is for how many handles more there is any, where there may be too little for the page: those that are here
    stay current all the same.
    """
    store.withdraw_replicas(cur, [each for each in entries if isinstance(each, Withdrawal)])
    found = [each for each in entries if isinstance(each, Record)]
    kept, added = found, len(found)
    if room is not None:
        here = store.replicated_among(cur, [each.handle for each in found])
        new = list(dict.fromkeys(each.handle for each in found if each.handle not in here))[:room]
        fits = here.union(new)
        kept, added = [each for each in found if each.handle in fits], len(new)
    rewritten = keep_records(cur, server, kept, now_ms)
    store.set_feed_position(cur, server, position)
    if at_end:
        store.set_polled(cur, server, now_ms)
    return Replicated(rewritten=rewritten, added=added, left_out=len(found) - len(kept))


def keep_records(cur: Cursor, server: ServerName, found: Sequence[Record], now_ms: int) -> tuple[Evidence, ...]:
    """Keep verified records of one server; what is proved by those that a restore would have given to somebody else.

    Of such a name nothing is kept, so that nobody is found, paid or rung under it.
    """
    begun = generation_store.last(cur, server)
    rewritten: list[Evidence] = []
    kept: list[Record] = []
    if begun is None:
        kept.extend(found)
    else:
        for record in found:
            before = generation_store.guarded(cur, record.handle, now_ms)
            if before is not None and generations.is_rewritten(before, record):
                evidence = generations.rewrite(begun, before, record)
                heads_store.add_evidence(cur, evidence, now_ms)
                store.forget_replica(cur, record.handle)
                rewritten.append(evidence)
            else:
                kept.append(record)
    store.put_replicas(cur, kept, now_ms)
    return tuple(rewritten)


def tidy(cur: Cursor, now_ms: int) -> None:
    """Forget what has expired everywhere."""
    for ended in custody_store.ended_reservations(cur, now_ms):
        _drop(cur, ended)
    custody_store.forget_claims(cur, now_ms - ACCOUNT_WINDOW_MS)
    store.forget_expired(cur, now_ms)
    store.forget_withdrawn(cur, now_ms - RECORD_LIFETIME_MS)
    store.forget_peers(cur, now_ms - rules.FREE_AFTER_MS)
    generation_store.forget_guarded(cur, now_ms)
    search_store.forget_unused_parts(cur, now_ms // TIDY_MS)
