-- The head of the journal, and the lease: whoever writes locks this row first, in the same transaction.
CREATE TABLE superapp_ledger_head (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch BIGINT NOT NULL CHECK (epoch >= 1),
    seq BIGINT NOT NULL CHECK (seq >= 0),
    hash TEXT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO superapp_ledger_head (singleton, epoch, seq, hash) VALUES (1, 1, 0, '');

-- Which process writes. A takeover raises the epoch here and in the head; expires_ms is by the database's clock.
CREATE TABLE superapp_ledger_lease (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch BIGINT NOT NULL CHECK (epoch >= 1),
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL CHECK (expires_ms >= 0)
) WITH (fillfactor = 50);
INSERT INTO superapp_ledger_lease (singleton, epoch, holder, expires_ms) VALUES (1, 1, '', 0);

-- Accounts. balance_minor is the fold of the entries and last_seq the newest of them; the trigger on
-- superapp_ledger_entry keeps both, and nobody else does. sign says which balances a kind may have.
CREATE TABLE superapp_ledger_account (
    account_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
    balance_minor BIGINT NOT NULL DEFAULT 0 CHECK (balance_minor BETWEEN -9007199254740991 AND 9007199254740991),
    last_seq BIGINT NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    UNIQUE (owner, currency, kind),
    CONSTRAINT superapp_ledger_account_sign CHECK (balance_minor * sign >= 0)
) WITH (fillfactor = 50);

-- The journal: one row is one transfer with both its legs, so it sums to zero by construction. hash chains each row to
-- the one before it (super_app.ledger.rules.chained). The prev columns chain the entries of one account, newest to
-- oldest from last_seq on: a statement is read along them, and writing keeps no index for it.
CREATE TABLE superapp_ledger_entry (
    seq BIGINT NOT NULL PRIMARY KEY,
    transfer_id TEXT NOT NULL UNIQUE CHECK (transfer_id <> ''),
    debit_id BIGINT NOT NULL,
    debit_prev_seq BIGINT NOT NULL,
    debit_after_minor BIGINT NOT NULL,
    credit_id BIGINT NOT NULL,
    credit_prev_seq BIGINT NOT NULL,
    credit_after_minor BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    cause TEXT NOT NULL,
    reference TEXT NOT NULL,
    posted_ms BIGINT NOT NULL CHECK (posted_ms >= 0),
    hash TEXT NOT NULL CHECK (length(hash) = 43),
    CHECK (debit_id <> credit_id),
    CHECK (debit_prev_seq < seq AND credit_prev_seq < seq)
);

-- Money set aside. A hold is decided once; both ends of its life are entries.
CREATE TABLE superapp_ledger_hold (
    hold_id TEXT NOT NULL PRIMARY KEY CHECK (hold_id <> ''),
    owner TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    state TEXT NOT NULL CHECK (state IN ('open', 'posted', 'voided')),
    placed_seq BIGINT NOT NULL REFERENCES superapp_ledger_entry (seq),
    decided_seq BIGINT REFERENCES superapp_ledger_entry (seq),
    CHECK ((state = 'open') = (decided_seq IS NULL))
);
CREATE INDEX superapp_ledger_hold_open ON superapp_ledger_hold (owner, currency) WHERE state = 'open';

-- What operators did, and why. Kept apart from the journal, because it names people.
CREATE TABLE superapp_ledger_act (
    transfer_id TEXT NOT NULL PRIMARY KEY REFERENCES superapp_ledger_entry (transfer_id),
    operator TEXT NOT NULL
);

-- Folds the new entries of one statement into the head and the accounts, and holds them to the rules: no gap, balances
-- after that follow from those before, signs at every step, and each currency sums to zero. The planner is told to look
-- accounts up one by one, because it keeps one plan for a small and a huge table.
-- begin
CREATE FUNCTION superapp_ledger_fold() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    first_seq BIGINT;
    final_seq BIGINT;
    entry_count BIGINT;
    account_count BIGINT;
    folded_count BIGINT;
    off_by NUMERIC;
BEGIN
    SELECT min(seq), max(seq), count(*) INTO first_seq, final_seq, entry_count FROM added;
    IF entry_count = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE superapp_ledger_head SET seq = final_seq, hash = (SELECT added.hash FROM added WHERE added.seq = final_seq)
    WHERE singleton = 1 AND seq = first_seq - 1;
    IF NOT FOUND OR final_seq - first_seq + 1 <> entry_count THEN
        RAISE EXCEPTION 'superapp_ledger: entries must follow the head without a gap';
    END IF;
    WITH leg AS (
        SELECT debit_id AS account_id, -amount_minor AS change_minor, debit_after_minor AS after_minor,
            debit_prev_seq AS prev_seq, seq
        FROM added
        UNION ALL
        SELECT credit_id, amount_minor, credit_after_minor, credit_prev_seq, seq FROM added
    ), fold AS (
        SELECT account_id, sum(change_minor) AS change_minor,
            (array_agg(after_minor ORDER BY seq DESC))[1] AS after_minor,
            min(after_minor) AS least_minor, max(after_minor) AS most_minor,
            min(prev_seq) AS prev_seq, max(seq) AS last_seq, sum(seq - prev_seq) AS steps
        FROM leg GROUP BY account_id
    ), folded AS (
        UPDATE superapp_ledger_account AS account
        SET balance_minor = fold.after_minor, last_seq = fold.last_seq
        FROM fold
        WHERE account.account_id = fold.account_id
            AND account.balance_minor + fold.change_minor = fold.after_minor
            AND fold.least_minor * account.sign >= 0 AND fold.most_minor * account.sign >= 0
            AND account.last_seq = fold.prev_seq AND fold.last_seq - fold.prev_seq = fold.steps
        RETURNING account.currency, fold.change_minor
    )
    SELECT (SELECT count(*) FROM fold), (SELECT count(*) FROM folded),
        (SELECT sum(abs(total)) FROM (SELECT sum(change_minor) AS total FROM folded GROUP BY currency) AS totals)
    INTO account_count, folded_count, off_by;
    IF account_count <> folded_count OR off_by <> 0 THEN
        RAISE EXCEPTION 'superapp_ledger: an entry does not fit its accounts (currency, sign, balance after or order)';
    END IF;
    RETURN NULL;
END $$;
-- end
CREATE TRIGGER superapp_ledger_entry_fold AFTER INSERT ON superapp_ledger_entry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_fold();

-- Appends entries in one call with cached plans. 'moved' if the head is no longer the expected one, 'taken' if a
-- transfer id stands already; then nothing was written, and the head is locked all the same.
-- Whoever stops in the middle of a transaction that holds the head loses it after some seconds, as in store.lock.
-- begin
CREATE FUNCTION superapp_ledger_append(
    expected_epoch BIGINT, expected_seq BIGINT, expected_hash TEXT, seqs BIGINT[], transfer_ids TEXT[],
    debit_ids BIGINT[], debit_prev_seqs BIGINT[], debit_afters_minor BIGINT[],
    credit_ids BIGINT[], credit_prev_seqs BIGINT[], credit_afters_minor BIGINT[],
    amounts_minor BIGINT[], causes TEXT[], refs TEXT[], times_ms BIGINT[], hashes TEXT[]
) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', TRUE) FROM superapp_ledger_head
    WHERE singleton = 1 AND epoch = expected_epoch AND seq = expected_seq AND hash = expected_hash FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '5s', TRUE) FROM superapp_ledger_head
        WHERE singleton = 1 FOR UPDATE;
        RETURN 'moved';
    END IF;
    INSERT INTO superapp_ledger_entry (seq, transfer_id, debit_id, debit_prev_seq, debit_after_minor, credit_id,
        credit_prev_seq, credit_after_minor, amount_minor, cause, reference, posted_ms, hash)
    SELECT * FROM unnest(seqs, transfer_ids, debit_ids, debit_prev_seqs, debit_afters_minor, credit_ids,
        credit_prev_seqs, credit_afters_minor, amounts_minor, causes, refs, times_ms, hashes);
    RETURN 'appended';
EXCEPTION WHEN unique_violation THEN
    PERFORM set_config('idle_in_transaction_session_timeout', '5s', TRUE) FROM superapp_ledger_head
    WHERE singleton = 1 FOR UPDATE;
    RETURN 'taken';
END $$;
-- end

-- begin
CREATE FUNCTION superapp_ledger_forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'superapp_ledger: the journal is append-only; a correction is a new entry';
END $$;
-- end
CREATE TRIGGER superapp_ledger_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON superapp_ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_forbid();
CREATE TRIGGER superapp_ledger_account_stays BEFORE DELETE OR TRUNCATE ON superapp_ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_forbid();
CREATE TRIGGER superapp_ledger_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON superapp_ledger_head
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_forbid();
CREATE TRIGGER superapp_ledger_hold_stays BEFORE DELETE OR TRUNCATE ON superapp_ledger_hold
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_forbid();

-- Accounts and the head move by the fold alone: from there this trigger is the second on the stack.
-- begin
CREATE FUNCTION superapp_ledger_fold_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'superapp_ledger: only a new entry moves a balance or the head';
    END IF;
    RETURN NULL;
END $$;
-- end
CREATE TRIGGER superapp_ledger_account_fold_only BEFORE UPDATE ON superapp_ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_fold_only();
CREATE TRIGGER superapp_ledger_head_fold_only BEFORE UPDATE OF seq, hash ON superapp_ledger_head
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_fold_only();

-- begin
CREATE FUNCTION superapp_ledger_account_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.balance_minor <> 0 OR NEW.last_seq <> 0 THEN
        RAISE EXCEPTION 'superapp_ledger: an account opens empty';
    END IF;
    RETURN NEW;
END $$;
-- end
CREATE TRIGGER superapp_ledger_account_opens_empty BEFORE INSERT ON superapp_ledger_account
    FOR EACH ROW EXECUTE FUNCTION superapp_ledger_account_opened();

-- begin
CREATE FUNCTION superapp_ledger_hold_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'open' OR NEW.hold_id <> OLD.hold_id OR NEW.owner <> OLD.owner OR NEW.currency <> OLD.currency
        OR NEW.amount_minor <> OLD.amount_minor OR NEW.placed_seq <> OLD.placed_seq THEN
        RAISE EXCEPTION 'superapp_ledger: a hold is decided once and changes in nothing else';
    END IF;
    RETURN NEW;
END $$;
-- end
CREATE TRIGGER superapp_ledger_hold_decided_once BEFORE UPDATE ON superapp_ledger_hold
    FOR EACH ROW EXECUTE FUNCTION superapp_ledger_hold_decided();
