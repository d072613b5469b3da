-- Who was asked to sign in again, when, and which devices they had then: a JSON list.
CREATE TABLE superapp_sign_in (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    asked_ms BIGINT NOT NULL,
    devices TEXT NOT NULL
);
