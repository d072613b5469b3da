"""SQL of payment keys that are pinned anew: what our operator has ordered, and which key the peer has shown."""

from super_app.clearing.model import LinkId
from super_app.clearing.recovery_model import Repin
from super_app.db import Cursor


def repin(cur: Cursor, link_id: LinkId) -> Repin:
    """What is known of a link; nothing is ordered nor asked for where there is no row."""
    cur.execute(
        "SELECT ordered, confirmed, take_back, asked, vouched FROM superapp_clearing_repin WHERE link_id = ?",
        (link_id,),
    )
    row = cur.fetchone()
    if row is None:
        return Repin(link_id=link_id)
    return Repin(
        link_id=link_id,
        ordered=row[0] == 1,
        confirmed=str(row[1]),
        take_back=row[2] == 1,
        asked=str(row[3]),
        vouched=str(row[4]),
    )


def put(cur: Cursor, known: Repin) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_repin (link_id, ordered, confirmed, take_back, asked, vouched)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (link_id) DO UPDATE SET ordered = excluded.ordered, confirmed = excluded.confirmed,"
        " take_back = excluded.take_back, asked = excluded.asked, vouched = excluded.vouched",
        (known.link_id, int(known.ordered), known.confirmed, int(known.take_back), known.asked, known.vouched),
    )


def end(cur: Cursor, link_id: LinkId) -> None:
    """The order is carried out or came to nothing, and nobody waits for a confirmation."""
    cur.execute("DELETE FROM superapp_clearing_repin WHERE link_id = ?", (link_id,))


def end_orders(cur: Cursor) -> None:
    """What was ordered in another life of this database counts no more."""
    cur.execute("UPDATE superapp_clearing_repin SET ordered = 0, confirmed = '', take_back = 0, vouched = ''")
