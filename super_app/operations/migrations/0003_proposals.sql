-- The kinds of proposals are those that the code knows; the table that was made before knew two of them.
DROP INDEX superapp_proposal_open;
ALTER TABLE superapp_proposal RENAME TO superapp_proposal_before;
CREATE TABLE superapp_proposal (
    proposal_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind <> ''),
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
INSERT INTO superapp_proposal (proposal_id, kind, user_id, currency, amount_minor, reference, proposed_by, proposed_ms,
    state, decided_by, decided_ms)
SELECT proposal_id, kind, user_id, currency, amount_minor, reference, proposed_by, proposed_ms, state, decided_by,
    decided_ms FROM superapp_proposal_before;
DROP TABLE superapp_proposal_before;
CREATE INDEX superapp_proposal_open ON superapp_proposal (state, proposed_ms);
