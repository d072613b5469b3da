"""SQL of the search. One statement a tier, since a person waits and each statement is a round trip.

Prefixes are ranges (``name >= ? AND name < ?``) and one-edit neighbours a list of names, so that an ordinary index
answers both. Parts of names need an index of three letters in a row: FTS5 on SQLite, pg_trgm on PostgreSQL, where the
extension may be missing.
"""

from collections.abc import Sequence
from typing import Final, LiteralString

from super_app.db import Cursor, Engine, Row
from super_app.directory.model import Name, full
from super_app.directory.search_model import Hit, Match, Question
from super_app.directory.store import loaded
from super_app.ids import Acct, Handle, ServerName, UserId, localpart_of, server_of

_AFTER_NAMES: Final = "\x7f"
"""Sorts after every character of a name, so that ``prefix + _AFTER_NAMES`` ends the range of a prefix."""

PARTS_LIMIT_MS: Final = 100
PARTS_A_TURN: Final = 20_000
"""How many names of SQLite's index of parts one turn of tidying looks at."""
_SPARE: Final = 20
"""Rows fetched beyond the limit, since several handles may be one person's, and some people are left out."""

# What a hit is made of: name or handle, user id, acct, whether it is the primary handle, and the record if it has
# badges; most have none, and parsing a record takes longer than finding it.
_LOCAL: Final[LiteralString] = (
    "SELECT h.name AS handle, a.user_id AS user_id, h.acct AS acct,"
    " CASE WHEN o.primary_name = h.name OR (o.primary_name IS NULL AND h.origin = 'localpart') THEN 1 ELSE 0 END"
    " AS is_primary, CASE WHEN h.badged = 1 THEN h.record END AS record"
    " FROM superapp_directory_handle h JOIN superapp_account a ON a.acct = h.acct"
    " LEFT JOIN superapp_directory_owner o ON o.acct = h.acct"
)
_LOCAL_PUBLIC: Final[LiteralString] = _LOCAL + " WHERE h.discover = 'public' AND h.state = 'active'"
_REPLICA: Final[LiteralString] = (
    "SELECT r.handle AS handle, r.user_id AS user_id, r.acct AS acct,"
    " CASE WHEN r.alias_of IS NULL THEN 1 ELSE 0 END AS is_primary, CASE WHEN r.badged = 1 THEN r.record END AS record"
    " FROM superapp_directory_replica r"
)
_REPLICA_PUBLIC: Final[LiteralString] = (
    _REPLICA + " WHERE r.discover = 'public' AND r.status = 'active' AND r.expires_ms > ?"
)
# Names that lead on, since their owner moved to another homeserver; found by the whole name only.
_LOCAL_MOVED: Final[LiteralString] = (
    "SELECT h.name AS handle, a.user_id AS user_id, h.acct AS acct, 2 AS is_primary, NULL AS record"
    " FROM superapp_directory_handle h JOIN superapp_account a ON a.acct = h.acct"
    " WHERE h.name = ? AND h.state = 'moved'"
)
_REPLICA_MOVED: Final[LiteralString] = (
    "SELECT r.handle AS handle, r.user_id AS user_id, r.acct AS acct, 2 AS is_primary, NULL AS record"
    " FROM superapp_directory_replica r WHERE r.discover = 'public' AND r.status = 'moved' AND r.expires_ms > ?"
)
_MOST_MOVED: Final = 3
"""Of one name, on as many homeservers; whoever typed it meant one of them."""
_CONTACT: Final[LiteralString] = (
    "SELECT c.handle AS handle, c.peer_user_id AS user_id, c.peer_acct AS acct, 1 AS is_primary, NULL AS record"
    " FROM superapp_contact c WHERE c.owner_acct = (SELECT acct FROM superapp_account WHERE user_id = ?)"
    " AND c.handle >= ? AND c.handle < ?"
)


def by_beginning(cur: Cursor, question: Question) -> list[Hit]:
    """Public names that begin with the term, by name, so many of each kind: local, replicated, verified, contacts.

    A local name that is only for those who know it whole is found by the whole name.
    """
    prefix, limit, now_ms = question.term.name, question.limit + _SPARE, question.now_ms
    end = prefix + _AFTER_NAMES
    cur.execute(
        _of_each_kind(
            _LOCAL + " WHERE h.name = ? AND h.state = 'active' AND h.discover = 'exact' AND ? = 1",
            _LOCAL_PUBLIC + " AND h.name >= ? AND h.name < ? ORDER BY h.name LIMIT ?",
            _LOCAL_PUBLIC + " AND h.badged = 1 AND h.name >= ? AND h.name < ? ORDER BY h.name LIMIT ?",
            _REPLICA_PUBLIC + " AND r.name >= ? AND r.name < ? ORDER BY r.name LIMIT ?",
            _REPLICA_PUBLIC + " AND r.badged = 1 AND r.name >= ? AND r.name < ? ORDER BY r.name LIMIT ?",
            _CONTACT + " ORDER BY c.handle LIMIT ?",
            _LOCAL_MOVED + " AND (h.discover = 'public' OR h.discover = 'exact' AND ? = 1)",
            _REPLICA_MOVED + " AND r.name = ? ORDER BY r.handle LIMIT ?",
        ),
        (
            *(prefix, int(question.whole)),
            *(prefix, end, limit),
            *(prefix, end, limit),
            *(now_ms, prefix, end, limit),
            *(now_ms, prefix, end, limit),
            *(question.asker, f"@{prefix}", f"@{end}", limit),
            *(prefix, int(question.whole)),
            *(now_ms, prefix, _MOST_MOVED),
            question.asker,
        ),
    )
    return _hits(cur, question.own_server, exact=prefix, otherwise=Match.BEGINNING)


def by_handle(cur: Cursor, question: Question) -> list[Hit]:
    """Public handles that begin with ``@name:`` and the start of a server; whole, all that may be asked for whole."""
    name, typed_server, server = question.term.name, question.term.server or "", question.own_server
    limit, now_ms = question.limit + _SPARE, question.now_ms
    typed = f"@{name}:{typed_server}"
    cur.execute(
        _of_each_kind(
            _LOCAL + " WHERE h.name = ? AND h.state = 'active' AND (h.discover = 'public'"
            " AND ? >= ? AND ? < ? OR h.discover <> 'none' AND ? = ? AND ? = 1)",
            _REPLICA_PUBLIC + " AND r.handle >= ? AND r.handle < ? ORDER BY r.handle LIMIT ?",
            _CONTACT + " ORDER BY c.handle LIMIT ?",
            _LOCAL_MOVED + " AND h.discover <> 'none' AND ? = ? AND (h.discover = 'public' OR ? = 1)",
            _REPLICA_MOVED + " AND r.handle = ?",
        ),
        (
            *(name, server, typed_server, server, typed_server + _AFTER_NAMES, server, typed_server),
            int(question.whole),
            *(now_ms, typed, typed + _AFTER_NAMES, limit),
            *(question.asker, typed, typed + _AFTER_NAMES, limit),
            *(name, server, typed_server, int(question.whole)),
            *(now_ms, typed),
            question.asker,
        ),
    )
    return _hits(cur, question.own_server, exact=typed, otherwise=Match.BEGINNING)


def by_names(cur: Cursor, question: Question, names: Sequence[str]) -> list[Hit]:
    """Public names that are among ``names``, hundreds of them, none of which has a quote or a backslash."""
    limit, now_ms = question.limit + _SPARE, question.now_ms
    either = _of_each_kind(
        _LOCAL_PUBLIC + " AND h.name IN (SELECT name FROM edited) LIMIT ?",
        _REPLICA_PUBLIC + " AND r.name IN (SELECT name FROM edited) LIMIT ?",
    )
    match cur.engine:
        case Engine.POSTGRESQL:
            cur.execute(
                "WITH edited AS (SELECT unnest(CAST(? AS text[])) AS name) " + either,
                ('{"' + '","'.join(names) + '"}', limit, now_ms, limit, question.asker),
            )
        case Engine.SQLITE:
            cur.execute(
                "WITH edited AS (SELECT value AS name FROM json_each(?)) " + either,
                ('["' + '","'.join(names) + '"]', limit, now_ms, limit, question.asker),
            )
    return _hits(cur, question.own_server, exact=None, otherwise=Match.MISTYPED)


def has_parts(cur: Cursor) -> bool:
    """Whether this database can search for parts of names."""
    match cur.engine:
        case Engine.SQLITE:
            return True
        case Engine.POSTGRESQL:
            cur.execute(
                "SELECT COUNT(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = current_schema() AND c.relname IN"
                " ('superapp_directory_handle_part', 'superapp_directory_replica_part')"
            )
            row = cur.fetchone()
            return row is not None and row[0] == 2


def prepare_parts(cur: Cursor) -> None:
    """Make what the search for parts of names needs, unless it is there; on PostgreSQL that takes an extension.

    Raises:
        Exception: the database's own, when the extension is not installed or may not be created.
    """
    if cur.engine is Engine.SQLITE:
        return  # its migration did
    cur.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    cur.execute(_PART_INDEXES)


def by_part(cur: Cursor, question: Question) -> list[Hit]:
    """Public names with the term, three characters or more, in them; no particular ones if there are many.

    From here on no statement of the transaction may take longer than ``PARTS_LIMIT_MS``; PostgreSQL stops it.
    """
    part, limit, now_ms = question.term.name, question.limit + _SPARE, question.now_ms
    match cur.engine:
        case Engine.POSTGRESQL:
            cur.execute("SELECT set_config('statement_timeout', ?, true)", (str(PARTS_LIMIT_MS),))
            pattern = "%" + part.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
            cur.execute(
                _of_each_kind(
                    _LOCAL_PUBLIC + " AND h.name LIKE ? LIMIT ?", _REPLICA_PUBLIC + " AND r.name LIKE ? LIMIT ?"
                ),
                (pattern, limit, now_ms, pattern, limit, question.asker),
            )
        case Engine.SQLITE:
            phrase = '"' + part.replace('"', '""') + '"'
            # The names that were seen first: a limit inside, since each name is yet to be looked up.
            cur.execute(
                "WITH edited AS (SELECT name FROM superapp_directory_part WHERE name MATCH ? LIMIT ?) "
                + _of_each_kind(
                    _LOCAL_PUBLIC + " AND h.name IN (SELECT name FROM edited) LIMIT ?",
                    _REPLICA_PUBLIC + " AND r.name IN (SELECT name FROM edited) LIMIT ?",
                ),
                (phrase, 4 * limit, limit, now_ms, limit, question.asker),
            )
    return _hits(cur, question.own_server, exact=None, otherwise=Match.PART)


def forget_unused_parts(cur: Cursor, turn: int) -> None:
    """Names that nobody has publicly any more leave SQLite's index; PostgreSQL's is of the rows themselves.

    Each turn looks at some, since SQLite lets nobody else write meanwhile; turns that follow one another get to all.
    """
    if cur.engine is Engine.POSTGRESQL:
        return
    cur.execute("SELECT COALESCE(MAX(number), 0) FROM superapp_directory_part_name")
    row = cur.fetchone()
    last = 0 if row is None else int(row[0] or 0)
    first = turn % (last // PARTS_A_TURN + 1) * PARTS_A_TURN
    cur.execute(
        "DELETE FROM superapp_directory_part_name WHERE number >= ? AND number < ?"
        " AND NOT EXISTS (SELECT 1 FROM superapp_directory_handle h"
        " WHERE h.name = superapp_directory_part_name.name AND h.discover = 'public')"
        # A plan that reads the whole table for each name instead keeps everybody from writing for minutes.
        " AND NOT EXISTS (SELECT 1 FROM superapp_directory_replica r INDEXED BY superapp_directory_replica_name"
        " WHERE r.name = superapp_directory_part_name.name AND r.discover = 'public')",
        (first, first + PARTS_A_TURN),
    )


# The extension may be in a schema that the search path does not have.
_PART_INDEXES: Final[LiteralString] = """
DO $$
DECLARE
    operators text := (SELECT quote_ident(n.nspname) || '.gin_trgm_ops' FROM pg_extension e
        JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm');
BEGIN
    EXECUTE 'CREATE INDEX IF NOT EXISTS superapp_directory_handle_part ON superapp_directory_handle USING gin (name '
        || operators || ') WHERE discover = ''public'' AND state = ''active''';
    EXECUTE 'CREATE INDEX IF NOT EXISTS superapp_directory_replica_part ON superapp_directory_replica USING gin (name '
        || operators || ') WHERE discover = ''public'' AND status = ''active''';
END $$
"""


def _of_each_kind(*kinds: LiteralString) -> LiteralString:
    """All kinds of hits in one statement, with whether each is a contact of the asker, who is the last parameter.

    And whether the asker follows them.
    """
    alone: list[LiteralString] = ["SELECT * FROM (" + kind + ") AS kind" for kind in kinds]
    return (
        "SELECT found.handle, found.user_id, found.acct, found.is_primary, found.record,"
        " CASE WHEN k.owner_acct IS NULL THEN 0 ELSE 1 END, CASE WHEN f.owner_acct IS NULL THEN 0 ELSE 1 END"
        " FROM (" + " UNION ALL ".join(alone) + ") AS found"
        " LEFT JOIN superapp_account asker ON asker.user_id = ?"
        " LEFT JOIN superapp_contact k ON k.peer_user_id = found.user_id AND k.owner_acct = asker.acct"
        " LEFT JOIN superapp_follow f ON f.peer_user_id = found.user_id AND f.owner_acct = asker.acct"
    )


def _hits(cur: Cursor, server: ServerName, *, exact: str | None, otherwise: Match) -> list[Hit]:
    """What was found; ``exact`` is the name or the whole handle that fits exactly."""
    return [_hit(row, server, exact, otherwise) for row in cur.fetchall()]


def _hit(row: Row, server: ServerName, exact: str | None, otherwise: Match) -> Hit:
    text = str(row[0])
    # A contact of this server is kept under its whole handle, a name of this server without.
    handle = Handle(text) if text.startswith("@") else full(Name(text), server)
    return Hit(
        handle=handle,
        user_id=UserId(str(row[1])),
        acct=Acct(str(row[2])),
        match=Match.EXACT if exact in (handle, localpart_of(handle)) else otherwise,
        local=server_of(handle) == server,
        primary=row[3] == 1,
        moved=row[3] == 2,
        badges=() if row[4] is None else tuple(loaded(row[4])["badges"]),
        contact=row[5] == 1,
        followed=row[6] == 1,
    )
