-- Realms that are still to be told that a share of one of our people is given up, with all versions up to this one.
CREATE TABLE superapp_recovery_parting (
    user_id TEXT NOT NULL,
    realm TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    asked_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, realm)
);
