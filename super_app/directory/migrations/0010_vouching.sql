-- What domains and organisations said to this homeserver itself about the badges that other homeservers show. heard_ms is
-- when the issuer last stood by the badge, 0 if it never did or took it back; due_ms is when it is asked again.
CREATE TABLE superapp_directory_vouching (
    handle TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('domain', 'organisation')),
    issuer TEXT NOT NULL,
    acct TEXT NOT NULL,
    server TEXT NOT NULL,
    heard_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (handle, kind, issuer)
);
CREATE INDEX superapp_directory_vouching_due ON superapp_directory_vouching (server, due_ms);
