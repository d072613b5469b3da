-- Follows of which the other is to know: follows is what they are to be told, delivered whether their homeserver knows,
-- due_ms when it is told (again). A follow that is taken back stays here until that was told, too.
CREATE TABLE superapp_follow_word (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    peer_user_id TEXT NOT NULL,
    peer_acct TEXT NOT NULL,
    follows INTEGER NOT NULL CHECK (follows IN (0, 1)),
    delivered INTEGER NOT NULL CHECK (delivered IN (0, 1)),
    said_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, peer_user_id)
);
CREATE INDEX superapp_follow_word_due ON superapp_follow_word (due_ms) WHERE delivered = 0;

-- People of other homeservers who let people of this one know that they follow them.
CREATE TABLE superapp_heard_follow (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    peer_user_id TEXT NOT NULL,
    peer_acct TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, peer_user_id)
);
CREATE INDEX superapp_heard_follow_peer ON superapp_heard_follow (peer_user_id);
