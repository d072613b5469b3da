"""A unit of work inside a larger transaction that can be undone without it.

It knows nothing of what runs in it, and catches nothing: whoever asks decides whether the rest may go on.
"""

from contextlib import suppress
from typing import TypeVar

from super_app.db import Cursor, UnitOfWork

T = TypeVar("T")


def attempt(cur: Cursor, work: UnitOfWork[T]) -> T:
    """Run ``work``. If it raises, nothing of it is left in the transaction, which can go on and be committed.

    Where that cannot be had, as the connection is lost, the error of the way back is raised, from that of the work.
    """
    cur.execute("SAVEPOINT superapp_attempt")
    try:
        answer = work(cur)
        # Its last statements may not have run yet, and if one of them fails it is this work's failure.
        _run_what_waits(cur)
    except Exception:
        _undo(cur)
        raise
    cur.execute("RELEASE SAVEPOINT superapp_attempt")
    return answer


def _undo(cur: Cursor) -> None:
    with suppress(Exception):
        # After a statement that failed the database refuses these, and what they did is undone in either case.
        _run_what_waits(cur)
    cur.execute("ROLLBACK TO SAVEPOINT superapp_attempt")
    cur.execute("RELEASE SAVEPOINT superapp_attempt")
    _run_what_waits(cur)


def _run_what_waits(cur: Cursor) -> None:
    # A cursor may let statements wait until somebody asks what came of the last one.
    _ = cur.rowcount
