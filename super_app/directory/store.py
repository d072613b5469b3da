"""SQL of the directory but for the search, which has its own (``search_store``)."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, LiteralString

from super_app.db import Cursor, Engine, Row
from super_app.db.arrays import array_literal
from super_app.directory.model import (
    DirectoryKey,
    Discover,
    FeedPage,
    FrozenFor,
    Holding,
    KeptFor,
    Known,
    Name,
    NewAccount,
    Origin,
    Peer,
    Record,
    Standing,
    State,
    Status,
    Withdrawal,
)
from super_app.directory.moves import read_moved_from, read_moved_to
from super_app.ids import Acct, Handle, ServerName, UserId, localpart_of
from super_app.signing import canonical

_HOLDINGS: Final[LiteralString] = (
    "SELECT h.name, h.acct, a.user_id, h.origin, h.state, h.frozen_for, h.contested_by, h.discover, h.chosen,"
    " CASE WHEN o.primary_name = h.name OR (o.primary_name IS NULL AND h.origin = 'localpart') THEN 1 ELSE 0 END,"
    " h.since_ms, h.released_ms, h.seq, h.digest, h.record, h.renew_ms, h.kept_for, h.badges, o.moved_to, o.moved_from"
    " FROM superapp_directory_handle h JOIN superapp_account a ON a.acct = h.acct"
    " LEFT JOIN superapp_directory_owner o ON o.acct = h.acct"
)


# State.


def install(cur: Cursor, now_ms: int) -> None:
    """Write the one row of state, unless it is there."""
    cur.execute(
        "INSERT INTO superapp_directory_state (singleton, head, installed_ms, accounts_known_ms, issued_under)"
        " VALUES (1, 0, ?, 0, '') ON CONFLICT (singleton) DO NOTHING",
        (now_ms,),
    )


def installed_ms(cur: Cursor) -> int:
    cur.execute("SELECT installed_ms FROM superapp_directory_state")
    return _int(_one(cur))


def accounts_known_ms(cur: Cursor) -> int:
    """Accounts of Synapse that were made before this time have their first handle."""
    cur.execute("SELECT accounts_known_ms FROM superapp_directory_state")
    return _int(_one(cur))


def set_accounts_known(cur: Cursor, known_ms: int) -> None:
    cur.execute("UPDATE superapp_directory_state SET accounts_known_ms = ?", (known_ms,))


def issue_under(cur: Cursor, terms: str) -> bool:
    """Note under which key and services records are issued; whether that changed, and so all have to be issued anew."""
    cur.execute("UPDATE superapp_directory_state SET issued_under = ? WHERE issued_under <> ?", (terms, terms))
    if cur.rowcount == 0:
        return False
    cur.execute("UPDATE superapp_directory_handle SET renew_ms = 0 WHERE record IS NOT NULL")
    return True


# Holdings.


def holding(cur: Cursor, name: Name) -> Holding | None:
    cur.execute(_HOLDINGS + " WHERE h.name = ?", (name,))
    row = cur.fetchone()
    return None if row is None else _holding(row)


def first_of(cur: Cursor, names: Sequence[Name]) -> Holding | None:
    """The holding of the first of some spellings that is held. All are looked for, so that the time tells nothing."""
    return next((found for found in [holding(cur, name) for name in names] if found is not None), None)


def holdings_of(cur: Cursor, acct: Acct) -> tuple[Holding, ...]:
    """All names of an account that it has not given up for good, by name."""
    cur.execute(_HOLDINGS + " WHERE h.acct = ? AND h.state <> 'free' ORDER BY h.name", (acct,))
    return tuple(_holding(row) for row in cur.fetchall())


def primary_of(cur: Cursor, user_id: UserId) -> Holding | None:
    """The active primary handle of a local account."""
    cur.execute(
        _HOLDINGS + " WHERE a.user_id = ? AND h.state = 'active'"
        " AND (o.primary_name = h.name OR (o.primary_name IS NULL AND h.origin = 'localpart'))",
        (user_id,),
    )
    row = cur.fetchone()
    return None if row is None else _holding(row)


def lock_standing(cur: Cursor, acct: Acct) -> Standing:
    """An account's standing; until the transaction ends, no other one changes it."""
    # It is the row lock that both engines have; and whose names change or are signed is in use.
    cur.execute("UPDATE superapp_account SET used = 1 WHERE acct = ?", (acct,))
    cur.execute(
        "SELECT a.user_id, o.primary_name, o.last_primary, o.renamed_ms FROM superapp_account a"
        " LEFT JOIN superapp_directory_owner o ON o.acct = a.acct WHERE a.acct = ?",
        (acct,),
    )
    row = _one(cur)
    return Standing(
        acct=acct,
        user_id=UserId(str(row[0])),
        holdings=holdings_of(cur, acct),
        primary=_name(row[1]),
        last_primary=_name(row[2]),
        renamed_ms=int(row[3] or 0),
    )


def set_primary(cur: Cursor, acct: Acct, name: Name | None, last: Name | None, renamed_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_owner (acct, primary_name, last_primary, renamed_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (acct) DO UPDATE SET primary_name = excluded.primary_name,"
        " last_primary = excluded.last_primary, renamed_ms = excluded.renamed_ms",
        (acct, name, last, renamed_ms),
    )


def free_expired(cur: Cursor, skeleton: str, released_before_ms: int) -> None:
    """Free the name with this look, if its quarantine is over. That it is free is a fact of time; this notes it."""
    cur.execute(
        "UPDATE superapp_directory_handle SET state = 'free'"
        " WHERE skeleton = ? AND state = 'released' AND kept_for IS NULL AND released_ms <= ?",
        (skeleton, released_before_ms),
    )
    if cur.rowcount:
        cur.execute(
            "DELETE FROM superapp_directory_skeleton WHERE skeleton = ? AND name IN"
            " (SELECT name FROM superapp_directory_handle WHERE skeleton = ? AND state = 'free')",
            (skeleton, skeleton),
        )


def take_skeleton(cur: Cursor, skeleton: str, name: Name) -> bool:
    """Whether ``name`` is now the one claimed name with this look. Waits for a rival that is still deciding."""
    cur.execute(
        "INSERT INTO superapp_directory_skeleton (skeleton, name) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (skeleton, name),
    )
    return cur.rowcount == 1


def name_with_skeleton(cur: Cursor, skeleton: str) -> Name | None:
    cur.execute("SELECT name FROM superapp_directory_skeleton WHERE skeleton = ?", (skeleton,))
    row = cur.fetchone()
    return None if row is None else Name(str(row[0]))


def drop_skeleton(cur: Cursor, name: Name) -> None:
    cur.execute("DELETE FROM superapp_directory_skeleton WHERE name = ?", (name,))


def looks_like_an_account(cur: Cursor, skeleton: str, acct: Acct) -> bool:
    """Whether the localpart of another account has this look."""
    cur.execute(
        "SELECT 1 FROM superapp_directory_handle WHERE skeleton = ? AND origin = 'localpart' AND acct <> ? LIMIT 1",
        (skeleton, acct),
    )
    return cur.fetchone() is not None


def take(
    cur: Cursor, name: Name, acct: Acct, *, origin: Origin, skeleton: str, discover: Discover, now_ms: int
) -> bool:
    """Write a new holding, continuing the chain of records of a name that was free; False if it is held after all."""
    cur.execute(
        "INSERT INTO superapp_directory_handle"
        " (name, acct, origin, state, skeleton, discover, chosen, since_ms, seq, renew_ms)"
        " VALUES (?, ?, ?, 'active', ?, ?, 0, ?, 0, 0)"
        " ON CONFLICT (name) DO UPDATE SET acct = excluded.acct, origin = excluded.origin, state = 'active',"
        " frozen_for = NULL, contested_by = NULL, discover = excluded.discover, chosen = excluded.chosen,"
        " since_ms = excluded.since_ms, released_ms = NULL, record = NULL, renew_ms = 0"
        " WHERE superapp_directory_handle.state = 'free'",
        (name, acct, origin.value, skeleton, discover.value, now_ms),
    )
    return cur.rowcount == 1


def set_state(cur: Cursor, name: Name, state: State, released_ms: int | None) -> None:
    """Activate or release a name."""
    cur.execute(
        "UPDATE superapp_directory_handle SET state = ?, released_ms = ?, frozen_for = NULL, contested_by = NULL,"
        " renew_ms = 0 WHERE name = ?",
        (state.value, released_ms, name),
    )


def set_discover(cur: Cursor, name: Name, discover: Discover, *, chosen: bool) -> None:
    cur.execute(
        "UPDATE superapp_directory_handle SET discover = ?, chosen = ?, renew_ms = 0 WHERE name = ?",
        (discover.value, int(chosen), name),
    )


def keep(cur: Cursor, name: Name, why: KeptFor) -> None:
    """A name is never free again. The first reason stays, unless the operator takes the name away."""
    cur.execute(
        "UPDATE superapp_directory_handle SET kept_for = ? WHERE name = ? AND (kept_for IS NULL OR ? = 'revoked')",
        (why.value, name, why.value),
    )


def give(cur: Cursor, name: Name, acct: Acct, discover: Discover, now_ms: int) -> None:
    """A name becomes another account's, as the operator decided. That it is never free again stays so."""
    cur.execute(
        "UPDATE superapp_directory_handle SET acct = ?, origin = 'granted', state = 'active', frozen_for = NULL,"
        " contested_by = NULL, discover = ?, chosen = 0, since_ms = ?, released_ms = NULL, record = NULL, renew_ms = 0,"
        " kept_for = CASE WHEN kept_for = 'revoked' THEN NULL ELSE kept_for END WHERE name = ?",
        (acct, discover.value, now_ms, name),
    )


def freeze(cur: Cursor, name: Name, why: FrozenFor, contested_by: UserId | None) -> bool:
    """Freeze a name; False if it was frozen before."""
    cur.execute(
        "UPDATE superapp_directory_handle SET state = 'frozen', frozen_for = ?, contested_by = ?, released_ms = NULL,"
        " renew_ms = 0 WHERE name = ? AND state IN ('active', 'released')",
        (why.value, contested_by, name),
    )
    return cur.rowcount == 1


def give_to_localpart(cur: Cursor, name: Name, acct: Acct, discover: Discover, now_ms: int) -> None:
    """A name becomes the first handle of the account whose localpart it is."""
    cur.execute(
        "UPDATE superapp_directory_handle SET acct = ?, origin = 'localpart', state = 'active', frozen_for = NULL,"
        " contested_by = NULL, discover = ?, chosen = 0, since_ms = ?, released_ms = NULL, record = NULL, renew_ms = 0"
        " WHERE name = ?",
        (acct, discover.value, now_ms, name),
    )


def add_accounts(cur: Cursor, accounts: Sequence[NewAccount], skeletons: Sequence[str]) -> None:
    """Accounts and their first handles, where they have none and the name is nobody's."""
    cur.execute_many(
        "INSERT INTO superapp_account (acct, user_id, genesis, created_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO NOTHING",
        [(each.acct, each.user_id, each.genesis, each.created_ms) for each in accounts],
    )
    cur.execute_many(
        "INSERT INTO superapp_directory_handle"
        " (name, acct, origin, state, skeleton, discover, chosen, since_ms, seq, renew_ms)"
        " SELECT ?, acct, 'localpart', 'active', ?, ?, 0, ?, 0, 0 FROM superapp_account WHERE user_id = ?"
        " ON CONFLICT (name) DO NOTHING",
        [
            (each.name, skeleton, each.discover.value, each.created_ms, each.user_id)
            for each, skeleton in zip(accounts, skeletons, strict=True)
        ],
    )


def hand_over(cur: Cursor, before: Acct, after: Acct) -> None:
    """The first handle of an account that was not in use goes to it under its new acct."""
    cur.execute("UPDATE superapp_directory_handle SET acct = ? WHERE acct = ?", (after, before))


def acct_of(cur: Cursor, user_id: UserId) -> Acct:
    """The acct of an account that exists."""
    cur.execute("SELECT acct FROM superapp_account WHERE user_id = ?", (user_id,))
    return Acct(str(_one(cur)[0]))


def user_of(cur: Cursor, acct: Acct) -> UserId:
    """The user id of a local account that exists."""
    cur.execute("SELECT user_id FROM superapp_account WHERE acct = ?", (acct,))
    return UserId(str(_one(cur)[0]))


def held_by_others(cur: Cursor, accounts: Sequence[NewAccount]) -> tuple[tuple[NewAccount, Holding], ...]:
    """The accounts whose localpart is a name of somebody else, with that holding."""
    found: list[tuple[NewAccount, Holding]] = []
    by_name = {each.name: each for each in accounts}
    for row in _in(cur, _HOLDINGS + " WHERE h.name IN ", list(by_name)):
        held = _holding(row)
        if held.user_id != by_name[held.name].user_id:
            found.append((by_name[held.name], held))
    return tuple(found)


def save_record(cur: Cursor, name: Name, *, seq: int, digest: str, record: str, renew_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_directory_handle SET seq = ?, digest = ?, record = ?, renew_ms = ?, badged = ? WHERE name = ?",
        (seq, digest, record, renew_ms, int(bool(loaded(record)["badges"])), name),
    )


def renew_all(cur: Cursor, acct: Acct) -> None:
    """All records of an account are to be issued anew."""
    cur.execute("UPDATE superapp_directory_handle SET renew_ms = 0 WHERE acct = ?", (acct,))


def due_for_renewal(cur: Cursor, now_ms: int, limit: int) -> tuple[Holding, ...]:
    """Public names whose record is to be issued anew. Hidden ones are issued when somebody asks."""
    cur.execute(
        _HOLDINGS + " WHERE h.discover = 'public' AND h.state IN ('active', 'frozen', 'moved') AND h.renew_ms <= ?"
        " ORDER BY h.renew_ms LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_holding(row) for row in cur.fetchall())


def holdings_where_badged(cur: Cursor, after: Name, limit: int) -> tuple[Holding, ...]:
    """Names that have badges, by name, those after ``after``."""
    cur.execute(_HOLDINGS + " WHERE h.badges <> '[]' AND h.name > ? ORDER BY h.name LIMIT ?", (after, limit))
    return tuple(_holding(row) for row in cur.fetchall())


# The feed.


def publish(cur: Cursor, name: Name, entry: str, withdrawn_ms: int | None) -> None:
    """Put an entry at the end of the feed, in place of the name's former one."""
    cur.execute("UPDATE superapp_directory_state SET head = head + 1")
    cur.execute(
        "INSERT INTO superapp_directory_feed (name, position, entry, withdrawn_ms)"
        " SELECT ?, head, ?, ? FROM superapp_directory_state WHERE singleton = 1"
        " ON CONFLICT (name) DO UPDATE SET position = excluded.position, entry = excluded.entry,"
        " withdrawn_ms = excluded.withdrawn_ms",
        (name, entry, withdrawn_ms),
    )


def is_published(cur: Cursor, name: Name) -> bool:
    cur.execute("SELECT 1 FROM superapp_directory_feed WHERE name = ? AND withdrawn_ms IS NULL", (name,))
    return cur.fetchone() is not None


def feed(cur: Cursor, since: int, limit: int) -> FeedPage:
    cur.execute("SELECT head FROM superapp_directory_state")
    head = _int(_one(cur))
    cur.execute(
        "SELECT position, entry FROM superapp_directory_feed WHERE position > ? ORDER BY position LIMIT ?",
        (since, limit),
    )
    rows = cur.fetchall()
    # Head was read first, so fewer rows than asked for means that nothing up to head is missing.
    end = head if len(rows) < limit else 0
    positions = [int(row[0] or 0) for row in rows]
    return FeedPage(entries=tuple(str(row[1]) for row in rows), next_position=max([end, *positions]), head=head)


def forget_withdrawn(cur: Cursor, before_ms: int) -> None:
    """Withdrawals whose records have expired everywhere by now."""
    cur.execute("DELETE FROM superapp_directory_feed WHERE withdrawn_ms < ?", (before_ms,))


# Peers.


def meet(cur: Cursor, server: ServerName, now_ms: int) -> None:
    """Remember a server with a directory."""
    cur.execute(
        "INSERT INTO superapp_directory_peer (server, feed_position, polled_ms, met_ms) VALUES (?, 0, 0, ?)"
        " ON CONFLICT (server) DO UPDATE SET met_ms = excluded.met_ms",
        (server, now_ms),
    )


def peer(cur: Cursor, server: ServerName) -> Peer | None:
    cur.execute(_PEERS + " WHERE server = ?", (server,))
    row = cur.fetchone()
    return None if row is None else _peer(row)


def peers(cur: Cursor, limit: int) -> tuple[Peer, ...]:
    """The peers met last first."""
    cur.execute(_PEERS + " ORDER BY met_ms DESC LIMIT ?", (limit,))
    return tuple(_peer(row) for row in cur.fetchall())


def pin(cur: Cursor, key: DirectoryKey) -> DirectoryKey:
    """Pin a key on first use; the key that is pinned, which may be another."""
    cur.execute(
        "UPDATE superapp_directory_peer SET key_id = ?, public_key = ?, certificate = ?"
        " WHERE server = ? AND key_id IS NULL",
        (key.key_id, key.public_key, canonical(dict(key.certificate)).decode(), key.server),
    )
    found = peer(cur, key.server)
    if found is None or found.key is None:
        raise RuntimeError(f"{key.server} has to be met before its key is pinned")
    return found.key


def repin(cur: Cursor, before: DirectoryKey, after: DirectoryKey) -> DirectoryKey:
    """Pin the key that took the place of another one; the key that is pinned, which may be a third."""
    cur.execute(
        "UPDATE superapp_directory_peer SET key_id = ?, public_key = ?, certificate = ?"
        " WHERE server = ? AND public_key = ?",
        (after.key_id, after.public_key, canonical(dict(after.certificate)).decode(), after.server, before.public_key),
    )
    found = peer(cur, after.server)
    if found is None or found.key is None:
        return pin(cur, after)
    return found.key


def unpin(cur: Cursor, server: ServerName) -> bool:
    """Forget the pinned key and all records that it signed; whether there was one."""
    cur.execute("DELETE FROM superapp_directory_replica WHERE server = ?", (server,))
    cur.execute(
        "UPDATE superapp_directory_peer SET key_id = NULL, public_key = NULL, certificate = NULL, feed_position = 0,"
        " polled_ms = 0 WHERE server = ? AND key_id IS NOT NULL",
        (server,),
    )
    return cur.rowcount == 1


def forget_peers(cur: Cursor, met_before_ms: int) -> None:
    """Peers that nobody has dealt with for long and that hold no pinned key."""
    cur.execute("DELETE FROM superapp_directory_peer WHERE met_ms < ? AND key_id IS NULL", (met_before_ms,))


def set_feed_position(cur: Cursor, server: ServerName, position: int) -> None:
    cur.execute("UPDATE superapp_directory_peer SET feed_position = ? WHERE server = ?", (position, server))


def set_polled(cur: Cursor, server: ServerName, polled_ms: int) -> None:
    """The feed was read to its end at this time; 0 if what was read of it is good for nothing."""
    cur.execute("UPDATE superapp_directory_peer SET polled_ms = ? WHERE server = ?", (polled_ms, server))


# Replicas.


def put_replicas(cur: Cursor, records: Iterable[Record], current_ms: int) -> None:
    """Keep verified records; one that was issued before what is kept changes nothing."""
    newest: dict[Handle, Record] = {}
    for record in records:
        known = newest.get(record.handle)
        if known is None or record.issued_ms >= known.issued_ms:
            newest[record.handle] = record
    rows: list[tuple[str | int, ...]] = [
        (
            each.handle,
            localpart_of(each.handle),
            each.server,
            each.acct,
            each.user_id,
            each.status.value,
            each.discover.value,
            # Nobody's handle is empty.
            each.alias_of or "",
            each.seq,
            each.issued_ms,
            each.expires_ms,
            each.text,
            int(bool(each.badges)),
        )
        for each in newest.values()
    ]
    if not rows:
        return
    match cur.engine:
        case Engine.POSTGRESQL:
            # A value for each column: to read a statement with seven thousand values takes the server longer than to
            # do what it says.
            columns = [array_literal(column) for column in zip(*rows, strict=True)]
            cur.execute(_PUT_REPLICAS + _FROM_ARRAYS + _PUT_AGAIN, (current_ms, *columns))
        case Engine.SQLITE:
            # One statement: the index of parts starts anew for each.
            cur.execute_values(
                _PUT_REPLICAS + " VALUES ?" + _PUT_AGAIN,
                [(*row[:7], row[7] or None, *row[8:11], current_ms, *row[11:]) for row in rows],
            )


_PUT_REPLICAS: Final[LiteralString] = (
    "INSERT INTO superapp_directory_replica (handle, name, server, acct, user_id, status, discover, alias_of, seq,"
    " issued_ms, expires_ms, current_ms, record, badged)"
)
_FROM_ARRAYS: Final[LiteralString] = (
    " SELECT handle, name, server, acct, user_id, status, discover, NULLIF(alias_of, ''), seq, issued_ms, expires_ms,"
    " ?, record, badged FROM unnest(CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]),"
    " CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS text[]), CAST(? AS bigint[]),"
    " CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS text[]), CAST(? AS integer[])) AS fresh (handle, name,"
    " server, acct, user_id, status, discover, alias_of, seq, issued_ms, expires_ms, record, badged)"
)
_PUT_AGAIN: Final[LiteralString] = (
    " ON CONFLICT (handle) DO UPDATE SET acct = excluded.acct, user_id = excluded.user_id,"
    " status = excluded.status, discover = excluded.discover, alias_of = excluded.alias_of, seq = excluded.seq,"
    " issued_ms = excluded.issued_ms, expires_ms = excluded.expires_ms, current_ms = excluded.current_ms,"
    " record = excluded.record, badged = excluded.badged"
    " WHERE excluded.issued_ms >= superapp_directory_replica.issued_ms"
)


def withdraw_replicas(cur: Cursor, withdrawals: Iterable[Withdrawal]) -> None:
    """Forget public records that left the feed. What was asked for since and is hidden stays."""
    cur.execute_many(
        "DELETE FROM superapp_directory_replica WHERE handle = ? AND discover = 'public' AND issued_ms <= ?",
        [(each.handle, each.issued_ms) for each in withdrawals],
    )


def forget_replica(cur: Cursor, handle: Handle) -> None:
    cur.execute("DELETE FROM superapp_directory_replica WHERE handle = ?", (handle,))


def forget_feed_of(cur: Cursor, server: ServerName) -> int:
    """Forget all public records of a server that publishes no feed any more; how many there were."""
    cur.execute("DELETE FROM superapp_directory_replica WHERE server = ? AND discover = 'public'", (server,))
    return cur.rowcount


def count_replicas(cur: Cursor) -> dict[ServerName, int]:
    """How many records are kept of each server."""
    cur.execute("SELECT server, COUNT(*) FROM superapp_directory_replica GROUP BY server")
    return {ServerName(str(row[0])): int(row[1] or 0) for row in cur.fetchall()}


def replicated_among(cur: Cursor, handles: Sequence[Handle]) -> frozenset[Handle]:
    """Those of some handles of which a record is kept."""
    rows = _in(cur, "SELECT handle FROM superapp_directory_replica WHERE handle IN ", handles)
    return frozenset(Handle(str(row[0])) for row in rows)


def forget_expired(cur: Cursor, now_ms: int) -> None:
    cur.execute("DELETE FROM superapp_directory_replica WHERE expires_ms <= ?", (now_ms,))


def known_by_handle(cur: Cursor, handle: Handle, now_ms: int) -> Known | None:
    cur.execute(_REPLICAS + " WHERE r.handle = ? AND r.expires_ms > ?", (handle, now_ms))
    row = cur.fetchone()
    return None if row is None else _known(row)


def known_by_user_id(cur: Cursor, user_id: UserId, now_ms: int) -> Known | None:
    """The record of somebody's primary handle, as far as it is known here; of who moved, one that says where."""
    cur.execute(
        _REPLICAS + " WHERE r.user_id = ? AND r.expires_ms > ? AND r.status IN ('active', 'moved')"
        " ORDER BY CASE WHEN r.status = 'moved' THEN 0 WHEN r.alias_of IS NULL THEN 1 ELSE 2 END,"
        " r.issued_ms DESC LIMIT 1",
        (user_id, now_ms),
    )
    row = cur.fetchone()
    return None if row is None else _known(row)


def known_in_public(cur: Cursor, user_id: UserId, handle: Handle, now_ms: int) -> Record | None:
    """The public record that a handle or a user id leads to, the primary handle's first; of others nothing is read."""
    cur.execute(
        _REPLICAS + " WHERE (r.user_id = ? OR r.handle = ?) AND r.discover = 'public' AND r.status = 'active'"
        " AND r.expires_ms > ? ORDER BY CASE WHEN r.alias_of IS NULL THEN 0 ELSE 1 END, r.issued_ms DESC LIMIT 1",
        (user_id, handle, now_ms),
    )
    row = cur.fetchone()
    return None if row is None else _known(row).record


_PEERS: Final[LiteralString] = (
    "SELECT server, key_id, public_key, certificate, feed_position, polled_ms, met_ms FROM superapp_directory_peer"
)
# A public record is as fresh as its server's feed, which is read to the end at polled_ms.
_REPLICAS: Final[LiteralString] = (
    "SELECT r.record, CASE WHEN r.discover = 'public' AND p.polled_ms > r.current_ms THEN p.polled_ms"
    " ELSE r.current_ms END FROM superapp_directory_replica r"
    " LEFT JOIN superapp_directory_peer p ON p.server = r.server"
)


def _in(cur: Cursor, sql: LiteralString, values: Sequence[str], *before: str | int) -> list[Row]:
    """Rows of a statement that ends in ``IN``; none for no values."""
    if not values:
        return []
    marks: list[LiteralString] = ["?" for _ in values]
    cur.execute(sql + "(" + ", ".join(marks) + ")", (*before, *values))
    return cur.fetchall()


def _holding(row: Row) -> Holding:
    return Holding(
        name=Name(str(row[0])),
        acct=Acct(str(row[1])),
        user_id=UserId(str(row[2])),
        origin=Origin(str(row[3])),
        state=State(str(row[4])),
        frozen_for=None if row[5] is None else FrozenFor(str(row[5])),
        contested_by=None if row[6] is None else UserId(str(row[6])),
        discover=Discover(str(row[7])),
        chosen=row[8] == 1,
        primary=row[9] == 1,
        since_ms=int(row[10] or 0),
        released_ms=None if row[11] is None else int(row[11]),
        seq=int(row[12] or 0),
        digest=None if row[13] is None else str(row[13]),
        record=None if row[14] is None else str(row[14]),
        renew_ms=int(row[15] or 0),
        kept_for=None if row[16] is None else KeptFor(str(row[16])),
        badges=() if row[17] == "[]" else tuple(json.loads(str(row[17]))),
        moved_to=None if row[18] is None else loaded(row[18]),
        moved_from=None if row[19] is None else loaded(row[19]),
    )


def _peer(row: Row) -> Peer:
    server = ServerName(str(row[0]))
    key = (
        None
        if row[1] is None
        else DirectoryKey(server=server, key_id=str(row[1]), public_key=str(row[2]), certificate=loaded(row[3]))
    )
    return Peer(
        server=server, key=key, feed_position=int(row[4] or 0), polled_ms=int(row[5] or 0), met_ms=int(row[6] or 0)
    )


def _known(row: Row) -> Known:
    return Known(record=record_of(str(row[0])), current_ms=int(row[1] or 0))


def record_of(text: str) -> Record:
    """A record that was verified when it was stored, so its fields are what they say."""
    content = loaded(text)
    server = ServerName(content["server"])
    return Record(
        handle=Handle(content["handle"]),
        server=server,
        acct=Acct(content["acct"]),
        user_id=UserId(content["user_id"]),
        seq=content["seq"],
        status=Status(content["status"]),
        frozen_for=content.get("frozen_for"),
        discover=Discover(content["discover"]),
        alias_of=content.get("alias_of"),
        issued_ms=content["issued"],
        expires_ms=content["expires"],
        badges=tuple(content["badges"]),
        content=content,
        text=text,
        moved_to=read_moved_to(content.get("moved_to"), server) if content["status"] == Status.MOVED else None,
        moved_from=read_moved_from(content.get("moved_from"), server),
    )


def _name(value: object) -> Name | None:
    return None if value is None else Name(str(value))


def _one(cur: Cursor) -> Row:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("a row that always exists is missing")
    return row


def _int(row: Row) -> int:
    return int(row[0] or 0)


def loaded(text: object) -> dict[str, Any]:
    """A signed object that was stored as JSON."""
    content: dict[str, Any] = json.loads(str(text))
    return content
