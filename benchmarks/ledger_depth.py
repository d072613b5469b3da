"""Whether the ledger stays as quick when it is full: latencies at ten million entries ÷ those of a ledger just begun.

``LEDGER_DEPTH_ENTRIES`` in the environment sets another size.
"""

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final, LiteralString

from benchmarks import ledger_database
from benchmarks.frame import Context, Row
from benchmarks.ledger_client import CURRENCY, account_keys
from super_app.db import Cursor

NAMES: Final = ("ledger.depth",)
_ENTRIES: Final = int(os.environ.get("LEDGER_DEPTH_ENTRIES", "10000000"))
_ACCOUNTS: Final = 1_000
_PAGE: Final = 50
_ROUNDS: Final = 3
_TIMES: Final = 300
_BALANCE_MINOR: Final = 1_000_000
_CHUNK: Final = 1_000_000


def run(context: Context) -> Iterator[Row]:
    with ExitStack() as stack:
        postgres = stack.enter_context(ledger_database.server(context.folder / "depth"))
        # One page for each account, so that both have a first page to read.
        sizes = {"begun": _ACCOUNTS * (_PAGE + 1), "full": _ENTRIES}
        dsns: dict[str, str] = {}
        for name, size in sizes.items():
            context.say(f"ledger.depth: writing {size:,} entries")
            dsns[name] = stack.enter_context(ledger_database.database(postgres, name))
            ledger_database.make_ledger(dsns[name], partial(_fill, size=size))
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(1, _ROUNDS + 1):
            rounds.append(ledger_database.client("latency", dsns=dsns, accounts=_ACCOUNTS, times=_TIMES, page=_PAGE))
            seen = ", ".join(
                f"{what} {rounds[-1]['full'][what]:.2f} ms ÷ {rounds[-1]['begun'][what]:.2f} ms"
                for what in rounds[-1]["full"]
            )
            context.say(f"ledger.depth round {number} of {_ROUNDS}: {seen}")
    medians = {
        name: {what: statistics.median(each[name][what] for each in rounds) for what in rounds[0][name]}
        for name in sizes
    }
    worst = max(medians["full"], key=lambda what: medians["full"][what] / medians["begun"][what])
    yield Row(
        name="ledger.depth",
        value=medians["full"][worst],
        unit=f"ms p50 ({worst})",
        yardstick="the same on a ledger just begun",
        yardstick_value=medians["begun"][worst],
        goal="<= 1.2",
        n=_ROUNDS * _TIMES,
    )


def _fill(cur: Cursor, size: int) -> None:
    """Write ``size`` entries in which everybody in a ring pays the next one, round and round.

    Entry k moves 1 from account k to account k + 1 (modulo their number), so balances and chains follow by counting.
    Triggers and the index on ids are off meanwhile.
    """
    keys = account_keys(_ACCOUNTS)
    cur.execute("ALTER TABLE superapp_ledger_entry DISABLE TRIGGER USER")
    cur.execute("ALTER TABLE superapp_ledger_account DISABLE TRIGGER USER")
    cur.execute("ALTER TABLE superapp_ledger_head DISABLE TRIGGER USER")
    cur.execute("ALTER TABLE superapp_ledger_entry DROP CONSTRAINT superapp_ledger_entry_transfer_id_key")
    cur.execute_many(
        "INSERT INTO superapp_ledger_account (owner, currency, kind, balance_minor) VALUES (?, ?, ?, ?)",
        [(key.owner, key.currency, key.kind, _BALANCE_MINOR) for key in keys],
    )
    cur.execute(
        "INSERT INTO superapp_ledger_account (owner, currency, kind, balance_minor) VALUES ('house', ?, 'issued', ?)",
        (CURRENCY, -_ACCOUNTS * _BALANCE_MINOR),
    )
    for start in range(1, size + 1, _CHUNK):
        cur.execute(_RING, (_ACCOUNTS, _BALANCE_MINOR, start, min(start + _CHUNK - 1, size)))
    cur.execute(
        "UPDATE superapp_ledger_account AS account SET last_seq = newest.seq, balance_minor = newest.after_minor"
        " FROM (SELECT DISTINCT ON (account_id) account_id, seq, after_minor FROM ("
        " SELECT debit_id AS account_id, seq, debit_after_minor AS after_minor FROM superapp_ledger_entry"
        " WHERE seq > ? UNION ALL"
        " SELECT credit_id, seq, credit_after_minor FROM superapp_ledger_entry WHERE seq > ?"
        ") AS legs ORDER BY account_id, seq DESC) AS newest WHERE newest.account_id = account.account_id",
        (size - _ACCOUNTS - 1, size - _ACCOUNTS - 1),
    )
    cur.execute(
        "UPDATE superapp_ledger_head SET seq = ?, hash = (SELECT hash FROM superapp_ledger_entry WHERE seq = ?)",
        (size, size),
    )
    cur.execute(
        "ALTER TABLE superapp_ledger_entry ADD CONSTRAINT superapp_ledger_entry_transfer_id_key UNIQUE (transfer_id)"
    )
    cur.execute("ALTER TABLE superapp_ledger_entry ENABLE TRIGGER USER")
    cur.execute("ALTER TABLE superapp_ledger_account ENABLE TRIGGER USER")
    cur.execute("ALTER TABLE superapp_ledger_head ENABLE TRIGGER USER")


# Account k is credited by entry k - 1 and debited by entry k; before that, by the two of a round earlier. Account 1
# pays before anybody paid it, so it is 1 behind for ever. Hashes are filler, as nothing here verifies them.
_RING: Final[LiteralString] = (
    "INSERT INTO superapp_ledger_entry (seq, transfer_id, debit_id, debit_prev_seq, debit_after_minor, credit_id,"
    " credit_prev_seq, credit_after_minor, amount_minor, cause, reference, posted_ms, hash)"
    " SELECT k, md5(k::text), 1 + mod(k, ring.size), greatest(k - 1, 0),"
    " ring.balance - (mod(k, ring.size) = 1)::int, 1 + mod(k + 1, ring.size), greatest(k + 1 - ring.size, 0),"
    " ring.balance + 1 - (mod(k + 1, ring.size) = 1)::int, 1, 'payment', 'benchmark', 1, rpad(md5(k::text), 43, '0')"
    " FROM (SELECT ?::bigint AS size, ?::bigint AS balance) AS ring, generate_series(?::bigint, ?::bigint) AS k"
)
