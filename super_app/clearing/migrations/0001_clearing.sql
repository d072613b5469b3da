-- Links with other homeservers, one a pair. our_* and their_* speak of the two chains; docs/clearing.md says what for.
CREATE TABLE superapp_clearing_link (
    link_id TEXT NOT NULL PRIMARY KEY,
    peer TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('active', 'frozen', 'halted', 'recovering')),
    stopped_why TEXT NOT NULL,
    wanted INTEGER NOT NULL CHECK (wanted IN (0, 1)),
    checked_boot TEXT NOT NULL,
    our_key_id TEXT NOT NULL,
    our_epoch BIGINT NOT NULL,
    our_seq BIGINT NOT NULL,
    our_hash TEXT NOT NULL,
    their_epoch BIGINT NOT NULL,
    their_seq BIGINT NOT NULL,
    their_hash TEXT NOT NULL,
    their_signature TEXT NOT NULL,
    their_newest BIGINT NOT NULL CHECK (their_newest >= their_seq),
    acked_seq BIGINT NOT NULL,
    our_open_ms BIGINT NOT NULL,
    their_open_ms BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    next_try_ms BIGINT NOT NULL,
    last_try_ms BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    gap_attempts INTEGER NOT NULL,
    gap_due_ms BIGINT,
    tombstones BIGINT NOT NULL CHECK (tombstones >= 0),
    our_standing TEXT NOT NULL CHECK (our_standing IN ('ready', 'suspended', 'closing')),
    our_standing_why TEXT NOT NULL,
    said_standing TEXT NOT NULL CHECK (said_standing IN ('ready', 'suspended', 'closing')),
    their_standing TEXT NOT NULL CHECK (their_standing IN ('ready', 'suspended', 'closing')),
    their_standing_why TEXT NOT NULL,
    standing_epoch BIGINT NOT NULL,
    standing_seq BIGINT NOT NULL,
    key_unsent_seq BIGINT NOT NULL
);

-- Public payment keys of both sides of a link. A key signs from (epoch, seq) on.
CREATE TABLE superapp_clearing_key (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    key_id TEXT NOT NULL,
    public_key TEXT NOT NULL,
    certificate TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (link_id, sender, key_id)
);

-- What each side grants the other in one currency, and what is in flight. A side that grants nothing has NULLs.
CREATE TABLE superapp_clearing_currency (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    currency TEXT NOT NULL,
    our_scale INTEGER,
    our_limit_minor BIGINT CHECK (our_limit_minor >= 0),
    our_max_count BIGINT,
    our_max_sum_minor BIGINT,
    their_scale INTEGER,
    their_limit_minor BIGINT,
    their_max_count BIGINT,
    their_max_sum_minor BIGINT,
    their_grant_epoch BIGINT NOT NULL,
    their_grant_seq BIGINT NOT NULL,
    reserved_minor BIGINT NOT NULL CHECK (reserved_minor >= 0),
    unreceipted_minor BIGINT NOT NULL CHECK (unreceipted_minor >= 0),
    in_flight_count BIGINT NOT NULL CHECK (in_flight_count >= 0),
    in_flight_minor BIGINT NOT NULL CHECK (in_flight_minor >= reserved_minor),
    PRIMARY KEY (link_id, currency)
);

-- The chains: every signed object of either side, as canonical JSON. Append-only. The key makes a second object in
-- one place impossible here; what a peer sends for a place that is taken goes to the evidence.
CREATE TABLE superapp_clearing_object (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    type TEXT NOT NULL,
    wire_id TEXT,
    prev_hash TEXT NOT NULL,
    signature TEXT NOT NULL,
    body TEXT NOT NULL,
    stored_ms BIGINT NOT NULL,
    PRIMARY KEY (link_id, sender, epoch, seq)
);
CREATE INDEX superapp_clearing_object_wire ON superapp_clearing_object (link_id, wire_id);

-- Objects of ours that the peer has not yet acknowledged, and COMMIT and ABORT until their RECEIPT. due_ms NULL: waits
-- for something other than time.
CREATE TABLE superapp_clearing_outbox (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    type TEXT NOT NULL,
    wire_id TEXT,
    due_ms BIGINT,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (link_id, epoch, seq)
);
CREATE INDEX superapp_clearing_outbox_due ON superapp_clearing_outbox (link_id, due_ms);
CREATE INDEX superapp_clearing_outbox_wire ON superapp_clearing_outbox (link_id, wire_id);

-- Payments that we send.
CREATE TABLE superapp_clearing_out (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    wire_id TEXT NOT NULL,
    payer_acct TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    hold_id TEXT NOT NULL,
    payer_commit TEXT NOT NULL,
    payee_commit TEXT NOT NULL,
    memo_commit TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    scale INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('offered', 'asked', 'committed', 'aborted', 'completed', 'voided')),
    answer TEXT CHECK (answer IN ('ACCEPT', 'REJECT')),
    receipt TEXT CHECK (receipt IN ('credited', 'void')),
    offered_ms BIGINT NOT NULL,
    due_ms BIGINT,
    PRIMARY KEY (link_id, wire_id),
    UNIQUE (payer_acct, payment_id),
    CHECK ((due_ms IS NOT NULL) = (state IN ('offered', 'asked'))),
    CHECK (state <> 'completed' OR (receipt = 'credited' AND answer = 'ACCEPT')),
    CHECK (state <> 'voided' OR receipt = 'void'),
    CHECK (state <> 'committed' OR (receipt IS NULL AND answer = 'ACCEPT'))
);
CREATE INDEX superapp_clearing_out_due ON superapp_clearing_out (due_ms);

-- Payments that we send and whose amount our operator gave back from suspense, because the peer is gone.
CREATE TABLE superapp_clearing_advance (
    link_id TEXT NOT NULL,
    wire_id TEXT NOT NULL,
    advanced_ms BIGINT NOT NULL,
    PRIMARY KEY (link_id, wire_id),
    FOREIGN KEY (link_id, wire_id) REFERENCES superapp_clearing_out (link_id, wire_id)
);

-- Payments that we get. used_minor and limit_minor: the credit used after our ACCEPT or late credit, and the limit
-- then in force.
CREATE TABLE superapp_clearing_in (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    wire_id TEXT NOT NULL,
    payer_commit TEXT NOT NULL,
    payee_commit TEXT NOT NULL,
    memo_commit TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    scale INTEGER NOT NULL,
    e2e_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('asked', 'accepted', 'lapsed', 'rejected', 'credited', 'void', 'doubt')),
    decision TEXT CHECK (decision IN ('COMMIT', 'ABORT')),
    offered INTEGER NOT NULL CHECK (offered IN (0, 1)),
    acct TEXT,
    due_ms BIGINT,
    used_minor BIGINT,
    limit_minor BIGINT,
    PRIMARY KEY (link_id, wire_id),
    CHECK ((due_ms IS NOT NULL) = (state IN ('asked', 'accepted'))),
    CHECK (state <> 'credited' OR (decision = 'COMMIT' AND acct IS NOT NULL)),
    CHECK (state NOT IN ('accepted', 'lapsed', 'credited') OR used_minor <= limit_minor)
);
CREATE INDEX superapp_clearing_in_due ON superapp_clearing_in (due_ms);

-- Settlements: payments outside that cut what one side owes. way is out where we owe. answer is what the creditor said.
CREATE TABLE superapp_clearing_settlement (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    way TEXT NOT NULL CHECK (way IN ('out', 'in')),
    settlement_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    scale INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('proposed', 'agreed', 'refused', 'cancelled', 'sent', 'disputed', 'received', 'not_received')
    ),
    answer TEXT CHECK (answer IN ('SETTLE_AGREE', 'SETTLE_REFUSE')),
    proposed INTEGER NOT NULL CHECK (proposed IN (0, 1)),
    reason TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    bank_reference TEXT NOT NULL,
    received_minor BIGINT NOT NULL CHECK (received_minor BETWEEN 0 AND amount_minor),
    covered_minor BIGINT NOT NULL CHECK (covered_minor BETWEEN 0 AND amount_minor),
    opened_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    due_ms BIGINT,
    PRIMARY KEY (link_id, way, settlement_id),
    CHECK ((received_minor > 0) = (state = 'received')),
    CHECK (state NOT IN ('agreed', 'sent', 'disputed', 'received', 'not_received') OR answer = 'SETTLE_AGREE'),
    CHECK (state <> 'refused' OR answer = 'SETTLE_REFUSE'),
    CHECK (state <> 'proposed' OR answer IS NULL),
    CHECK (due_ms IS NULL OR state IN ('proposed', 'sent'))
);
CREATE INDEX superapp_clearing_settlement_due ON superapp_clearing_settlement (link_id, due_ms);
CREATE INDEX superapp_clearing_settlement_state ON superapp_clearing_settlement (link_id, way, currency, state);
CREATE INDEX superapp_clearing_settlement_opened ON superapp_clearing_settlement (opened_ms);

-- What our operator lets happen by itself. Times of day are minutes after midnight UTC; weekday 1 is Monday.
CREATE TABLE superapp_clearing_autosettle (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    currency TEXT NOT NULL,
    threshold_minor BIGINT CHECK (threshold_minor > 0),
    every TEXT NOT NULL CHECK (every IN ('never', 'day', 'week')),
    weekday INTEGER NOT NULL CHECK (weekday BETWEEN 1 AND 7),
    minute_of_day INTEGER NOT NULL CHECK (minute_of_day BETWEEN 0 AND 1439),
    agree_up_to_minor BIGINT NOT NULL CHECK (agree_up_to_minor >= 0),
    pay_to TEXT NOT NULL,
    next_ms BIGINT CHECK ((next_ms IS NOT NULL) = (every <> 'never')),
    PRIMARY KEY (link_id, currency)
);

-- Names and memos of payments, erasable; the chains hold commitments to them only.
CREATE TABLE superapp_clearing_opening (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    wire_id TEXT NOT NULL,
    body TEXT NOT NULL,
    stored_ms BIGINT NOT NULL,
    PRIMARY KEY (link_id, sender, wire_id)
);
CREATE INDEX superapp_clearing_opening_stored ON superapp_clearing_opening (stored_ms);

-- FENCEs of either side: from epoch on, nothing of that chain counts that comes after (after_epoch, after_seq), but for
-- what the other side held of it then.
CREATE TABLE superapp_clearing_fence (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    epoch BIGINT NOT NULL,
    after_epoch BIGINT NOT NULL,
    after_seq BIGINT NOT NULL,
    PRIMARY KEY (link_id, sender, epoch),
    CHECK (after_epoch < epoch)
);

-- The newest STATEMENT of each side, and how the comparison of theirs with our books ended.
CREATE TABLE superapp_clearing_statement (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    seen_seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('said', 'waits', 'same', 'differs', 'not_compared')),
    PRIMARY KEY (link_id, sender)
);

-- Restores of this database. begun 0: no link has heard of it yet; gone when all links are fenced.
CREATE TABLE superapp_clearing_restore (
    restore_id TEXT NOT NULL PRIMARY KEY,
    restored_ms BIGINT NOT NULL,
    begun INTEGER NOT NULL CHECK (begun IN (0, 1))
);

-- Links on their way back after a restore, and how far they have come.
CREATE TABLE superapp_clearing_recovery (
    link_id TEXT NOT NULL PRIMARY KEY REFERENCES superapp_clearing_link (link_id),
    restore_id TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (
        phase IN ('asking', 'comparing', 'learning', 'fencing', 'collecting', 'naming', 'replaying')
    ),
    new_epoch BIGINT NOT NULL,
    their_epoch BIGINT NOT NULL,
    at_epoch BIGINT NOT NULL,
    at_seq BIGINT NOT NULL,
    fence_id TEXT NOT NULL,
    then_state TEXT NOT NULL CHECK (then_state IN ('active', 'frozen')),
    then_why TEXT NOT NULL
);

-- Runs of our own objects that a peer says it holds of the epochs that we closed.
CREATE TABLE superapp_clearing_listed (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    epoch BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL CHECK (last_seq >= first_seq),
    message_id TEXT NOT NULL,
    found INTEGER NOT NULL CHECK (found IN (0, 1)),
    PRIMARY KEY (link_id, epoch, first_seq)
);

-- What a recovery brought back and the books do not yet follow: objects of no payment, and payments.
CREATE TABLE superapp_clearing_learned (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    sender TEXT NOT NULL CHECK (sender IN ('ours', 'theirs')),
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (link_id, sender, epoch, seq)
);
CREATE TABLE superapp_clearing_touched (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    way TEXT NOT NULL CHECK (way IN ('in', 'out')),
    wire_id TEXT NOT NULL,
    named INTEGER NOT NULL CHECK (named IN (0, 1)),
    PRIMARY KEY (link_id, way, wire_id)
);

-- Proofs and lies, kept for the operator.
CREATE TABLE superapp_clearing_evidence (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    kind TEXT NOT NULL,
    first_id TEXT NOT NULL,
    second_id TEXT NOT NULL,
    first_body TEXT NOT NULL,
    second_body TEXT NOT NULL,
    recorded_ms BIGINT NOT NULL,
    PRIMARY KEY (link_id, kind, first_id, second_id)
);
