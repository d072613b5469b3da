-- People whose accounts are deactivated, and since when we know: the operator's rule for their money counts from then.
CREATE TABLE superapp_leaver (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    left_ms BIGINT NOT NULL CHECK (left_ms >= 0)
);
CREATE INDEX superapp_leaver_left ON superapp_leaver (left_ms, acct);
