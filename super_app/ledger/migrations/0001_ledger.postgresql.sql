-- The head of the journal, and the lease: whoever writes locks this row first, in the same transaction.
CREATE TABLE superapp_ledger_head (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    epoch BIGINT NOT NULL CHECK (epoch >= 1),
    seq BIGINT NOT NULL CHECK (seq >= 0),
    hash TEXT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO superapp_ledger_head (singleton, epoch, seq, hash) VALUES (1, 1, 0, '');

-- Accounts. balance_minor is the fold of the entries, kept by the trigger on superapp_ledger_entry and by nobody else.
CREATE TABLE superapp_ledger_account (
    account_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner TEXT NOT NULL CHECK (owner <> ''),
    currency TEXT NOT NULL CHECK (currency <> ''),
    kind TEXT NOT NULL,
    balance_minor BIGINT NOT NULL DEFAULT 0 CHECK (balance_minor BETWEEN -9007199254740991 AND 9007199254740991),
    UNIQUE (owner, currency, kind),
    CONSTRAINT superapp_ledger_account_sign CHECK (
        (kind IN ('available', 'held', 'fees', 'due_to', 'in_transit', 'gift', 'claim') AND balance_minor >= 0)
        OR (kind IN ('issued', 'due_from', 'receivable', 'provider') AND balance_minor <= 0)
        OR kind = 'suspense'
    )
) WITH (fillfactor = 50);

-- The journal: one row is one transfer with both its legs, so it sums to zero by construction.
-- hash chains each row to the one before it (super_app.ledger.rules.entry_hash).
CREATE TABLE superapp_ledger_entry (
    seq BIGINT NOT NULL PRIMARY KEY,
    transfer_id TEXT NOT NULL UNIQUE CHECK (transfer_id <> ''),
    currency TEXT NOT NULL,
    debit_id BIGINT NOT NULL,
    debit_kind TEXT NOT NULL,
    debit_after_minor BIGINT NOT NULL,
    credit_id BIGINT NOT NULL,
    credit_kind TEXT NOT NULL,
    credit_after_minor BIGINT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    cause TEXT NOT NULL,
    reference TEXT NOT NULL,
    posted_ms BIGINT NOT NULL CHECK (posted_ms >= 0),
    hash TEXT NOT NULL CHECK (length(hash) = 43),
    CHECK (debit_id <> credit_id),
    CONSTRAINT superapp_ledger_entry_debit_sign CHECK (
        (debit_kind IN ('available', 'held', 'fees', 'due_to', 'in_transit', 'gift', 'claim')
            AND debit_after_minor >= 0)
        OR (debit_kind IN ('issued', 'due_from', 'receivable', 'provider') AND debit_after_minor <= 0)
        OR debit_kind = 'suspense'
    ),
    CONSTRAINT superapp_ledger_entry_credit_sign CHECK (
        (credit_kind IN ('available', 'held', 'fees', 'due_to', 'in_transit', 'gift', 'claim')
            AND credit_after_minor >= 0)
        OR (credit_kind IN ('issued', 'due_from', 'receivable', 'provider') AND credit_after_minor <= 0)
        OR credit_kind = 'suspense'
    )
);
CREATE INDEX superapp_ledger_entry_debit ON superapp_ledger_entry (debit_id, seq);
CREATE INDEX superapp_ledger_entry_credit ON superapp_ledger_entry (credit_id, seq);

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

-- begin
CREATE FUNCTION superapp_ledger_fold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    first_seq BIGINT;
    last_seq BIGINT;
    added_count BIGINT;
    account_count BIGINT;
    touched BIGINT;
BEGIN
    SELECT min(seq), max(seq), count(*) INTO first_seq, last_seq, added_count FROM added;
    IF added_count = 0 THEN
        RETURN NULL;
    END IF;
    UPDATE superapp_ledger_head SET seq = last_seq, hash = (SELECT added.hash FROM added WHERE added.seq = last_seq)
        WHERE seq = first_seq - 1;
    IF NOT FOUND OR last_seq - first_seq + 1 <> added_count THEN
        RAISE EXCEPTION 'superapp_ledger: entries must follow the head without a gap';
    END IF;
    WITH leg AS (
        SELECT debit_id AS account_id, debit_kind AS kind, currency, -amount_minor AS change_minor,
            debit_after_minor AS after_minor, seq
        FROM added
        UNION ALL
        SELECT credit_id, credit_kind, currency, amount_minor, credit_after_minor, seq FROM added
    ), fold AS (
        SELECT account_id, kind, currency, sum(change_minor) AS change_minor,
            (array_agg(after_minor ORDER BY seq DESC))[1] AS after_minor
        FROM leg GROUP BY account_id, kind, currency
    ), moved AS (
        UPDATE superapp_ledger_account AS account SET balance_minor = fold.after_minor
        FROM fold
        WHERE account.account_id = fold.account_id AND account.kind = fold.kind AND account.currency = fold.currency
            AND account.balance_minor + fold.change_minor = fold.after_minor
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM fold), (SELECT count(*) FROM moved) INTO account_count, touched;
    IF account_count <> touched THEN
        RAISE EXCEPTION 'superapp_ledger: an entry does not fit its accounts (currency, kind or balance after)';
    END IF;
    RETURN NULL;
END $$;
-- end
CREATE TRIGGER superapp_ledger_entry_fold AFTER INSERT ON superapp_ledger_entry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION superapp_ledger_fold();

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

-- Balances and the head move by the fold alone: from there this trigger is the second on the stack.
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
    IF NEW.balance_minor <> 0 THEN
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
