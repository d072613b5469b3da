-- The head of the journal, and the lease: whoever writes touches this row first, in the same transaction.
CREATE TABLE superapp_ledger_head (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    seq INTEGER NOT NULL CHECK (seq >= 0),
    hash TEXT NOT NULL
) STRICT;
INSERT INTO superapp_ledger_head (singleton, epoch, seq, hash) VALUES (1, 1, 0, '');

-- Which process writes. A takeover raises the epoch here and in the head; expires_ms is by the database's clock.
CREATE TABLE superapp_ledger_lease (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    holder TEXT NOT NULL,
    expires_ms INTEGER NOT NULL CHECK (expires_ms >= 0)
) STRICT;
INSERT INTO superapp_ledger_lease (singleton, epoch, holder, expires_ms) VALUES (1, 1, '', 0);

-- Accounts. balance_minor is the fold of the entries and last_seq the newest of them; the trigger on
-- superapp_ledger_entry keeps both, and nobody else does. sign says which balances a kind may have.
CREATE TABLE superapp_ledger_account (
    account_id INTEGER NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL CHECK (owner <> ''),
    currency TEXT NOT NULL CHECK (currency <> ''),
    kind TEXT NOT NULL,
    sign INTEGER NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN kind IN ('available', 'held', 'fees', 'due_to', 'in_transit', 'gift', 'claim') THEN 1
            WHEN kind IN ('due_from', 'receivable', 'provider') THEN -1
            WHEN kind IN ('issued', 'suspense') THEN 0
        END
    ) STORED,
    balance_minor INTEGER NOT NULL DEFAULT 0 CHECK (balance_minor BETWEEN -9007199254740991 AND 9007199254740991),
    last_seq INTEGER NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    UNIQUE (owner, currency, kind),
    CONSTRAINT superapp_ledger_account_sign CHECK (balance_minor * sign >= 0)
) STRICT;

-- The journal: one row is one transfer with both its legs, so it sums to zero by construction. hash chains each row to
-- the one before it (super_app.ledger.rules.chained). The prev columns chain the entries of one account, newest to
-- oldest from last_seq on: a statement is read along them, and writing keeps no index for it.
CREATE TABLE superapp_ledger_entry (
    seq INTEGER NOT NULL PRIMARY KEY,
    transfer_id TEXT NOT NULL UNIQUE CHECK (transfer_id <> ''),
    debit_id INTEGER NOT NULL,
    debit_prev_seq INTEGER NOT NULL,
    debit_after_minor INTEGER NOT NULL,
    credit_id INTEGER NOT NULL,
    credit_prev_seq INTEGER NOT NULL,
    credit_after_minor INTEGER NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    cause TEXT NOT NULL,
    reference TEXT NOT NULL,
    posted_ms INTEGER NOT NULL CHECK (posted_ms >= 0),
    hash TEXT NOT NULL CHECK (length(hash) = 43),
    CHECK (debit_id <> credit_id),
    CHECK (debit_prev_seq < seq AND credit_prev_seq < seq)
) STRICT;

-- Money set aside. A hold is decided once; both ends of its life are entries, which a trigger looks up as they may be
-- archived later. posted_minor is what went on of a posted one; the rest went back.
CREATE TABLE superapp_ledger_hold (
    hold_id TEXT NOT NULL PRIMARY KEY CHECK (hold_id <> ''),
    owner TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    state TEXT NOT NULL CHECK (state IN ('open', 'posted', 'voided')),
    placed_seq INTEGER NOT NULL,
    decided_seq INTEGER,
    posted_minor INTEGER NOT NULL DEFAULT 0 CHECK (posted_minor BETWEEN 0 AND amount_minor),
    CHECK ((state = 'open') = (decided_seq IS NULL)),
    CHECK ((state = 'posted') = (posted_minor > 0))
) STRICT;
CREATE INDEX superapp_ledger_hold_open ON superapp_ledger_hold (owner, currency) WHERE state = 'open';

-- What operators did, and why. Kept apart from the journal, because it names people. transfer_id is the entry that it
-- made, if it made one; owner is whose account it is about.
CREATE TABLE superapp_ledger_act (
    act_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    deed TEXT NOT NULL CHECK (deed <> ''),
    operator TEXT NOT NULL CHECK (operator <> ''),
    reason TEXT NOT NULL,
    owner TEXT NOT NULL,
    transfer_id TEXT UNIQUE,
    acted_ms INTEGER NOT NULL CHECK (acted_ms >= 0)
) STRICT;

-- Owners whose accounts no payment may touch.
CREATE TABLE superapp_ledger_frozen (
    owner TEXT NOT NULL PRIMARY KEY CHECK (owner <> ''),
    since_ms INTEGER NOT NULL CHECK (since_ms >= 0)
) STRICT;

-- Which entry takes back which, and how much of it; never more than all of it.
CREATE TABLE superapp_ledger_correction (
    transfer_id TEXT NOT NULL PRIMARY KEY,
    corrects_seq INTEGER NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor >= 1)
) STRICT;
CREATE INDEX superapp_ledger_correction_corrects ON superapp_ledger_correction (corrects_seq);

-- What one unit of an asset is, fixed at its first use: with another scale every balance would mean something else.
CREATE TABLE superapp_ledger_asset (
    code TEXT NOT NULL PRIMARY KEY CHECK (code <> ''),
    scale INTEGER NOT NULL CHECK (scale BETWEEN 0 AND 8)
) STRICT;

-- The books as they were after an entry. A balance row stands for each account that has moved since the snapshot
-- before: the balance of an account as of a snapshot is that of its newest row up to there.
CREATE TABLE superapp_ledger_snapshot (
    seq INTEGER NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL,
    posted_ms INTEGER NOT NULL,
    taken_ms INTEGER NOT NULL CHECK (taken_ms >= 0)
) STRICT;
CREATE TABLE superapp_ledger_snapshot_balance (
    account_id INTEGER NOT NULL,
    seq INTEGER NOT NULL REFERENCES superapp_ledger_snapshot (seq),
    last_seq INTEGER NOT NULL,
    balance_minor INTEGER NOT NULL,
    PRIMARY KEY (account_id, seq)
) STRICT;
CREATE INDEX superapp_ledger_snapshot_balance_seq ON superapp_ledger_snapshot_balance (seq);

-- Stretches of the journal that were written to a file. Only their entries may be deleted, and the trigger that lets one
-- go keeps its id, which stays taken for ever.
CREATE TABLE superapp_ledger_archive (
    through_seq INTEGER NOT NULL PRIMARY KEY REFERENCES superapp_ledger_snapshot (seq),
    after_seq INTEGER NOT NULL UNIQUE CHECK (after_seq >= 0 AND after_seq < through_seq),
    before_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    posted_ms INTEGER NOT NULL,
    file_name TEXT NOT NULL CHECK (file_name <> ''),
    file_digest TEXT NOT NULL CHECK (length(file_digest) = 43),
    archived_ms INTEGER NOT NULL CHECK (archived_ms >= 0)
) STRICT;
CREATE TABLE superapp_ledger_archived (
    transfer_id TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT;

-- Folds a new entry into the head and its accounts, and holds it to the rules: no gap, balances after that follow from
-- those before (their sign is a CHECK on the account), one currency.
-- begin
CREATE TRIGGER superapp_ledger_entry_fold AFTER INSERT ON superapp_ledger_entry
BEGIN
    UPDATE superapp_ledger_head SET seq = NEW.seq, hash = NEW.hash WHERE singleton = 1 AND seq = NEW.seq - 1;
    SELECT RAISE(ABORT, 'superapp_ledger: entries must follow the head without a gap') WHERE changes() <> 1;
    UPDATE superapp_ledger_account SET balance_minor = NEW.debit_after_minor, last_seq = NEW.seq
    WHERE account_id = NEW.debit_id AND last_seq = NEW.debit_prev_seq
        AND balance_minor - NEW.amount_minor = NEW.debit_after_minor;
    SELECT RAISE(ABORT, 'superapp_ledger: an entry does not fit its accounts (currency, sign, balance after or order)')
    WHERE changes() <> 1;
    UPDATE superapp_ledger_account SET balance_minor = NEW.credit_after_minor, last_seq = NEW.seq
    WHERE account_id = NEW.credit_id AND last_seq = NEW.credit_prev_seq
        AND balance_minor + NEW.amount_minor = NEW.credit_after_minor
        AND currency = (
            SELECT other.currency FROM superapp_ledger_account AS other WHERE other.account_id = NEW.debit_id
        );
    SELECT RAISE(ABORT, 'superapp_ledger: an entry does not fit its accounts (currency, sign, balance after or order)')
    WHERE changes() <> 1;
END;
-- end

-- INSERT OR REPLACE deletes without firing the trigger on DELETE, hence a look before each insert.
-- begin
CREATE TRIGGER superapp_ledger_entry_no_replace BEFORE INSERT ON superapp_ledger_entry
WHEN EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS older WHERE older.transfer_id = NEW.transfer_id OR older.seq = NEW.seq
) OR EXISTS (
    SELECT 1 FROM superapp_ledger_archived AS older WHERE older.transfer_id = NEW.transfer_id
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_entry_not_frozen BEFORE INSERT ON superapp_ledger_entry
WHEN NEW.cause IN ('hold', 'payment', 'fee', 'commit', 'credit') AND EXISTS (
    SELECT 1 FROM superapp_ledger_frozen AS frozen
    JOIN superapp_ledger_account AS party ON party.owner = frozen.owner
    WHERE party.account_id IN (NEW.debit_id, NEW.credit_id)
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: no payment touches a frozen account');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_entry_no_update BEFORE UPDATE ON superapp_ledger_entry
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- The one way out of the journal: the entry stands in a recorded archive, and its id is kept in the same act.
-- begin
CREATE TRIGGER superapp_ledger_entry_leaves_to_archive BEFORE DELETE ON superapp_ledger_entry
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry')
    WHERE OLD.seq > (SELECT COALESCE(max(through_seq), 0) FROM superapp_ledger_archive);
    INSERT INTO superapp_ledger_archived (transfer_id, seq) VALUES (OLD.transfer_id, OLD.seq);
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_account_no_delete BEFORE DELETE ON superapp_ledger_account
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_head_no_delete BEFORE DELETE ON superapp_ledger_head
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_hold_no_delete BEFORE DELETE ON superapp_ledger_hold
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end

-- Accounts and the head move by the fold alone: the newest entry must say what they become.
-- begin
CREATE TRIGGER superapp_ledger_account_fold_only BEFORE UPDATE ON superapp_ledger_account
WHEN NEW.account_id <> OLD.account_id OR NEW.owner <> OLD.owner OR NEW.currency <> OLD.currency OR NEW.kind <> OLD.kind
    OR NOT EXISTS (
        SELECT 1 FROM superapp_ledger_entry AS newest
        WHERE newest.seq = (SELECT max(seq) FROM superapp_ledger_entry) AND newest.seq = NEW.last_seq AND (
            (newest.debit_id = NEW.account_id AND newest.debit_after_minor = NEW.balance_minor)
            OR (newest.credit_id = NEW.account_id AND newest.credit_after_minor = NEW.balance_minor)
        )
    )
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: only a new entry moves a balance or the head');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_head_fold_only BEFORE UPDATE OF seq, hash ON superapp_ledger_head
WHEN NOT EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS newest
    WHERE newest.seq = (SELECT max(seq) FROM superapp_ledger_entry) AND newest.seq = NEW.seq AND newest.hash = NEW.hash
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: only a new entry moves a balance or the head');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_account_opens_empty BEFORE INSERT ON superapp_ledger_account
WHEN NEW.balance_minor <> 0 OR NEW.last_seq <> 0
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: an account opens empty');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_hold_decided_once BEFORE UPDATE ON superapp_ledger_hold
WHEN OLD.state <> 'open' OR NEW.hold_id <> OLD.hold_id OR NEW.owner <> OLD.owner OR NEW.currency <> OLD.currency
    OR NEW.amount_minor <> OLD.amount_minor OR NEW.placed_seq <> OLD.placed_seq
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: a hold is decided once and changes in nothing else');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_hold_decided_by_entry BEFORE UPDATE ON superapp_ledger_hold
WHEN OLD.state = 'open' AND NOT EXISTS (SELECT 1 FROM superapp_ledger_entry WHERE seq = NEW.decided_seq)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: a hold is placed and decided by entries');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_hold_by_entry BEFORE INSERT ON superapp_ledger_hold
WHEN NEW.state <> 'open' OR NOT EXISTS (SELECT 1 FROM superapp_ledger_entry WHERE seq = NEW.placed_seq)
    OR EXISTS (SELECT 1 FROM superapp_ledger_hold AS older WHERE older.hold_id = NEW.hold_id)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: a hold is placed and decided by entries');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_act_by_entry BEFORE INSERT ON superapp_ledger_act
WHEN (
    NEW.transfer_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM superapp_ledger_entry WHERE transfer_id = NEW.transfer_id)
) OR EXISTS (
    SELECT 1 FROM superapp_ledger_act AS older
    WHERE older.act_id = NEW.act_id OR older.transfer_id = NEW.transfer_id
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: an act names the entry that it made');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_correction_fits BEFORE INSERT ON superapp_ledger_correction
WHEN NOT EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS entry
    WHERE entry.transfer_id = NEW.transfer_id AND entry.cause = 'correct' AND entry.amount_minor = NEW.amount_minor
) OR EXISTS (
    SELECT 1 FROM superapp_ledger_correction AS older WHERE older.transfer_id = NEW.transfer_id
) OR NEW.amount_minor + (
    SELECT COALESCE(sum(amount_minor), 0) FROM superapp_ledger_correction WHERE corrects_seq = NEW.corrects_seq
) > (
    SELECT COALESCE(max(amount_minor), 0) FROM superapp_ledger_entry WHERE seq = NEW.corrects_seq
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: corrections take back no more than the entry moved');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_of_entry BEFORE INSERT ON superapp_ledger_snapshot
WHEN NOT EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS entry
    WHERE entry.seq = NEW.seq AND entry.hash = NEW.hash AND entry.posted_ms = NEW.posted_ms
) OR EXISTS (SELECT 1 FROM superapp_ledger_snapshot AS older WHERE older.seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: a snapshot says what entries say');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_balance_of_entry BEFORE INSERT ON superapp_ledger_snapshot_balance
WHEN NEW.last_seq > NEW.seq OR NOT EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS entry
    WHERE entry.seq = NEW.last_seq AND (
        (entry.debit_id = NEW.account_id AND entry.debit_after_minor = NEW.balance_minor)
        OR (entry.credit_id = NEW.account_id AND entry.credit_after_minor = NEW.balance_minor)
    )
) OR EXISTS (
    SELECT 1 FROM superapp_ledger_snapshot_balance AS older
    WHERE older.account_id = NEW.account_id AND older.seq = NEW.seq
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: a snapshot says what entries say');
END;
-- end
-- An archive follows the one before, and ends at a snapshot.
-- begin
CREATE TRIGGER superapp_ledger_archive_in_order BEFORE INSERT ON superapp_ledger_archive
WHEN NEW.after_seq <> (SELECT COALESCE(max(through_seq), 0) FROM superapp_ledger_archive)
    OR NEW.through_seq <= NEW.after_seq
    OR NEW.before_hash <> COALESCE(
        (SELECT older.hash FROM superapp_ledger_archive AS older WHERE older.through_seq = NEW.after_seq), ''
    )
    OR NOT EXISTS (
        SELECT 1 FROM superapp_ledger_snapshot AS snapshot WHERE snapshot.seq = NEW.through_seq
            AND snapshot.hash = NEW.hash AND snapshot.posted_ms = NEW.posted_ms
    )
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: an archive follows the one before and ends at a snapshot');
END;
-- end
-- An id is kept while its entry still stands, by the trigger that lets the entry go.
-- begin
CREATE TRIGGER superapp_ledger_archived_by_leaving BEFORE INSERT ON superapp_ledger_archived
WHEN NOT EXISTS (
    SELECT 1 FROM superapp_ledger_entry AS entry
    WHERE entry.transfer_id = NEW.transfer_id AND entry.seq = NEW.seq
        AND entry.seq <= (SELECT COALESCE(max(through_seq), 0) FROM superapp_ledger_archive)
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: only an entry that leaves for the archive leaves its id here');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_act_no_update BEFORE UPDATE ON superapp_ledger_act
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_act_no_delete BEFORE DELETE ON superapp_ledger_act
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_correction_no_update BEFORE UPDATE ON superapp_ledger_correction
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_correction_no_delete BEFORE DELETE ON superapp_ledger_correction
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_asset_no_update BEFORE UPDATE ON superapp_ledger_asset
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_asset_no_delete BEFORE DELETE ON superapp_ledger_asset
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_no_update BEFORE UPDATE ON superapp_ledger_snapshot
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_no_delete BEFORE DELETE ON superapp_ledger_snapshot
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_balance_no_update BEFORE UPDATE ON superapp_ledger_snapshot_balance
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_snapshot_balance_no_delete BEFORE DELETE ON superapp_ledger_snapshot_balance
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_archive_no_update BEFORE UPDATE ON superapp_ledger_archive
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_archive_no_delete BEFORE DELETE ON superapp_ledger_archive
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_archived_no_update BEFORE UPDATE ON superapp_ledger_archived
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_archived_no_delete BEFORE DELETE ON superapp_ledger_archived
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_asset_no_replace BEFORE INSERT ON superapp_ledger_asset
WHEN EXISTS (SELECT 1 FROM superapp_ledger_asset AS older WHERE older.code = NEW.code)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
