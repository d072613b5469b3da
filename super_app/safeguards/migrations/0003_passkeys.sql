-- Passkeys of WebAuthn that prove a payment in the place of the PIN. credential_id and public_key are unpadded base64url;
-- sign_count is the authenticator's own count of its signatures as last seen, 0 for one that does not count.
CREATE TABLE superapp_safeguard_passkey (
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    credential_id TEXT NOT NULL,
    public_key TEXT NOT NULL,
    sign_count BIGINT NOT NULL CHECK (sign_count >= 0),
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    used_ms BIGINT,
    PRIMARY KEY (acct, credential_id)
);

-- Challenges that wait for an answer. about is the digest of what the answer is to confirm; each is taken once.
CREATE TABLE superapp_safeguard_challenge (
    challenge TEXT NOT NULL PRIMARY KEY,
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    about TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX superapp_safeguard_challenge_of ON superapp_safeguard_challenge (acct, expires_ms);
