"""The journal read back: snapshots of the balances, statements of accounts, verification, and archives.

Everything here is about entries that stand, and those never change, so none of it needs the lease but the recording of
an archive and the dropping of what it holds. Times are those of the clock when an entry was posted; where a clock went
back, the order of the journal counts and not the time.
"""

from typing import Final

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ledger import journal_store, rules, service, store
from super_app.ledger.model import (
    AccountKey,
    Archive,
    Deed,
    Entry,
    Place,
    Snapshot,
    Statement,
    Stretch,
    Verified,
    Violation,
)

SNAPSHOT_ENTRIES: Final = 100_000
SNAPSHOT_MS: Final = 86_400_000
"""A snapshot is due after so many entries, or when an entry that no snapshot covers is as old as this."""
MAX_PAGE: Final = 1_000
MAX_VERIFIED: Final = 5_000
"""Entries that ``verify`` computes again in one go."""
MAX_ARCHIVED: Final = 1_000_000
"""Entries in one archive."""
MAX_DROPPED: Final = 2_000
"""Entries that leave the database in one transaction."""


# Snapshots.


def take_snapshot(
    cur: Cursor, now_ms: int, *, every: int = SNAPSHOT_ENTRIES, older_than_ms: int = SNAPSHOT_MS
) -> Snapshot | None:
    """Take the snapshot that is due; None if none is. Where several are, call again."""
    newest = journal_store.newest_snapshot(cur)
    covered = 0 if newest is None else newest.seq
    head_seq = store.head(cur).seq
    if head_seq - covered >= every:
        return _snapshot_at(cur, covered + every, now_ms)
    oldest_ms = journal_store.posted_ms_at(cur, covered + 1)
    if oldest_ms is not None and now_ms - oldest_ms >= older_than_ms:
        return _snapshot_at(cur, head_seq, now_ms)
    return None


def _snapshot_at(cur: Cursor, seq: int, now_ms: int) -> Snapshot | None:
    before = journal_store.snapshot_before(cur, seq)
    if not journal_store.add_snapshot(cur, seq, 0 if before is None else before.seq, now_ms):
        return None
    taken = journal_store.snapshot_before(cur, seq + 1)
    if taken is None or taken.seq != seq:
        raise RuntimeError(f"the snapshot at entry {seq} vanished inside its own transaction")
    return taken


# Statements.


def statement(
    cur: Cursor,
    key: AccountKey,
    *,
    from_ms: int | None,
    until_ms: int | None,
    since: int | None,
    limit: int,
) -> Statement | Refused:
    """A page of what happened to an account from ``from_ms`` on and before ``until_ms``, newest first.

    ``since`` is ``following`` of the page before. INVALID_VALUE if it is not.
    """
    account = journal_store.account_id(cur, key)
    archive = store.newest_archive(cur)
    nothing = Place(seq=0, balance_minor=0)
    if account is None:
        return Statement(key=key, opening_minor=0, closing_minor=0, entries=(), following=None, archived=None)
    base = nothing if archive is None else journal_store.place_as_of(cur, account, archive.through_seq)
    closing = (
        journal_store.newest_place(cur, account)
        if until_ms is None
        else _place_at(cur, key, account, until_ms, archive)
    )
    opening = nothing if from_ms is None else _place_at(cur, key, account, from_ms, archive)
    hidden = False
    if archive is not None and opening.seq <= base.seq:
        # What comes before the archive's end cannot be shown; whether any of it is of the range, its time says.
        hidden = base.seq > 0 and (from_ms is None or from_ms <= archive.stretch.posted_ms)
        opening = base
    start = closing.seq if since is None else since
    if since is not None and not _is_of(journal_store.walk(cur, account, since, since - 1, 1), key):
        return Refused(
            reason=Reason.INVALID_VALUE, message="since is not of this statement; use next of the page before."
        )
    wanted = min(limit, MAX_PAGE)
    found = journal_store.walk(cur, account, start, opening.seq, wanted + 1) if start > opening.seq else ()
    shown = found[:wanted]
    return Statement(
        key=key,
        opening_minor=opening.balance_minor,
        closing_minor=closing.balance_minor,
        entries=shown,
        following=found[wanted].seq if len(found) > wanted else None,
        archived=archive if hidden else None,
    )


def _place_at(cur: Cursor, key: AccountKey, account: int, until_ms: int, archive: Archive | None) -> Place:
    """The account after the last of its entries that was posted before ``until_ms``."""
    boundary = 0 if archive is None else archive.through_seq
    snapshot_seq = journal_store.oldest_snapshot_since(cur, until_ms, boundary)
    if snapshot_seq is None:
        start = journal_store.newest_place(cur, account)
    else:
        start = journal_store.place_as_of(cur, account, snapshot_seq)
    seq = journal_store.last_before(cur, account, start.seq, until_ms, boundary)
    if seq <= boundary:
        return Place(seq=0, balance_minor=0) if seq == 0 else journal_store.place_as_of(cur, account, boundary)
    found = store.entry(cur, seq)
    if found is None:
        raise RuntimeError(f"entry {seq} is linked to and does not stand")
    return Place(seq=seq, balance_minor=found.after_of(key))


def _is_of(found: tuple[Entry, ...], key: AccountKey) -> bool:
    return bool(found) and key in (found[0].transfer.debit, found[0].transfer.credit)


# Verification.


def verify_from(cur: Cursor, *, everything: bool) -> int:
    """After which entry to begin: the newest snapshot, or with ``everything`` where the database's journal does."""
    newest = None if everything else journal_store.newest_snapshot(cur)
    return max(store.archived_through(cur), 0 if newest is None else newest.seq)


def verify(cur: Cursor, after_seq: int, limit: int) -> Verified:
    """Compute up to ``limit`` entries above ``after_seq`` again: hashes, each balance from the one before, snapshots.

    The last page also has ``service.violations``, so what follows from all entries is checked against the accounts.
    """
    boundary = store.archived_through(cur)
    head = store.head(cur)
    start = min(max(after_seq, boundary), head.seq)
    through = min(start + min(limit, MAX_VERIFIED), head.seq)
    found = [
        *service.verify_chain(cur, start, through - start),
        *journal_store.wrong_steps(cur, start, through, boundary),
        *_wrong_snapshots(cur, start, through, boundary),
    ]
    if through == head.seq:
        if head.seq > 0 and journal_store.hash_at(cur, head.seq) != head.entry_hash:
            found.append(Violation(invariant="chain", where="head", off_by=1))
        found.extend(each for each in service.violations(cur) if each not in found)
    return Verified(after_seq=start, through_seq=through, head_seq=head.seq, violations=tuple(found))


def _wrong_snapshots(cur: Cursor, after_seq: int, through_seq: int, boundary: int) -> list[Violation]:
    found: list[Violation] = []
    for seq in journal_store.snapshots_in(cur, after_seq, through_seq):
        before = journal_store.snapshot_before(cur, seq)
        since = max(boundary, 0 if before is None else before.seq)
        wrong = journal_store.wrong_snapshot(cur, seq, since)
        if wrong:
            found.append(Violation(invariant="snapshot", where=f"entry {seq}", off_by=wrong))
    return found


# Archives.


def archives(cur: Cursor) -> tuple[Archive, ...]:
    """All, oldest first."""
    return journal_store.archives(cur)


def plan_archive(cur: Cursor, until_ms: int) -> Stretch | Refused:
    """What an archive of all entries before ``until_ms`` would hold, at most ``MAX_ARCHIVED`` of them.

    UNKNOWN_ENTRY if there are none.
    """
    archive = store.newest_archive(cur)
    after_seq, before_hash = (0, "") if archive is None else (archive.through_seq, archive.entry_hash)
    known = journal_store.newest_snapshot_posted_before(cur, until_ms, after_seq)
    later = journal_store.first_posted_since(cur, after_seq if known is None else known, until_ms)
    through_seq = store.head(cur).seq if later is None else later - 1
    stretch = journal_store.stretch_to(cur, after_seq, before_hash, min(through_seq, after_seq + MAX_ARCHIVED))
    if stretch is None or stretch.through_seq <= after_seq:
        return Refused(
            reason=Reason.UNKNOWN_ENTRY, message="The journal has no entry from before that time that is not archived."
        )
    return stretch


def archive_lines(cur: Cursor, after_seq: int, limit: int) -> tuple[str, ...]:
    """The lines of an archive's file for the entries above ``after_seq``: each the text whose hash is its entry's."""
    before = journal_store.hash_at(cur, after_seq) if after_seq else ""
    if before is None:
        return ()
    lines: list[str] = []
    for each in journal_store.stretch(cur, after_seq, min(limit, MAX_PAGE)):
        lines.append(rules.archive_line(before, each))
        before = each.entry_hash
    return tuple(lines)


def prepare_archive(cur: Cursor, through_seq: int, now_ms: int) -> Refused | None:
    """Make sure of the balances as of its last entry, from which the books go on. Not under the lease, as it is long.

    ARCHIVE_MISMATCH if a snapshot of the stretch is not what its entries say.
    """
    boundary = store.archived_through(cur)
    if boundary < through_seq <= store.head(cur).seq:
        _snapshot_at(cur, through_seq, now_ms)
        if _wrong_snapshots(cur, boundary, through_seq, boundary):
            return _mismatch("a snapshot of these entries is not what they say; run super-app verify-ledger --all")
    return None


def record_archive(
    cur: Cursor, wanted: Archive, *, reason: str, operator: str, now_ms: int
) -> tuple[Archive, int] | Refused:
    """The stretch stands in a file: from now on its entries may leave the database. Gives how many are still there.

    The same again changes nothing. CONFLICT if an archive ends there with another file, ARCHIVE_MISMATCH if the
    journal says something else, UNKNOWN_ENTRY if it does not reach so far.
    """
    store.lock(cur)
    through_seq = wanted.through_seq
    stands = next((each for each in journal_store.archives(cur) if each.through_seq == through_seq), None)
    if stands is not None:
        if (stands.stretch, stands.file_digest) != (wanted.stretch, wanted.file_digest):
            return rules.conflict("archive", "file_digest")
        return stands, journal_store.left_to_drop(cur, through_seq)
    newest = store.newest_archive(cur)
    after = (0, "") if newest is None else (newest.through_seq, newest.entry_hash)
    found = journal_store.stretch_to(cur, *after, through_seq) if through_seq > after[0] else None
    if found is None:
        return rules.unknown_entry(through_seq, after[0])
    if found != wanted.stretch:
        return _mismatch("its first or last entry, or a hash, is another one")
    if journal_store.snapshots_in(cur, through_seq - 1, through_seq) == ():
        raise RuntimeError(f"no snapshot was taken at entry {through_seq} before it was to be archived")
    journal_store.add_archive(cur, wanted)
    store.add_act(cur, Deed.ARCHIVE, operator=operator, reason=reason, owner="", transfer_id=None, acted_ms=now_ms)
    return wanted, journal_store.left_to_drop(cur, through_seq)


def left_to_drop(cur: Cursor, through_seq: int) -> int:
    """How many entries of the archive that ends there are still in the database."""
    return journal_store.left_to_drop(cur, through_seq)


def drop_archived(cur: Cursor, limit: int = MAX_DROPPED) -> int:
    """Let archived entries leave the database, the oldest first, at most ``limit``. How many are left to go."""
    store.lock(cur)
    boundary = store.archived_through(cur)
    if journal_store.left_to_drop(cur, boundary):
        journal_store.drop_archived(cur, boundary, limit)
    return journal_store.left_to_drop(cur, boundary)


def _mismatch(why: str) -> Refused:
    return Refused(
        reason=Reason.ARCHIVE_MISMATCH,
        message=f"The file does not hold what the journal says: {why}. Nothing was archived; export it again.",
    )
