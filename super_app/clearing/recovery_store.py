"""SQL of recoveries. Functions take a cursor and return model values; deciding what to write is not done here."""

from collections.abc import Sequence
from typing import Final, LiteralString

from super_app.clearing.model import LinkId, LinkState, MessageId, Run, Sender, WireId
from super_app.clearing.recovery_model import Listed, Recovery, RecoveryPhase, RestoreId, Touched, Way
from super_app.db import Cursor, Row

_RECOVERY: Final[LiteralString] = (
    "link_id, restore_id, phase, new_epoch, their_epoch, at_epoch, at_seq, fence_id, then_state, then_why, stood"
)

# Restores.


def mark(cur: Cursor, restore_id: RestoreId, now_ms: int) -> None:
    """This database is a backup: every link must be fenced. The command that restores writes it."""
    cur.execute(
        "INSERT INTO superapp_clearing_restore (restore_id, restored_ms, begun) VALUES (?, ?, 0)"
        " ON CONFLICT (restore_id) DO NOTHING",
        (restore_id, now_ms),
    )


def new_marks(cur: Cursor) -> tuple[RestoreId, ...]:
    """Restores that no link has yet heard of."""
    cur.execute("SELECT restore_id FROM superapp_clearing_restore WHERE begun = 0 ORDER BY restored_ms, restore_id")
    return tuple(RestoreId(str(row[0])) for row in cur.fetchall())


def has_mark(cur: Cursor) -> bool:
    cur.execute("SELECT 1 FROM superapp_clearing_restore LIMIT 1")
    return cur.fetchone() is not None


def begin_marks(cur: Cursor) -> None:
    cur.execute("UPDATE superapp_clearing_restore SET begun = 1")


def end_marks(cur: Cursor) -> None:
    """Forget the restores whose links are all fenced."""
    cur.execute(
        "DELETE FROM superapp_clearing_restore WHERE begun = 1 AND NOT EXISTS"
        " (SELECT 1 FROM superapp_clearing_recovery AS r WHERE r.restore_id = superapp_clearing_restore.restore_id)"
    )


# Recoveries.


def recovery(cur: Cursor, link_id: LinkId) -> Recovery | None:
    cur.execute("SELECT " + _RECOVERY + " FROM superapp_clearing_recovery WHERE link_id = ?", (link_id,))
    row = cur.fetchone()
    return None if row is None else _recovery(row)


def freeze_then(cur: Cursor, link_id: LinkId, why: str) -> None:
    """The peer has contradicted itself: once it is back the link is frozen."""
    cur.execute(
        "UPDATE superapp_clearing_recovery SET then_state = 'frozen', then_why = ? WHERE link_id = ?", (why, link_id)
    )


def stand(cur: Cursor, link_id: LinkId) -> None:
    """Our operator has said, while the link was on its way back, how it is to stand."""
    cur.execute("UPDATE superapp_clearing_recovery SET stood = 1 WHERE link_id = ?", (link_id,))


def go_on_then(cur: Cursor, link_id: LinkId) -> None:
    """Whatever had stopped the link: once it is back it goes on."""
    cur.execute(
        "UPDATE superapp_clearing_recovery SET then_state = 'active', then_why = '' WHERE link_id = ?", (link_id,)
    )


def put(cur: Cursor, found: Recovery) -> None:
    """Write how far a recovery has come. What comes after it and what was ordered meanwhile stay."""
    cur.execute(
        "INSERT INTO superapp_clearing_recovery (" + _RECOVERY + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (link_id) DO UPDATE SET restore_id = excluded.restore_id, phase = excluded.phase,"
        " new_epoch = excluded.new_epoch, their_epoch = excluded.their_epoch,"
        " at_epoch = excluded.at_epoch, at_seq = excluded.at_seq, fence_id = excluded.fence_id",
        (
            found.link_id,
            found.restore_id,
            found.phase,
            found.new_epoch,
            found.their_epoch,
            found.at_epoch,
            found.at_seq,
            found.fence_id,
            found.then,
            found.then_why,
            int(found.stood),
        ),
    )


def forget(cur: Cursor, link_id: LinkId) -> None:
    """The recovery of a link is over, or begins anew: nothing of its steps is left."""
    cur.execute("DELETE FROM superapp_clearing_recovery WHERE link_id = ?", (link_id,))
    cur.execute("DELETE FROM superapp_clearing_listed WHERE link_id = ?", (link_id,))


def forget_work(cur: Cursor, link_id: LinkId) -> None:
    """All that was brought back has been replayed."""
    cur.execute("DELETE FROM superapp_clearing_learned WHERE link_id = ?", (link_id,))
    cur.execute("DELETE FROM superapp_clearing_touched WHERE link_id = ?", (link_id,))


# What the peer lists.


def put_listed(cur: Cursor, link_id: LinkId, runs: Sequence[Run]) -> None:
    cur.execute_many(
        "INSERT INTO superapp_clearing_listed (link_id, epoch, first_seq, last_seq, message_id, found)"
        " VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (link_id, epoch, first_seq) DO NOTHING",
        [(link_id, run.epoch, run.first_seq, run.last_seq, run.message_id) for run in runs],
    )


def listed(cur: Cursor, link_id: LinkId) -> tuple[Listed, ...]:
    cur.execute(
        "SELECT epoch, first_seq, last_seq, message_id, found FROM superapp_clearing_listed WHERE link_id = ?"
        " ORDER BY epoch, first_seq",
        (link_id,),
    )
    return tuple(
        Listed(
            run=Run(
                epoch=_int(row, 0), first_seq=_int(row, 1), last_seq=_int(row, 2), message_id=MessageId(str(row[3]))
            ),
            found=row[4] == 1,
        )
        for row in cur.fetchall()
    )


def found(cur: Cursor, link_id: LinkId, run: Run) -> None:
    cur.execute(
        "UPDATE superapp_clearing_listed SET found = 1 WHERE link_id = ? AND epoch = ? AND first_seq = ?",
        (link_id, run.epoch, run.first_seq),
    )


# Our own chain, as the peer gives it back.


def places(
    cur: Cursor, link_id: LinkId, sender: Sender, after: tuple[int, int], below_epoch: int
) -> tuple[tuple[int, int], ...]:
    """Where there are objects of one side beyond a place and below an epoch."""
    cur.execute(
        "SELECT epoch, seq FROM superapp_clearing_object WHERE link_id = ? AND sender = ? AND epoch < ?"
        " AND (epoch > ? OR (epoch = ? AND seq > ?)) ORDER BY epoch, seq",
        (link_id, sender, below_epoch, after[0], after[0], after[1]),
    )
    return tuple((_int(row, 0), _int(row, 1)) for row in cur.fetchall())


def drop_own_fence(cur: Cursor, link_id: LinkId, epoch: int) -> None:
    """Forget a FENCE of ours that begins an epoch in which nothing else was signed; but that it was ours."""
    cur.execute(
        "INSERT INTO superapp_clearing_taken_back (link_id, message_id)"
        " SELECT link_id, message_id FROM superapp_clearing_object"
        " WHERE link_id = ? AND sender = 'ours' AND epoch = ? AND type = 'FENCE'"
        " ON CONFLICT (link_id, message_id) DO NOTHING",
        (link_id, epoch),
    )
    cur.execute(
        "DELETE FROM superapp_clearing_object WHERE link_id = ? AND sender = 'ours' AND epoch = ? AND type = 'FENCE'",
        (link_id, epoch),
    )
    cur.execute("DELETE FROM superapp_clearing_outbox WHERE link_id = ? AND epoch = ?", (link_id, epoch))
    cur.execute(
        "DELETE FROM superapp_clearing_fence WHERE link_id = ? AND sender = 'ours' AND epoch = ?", (link_id, epoch)
    )
    # The key that it brought, if it did.
    cur.execute(
        "DELETE FROM superapp_clearing_key WHERE link_id = ? AND sender = 'ours' AND epoch = ? AND seq = 1",
        (link_id, epoch),
    )


def was_taken_back(cur: Cursor, link_id: LinkId, message_id: MessageId) -> bool:
    """Whether it is a FENCE that ``drop_own_fence`` forgot since this link last went on."""
    cur.execute(
        "SELECT 1 FROM superapp_clearing_taken_back WHERE link_id = ? AND message_id = ?", (link_id, message_id)
    )
    return cur.fetchone() is not None


def forget_taken_back(cur: Cursor, link_id: LinkId) -> None:
    cur.execute("DELETE FROM superapp_clearing_taken_back WHERE link_id = ?", (link_id,))


# What is to be replayed.


def learn(cur: Cursor, link_id: LinkId, sender: Sender, epoch: int, seq: int) -> None:
    """An object that is of no payment was brought back."""
    cur.execute(
        "INSERT INTO superapp_clearing_learned (link_id, sender, epoch, seq) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (link_id, sender, epoch, seq) DO NOTHING",
        (link_id, sender, epoch, seq),
    )


def is_own_fence(cur: Cursor, link_id: LinkId, message_id: MessageId) -> bool:
    """Whether this FENCE is in our chain."""
    cur.execute(
        "SELECT 1 FROM superapp_clearing_object WHERE link_id = ? AND sender = 'ours' AND type = 'FENCE'"
        " AND message_id = ?",
        (link_id, message_id),
    )
    return cur.fetchone() is not None


def learned(cur: Cursor, link_id: LinkId) -> tuple[str, ...]:
    """The bodies of what was brought back and is of no payment: ours first, each chain in its order."""
    cur.execute(
        "SELECT o.body FROM superapp_clearing_learned AS l JOIN superapp_clearing_object AS o"
        " ON o.link_id = l.link_id AND o.sender = l.sender AND o.epoch = l.epoch AND o.seq = l.seq"
        " WHERE l.link_id = ? ORDER BY l.sender, l.epoch, l.seq",
        (link_id,),
    )
    return tuple(str(row[0]) for row in cur.fetchall())


def touch(cur: Cursor, link_id: LinkId, touched: Touched) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_touched (link_id, way, wire_id, named) VALUES (?, ?, ?, 0)"
        " ON CONFLICT (link_id, way, wire_id) DO NOTHING",
        (link_id, touched.way, touched.wire_id),
    )


def touched(cur: Cursor, link_id: LinkId, limit: int) -> tuple[Touched, ...]:
    """Payments to replay, those that bring money first."""
    cur.execute(
        "SELECT way, wire_id FROM superapp_clearing_touched WHERE link_id = ? ORDER BY way, wire_id LIMIT ?",
        (link_id, limit),
    )
    return tuple(Touched(way=Way(str(row[0])), wire_id=WireId(str(row[1]))) for row in cur.fetchall())


def unnamed(cur: Cursor, link_id: LinkId, limit: int) -> tuple[Touched, ...]:
    """Payments whose opening is neither here nor was asked for."""
    cur.execute(
        "SELECT t.way, t.wire_id FROM superapp_clearing_touched AS t WHERE t.link_id = ? AND t.named = 0"
        " AND NOT EXISTS (SELECT 1 FROM superapp_clearing_opening AS o WHERE o.link_id = t.link_id"
        "  AND o.wire_id = t.wire_id AND o.sender = CASE t.way WHEN 'out' THEN 'ours' ELSE 'theirs' END)"
        " ORDER BY t.way, t.wire_id LIMIT ?",
        (link_id, limit),
    )
    return tuple(Touched(way=Way(str(row[0])), wire_id=WireId(str(row[1]))) for row in cur.fetchall())


def named(cur: Cursor, link_id: LinkId, asked: Sequence[Touched]) -> None:
    """The peer has said what it has of these."""
    cur.execute_many(
        "UPDATE superapp_clearing_touched SET named = 1 WHERE link_id = ? AND way = ? AND wire_id = ?",
        [(link_id, each.way, each.wire_id) for each in asked],
    )


def replayed(cur: Cursor, link_id: LinkId, done: Touched) -> None:
    cur.execute(
        "DELETE FROM superapp_clearing_touched WHERE link_id = ? AND way = ? AND wire_id = ?",
        (link_id, done.way, done.wire_id),
    )


def _int(row: Row, place: int) -> int:
    return int(row[place] or 0)


def _recovery(row: Row) -> Recovery:
    return Recovery(
        link_id=LinkId(str(row[0])),
        restore_id=RestoreId(str(row[1])),
        phase=RecoveryPhase(str(row[2])),
        new_epoch=_int(row, 3),
        their_epoch=_int(row, 4),
        at_epoch=_int(row, 5),
        at_seq=_int(row, 6),
        fence_id=MessageId(str(row[7])),
        then=LinkState(str(row[8])),
        then_why=str(row[9]),
        stood=row[10] == 1,
    )
