-- The operator's switch beside the halt file: while there is a row, no payment starts.
CREATE TABLE superapp_halt (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    operator TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_ms BIGINT NOT NULL
);

-- What operators asked for and what became of it. Each line names the hash of the one before.
CREATE TABLE superapp_audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    operator TEXT NOT NULL,
    act TEXT NOT NULL,
    what TEXT NOT NULL,
    outcome TEXT NOT NULL,
    asked_seq BIGINT,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
);

-- The newest line; whoever appends holds this row.
CREATE TABLE superapp_audit_head (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO superapp_audit_head (one, seq, hash) VALUES (1, 0, '');

-- Money that one operator wants to bring into or out of the world, and another one agrees to or not.
CREATE TABLE superapp_proposal (
    proposal_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('issue', 'burn')),
    user_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    reference TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    proposed_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'rejected')),
    decided_by TEXT,
    decided_ms BIGINT,
    CHECK ((state = 'open') = (decided_by IS NULL)),
    CHECK ((state = 'open') = (decided_ms IS NULL)),
    CHECK (state <> 'approved' OR decided_by <> proposed_by)
);
CREATE INDEX superapp_proposal_open ON superapp_proposal (state, proposed_ms);
