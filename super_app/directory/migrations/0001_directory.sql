-- Names of this homeserver. A name that became free again keeps its row, so that its records stay one chain
-- (seq counts them, digest is the hash of the newest). record is that newest record as JSON.
CREATE TABLE superapp_directory_handle (
    name TEXT NOT NULL PRIMARY KEY,
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    origin TEXT NOT NULL CHECK (origin IN ('localpart', 'claimed', 'granted')),
    state TEXT NOT NULL CHECK (state IN ('active', 'released', 'frozen', 'free')),
    frozen_for TEXT CHECK (frozen_for IN ('ambiguous')),
    contested_by TEXT,
    skeleton TEXT NOT NULL,
    discover TEXT NOT NULL CHECK (discover IN ('public', 'exact', 'link', 'none')),
    chosen INTEGER NOT NULL CHECK (chosen IN (0, 1)),
    since_ms BIGINT NOT NULL,
    released_ms BIGINT,
    seq BIGINT NOT NULL CHECK (seq >= 0),
    digest TEXT,
    record TEXT,
    renew_ms BIGINT NOT NULL,
    CHECK ((state = 'frozen') = (frozen_for IS NOT NULL)),
    CHECK ((state IN ('released', 'free')) = (released_ms IS NOT NULL)),
    CHECK (origin <> 'localpart' OR state IN ('active', 'frozen'))
);
CREATE INDEX superapp_directory_handle_acct ON superapp_directory_handle (acct);
CREATE INDEX superapp_directory_handle_skeleton ON superapp_directory_handle (skeleton);
CREATE INDEX superapp_directory_handle_public ON superapp_directory_handle (name)
    WHERE discover = 'public' AND state = 'active';
CREATE INDEX superapp_directory_handle_renew ON superapp_directory_handle (renew_ms)
    WHERE discover = 'public' AND state IN ('active', 'frozen');

-- Which claimed name owns a look. Its primary key is what makes a claim race-free: of two claims that look alike, one
-- inserts and the other finds it taken. Localparts are not in it, since accounts may look alike.
CREATE TABLE superapp_directory_skeleton (
    skeleton TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Which of its names an account chose as its primary one. No row: its localpart. last_primary remembers the choice
-- after a release, so that releasing and claiming anew is no way around the pause between renames.
CREATE TABLE superapp_directory_owner (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    primary_name TEXT,
    last_primary TEXT,
    renamed_ms BIGINT NOT NULL
);

-- One row: where the feed ends (a counter, so that positions appear in the order of commits), which accounts are known
-- and what records were last issued under (key and services).
CREATE TABLE superapp_directory_state (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    head BIGINT NOT NULL,
    installed_ms BIGINT NOT NULL,
    accounts_known_ms BIGINT NOT NULL,
    issued_under TEXT NOT NULL
);

-- The feed: one entry a name, its newest public record or the withdrawal of it.
CREATE TABLE superapp_directory_feed (
    name TEXT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL UNIQUE,
    entry TEXT NOT NULL,
    withdrawn_ms BIGINT
);
CREATE INDEX superapp_directory_feed_withdrawn ON superapp_directory_feed (withdrawn_ms) WHERE withdrawn_ms IS NOT NULL;

-- Other homeservers with a directory: the key that was pinned on first use, and how far their feed is replicated.
CREATE TABLE superapp_directory_peer (
    server TEXT NOT NULL PRIMARY KEY,
    key_id TEXT,
    public_key TEXT,
    certificate TEXT,
    feed_position BIGINT NOT NULL,
    polled_ms BIGINT NOT NULL,
    met_ms BIGINT NOT NULL,
    CHECK ((key_id IS NULL) = (public_key IS NULL) AND (key_id IS NULL) = (certificate IS NULL))
);

-- Verified records of other homeservers, from their feeds and from what they answered. current_ms is when an answer
-- last confirmed one; a public record is also as fresh as its server's feed.
CREATE TABLE superapp_directory_replica (
    handle TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    server TEXT NOT NULL,
    acct TEXT NOT NULL,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    discover TEXT NOT NULL,
    alias_of TEXT,
    seq BIGINT NOT NULL,
    issued_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    current_ms BIGINT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX superapp_directory_replica_user ON superapp_directory_replica (user_id);
CREATE INDEX superapp_directory_replica_acct ON superapp_directory_replica (acct);
CREATE INDEX superapp_directory_replica_server ON superapp_directory_replica (server);
CREATE INDEX superapp_directory_replica_expires ON superapp_directory_replica (expires_ms);
CREATE INDEX superapp_directory_replica_public ON superapp_directory_replica (name)
    WHERE discover = 'public' AND status = 'active';
