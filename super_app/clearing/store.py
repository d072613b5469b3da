"""SQL of clearing. Functions take a cursor and return model values; deciding what to write is not done here."""

import json
from collections.abc import Mapping
from typing import Final, LiteralString

from super_app.clearing.model import (
    CurrencyLine,
    Decision,
    Evidence,
    EvidenceKind,
    Fence,
    Grant,
    InPayment,
    InState,
    JsonObject,
    KeyId,
    Link,
    LinkId,
    LinkState,
    MessageId,
    MessageType,
    Outcome,
    OutPayment,
    OutState,
    Pin,
    Run,
    Sender,
    Standing,
    Stored,
    Terms,
    WireId,
)
from super_app.db import Cursor, Row, SqlValue
from super_app.ids import Acct, PaymentId, ServerName
from super_app.ledger.model import HoldId
from super_app.money import AssetCode
from super_app.signing import canonical

# Links.

_LINK: Final[LiteralString] = (
    "link_id, peer, state, stopped_why, wanted, checked_boot, our_key_id, our_epoch, our_seq, our_hash, their_epoch,"
    " their_seq, their_hash, their_signature, their_newest, acked_seq, our_open_ms, their_open_ms, attempts,"
    " next_try_ms, last_try_ms, last_error, gap_attempts, gap_due_ms, tombstones, our_standing, our_standing_why,"
    " said_standing, their_standing, their_standing_why, standing_epoch, standing_seq,"
    " key_unsent_seq"
)


def link(cur: Cursor, link_id: LinkId) -> Link | None:
    cur.execute("SELECT " + _LINK + " FROM superapp_clearing_link WHERE link_id = ?", (link_id,))
    row = cur.fetchone()
    return None if row is None else _link(row)


def links(cur: Cursor) -> tuple[Link, ...]:
    """All links, by peer."""
    cur.execute("SELECT " + _LINK + " FROM superapp_clearing_link ORDER BY peer")
    return tuple(_link(row) for row in cur.fetchall())


def count_unwanted(cur: Cursor) -> int:
    """Links that a peer asked for and our operator has not answered."""
    cur.execute("SELECT COUNT(*) FROM superapp_clearing_link WHERE wanted = 0")
    return _number(cur)


def put_link(cur: Cursor, link: Link) -> None:
    """Write a link as it now is. Its id and peer never change."""
    cur.execute(
        "INSERT INTO superapp_clearing_link (" + _LINK + ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " ?) ON CONFLICT (link_id) DO UPDATE SET state = excluded.state, stopped_why = excluded.stopped_why,"
        " wanted = excluded.wanted, checked_boot = excluded.checked_boot, our_key_id = excluded.our_key_id,"
        " our_epoch = excluded.our_epoch, our_seq = excluded.our_seq, our_hash = excluded.our_hash,"
        " their_epoch = excluded.their_epoch, their_seq = excluded.their_seq, their_hash = excluded.their_hash,"
        " their_signature = excluded.their_signature, their_newest = excluded.their_newest,"
        " acked_seq = excluded.acked_seq, our_open_ms = excluded.our_open_ms, their_open_ms = excluded.their_open_ms,"
        " attempts = excluded.attempts, next_try_ms = excluded.next_try_ms, last_try_ms = excluded.last_try_ms,"
        " last_error = excluded.last_error, gap_attempts = excluded.gap_attempts, gap_due_ms = excluded.gap_due_ms,"
        " tombstones = excluded.tombstones, our_standing = excluded.our_standing,"
        " our_standing_why = excluded.our_standing_why, said_standing = excluded.said_standing,"
        " their_standing = excluded.their_standing, their_standing_why = excluded.their_standing_why,"
        " standing_epoch = excluded.standing_epoch, standing_seq = excluded.standing_seq,"
        " key_unsent_seq = excluded.key_unsent_seq",
        (
            link.link_id,
            link.peer,
            link.state,
            link.stopped_why,
            int(link.wanted),
            link.checked_boot,
            link.our_key_id,
            link.our_epoch,
            link.our_seq,
            link.our_hash,
            link.their_epoch,
            link.their_seq,
            link.their_hash,
            link.their_signature,
            link.their_newest,
            link.acked_seq,
            link.our_open_ms,
            link.their_open_ms,
            link.attempts,
            link.next_try_ms,
            link.last_try_ms,
            link.last_error,
            link.gap_attempts,
            link.gap_due_ms,
            link.tombstones,
            link.our_standing,
            link.our_standing_why,
            link.said_standing,
            link.their_standing,
            link.their_standing_why,
            link.standing_epoch,
            link.standing_seq,
            link.key_unsent_seq,
        ),
    )


def put_key(
    cur: Cursor,
    link_id: LinkId,
    sender: Sender,
    key_id: KeyId,
    public_key: str,
    certificate: JsonObject,
    epoch: int,
    seq: int,
) -> None:
    """Pin a key. One that is pinned already stays as it is."""
    cur.execute(
        "INSERT INTO superapp_clearing_key (link_id, sender, key_id, public_key, certificate, epoch, seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (link_id, sender, key_id) DO NOTHING",
        (link_id, sender, key_id, public_key, canonical(certificate).decode(), epoch, seq),
    )


def unpin(cur: Cursor, link_id: LinkId, sender: Sender) -> None:
    cur.execute("DELETE FROM superapp_clearing_key WHERE link_id = ? AND sender = ?", (link_id, sender))


def key_at(cur: Cursor, link_id: LinkId, sender: Sender, epoch: int, seq: int) -> tuple[KeyId, str] | None:
    """The name and the public key with which one side signs at a place of its chain."""
    cur.execute(
        "SELECT key_id, public_key FROM superapp_clearing_key WHERE link_id = ? AND sender = ?"
        " AND (epoch < ? OR (epoch = ? AND seq <= ?)) ORDER BY epoch DESC, seq DESC LIMIT 1",
        (link_id, sender, epoch, epoch, seq),
    )
    row = cur.fetchone()
    return None if row is None else (KeyId(str(row[0])), str(row[1]))


def pins(cur: Cursor, link_id: LinkId, sender: Sender) -> tuple[Pin, ...]:
    """The pinned keys of one side, oldest first."""
    cur.execute(
        "SELECT key_id, public_key, epoch, seq FROM superapp_clearing_key WHERE link_id = ? AND sender = ?"
        " ORDER BY epoch, seq",
        (link_id, sender),
    )
    return tuple(
        Pin(key_id=KeyId(str(row[0])), public_key=str(row[1]), epoch=_int(row[2]), seq=_int(row[3]))
        for row in cur.fetchall()
    )


def keys(cur: Cursor, link_id: LinkId, sender: Sender) -> Mapping[KeyId, str]:
    """The pinned public keys of one side."""
    cur.execute(
        "SELECT key_id, public_key FROM superapp_clearing_key WHERE link_id = ? AND sender = ?", (link_id, sender)
    )
    return {KeyId(str(row[0])): str(row[1]) for row in cur.fetchall()}


# Currencies.

_CURRENCY: Final[LiteralString] = (
    "currency, our_scale, our_limit_minor, our_max_count, our_max_sum_minor, their_scale, their_limit_minor,"
    " their_max_count, their_max_sum_minor, their_grant_epoch, their_grant_seq, reserved_minor, unreceipted_minor,"
    " in_flight_count, in_flight_minor"
)


def line(cur: Cursor, link_id: LinkId, currency: AssetCode) -> CurrencyLine | None:
    cur.execute(
        "SELECT " + _CURRENCY + " FROM superapp_clearing_currency WHERE link_id = ? AND currency = ?",
        (link_id, currency),
    )
    row = cur.fetchone()
    return None if row is None else _line(row)


def lines(cur: Cursor, link_id: LinkId) -> tuple[CurrencyLine, ...]:
    cur.execute(
        "SELECT " + _CURRENCY + " FROM superapp_clearing_currency WHERE link_id = ? ORDER BY currency", (link_id,)
    )
    return tuple(_line(row) for row in cur.fetchall())


def put_our_grant(cur: Cursor, link_id: LinkId, grant: Grant) -> None:
    ensure_line(cur, link_id, grant.currency)
    cur.execute(
        "UPDATE superapp_clearing_currency SET our_scale = ?, our_limit_minor = ?, our_max_count = ?,"
        " our_max_sum_minor = ? WHERE link_id = ? AND currency = ?",
        (grant.scale, grant.limit_minor, grant.max_count, grant.max_sum_minor, link_id, grant.currency),
    )


def put_their_grant(cur: Cursor, link_id: LinkId, grant: Grant, epoch: int, seq: int) -> None:
    """Take over what the peer grants. A grant of an earlier object than the one that stands changes nothing."""
    ensure_line(cur, link_id, grant.currency)
    cur.execute(
        "UPDATE superapp_clearing_currency SET their_scale = ?, their_limit_minor = ?, their_max_count = ?,"
        " their_max_sum_minor = ?, their_grant_epoch = ?, their_grant_seq = ? WHERE link_id = ? AND currency = ?"
        " AND (their_grant_epoch < ? OR (their_grant_epoch = ? AND their_grant_seq < ?))",
        (
            grant.scale,
            grant.limit_minor,
            grant.max_count,
            grant.max_sum_minor,
            epoch,
            seq,
            link_id,
            grant.currency,
            epoch,
            epoch,
            seq,
        ),
    )


def forget_their_grants(cur: Cursor, link_id: LinkId) -> None:
    cur.execute(
        "UPDATE superapp_clearing_currency SET their_scale = NULL, their_limit_minor = NULL, their_max_count = NULL,"
        " their_max_sum_minor = NULL, their_grant_epoch = 0, their_grant_seq = 0 WHERE link_id = ?",
        (link_id,),
    )


def move_line(
    cur: Cursor,
    link_id: LinkId,
    currency: AssetCode,
    *,
    reserved_minor: int = 0,
    unreceipted_minor: int = 0,
    in_flight_count: int = 0,
    in_flight_minor: int = 0,
) -> None:
    """Add to what is in flight; each figure may be negative."""
    cur.execute(
        "UPDATE superapp_clearing_currency SET reserved_minor = reserved_minor + ?,"
        " unreceipted_minor = unreceipted_minor + ?, in_flight_count = in_flight_count + ?,"
        " in_flight_minor = in_flight_minor + ? WHERE link_id = ? AND currency = ?",
        (reserved_minor, unreceipted_minor, in_flight_count, in_flight_minor, link_id, currency),
    )


def ensure_line(cur: Cursor, link_id: LinkId, currency: AssetCode) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_currency (link_id, currency, their_grant_epoch, their_grant_seq,"
        " reserved_minor, unreceipted_minor, in_flight_count, in_flight_minor) VALUES (?, ?, 0, 0, 0, 0, 0, 0)"
        " ON CONFLICT (link_id, currency) DO NOTHING",
        (link_id, currency),
    )


# Chains.

_OBJECT: Final[LiteralString] = "sender, epoch, seq, message_id, type, wire_id, prev_hash, signature, body"


def add_object(cur: Cursor, link_id: LinkId, stored: Stored, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_object (link_id, " + _OBJECT + ", stored_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            link_id,
            stored.sender,
            stored.epoch,
            stored.seq,
            stored.message_id,
            stored.type,
            stored.wire_id,
            stored.prev_hash,
            stored.signature,
            stored.body,
            now_ms,
        ),
    )


def object_at(cur: Cursor, link_id: LinkId, sender: Sender, epoch: int, seq: int) -> Stored | None:
    cur.execute(
        "SELECT " + _OBJECT + " FROM superapp_clearing_object"
        " WHERE link_id = ? AND sender = ? AND epoch = ? AND seq = ?",
        (link_id, sender, epoch, seq),
    )
    row = cur.fetchone()
    return None if row is None else _stored(row)


def objects_between(
    cur: Cursor, link_id: LinkId, sender: Sender, epoch: int, from_seq: int, to_seq: int, limit: int
) -> tuple[Stored, ...]:
    """What is stored of a range of a chain, in order."""
    cur.execute(
        "SELECT " + _OBJECT + " FROM superapp_clearing_object"
        " WHERE link_id = ? AND sender = ? AND epoch = ? AND seq >= ? AND seq <= ? ORDER BY seq LIMIT ?",
        (link_id, sender, epoch, from_seq, to_seq, limit),
    )
    return tuple(_stored(row) for row in cur.fetchall())


def objects_of(cur: Cursor, link_id: LinkId, wire_id: WireId) -> tuple[Stored, ...]:
    """All objects of one payment, either side's, in the order of each chain."""
    cur.execute(
        "SELECT " + _OBJECT + " FROM superapp_clearing_object WHERE link_id = ? AND wire_id = ?"
        " ORDER BY sender, epoch, seq",
        (link_id, wire_id),
    )
    return tuple(_stored(row) for row in cur.fetchall())


def newest_object(cur: Cursor, link_id: LinkId, sender: Sender) -> Stored | None:
    cur.execute(
        "SELECT " + _OBJECT + " FROM superapp_clearing_object WHERE link_id = ? AND sender = ?"
        " ORDER BY epoch DESC, seq DESC LIMIT 1",
        (link_id, sender),
    )
    row = cur.fetchone()
    return None if row is None else _stored(row)


def fenced_pages(cur: Cursor, link_id: LinkId, sender: Sender, fence: MessageId) -> tuple[str, ...]:
    """The bodies of the FENCED of one side that answer a FENCE, in order."""
    cur.execute(
        "SELECT body FROM superapp_clearing_object WHERE link_id = ? AND wire_id = ? AND sender = ? AND type = 'FENCED'"
        " ORDER BY epoch, seq",
        (link_id, fence, sender),
    )
    return tuple(str(row[0]) for row in cur.fetchall())


def forget_objects(cur: Cursor, link_id: LinkId, sender: Sender) -> None:
    """Forget a chain on which nothing was ever agreed: a link that only one side has opened."""
    cur.execute("DELETE FROM superapp_clearing_object WHERE link_id = ? AND sender = ?", (link_id, sender))


# Fences.


def add_fence(cur: Cursor, link_id: LinkId, sender: Sender, fence: Fence) -> None:
    """Remember a FENCE. One that is known stays as it is."""
    cur.execute(
        "INSERT INTO superapp_clearing_fence (link_id, sender, epoch, after_epoch, after_seq) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (link_id, sender, epoch) DO NOTHING",
        (link_id, sender, fence.epoch, fence.after_epoch, fence.after_seq),
    )


def fences(cur: Cursor, link_id: LinkId, sender: Sender) -> tuple[Fence, ...]:
    cur.execute(
        "SELECT epoch, after_epoch, after_seq FROM superapp_clearing_fence WHERE link_id = ? AND sender = ?"
        " ORDER BY epoch",
        (link_id, sender),
    )
    return tuple(Fence(epoch=_int(row[0]), after_epoch=_int(row[1]), after_seq=_int(row[2])) for row in cur.fetchall())


def count_fences(cur: Cursor, link_id: LinkId, after_ms: int, until_ms: int) -> int:
    """FENCEs of the peer that were stored within a time."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_clearing_fence AS f JOIN superapp_clearing_object AS o"
        " ON o.link_id = f.link_id AND o.sender = f.sender AND o.epoch = f.epoch AND o.seq = 1"
        " WHERE f.link_id = ? AND f.sender = 'theirs' AND o.stored_ms > ? AND o.stored_ms <= ?",
        (link_id, after_ms, until_ms),
    )
    return _number(cur)


def fence_id(cur: Cursor, link_id: LinkId, sender: Sender, epoch: int) -> MessageId | None:
    """The FENCE with which an epoch of one side begins."""
    begins = object_at(cur, link_id, sender, epoch, 1)
    return None if begins is None or begins.type is not MessageType.FENCE else begins.message_id


def runs_after(
    cur: Cursor, link_id: LinkId, sender: Sender, after: tuple[int, int], below_epoch: int
) -> tuple[Run, ...]:
    """What is stored of a chain beyond a place and below an epoch, in runs without a gap."""
    cur.execute(
        "SELECT run.epoch, run.first_seq, run.last_seq, o.message_id FROM ("
        " SELECT epoch, MIN(seq) AS first_seq, MAX(seq) AS last_seq FROM ("
        "  SELECT epoch, seq, seq - ROW_NUMBER() OVER (PARTITION BY epoch ORDER BY seq) AS island"
        "  FROM superapp_clearing_object WHERE link_id = ? AND sender = ? AND epoch < ?"
        "  AND (epoch > ? OR (epoch = ? AND seq > ?))"
        " ) AS numbered GROUP BY epoch, island"
        ") AS run JOIN superapp_clearing_object AS o"
        " ON o.link_id = ? AND o.sender = ? AND o.epoch = run.epoch AND o.seq = run.last_seq"
        " ORDER BY run.epoch, run.first_seq",
        (link_id, sender, below_epoch, after[0], after[0], after[1], link_id, sender),
    )
    return tuple(
        Run(epoch=_int(row[0]), first_seq=_int(row[1]), last_seq=_int(row[2]), message_id=MessageId(str(row[3])))
        for row in cur.fetchall()
    )


# The outbox.


def send_at(cur: Cursor, link_id: LinkId, stored: Stored, due_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_outbox (link_id, epoch, seq, message_id, type, wire_id, due_ms, attempts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        (link_id, stored.epoch, stored.seq, stored.message_id, stored.type, stored.wire_id, due_ms),
    )


def send_again(cur: Cursor, link_id: LinkId, epoch: int, seq: int, due_ms: int) -> None:
    """Put an object that is stored into the outbox, unless it is there."""
    cur.execute(
        "INSERT INTO superapp_clearing_outbox (link_id, epoch, seq, message_id, type, wire_id, due_ms, attempts)"
        " SELECT link_id, epoch, seq, message_id, type, wire_id, CAST(? AS BIGINT), 0 FROM superapp_clearing_object"
        " WHERE link_id = ? AND sender = 'ours' AND epoch = ? AND seq = ? ON CONFLICT (link_id, epoch, seq) DO NOTHING",
        (due_ms, link_id, epoch, seq),
    )


def outbox_due(cur: Cursor, link_id: LinkId, now_ms: int, horizon_ms: int, limit: int) -> tuple[Stored, ...]:
    """Objects of ours that are to be sent now, oldest first.

    No pause ends after ``horizon_ms``: what seems to was set by a clock that has since gone back, and is due.
    """
    cur.execute(
        "SELECT o.sender, o.epoch, o.seq, o.message_id, o.type, o.wire_id, o.prev_hash, o.signature, o.body"
        " FROM superapp_clearing_outbox AS b JOIN superapp_clearing_object AS o"
        " ON o.link_id = b.link_id AND o.sender = 'ours' AND o.epoch = b.epoch AND o.seq = b.seq"
        " WHERE b.link_id = ? AND (b.due_ms <= ? OR b.due_ms > ?) ORDER BY b.epoch, b.seq LIMIT ?",
        (link_id, now_ms, horizon_ms, limit),
    )
    return tuple(_stored(row) for row in cur.fetchall())


def outbox_first_key(cur: Cursor, link_id: LinkId) -> Stored | None:
    """The first object not acknowledged that brings a key, due or not."""
    cur.execute(
        "SELECT epoch, seq FROM superapp_clearing_outbox WHERE link_id = ? AND type IN ('LINK_OPEN', 'KEY')"
        " ORDER BY epoch, seq LIMIT 1",
        (link_id,),
    )
    row = cur.fetchone()
    return None if row is None else object_at(cur, link_id, Sender.OURS, _int(row[0]), _int(row[1]))


def outbox_next_ms(cur: Cursor, link_id: LinkId) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_clearing_outbox WHERE link_id = ?", (link_id,))
    return _maybe_number(cur)


def outbox_size(cur: Cursor, link_id: LinkId) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_clearing_outbox WHERE link_id = ?", (link_id,))
    return _number(cur)


def is_unsent(cur: Cursor, link_id: LinkId) -> bool:
    """Whether anything is not acknowledged but statements, which go on for ever."""
    cur.execute("SELECT 1 FROM superapp_clearing_outbox WHERE link_id = ? AND type <> 'STATEMENT' LIMIT 1", (link_id,))
    return cur.fetchone() is not None


def outbox_attempts(cur: Cursor, link_id: LinkId, epoch: int, seq: int) -> int | None:
    """How often an object was sent in vain; None if it is no longer to be sent."""
    cur.execute(
        "SELECT attempts FROM superapp_clearing_outbox WHERE link_id = ? AND epoch = ? AND seq = ?",
        (link_id, epoch, seq),
    )
    return _maybe_number(cur)


def outbox_postpone(cur: Cursor, link_id: LinkId, epoch: int, seq: int, attempts: int, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_clearing_outbox SET attempts = ?, due_ms = ? WHERE link_id = ? AND epoch = ? AND seq = ?",
        (attempts, due_ms, link_id, epoch, seq),
    )


def outbox_done(cur: Cursor, link_id: LinkId, epoch: int, seq: int) -> None:
    cur.execute(
        "DELETE FROM superapp_clearing_outbox WHERE link_id = ? AND epoch = ? AND seq = ?", (link_id, epoch, seq)
    )


def outbox_acknowledged(cur: Cursor, link_id: LinkId, epoch: int, seq: int) -> None:
    """The peer misses nothing up to ``seq``. What still waits for its RECEIPT stays."""
    cur.execute(
        "DELETE FROM superapp_clearing_outbox WHERE link_id = ? AND epoch = ? AND seq <= ?"
        " AND type NOT IN ('COMMIT', 'ABORT')",
        (link_id, epoch, seq),
    )


def outbox_receipted(cur: Cursor, link_id: LinkId, wire_id: WireId) -> None:
    cur.execute(
        "DELETE FROM superapp_clearing_outbox WHERE link_id = ? AND wire_id = ? AND type IN ('COMMIT', 'ABORT')",
        (link_id, wire_id),
    )


def outbox_hold_offer(cur: Cursor, link_id: LinkId, wire_id: WireId) -> None:
    """Send an OFFER only once its ABORT is there."""
    cur.execute(
        "UPDATE superapp_clearing_outbox SET due_ms = NULL WHERE link_id = ? AND wire_id = ? AND type = 'OFFER'",
        (link_id, wire_id),
    )


def outbox_release_offer(cur: Cursor, link_id: LinkId, wire_id: WireId, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_clearing_outbox SET due_ms = ? WHERE link_id = ? AND wire_id = ? AND type = 'OFFER'"
        " AND due_ms IS NULL",
        (now_ms, link_id, wire_id),
    )


# Payments that we send.

_OUT: Final[LiteralString] = (
    "p.link_id, l.peer, p.wire_id, p.payer_commit, p.payee_commit, p.memo_commit, p.amount_minor, p.currency, p.scale,"
    " p.payer_acct, p.payment_id, p.hold_id, p.state, p.answer, p.receipt, p.offered_ms, p.due_ms"
    " FROM superapp_clearing_out AS p JOIN superapp_clearing_link AS l ON l.link_id = p.link_id"
)


def add_out(cur: Cursor, payment: OutPayment) -> None:
    terms = payment.terms
    cur.execute(
        "INSERT INTO superapp_clearing_out (link_id, wire_id, payer_commit, payee_commit, memo_commit, amount_minor,"
        " currency, scale, payer_acct, payment_id, hold_id, state, answer, receipt, offered_ms, due_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            payment.link_id,
            terms.wire_id,
            terms.payer_commit,
            terms.payee_commit,
            terms.memo_commit,
            terms.amount_minor,
            terms.currency,
            terms.scale,
            payment.payer,
            payment.payment_id,
            payment.hold_id,
            payment.state,
            payment.answer,
            payment.receipt,
            payment.offered_ms,
            payment.due_ms,
        ),
    )


def out(cur: Cursor, link_id: LinkId, wire_id: WireId) -> OutPayment | None:
    cur.execute("SELECT " + _OUT + " WHERE p.link_id = ? AND p.wire_id = ?", (link_id, wire_id))
    row = cur.fetchone()
    return None if row is None else _out(row)


def out_of(cur: Cursor, payer: Acct, payment_id: PaymentId) -> OutPayment | None:
    cur.execute("SELECT " + _OUT + " WHERE p.payer_acct = ? AND p.payment_id = ?", (payer, payment_id))
    row = cur.fetchone()
    return None if row is None else _out(row)


def out_due(cur: Cursor, link_id: LinkId, now_ms: int, limit: int) -> tuple[OutPayment, ...]:
    """Undecided payments whose ttl has ended."""
    cur.execute(
        "SELECT " + _OUT + " WHERE p.link_id = ? AND p.due_ms <= ? ORDER BY p.due_ms, p.wire_id LIMIT ?",
        (link_id, now_ms, limit),
    )
    return tuple(_out(row) for row in cur.fetchall())


def out_next_ms(cur: Cursor, link_id: LinkId) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_clearing_out WHERE link_id = ?", (link_id,))
    return _maybe_number(cur)


def out_open(cur: Cursor, link_id: LinkId, limit: int) -> tuple[OutPayment, ...]:
    """Payments that have not ended, the oldest first."""
    cur.execute(
        "SELECT " + _OUT + " WHERE p.link_id = ? AND p.state IN ('offered', 'asked', 'committed')"
        " ORDER BY p.offered_ms, p.wire_id LIMIT ?",
        (link_id, limit),
    )
    return tuple(_out(row) for row in cur.fetchall())


def add_advance(cur: Cursor, link_id: LinkId, wire_id: WireId, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_advance (link_id, wire_id, advanced_ms) VALUES (?, ?, ?)",
        (link_id, wire_id, now_ms),
    )


def is_advanced(cur: Cursor, link_id: LinkId, wire_id: WireId) -> bool:
    cur.execute("SELECT 1 FROM superapp_clearing_advance WHERE link_id = ? AND wire_id = ?", (link_id, wire_id))
    return cur.fetchone() is not None


def move_out(cur: Cursor, before: OutPayment, after: OutPayment) -> bool:
    """Compare and set: whether the payment still stood as ``before``, and now stands as ``after``."""
    cur.execute(
        "UPDATE superapp_clearing_out SET state = ?, answer = ?, receipt = ?, due_ms = ?"
        " WHERE link_id = ? AND wire_id = ? AND state = ?",
        (
            after.state,
            after.answer,
            after.receipt,
            after.due_ms,
            before.link_id,
            before.terms.wire_id,
            before.state,
        ),
    )
    return cur.rowcount == 1


# Payments that we get.

_IN: Final[LiteralString] = (
    "p.link_id, l.peer, p.wire_id, p.payer_commit, p.payee_commit, p.memo_commit, p.amount_minor, p.currency, p.scale,"
    " p.e2e_id, p.state, p.decision, p.offered, p.acct, p.due_ms, p.used_minor, p.limit_minor"
    " FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l ON l.link_id = p.link_id"
)


def add_in(cur: Cursor, payment: InPayment) -> None:
    terms = payment.terms
    cur.execute(
        "INSERT INTO superapp_clearing_in (link_id, wire_id, payer_commit, payee_commit, memo_commit, amount_minor,"
        " currency, scale, e2e_id, state, decision, offered, acct, due_ms, used_minor, limit_minor)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            payment.link_id,
            terms.wire_id,
            terms.payer_commit,
            terms.payee_commit,
            terms.memo_commit,
            terms.amount_minor,
            terms.currency,
            terms.scale,
            terms.e2e_id,
            payment.state,
            payment.decision,
            int(payment.offered),
            payment.acct,
            payment.due_ms,
            payment.used_minor,
            payment.limit_minor,
        ),
    )


def in_(cur: Cursor, link_id: LinkId, wire_id: WireId) -> InPayment | None:
    cur.execute("SELECT " + _IN + " WHERE p.link_id = ? AND p.wire_id = ?", (link_id, wire_id))
    row = cur.fetchone()
    return None if row is None else _in(row)


def in_due(cur: Cursor, link_id: LinkId, now_ms: int, limit: int) -> tuple[InPayment, ...]:
    """Payments whose asking or whose reservation has ended."""
    cur.execute(
        "SELECT " + _IN + " WHERE p.link_id = ? AND p.due_ms <= ? ORDER BY p.due_ms, p.wire_id LIMIT ?",
        (link_id, now_ms, limit),
    )
    return tuple(_in(row) for row in cur.fetchall())


def in_next_ms(cur: Cursor, link_id: LinkId) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_clearing_in WHERE link_id = ?", (link_id,))
    return _maybe_number(cur)


def in_doubt(cur: Cursor, link_id: LinkId) -> tuple[InPayment, ...]:
    cur.execute("SELECT " + _IN + " WHERE p.link_id = ? AND p.state = 'doubt' ORDER BY p.wire_id", (link_id,))
    return tuple(_in(row) for row in cur.fetchall())


def move_in(cur: Cursor, before: InPayment, after: InPayment) -> bool:
    """Compare and set: whether the payment still stood as ``before``, and now stands as ``after``."""
    cur.execute(
        "UPDATE superapp_clearing_in SET state = ?, decision = ?, offered = ?, acct = ?, due_ms = ?, used_minor = ?,"
        " limit_minor = ? WHERE link_id = ? AND wire_id = ? AND state = ? AND COALESCE(decision, '') = ?",
        (
            after.state,
            after.decision,
            int(after.offered),
            after.acct,
            after.due_ms,
            after.used_minor,
            after.limit_minor,
            before.link_id,
            before.terms.wire_id,
            before.state,
            before.decision or "",
        ),
    )
    return cur.rowcount == 1


def count_unended(cur: Cursor, link_id: LinkId) -> tuple[int, int]:
    """Payments that we sent and whose RECEIPT is not there; that we got and that are not decided and receipted."""
    cur.execute("SELECT COUNT(*) FROM superapp_clearing_out WHERE link_id = ? AND receipt IS NULL", (link_id,))
    sent = _number(cur)
    cur.execute(
        "SELECT COUNT(*) FROM superapp_clearing_in WHERE link_id = ? AND (decision IS NULL OR state = 'doubt')",
        (link_id,),
    )
    return sent, _number(cur)


# Openings.


def put_opening(
    cur: Cursor, link_id: LinkId, sender: Sender, wire_id: WireId, opening: JsonObject, now_ms: int
) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_opening (link_id, sender, wire_id, body, stored_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (link_id, sender, wire_id) DO NOTHING",
        (link_id, sender, wire_id, canonical(opening).decode(), now_ms),
    )


def opening(cur: Cursor, link_id: LinkId, sender: Sender, wire_id: WireId) -> JsonObject | None:
    """None once it was erased."""
    cur.execute(
        "SELECT body FROM superapp_clearing_opening WHERE link_id = ? AND sender = ? AND wire_id = ?",
        (link_id, sender, wire_id),
    )
    row = cur.fetchone()
    return None if row is None else content_of(str(row[0]))


def erase_openings(cur: Cursor, before_ms: int) -> int:
    """Erase names and memos of payments that have ended and were stored before a time. How many."""
    cur.execute(
        "DELETE FROM superapp_clearing_opening WHERE stored_ms < ? AND ("
        " (sender = 'ours' AND EXISTS (SELECT 1 FROM superapp_clearing_out AS p"
        "  WHERE p.link_id = superapp_clearing_opening.link_id AND p.wire_id = superapp_clearing_opening.wire_id"
        "  AND p.receipt IS NOT NULL))"
        " OR (sender = 'theirs' AND EXISTS (SELECT 1 FROM superapp_clearing_in AS p"
        "  WHERE p.link_id = superapp_clearing_opening.link_id AND p.wire_id = superapp_clearing_opening.wire_id"
        "  AND (p.decision IS NOT NULL OR p.state IN ('lapsed', 'rejected')))))",
        (before_ms,),
    )
    return cur.rowcount


# Evidence.


def add_evidence(
    cur: Cursor,
    link_id: LinkId,
    kind: EvidenceKind,
    first: tuple[str, str],
    second: tuple[str, str],
    now_ms: int,
) -> bool:
    """Keep a pair of (id, body). Whether it is new."""
    cur.execute(
        "INSERT INTO superapp_clearing_evidence (link_id, kind, first_id, second_id, first_body, second_body,"
        " recorded_ms) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (link_id, kind, first_id, second_id) DO NOTHING",
        (link_id, kind, first[0], second[0], first[1], second[1], now_ms),
    )
    return cur.rowcount == 1


def evidence_counts(cur: Cursor, link_id: LinkId) -> Mapping[EvidenceKind, int]:
    cur.execute(
        "SELECT kind, COUNT(*) FROM superapp_clearing_evidence WHERE link_id = ? GROUP BY kind ORDER BY kind",
        (link_id,),
    )
    return {EvidenceKind(str(row[0])): _int(row[1]) for row in cur.fetchall()}


def evidence(cur: Cursor, link_id: LinkId, limit: int) -> tuple[Evidence, ...]:
    """Newest first."""
    cur.execute(
        "SELECT e.kind, l.peer, e.first_body, e.second_body, e.recorded_ms FROM superapp_clearing_evidence AS e"
        " JOIN superapp_clearing_link AS l ON l.link_id = e.link_id WHERE e.link_id = ?"
        " ORDER BY e.recorded_ms DESC, e.second_id LIMIT ?",
        (link_id, limit),
    )
    return tuple(
        Evidence(
            kind=EvidenceKind(str(row[0])),
            peer=ServerName(str(row[1])),
            first=str(row[2]),
            second=str(row[3]),
            recorded_ms=_int(row[4]),
        )
        for row in cur.fetchall()
    )


# Checks of the invariants: each counts what should not be.


def count_not_mirrored(cur: Cursor, link_id: LinkId, currency: AssetCode) -> tuple[int, int, int, int]:
    """By how much each figure of a line is off: reserved, unreceipted, in flight (count, minor)."""
    cur.execute(
        "SELECT c.reserved_minor - COALESCE((SELECT SUM(amount_minor) FROM superapp_clearing_in AS p"
        "  WHERE p.link_id = c.link_id AND p.currency = c.currency AND p.state = 'accepted'), 0),"
        " c.unreceipted_minor - COALESCE((SELECT SUM(amount_minor) FROM superapp_clearing_out AS p"
        "  WHERE p.link_id = c.link_id AND p.currency = c.currency AND p.state = 'committed'), 0),"
        " c.in_flight_count - (SELECT COUNT(*) FROM superapp_clearing_in AS p"
        "  WHERE p.link_id = c.link_id AND p.currency = c.currency AND p.state IN ('asked', 'accepted')),"
        " c.in_flight_minor - COALESCE((SELECT SUM(amount_minor) FROM superapp_clearing_in AS p"
        "  WHERE p.link_id = c.link_id AND p.currency = c.currency AND p.state IN ('asked', 'accepted')), 0)"
        " FROM superapp_clearing_currency AS c WHERE c.link_id = ? AND c.currency = ?",
        (link_id, currency),
    )
    row = cur.fetchone()
    return (0, 0, 0, 0) if row is None else (_int(row[0]), _int(row[1]), _int(row[2]), _int(row[3]))


def sum_committed(cur: Cursor, link_id: LinkId, currency: AssetCode) -> int:
    """What we committed and the peer did not void."""
    cur.execute(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_clearing_out"
        " WHERE link_id = ? AND currency = ? AND state IN ('committed', 'completed')",
        (link_id, currency),
    )
    return _number(cur)


def sum_credited(cur: Cursor, link_id: LinkId, currency: AssetCode) -> int:
    cur.execute(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_clearing_in"
        " WHERE link_id = ? AND currency = ? AND state = 'credited'",
        (link_id, currency),
    )
    return _number(cur)


def count_unfounded(cur: Cursor, link_id: LinkId) -> int:
    """Payments whose state their objects do not carry: credited without ACCEPT and COMMIT, or decided twice (I4)."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_clearing_in AS p WHERE p.link_id = ? AND p.state = 'credited' AND NOT ("
        " EXISTS (SELECT 1 FROM superapp_clearing_object AS o WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id"
        "  AND o.sender = 'ours' AND o.type = 'ACCEPT')"
        " AND EXISTS (SELECT 1 FROM superapp_clearing_object AS o WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id"
        "  AND o.sender = 'theirs' AND o.type = 'COMMIT'))",
        (link_id,),
    )
    credited = _number(cur)
    cur.execute(
        "SELECT COUNT(*) FROM superapp_clearing_out AS p WHERE p.link_id = ?"
        " AND p.state IN ('committed', 'completed') AND NOT ("
        " EXISTS (SELECT 1 FROM superapp_clearing_object AS o WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id"
        "  AND o.sender = 'theirs' AND o.type = 'ACCEPT')"
        " AND EXISTS (SELECT 1 FROM superapp_clearing_object AS o WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id"
        "  AND o.sender = 'ours' AND o.type = 'COMMIT'))",
        (link_id,),
    )
    committed = _number(cur)
    cur.execute(
        "SELECT COUNT(*) FROM (SELECT wire_id FROM superapp_clearing_object WHERE link_id = ? AND sender = 'ours'"
        " AND type IN ('COMMIT', 'ABORT') GROUP BY wire_id HAVING COUNT(*) > 1) AS twice",
        (link_id,),
    )
    decided = _number(cur)
    cur.execute(
        "SELECT COUNT(*) FROM (SELECT wire_id FROM superapp_clearing_object WHERE link_id = ? AND sender = 'ours'"
        " AND type = 'RECEIPT' GROUP BY wire_id HAVING COUNT(*) > 1) AS twice",
        (link_id,),
    )
    return credited + committed + decided + _number(cur)


def count_over_limit(cur: Cursor, link_id: LinkId) -> int:
    """Payments that were accepted or credited late above the limit then in force (I5)."""
    cur.execute("SELECT COUNT(*) FROM superapp_clearing_in WHERE link_id = ? AND used_minor > limit_minor", (link_id,))
    return _number(cur)


# Rows.


def content_of(body: str) -> JsonObject:
    found: JsonObject = json.loads(body)
    return found


def _int(value: SqlValue) -> int:
    # PostgreSQL sums BIGINTs to NUMERIC, which drivers give as Decimal; the value is whole.
    return int(value or 0)


def _number(cur: Cursor) -> int:
    row = cur.fetchone()
    return 0 if row is None else _int(row[0])


def _maybe_number(cur: Cursor) -> int | None:
    row = cur.fetchone()
    return None if row is None or row[0] is None else _int(row[0])


def _maybe_int(value: SqlValue) -> int | None:
    return None if value is None else int(value)


def _maybe_text(value: SqlValue) -> str | None:
    return None if value is None else str(value)


def _link(row: Row) -> Link:
    return Link(
        link_id=LinkId(str(row[0])),
        peer=ServerName(str(row[1])),
        state=LinkState(str(row[2])),
        stopped_why=str(row[3]),
        wanted=row[4] == 1,
        checked_boot=str(row[5]),
        our_key_id=KeyId(str(row[6])),
        our_epoch=_int(row[7]),
        our_seq=_int(row[8]),
        our_hash=str(row[9]),
        their_epoch=_int(row[10]),
        their_seq=_int(row[11]),
        their_hash=str(row[12]),
        their_signature=str(row[13]),
        their_newest=_int(row[14]),
        acked_seq=_int(row[15]),
        our_open_ms=_int(row[16]),
        their_open_ms=_int(row[17]),
        attempts=_int(row[18]),
        next_try_ms=_int(row[19]),
        last_try_ms=_int(row[20]),
        last_error=str(row[21]),
        gap_attempts=_int(row[22]),
        gap_due_ms=_maybe_int(row[23]),
        tombstones=_int(row[24]),
        our_standing=Standing(str(row[25])),
        our_standing_why=str(row[26]),
        said_standing=Standing(str(row[27])),
        their_standing=Standing(str(row[28])),
        their_standing_why=str(row[29]),
        standing_epoch=_int(row[30]),
        standing_seq=_int(row[31]),
        key_unsent_seq=_int(row[32]),
    )


def _line(row: Row) -> CurrencyLine:
    currency = AssetCode(str(row[0]))
    return CurrencyLine(
        currency=currency,
        ours=_grant(currency, row[1:5]),
        theirs=_grant(currency, row[5:9]),
        theirs_epoch=_int(row[9]),
        theirs_seq=_int(row[10]),
        reserved_minor=_int(row[11]),
        unreceipted_minor=_int(row[12]),
        in_flight_count=_int(row[13]),
        in_flight_minor=_int(row[14]),
    )


def _grant(currency: AssetCode, row: Row) -> Grant | None:
    if row[0] is None:
        return None
    return Grant(
        currency=currency,
        scale=_int(row[0]),
        limit_minor=_int(row[1]),
        max_count=_int(row[2]),
        max_sum_minor=_int(row[3]),
    )


def _stored(row: Row) -> Stored:
    wire_id = _maybe_text(row[5])
    return Stored(
        sender=Sender(str(row[0])),
        epoch=_int(row[1]),
        seq=_int(row[2]),
        message_id=MessageId(str(row[3])),
        type=MessageType(str(row[4])),
        wire_id=None if wire_id is None else WireId(wire_id),
        prev_hash=str(row[6]),
        signature=str(row[7]),
        body=str(row[8]),
    )


def _terms(row: Row, e2e_id: str | None) -> Terms:
    return Terms(
        wire_id=WireId(str(row[0])),
        payer_commit=str(row[1]),
        payee_commit=str(row[2]),
        memo_commit=str(row[3]),
        amount_minor=_int(row[4]),
        currency=AssetCode(str(row[5])),
        scale=_int(row[6]),
        e2e_id=e2e_id,
    )


def _out(row: Row) -> OutPayment:
    answer, receipt = _maybe_text(row[13]), _maybe_text(row[14])
    return OutPayment(
        link_id=LinkId(str(row[0])),
        peer=ServerName(str(row[1])),
        terms=_terms(row[2:9], None),
        payer=Acct(str(row[9])),
        payment_id=PaymentId(str(row[10])),
        hold_id=HoldId(str(row[11])),
        state=OutState(str(row[12])),
        answer=None if answer is None else MessageType(answer),
        receipt=None if receipt is None else Outcome(receipt),
        offered_ms=_int(row[15]),
        due_ms=_maybe_int(row[16]),
    )


def _in(row: Row) -> InPayment:
    decision, acct = _maybe_text(row[11]), _maybe_text(row[13])
    return InPayment(
        link_id=LinkId(str(row[0])),
        peer=ServerName(str(row[1])),
        terms=_terms(row[2:9], _maybe_text(row[9])),
        state=InState(str(row[10])),
        decision=None if decision is None else Decision(decision),
        offered=row[12] == 1,
        acct=None if acct is None else Acct(acct),
        due_ms=_maybe_int(row[14]),
        used_minor=_maybe_int(row[15]),
        limit_minor=_maybe_int(row[16]),
    )


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Erase names and memos of the ended payments of somebody here, with people elsewhere; how many."""
    cur.execute(
        "DELETE FROM superapp_clearing_opening WHERE"
        " (sender = 'ours' AND EXISTS (SELECT 1 FROM superapp_clearing_out AS p"
        "  WHERE p.link_id = superapp_clearing_opening.link_id AND p.wire_id = superapp_clearing_opening.wire_id"
        "  AND p.payer_acct = ? AND p.receipt IS NOT NULL))"
        " OR (sender = 'theirs' AND EXISTS (SELECT 1 FROM superapp_clearing_in AS p"
        "  WHERE p.link_id = superapp_clearing_opening.link_id AND p.wire_id = superapp_clearing_opening.wire_id"
        "  AND p.acct = ? AND p.decision IS NOT NULL))",
        (acct, acct),
    )
    return cur.rowcount
