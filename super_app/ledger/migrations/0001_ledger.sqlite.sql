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

-- Money set aside. A hold is decided once; both ends of its life are entries.
CREATE TABLE superapp_ledger_hold (
    hold_id TEXT NOT NULL PRIMARY KEY CHECK (hold_id <> ''),
    owner TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    state TEXT NOT NULL CHECK (state IN ('open', 'posted', 'voided')),
    placed_seq INTEGER NOT NULL REFERENCES superapp_ledger_entry (seq),
    decided_seq INTEGER REFERENCES superapp_ledger_entry (seq),
    CHECK ((state = 'open') = (decided_seq IS NULL))
) STRICT;
CREATE INDEX superapp_ledger_hold_open ON superapp_ledger_hold (owner, currency) WHERE state = 'open';

-- What operators did, and why. Kept apart from the journal, because it names people.
CREATE TABLE superapp_ledger_act (
    transfer_id TEXT NOT NULL PRIMARY KEY REFERENCES superapp_ledger_entry (transfer_id),
    operator TEXT NOT NULL
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
)
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_entry_no_update BEFORE UPDATE ON superapp_ledger_entry
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
END;
-- end
-- begin
CREATE TRIGGER superapp_ledger_entry_no_delete BEFORE DELETE ON superapp_ledger_entry
BEGIN
    SELECT RAISE(ABORT, 'superapp_ledger: the journal is append-only; a correction is a new entry');
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
