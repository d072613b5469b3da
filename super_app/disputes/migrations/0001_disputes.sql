-- Cases about payments, one for a payment at most. A case is kept at the payer's homeserver, which decides it; at the payee's
-- stands a copy of what that one has told (is_home 0). payer_key is as in superapp_payment.
CREATE TABLE superapp_dispute (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    is_home INTEGER NOT NULL CHECK (is_home IN (0, 1)),
    payer TEXT NOT NULL,
    payee TEXT NOT NULL,
    payer_acct TEXT,
    payee_acct TEXT,
    ground TEXT NOT NULL CHECK (ground IN ('not_received', 'not_as_agreed', 'not_mine', 'other')),
    currency TEXT NOT NULL,
    wanted_minor BIGINT NOT NULL CHECK (wanted_minor BETWEEN 1 AND 9007199254740991),
    granted_minor BIGINT CHECK (granted_minor BETWEEN 1 AND wanted_minor),
    state TEXT NOT NULL CHECK (state IN ('open', 'withdrawn', 'granted', 'rejected', 'settled')),
    opened_ms BIGINT NOT NULL,
    PRIMARY KEY (payer_key, payment_id),
    CHECK (state <> 'granted' OR granted_minor IS NOT NULL)
);
CREATE INDEX superapp_dispute_payer ON superapp_dispute (payer_acct, opened_ms);
CREATE INDEX superapp_dispute_payee ON superapp_dispute (payee_acct, opened_ms);
CREATE INDEX superapp_dispute_state ON superapp_dispute (state, opened_ms);

-- What was said and done, never changed. number is the place in the case's timeline, 0 at the payee's homeserver for a
-- statement that the payer's has not yet taken in.
CREATE TABLE superapp_dispute_entry (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    author TEXT NOT NULL CHECK (author IN ('payer', 'payee', 'operator')),
    act TEXT NOT NULL CHECK (act IN ('opened', 'stated', 'withdrawn', 'granted', 'rejected', 'refunded')),
    text TEXT NOT NULL,
    amount_minor BIGINT,
    made_ms BIGINT NOT NULL,
    PRIMARY KEY (payer_key, payment_id, entry_id),
    FOREIGN KEY (payer_key, payment_id) REFERENCES superapp_dispute (payer_key, payment_id)
);
CREATE UNIQUE INDEX superapp_dispute_entry_place ON superapp_dispute_entry (payer_key, payment_id, number)
WHERE number > 0;

-- What the other homeserver has to be told, in order.
CREATE TABLE superapp_dispute_outbox (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    to_server TEXT NOT NULL,
    number INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (payer_key, payment_id, entry_id)
);
CREATE INDEX superapp_dispute_outbox_due ON superapp_dispute_outbox (due_ms);
