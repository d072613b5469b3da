-- Money that people of this homeserver have put aside for others to claim: gifts in rooms, and links. Ids are the giver's.
-- What is free in open pots stands on the giver's account of the kind "gift".
CREATE TABLE superapp_pot (
    giver_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    pot_id TEXT NOT NULL,
    giver TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('gift', 'link')),
    split TEXT NOT NULL CHECK (split IN ('equal', 'random')),
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    currency TEXT NOT NULL,
    shares INTEGER NOT NULL CHECK (shares BETWEEN 1 AND 500),
    memo TEXT,
    room_id TEXT,
    event_id TEXT,
    only_for TEXT,
    secret TEXT,
    salt TEXT NOT NULL,
    commitment TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'emptied', 'expired', 'cancelled')),
    told INTEGER NOT NULL CHECK (told IN (0, 1)),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (giver_acct, pot_id),
    CHECK (kind = 'link' OR room_id IS NOT NULL),
    CHECK (kind = 'gift' OR shares = 1)
);
CREATE INDEX superapp_pot_giver ON superapp_pot (giver_acct, created_ms, pot_id);
CREATE INDEX superapp_pot_named ON superapp_pot (giver, pot_id);
CREATE INDEX superapp_pot_open ON superapp_pot (expires_ms) WHERE state = 'open';
CREATE INDEX superapp_pot_untold ON superapp_pot (expires_ms) WHERE told = 0;

-- The shares of a pot, drawn when it was made. claimer and payment_id stand while it is taken.
CREATE TABLE superapp_pot_share (
    giver_acct TEXT NOT NULL,
    pot_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 1),
    state TEXT NOT NULL CHECK (state IN ('free', 'taken', 'returned')),
    claimer TEXT,
    payment_id TEXT,
    paid INTEGER NOT NULL CHECK (paid IN (0, 1)),
    claimed_ms BIGINT,
    PRIMARY KEY (giver_acct, pot_id, number),
    FOREIGN KEY (giver_acct, pot_id) REFERENCES superapp_pot (giver_acct, pot_id),
    CHECK (state <> 'taken' OR (claimer IS NOT NULL AND payment_id IS NOT NULL)),
    CHECK (state <> 'free' OR claimer IS NULL),
    CHECK (paid = 0 OR state = 'taken')
);
CREATE UNIQUE INDEX superapp_pot_share_claimer ON superapp_pot_share (giver_acct, pot_id, claimer)
WHERE claimer IS NOT NULL;
CREATE UNIQUE INDEX superapp_pot_share_payment ON superapp_pot_share (giver_acct, payment_id)
WHERE payment_id IS NOT NULL;
CREATE INDEX superapp_pot_share_free ON superapp_pot_share (giver_acct, pot_id, number) WHERE state = 'free';

-- What people of this homeserver have claimed from pots elsewhere: these payments are let in whatever they have set.
CREATE TABLE superapp_pot_expected (
    giver TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    claimer TEXT NOT NULL,
    pot_id TEXT NOT NULL,
    expected_ms BIGINT NOT NULL,
    PRIMARY KEY (giver, payment_id)
);
CREATE INDEX superapp_pot_expected_claim ON superapp_pot_expected (claimer, giver, pot_id);
CREATE INDEX superapp_pot_expected_age ON superapp_pot_expected (expected_ms);

-- Gifts that stand in rooms of people of this homeserver, whoever gave them.
CREATE TABLE superapp_pot_seen (
    room_id TEXT NOT NULL,
    giver TEXT NOT NULL,
    pot_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    seen_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, giver, pot_id)
);
CREATE INDEX superapp_pot_seen_newest ON superapp_pot_seen (room_id, seen_ms);
CREATE INDEX superapp_pot_seen_age ON superapp_pot_seen (seen_ms);
