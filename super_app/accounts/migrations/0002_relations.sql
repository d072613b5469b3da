-- What a person keeps about a contact.
ALTER TABLE superapp_contact ADD COLUMN favourite INTEGER NOT NULL DEFAULT 0;
ALTER TABLE superapp_contact ADD COLUMN note TEXT NOT NULL DEFAULT '';

-- Whom local accounts follow, and whom they block. peer_acct is empty while the peer's homeserver runs no directory.
CREATE TABLE superapp_follow (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    peer_user_id TEXT NOT NULL,
    peer_acct TEXT NOT NULL,
    handle TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, peer_user_id)
);
CREATE INDEX superapp_follow_peer ON superapp_follow (peer_user_id);
CREATE INDEX superapp_follow_peer_acct ON superapp_follow (peer_acct);
CREATE TABLE superapp_block (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    peer_user_id TEXT NOT NULL,
    peer_acct TEXT NOT NULL,
    handle TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, peer_user_id)
);
CREATE INDEX superapp_block_peer_acct ON superapp_block (peer_acct);
