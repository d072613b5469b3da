"""SQL that reads the journal back: snapshots, walks along an account, checks of entries, archives."""

from super_app.db import Cursor
from super_app.ledger.model import AccountKey, Archive, Entry, Place, Snapshot, Stretch, Violation
from super_app.ledger.store import archive_of, chain, entries_at, entry


def account_id(cur: Cursor, key: AccountKey) -> int | None:
    cur.execute(
        "SELECT account_id FROM superapp_ledger_account WHERE owner = ? AND currency = ? AND kind = ?",
        (key.owner, key.currency, key.kind),
    )
    row = cur.fetchone()
    return None if row is None else _int(row[0])


def newest_place(cur: Cursor, account: int) -> Place:
    cur.execute("SELECT last_seq, balance_minor FROM superapp_ledger_account WHERE account_id = ?", (account,))
    return _place(cur)


def hash_at(cur: Cursor, seq: int) -> str | None:
    """The hash of an entry that stands, or with which an archive ends."""
    cur.execute(
        "SELECT hash FROM superapp_ledger_entry WHERE seq = ?"
        " UNION ALL SELECT hash FROM superapp_ledger_archive WHERE through_seq = ?",
        (seq, seq),
    )
    row = cur.fetchone()
    return None if row is None else str(row[0])


def posted_ms_at(cur: Cursor, seq: int) -> int | None:
    cur.execute("SELECT posted_ms FROM superapp_ledger_entry WHERE seq = ?", (seq,))
    row = cur.fetchone()
    return None if row is None else _int(row[0])


# Snapshots.


def newest_snapshot(cur: Cursor) -> Snapshot | None:
    cur.execute("SELECT seq, hash, posted_ms FROM superapp_ledger_snapshot ORDER BY seq DESC LIMIT 1")
    return _snapshot(cur)


def snapshot_before(cur: Cursor, seq: int) -> Snapshot | None:
    """The newest one below ``seq``."""
    cur.execute(
        "SELECT seq, hash, posted_ms FROM superapp_ledger_snapshot WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq,)
    )
    return _snapshot(cur)


def snapshots_in(cur: Cursor, after_seq: int, through_seq: int) -> tuple[int, ...]:
    cur.execute(
        "SELECT seq FROM superapp_ledger_snapshot WHERE seq > ? AND seq <= ? ORDER BY seq", (after_seq, through_seq)
    )
    return tuple(_int(row[0]) for row in cur.fetchall())


def oldest_snapshot_since(cur: Cursor, since_ms: int, after_seq: int) -> int | None:
    """The ``seq`` of the first snapshot above ``after_seq`` whose entry was posted at ``since_ms`` or later."""
    cur.execute("SELECT MIN(seq) FROM superapp_ledger_snapshot WHERE posted_ms >= ? AND seq > ?", (since_ms, after_seq))
    row = cur.fetchone()
    return None if row is None or row[0] is None else _int(row[0])


def add_snapshot(cur: Cursor, seq: int, after_seq: int, taken_ms: int) -> bool:
    """Keep the balances as of entry ``seq``, from the entries above ``after_seq``, the snapshot before.

    Whether it was new. Entries never change, so this is right whatever is posted meanwhile.
    """
    cur.execute(
        "INSERT INTO superapp_ledger_snapshot (seq, hash, posted_ms, taken_ms)"
        " SELECT entry.seq, entry.hash, entry.posted_ms, ? FROM superapp_ledger_entry AS entry WHERE entry.seq = ?"
        " AND NOT EXISTS (SELECT 1 FROM superapp_ledger_snapshot AS older WHERE older.seq = ?)",
        (taken_ms, seq, seq),
    )
    if cur.rowcount != 1:
        return False
    cur.execute(
        "INSERT INTO superapp_ledger_snapshot_balance (account_id, seq, last_seq, balance_minor)"
        " SELECT newest.account_id, ?, newest.last_seq,"
        " CASE WHEN entry.debit_id = newest.account_id THEN entry.debit_after_minor ELSE entry.credit_after_minor END"
        " FROM (SELECT leg.account_id, MAX(leg.seq) AS last_seq FROM ("
        " SELECT debit_id AS account_id, seq FROM superapp_ledger_entry WHERE seq > ? AND seq <= ?"
        " UNION ALL"
        " SELECT credit_id, seq FROM superapp_ledger_entry WHERE seq > ? AND seq <= ?"
        ") AS leg GROUP BY leg.account_id) AS newest"
        " JOIN superapp_ledger_entry AS entry ON entry.seq = newest.last_seq",
        (seq, after_seq, seq, after_seq, seq),
    )
    return True


def place_as_of(cur: Cursor, account: int, seq: int) -> Place:
    """An account as of the snapshot at ``seq``."""
    cur.execute(
        "SELECT last_seq, balance_minor FROM superapp_ledger_snapshot_balance"
        " WHERE account_id = ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
        (account, seq),
    )
    return _place(cur)


def wrong_snapshot(cur: Cursor, seq: int, after_seq: int) -> int:
    """How many accounts the snapshot at ``seq`` leaves out or has wrong, judged by the entries above ``after_seq``."""
    cur.execute(
        "SELECT COUNT(*) FROM (SELECT leg.account_id, MAX(leg.seq) AS last_seq FROM ("
        " SELECT debit_id AS account_id, seq FROM superapp_ledger_entry WHERE seq > ? AND seq <= ?"
        " UNION ALL"
        " SELECT credit_id, seq FROM superapp_ledger_entry WHERE seq > ? AND seq <= ?"
        ") AS leg GROUP BY leg.account_id) AS newest"
        " JOIN superapp_ledger_entry AS entry ON entry.seq = newest.last_seq"
        " LEFT JOIN superapp_ledger_snapshot_balance AS kept"
        " ON kept.account_id = newest.account_id AND kept.seq = ? AND kept.last_seq = newest.last_seq"
        " AND kept.balance_minor = CASE WHEN entry.debit_id = newest.account_id"
        " THEN entry.debit_after_minor ELSE entry.credit_after_minor END"
        " WHERE kept.account_id IS NULL",
        (after_seq, seq, after_seq, seq, seq),
    )
    return _int(_one(cur)[0])


# Along an account.


def last_before(cur: Cursor, account: int, from_seq: int, until_ms: int, down_to: int) -> int:
    """The newest entry of the account that was posted before ``until_ms``, from ``from_seq`` on backwards.

    What is not above ``down_to`` ends the walk: that is then the answer, 0 where the account has nothing there.
    """
    cur.execute(
        "WITH RECURSIVE walk (seq) AS ("
        " SELECT CAST(? AS BIGINT)"
        " UNION ALL"
        " SELECT CASE WHEN entry.debit_id = ? THEN entry.debit_prev_seq ELSE entry.credit_prev_seq END"
        " FROM walk JOIN superapp_ledger_entry AS entry ON entry.seq = walk.seq"
        " WHERE walk.seq > ? AND entry.posted_ms >= ?"
        ") SELECT MIN(seq) FROM walk",
        (from_seq, account, down_to, until_ms),
    )
    return _int(_one(cur)[0])


def walk(cur: Cursor, account: int, from_seq: int, down_to: int, limit: int) -> tuple[Entry, ...]:
    """Entries of an account, newest first, from ``from_seq`` on, those above ``down_to``."""
    cur.execute(
        "WITH RECURSIVE page (place, seq) AS ("
        " SELECT 1, CAST(? AS BIGINT)"
        " UNION ALL"
        " SELECT page.place + 1,"
        " CASE WHEN entry.debit_id = ? THEN entry.debit_prev_seq ELSE entry.credit_prev_seq END"
        " FROM page JOIN superapp_ledger_entry AS entry ON entry.seq = page.seq"
        " WHERE page.place < ? AND page.seq > ?"
        ") SELECT seq FROM page WHERE seq > ? ORDER BY place",
        (from_seq, account, limit, down_to, down_to),
    )
    seqs = [_int(row[0]) for row in cur.fetchall()]
    found = entries_at(cur, seqs)
    return tuple(found[seq] for seq in seqs if seq in found)


# Checks.


def wrong_steps(cur: Cursor, after_seq: int, through_seq: int, boundary: int) -> tuple[Violation, ...]:
    """Entries whose balances do not follow from those that the account's entry before left.

    Up to ``boundary`` entries are archived; the snapshot there says what they left.
    """
    found: set[int] = set()
    cur.execute(
        "SELECT DISTINCT entry.seq FROM superapp_ledger_entry AS entry"
        " LEFT JOIN superapp_ledger_entry AS prior ON prior.seq = entry.debit_prev_seq AND entry.debit_prev_seq > ?"
        " LEFT JOIN superapp_ledger_snapshot_balance AS base ON base.account_id = entry.debit_id"
        " AND base.last_seq = entry.debit_prev_seq AND base.seq <= ? AND entry.debit_prev_seq <= ?"
        " WHERE entry.seq > ? AND entry.seq <= ? AND (CASE WHEN entry.debit_prev_seq = 0 THEN 0"
        " WHEN prior.debit_id = entry.debit_id THEN prior.debit_after_minor"
        " WHEN prior.credit_id = entry.debit_id THEN prior.credit_after_minor"
        " ELSE base.balance_minor END = entry.debit_after_minor + entry.amount_minor) IS NOT TRUE",
        (boundary, boundary, boundary, after_seq, through_seq),
    )
    found.update(_int(row[0]) for row in cur.fetchall())
    cur.execute(
        "SELECT DISTINCT entry.seq FROM superapp_ledger_entry AS entry"
        " LEFT JOIN superapp_ledger_entry AS prior ON prior.seq = entry.credit_prev_seq AND entry.credit_prev_seq > ?"
        " LEFT JOIN superapp_ledger_snapshot_balance AS base ON base.account_id = entry.credit_id"
        " AND base.last_seq = entry.credit_prev_seq AND base.seq <= ? AND entry.credit_prev_seq <= ?"
        " WHERE entry.seq > ? AND entry.seq <= ? AND (CASE WHEN entry.credit_prev_seq = 0 THEN 0"
        " WHEN prior.debit_id = entry.credit_id THEN prior.debit_after_minor"
        " WHEN prior.credit_id = entry.credit_id THEN prior.credit_after_minor"
        " ELSE base.balance_minor END = entry.credit_after_minor - entry.amount_minor) IS NOT TRUE",
        (boundary, boundary, boundary, after_seq, through_seq),
    )
    found.update(_int(row[0]) for row in cur.fetchall())
    return tuple(Violation(invariant="balance", where=f"entry {seq}", off_by=1) for seq in sorted(found))


# Archives.


def archives(cur: Cursor) -> tuple[Archive, ...]:
    """Oldest first."""
    cur.execute(
        "SELECT after_seq, before_hash, through_seq, hash, posted_ms, file_name, file_digest, archived_ms"
        " FROM superapp_ledger_archive ORDER BY through_seq"
    )
    return tuple(archive_of(row) for row in cur.fetchall())


def first_posted_since(cur: Cursor, after_seq: int, since_ms: int) -> int | None:
    """The first entry above ``after_seq`` that was posted at ``since_ms`` or later."""
    cur.execute(
        "SELECT seq FROM superapp_ledger_entry WHERE seq > ? AND posted_ms >= ? ORDER BY seq LIMIT 1",
        (after_seq, since_ms),
    )
    row = cur.fetchone()
    return None if row is None else _int(row[0])


def newest_snapshot_posted_before(cur: Cursor, until_ms: int, after_seq: int) -> int | None:
    cur.execute("SELECT MAX(seq) FROM superapp_ledger_snapshot WHERE posted_ms < ? AND seq > ?", (until_ms, after_seq))
    row = cur.fetchone()
    return None if row is None or row[0] is None else _int(row[0])


def add_archive(cur: Cursor, archive: Archive) -> None:
    stretch = archive.stretch
    cur.execute(
        "INSERT INTO superapp_ledger_archive"
        " (through_seq, after_seq, before_hash, hash, posted_ms, file_name, file_digest, archived_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            stretch.through_seq,
            stretch.after_seq,
            stretch.before_hash,
            stretch.entry_hash,
            stretch.posted_ms,
            archive.file_name,
            archive.file_digest,
            archive.archived_ms,
        ),
    )


def drop_archived(cur: Cursor, through_seq: int, limit: int) -> None:
    """Let the oldest ``limit`` entries go, of those that are archived. Their ids are kept by the database."""
    cur.execute(
        "DELETE FROM superapp_ledger_entry WHERE seq <= ?"
        " AND seq < (SELECT MIN(oldest.seq) FROM superapp_ledger_entry AS oldest) + ?",
        (through_seq, limit),
    )


def left_to_drop(cur: Cursor, through_seq: int) -> int:
    """Archived entries that still stand in the database. They go from the oldest on, so this counts nothing."""
    cur.execute("SELECT MIN(seq) FROM superapp_ledger_entry")
    row = cur.fetchone()
    return 0 if row is None or row[0] is None else max(0, through_seq - _int(row[0]) + 1)


def stretch(cur: Cursor, after_seq: int, limit: int) -> tuple[Entry, ...]:
    return chain(cur, after_seq, limit)


def stretch_to(cur: Cursor, after_seq: int, before_hash: str, through_seq: int) -> Stretch | None:
    """The stretch that ends with an entry; None if that entry does not stand."""
    last = entry(cur, through_seq)
    if last is None:
        return None
    return Stretch(
        after_seq=after_seq,
        before_hash=before_hash,
        through_seq=through_seq,
        entry_hash=last.entry_hash,
        posted_ms=last.posted_ms,
    )


def _snapshot(cur: Cursor) -> Snapshot | None:
    row = cur.fetchone()
    if row is None:
        return None
    return Snapshot(seq=_int(row[0]), entry_hash=str(row[1]), posted_ms=_int(row[2]))


def _place(cur: Cursor) -> Place:
    row = cur.fetchone()
    return Place(seq=0, balance_minor=0) if row is None else Place(seq=_int(row[0]), balance_minor=_int(row[1]))


def _one(cur: Cursor) -> tuple[object, ...]:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("a statement that always gives a row gave none; have the ledger's migrations run?")
    return row


def _int(value: object) -> int:
    return int(value)  # type: ignore[call-overload, no-any-return]
