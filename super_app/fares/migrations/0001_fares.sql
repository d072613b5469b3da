-- Calls by the minute that people of this homeserver have confirmed. What lies aside for them stands on the caller's
-- account of the kind "gift", beside that of their pots. session_id is the call that uses it, once it rings.
CREATE TABLE superapp_fare (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    fare_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    callee_acct TEXT NOT NULL,
    price_minor BIGINT NOT NULL CHECK (price_minor BETWEEN 1 AND 1000000000000),
    currency TEXT NOT NULL,
    ceiling_minor BIGINT NOT NULL CHECK (ceiling_minor BETWEEN 1 AND 9007199254740991),
    aside_minor BIGINT NOT NULL CHECK (aside_minor >= 0),
    paid_minor BIGINT NOT NULL CHECK (paid_minor >= 0),
    state TEXT NOT NULL CHECK (state IN ('agreed', 'running', 'owing', 'ended')),
    session_id TEXT,
    answer_ms BIGINT,
    end_ms BIGINT,
    talked_ms BIGINT,
    parts INTEGER NOT NULL CHECK (parts >= 0),
    moves INTEGER NOT NULL CHECK (moves >= 0),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    retry_ms BIGINT,
    warned INTEGER NOT NULL CHECK (warned IN (0, 1)),
    reason TEXT,
    agreed_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, fare_id),
    CHECK (aside_minor + paid_minor <= ceiling_minor),
    CHECK (state <> 'ended' OR aside_minor = 0)
);
CREATE INDEX superapp_fare_open ON superapp_fare (agreed_ms) WHERE state <> 'ended';
CREATE INDEX superapp_fare_made ON superapp_fare (owner_acct, agreed_ms, fare_id);
CREATE UNIQUE INDEX superapp_fare_session ON superapp_fare (owner_acct, session_id) WHERE session_id IS NOT NULL;

-- The payments of each: their ids follow from the fare's and the number, so that each is made once.
CREATE TABLE superapp_fare_part (
    owner_acct TEXT NOT NULL,
    fare_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 1),
    payment_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('under_way', 'paid', 'returned')),
    PRIMARY KEY (owner_acct, fare_id, number),
    FOREIGN KEY (owner_acct, fare_id) REFERENCES superapp_fare (owner_acct, fare_id)
);
CREATE UNIQUE INDEX superapp_fare_part_payment ON superapp_fare_part (owner_acct, payment_id);

-- What people of this homeserver are to be paid for calls, by whomever: one ring each. The stem begins the ids of the
-- payments that are let in for it, whatever the callee has set for strangers.
CREATE TABLE superapp_fare_terms (
    callee_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    callee TEXT NOT NULL,
    caller TEXT NOT NULL,
    fare_id TEXT NOT NULL,
    stem TEXT NOT NULL,
    price_minor BIGINT NOT NULL CHECK (price_minor BETWEEN 1 AND 1000000000000),
    currency TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'running', 'over')),
    session_id TEXT,
    agreed_ms BIGINT NOT NULL,
    PRIMARY KEY (caller, fare_id)
);
CREATE INDEX superapp_fare_terms_open ON superapp_fare_terms (callee_acct, caller) WHERE state <> 'over';
CREATE INDEX superapp_fare_terms_stem ON superapp_fare_terms (caller, stem);
