-- Deactivated accounts of which all was erased that need not be kept, and when that was last done.
CREATE TABLE superapp_erasure (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    erased_ms BIGINT NOT NULL
);
