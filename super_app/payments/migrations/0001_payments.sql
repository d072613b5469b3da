-- Payments of people of this homeserver, as payers, payees, or both. payer_key is the acct of a payer of ours and the
-- user id of any other, since payment ids are the payer's. payer_acct and payee_acct are accounts of this homeserver.
-- memo is erased when its retention is over.
CREATE TABLE superapp_payment (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    payer_user_id TEXT NOT NULL,
    payer_acct TEXT REFERENCES superapp_account (acct),
    payee_user_id TEXT NOT NULL,
    payee_party_acct TEXT NOT NULL,
    payee_handle TEXT,
    payee_acct TEXT REFERENCES superapp_account (acct),
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    currency TEXT NOT NULL,
    memo TEXT,
    request TEXT,
    refund_of TEXT,
    invoice TEXT,
    order_hash TEXT,
    salts TEXT,
    wire_id TEXT,
    room_id TEXT,
    event_id TEXT,
    venue TEXT NOT NULL CHECK (venue IN ('open', 'hidden')),
    payee_joined INTEGER NOT NULL CHECK (payee_joined IN (0, 1)),
    position BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN (
            'held', 'awaiting_acceptance', 'committed', 'completed', 'failed', 'declined', 'expired', 'cancelled'
        )
    ),
    reason TEXT,
    answered INTEGER NOT NULL CHECK (answered IN (0, 1)),
    created_ms BIGINT NOT NULL,
    due_ms BIGINT,
    signed TEXT,
    PRIMARY KEY (payer_key, payment_id),
    CHECK (payer_acct IS NOT NULL OR payee_acct IS NOT NULL),
    CHECK (payer_acct IS NULL OR payer_acct = payer_key),
    CHECK ((payer_acct IS NULL) = (order_hash IS NULL)),
    CHECK ((payer_acct IS NULL) = (salts IS NULL)),
    CHECK ((payer_acct IS NULL) = (wire_id IS NOT NULL)),
    CHECK (state IN ('held', 'awaiting_acceptance') OR due_ms IS NULL)
);
CREATE INDEX superapp_payment_payer ON superapp_payment (payer_acct, created_ms, payer_key, payment_id);
CREATE INDEX superapp_payment_payee ON superapp_payment (payee_acct, created_ms, payer_key, payment_id);
CREATE INDEX superapp_payment_received ON superapp_payment (payee_acct, payment_id);
CREATE INDEX superapp_payment_due ON superapp_payment (due_ms)
WHERE due_ms IS NOT NULL AND payer_acct IS NOT NULL;
CREATE INDEX superapp_payment_refund ON superapp_payment (refund_of) WHERE refund_of IS NOT NULL;
CREATE INDEX superapp_payment_memo ON superapp_payment (created_ms) WHERE memo IS NOT NULL;
CREATE INDEX superapp_payment_open ON superapp_payment (state)
WHERE state IN ('held', 'awaiting_acceptance', 'committed');

-- Receipts that this homeserver owes to a room. receipt_event_id is set once one stands in the room, whoever posted it.
CREATE TABLE superapp_payment_receipt (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    poster TEXT NOT NULL CHECK (poster IN ('payee', 'payer', 'payer_if_none')),
    room_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_ms BIGINT,
    receipt_event_id TEXT,
    PRIMARY KEY (payer_key, payment_id),
    FOREIGN KEY (payer_key, payment_id) REFERENCES superapp_payment (payer_key, payment_id)
);
CREATE INDEX superapp_payment_receipt_due ON superapp_payment_receipt (due_ms) WHERE due_ms IS NOT NULL;
