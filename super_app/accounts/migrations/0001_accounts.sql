-- Accounts of this homeserver. genesis is the canonical JSON that acct is the hash of.
CREATE TABLE superapp_account (
    acct TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    genesis TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

-- Contacts of local accounts. peer_acct is empty while the peer's homeserver runs no directory.
CREATE TABLE superapp_contact (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    peer_user_id TEXT NOT NULL,
    peer_acct TEXT NOT NULL,
    handle TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, peer_user_id)
);
CREATE INDEX superapp_contact_peer ON superapp_contact (peer_user_id);
CREATE INDEX superapp_contact_peer_acct ON superapp_contact (owner_acct, peer_acct);

-- The follower's cursor over the event stream of Synapse, and events whose handler failed.
CREATE TABLE superapp_follower (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    position BIGINT NOT NULL
);
CREATE TABLE superapp_follower_parked (
    event_id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX superapp_follower_parked_due ON superapp_follower_parked (due_ms);
