-- Sessions that only read. What is stored of a token is its SHA-256, so that a copy of this table opens nothing.
CREATE TABLE superapp_web_session (
    token_hash TEXT NOT NULL PRIMARY KEY,
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX superapp_web_session_acct ON superapp_web_session (acct, created_ms);
CREATE INDEX superapp_web_session_expires ON superapp_web_session (expires_ms);
