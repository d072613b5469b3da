"""SQL of statements: the newest of each side of a link. All of them stand in the chains."""

from collections.abc import Mapping

from super_app.clearing.model import LinkId, Sender, Statement, StatementState
from super_app.db import Cursor
from super_app.money import AssetCode


def statement(cur: Cursor, link_id: LinkId, sender: Sender) -> Statement | None:
    cur.execute(
        "SELECT epoch, seq, seen_seq, at_ms, state FROM superapp_clearing_statement WHERE link_id = ? AND sender = ?",
        (link_id, sender),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return Statement(
        sender=sender,
        epoch=int(row[0] or 0),
        seq=int(row[1] or 0),
        seen_seq=int(row[2] or 0),
        at_ms=int(row[3] or 0),
        state=StatementState(str(row[4])),
    )


def put_statement(cur: Cursor, link_id: LinkId, statement: Statement) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_statement (link_id, sender, epoch, seq, seen_seq, at_ms, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (link_id, sender) DO UPDATE SET epoch = excluded.epoch,"
        " seq = excluded.seq, seen_seq = excluded.seen_seq, at_ms = excluded.at_ms, state = excluded.state",
        (
            link_id,
            statement.sender,
            statement.epoch,
            statement.seq,
            statement.seen_seq,
            statement.at_ms,
            statement.state,
        ),
    )


def is_unsent_before(cur: Cursor, link_id: LinkId, epoch: int) -> bool:
    """Whether something of ours from before an epoch is not acknowledged."""
    cur.execute("SELECT 1 FROM superapp_clearing_outbox WHERE link_id = ? AND epoch < ? LIMIT 1", (link_id, epoch))
    return cur.fetchone() is not None


def doubted_minor(cur: Cursor, link_id: LinkId) -> Mapping[AssetCode, int]:
    """What the peer committed and we have neither credited nor refused yet, in minor units by currency."""
    cur.execute(
        "SELECT currency, SUM(amount_minor) FROM superapp_clearing_in WHERE link_id = ? AND state = 'doubt'"
        " GROUP BY currency",
        (link_id,),
    )
    return {AssetCode(str(row[0])): int(row[1] or 0) for row in cur.fetchall()}
