"""How many guesses at names somebody has left, counted in the database by all processes of a homeserver together.

A budget lets through ``burst`` at once and one more every ``every_ms``. Of each asker one time is kept, up to which
what they may ask is spent: every guess moves it on by ``every_ms``, and it may be ``burst`` times that ahead of the
clock (the cell rate algorithm of ITU-T I.371, which is a token bucket with one number).
"""

from dataclasses import dataclass

from super_app.db import Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a budget, which ``name`` tells from others, lets through."""

    name: str
    burst: int
    every_ms: int


def wait_ms(cur: Cursor, allowance: Allowance, asker: str, now_ms: int) -> int:
    """How long to wait until one more is let through; 0 if one is now. Counts nothing."""
    cur.execute(
        "SELECT spent_until_ms FROM superapp_directory_guesses WHERE budget = ? AND asker = ?",
        (allowance.name, asker),
    )
    row = cur.fetchone()
    return 0 if row is None else _ahead_ms(allowance, int(row[0] or 0), now_ms)


def take(cur: Cursor, allowance: Allowance, asker: str, now_ms: int, *, missed: bool) -> int:
    """Count one if it missed, and 0; or, if there is none left, nothing, and how long to wait.

    What hits costs nothing and takes as long, since the time would be an answer too.
    """
    cost_ms = allowance.every_ms if missed else 0
    latest_ms = now_ms + (allowance.burst - 1) * allowance.every_ms
    cur.execute(
        "INSERT INTO superapp_directory_guesses AS held (budget, asker, spent_until_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (budget, asker) DO UPDATE SET spent_until_ms ="
        " CASE WHEN held.spent_until_ms > ? THEN held.spent_until_ms ELSE ? END + ? WHERE held.spent_until_ms <= ?",
        (allowance.name, asker, now_ms + cost_ms, now_ms, now_ms, cost_ms, latest_ms),
    )
    return 0 if cur.rowcount else max(1, wait_ms(cur, allowance, asker, now_ms))


def until_ms(cur: Cursor, budget: str, asker: str) -> int | None:
    """The time that is kept of an asker; None if there is none."""
    cur.execute("SELECT spent_until_ms FROM superapp_directory_guesses WHERE budget = ? AND asker = ?", (budget, asker))
    row = cur.fetchone()
    return None if row is None else int(row[0] or 0)


def set_until(cur: Cursor, budget: str, asker: str, until_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_guesses (budget, asker, spent_until_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (budget, asker) DO UPDATE SET spent_until_ms = excluded.spent_until_ms",
        (budget, asker, until_ms),
    )


def forget(cur: Cursor, now_ms: int) -> None:
    """Drop those who have all of theirs again."""
    cur.execute("DELETE FROM superapp_directory_guesses WHERE spent_until_ms <= ?", (now_ms,))


def _ahead_ms(allowance: Allowance, spent_until_ms: int, now_ms: int) -> int:
    return max(0, spent_until_ms - now_ms - (allowance.burst - 1) * allowance.every_ms)
