-- The shares that this homeserver holds as a realm, its own people's among them. sealed is what the client sealed for our
-- key, which is in a file: this table alone opens nothing. It is NULL once the share is destroyed; the row stays, so that
-- no version comes back. epoch rises with each guess and each right PIN.
CREATE TABLE superapp_recovery_share (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'spent', 'retired')),
    sealed TEXT,
    sealed_hash TEXT NOT NULL,
    threshold INTEGER NOT NULL CHECK (threshold >= 2),
    realms TEXT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    guesses INTEGER NOT NULL DEFAULT 0 CHECK (guesses BETWEEN 0 AND 10),
    guessed_ms BIGINT,
    stored_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, version),
    CHECK ((sealed IS NULL) = (state IN ('spent', 'retired')))
);

-- Guesses since the last right PIN. nonce makes an unlock fit one guess alone.
CREATE TABLE superapp_recovery_guess (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    attempt_id TEXT NOT NULL,
    blinded TEXT NOT NULL,
    nonce TEXT NOT NULL,
    PRIMARY KEY (user_id, version, attempt_id),
    FOREIGN KEY (user_id, version) REFERENCES superapp_recovery_share (user_id, version)
);

-- What other realms have told us of theirs, so that none can go back to an old backup unnoticed.
CREATE TABLE superapp_recovery_mark (
    realm TEXT NOT NULL,
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    guesses INTEGER NOT NULL,
    attempt_id TEXT,
    gone INTEGER NOT NULL CHECK (gone IN (0, 1)),
    PRIMARY KEY (realm, user_id, version)
);

-- Until when the operator vouches that this database is no old backup, where the other realms cannot say so.
CREATE TABLE superapp_recovery_vouched (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    until_ms BIGINT NOT NULL
);

-- Tries of people of this homeserver, so that they hear of the wrong ones.
CREATE TABLE superapp_recovery_attempt (
    user_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    begun_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('open', 'right', 'wrong')),
    PRIMARY KEY (user_id, attempt_id)
);
CREATE INDEX superapp_recovery_attempt_open ON superapp_recovery_attempt (begun_ms) WHERE outcome = 'open';
