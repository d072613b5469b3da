-- The log of each peer as it was last seen, verified and found to have grown out of what was seen before. note is its
-- checkpoint, certificate that of the key that signed it; cosignature is ours on it.
CREATE TABLE superapp_directory_head (
    server TEXT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL CHECK (size >= 0),
    root TEXT NOT NULL,
    note TEXT NOT NULL,
    time_s BIGINT NOT NULL,
    certificate TEXT NOT NULL,
    cosignature TEXT NOT NULL,
    seen_ms BIGINT NOT NULL
);
CREATE INDEX superapp_directory_head_seen ON superapp_directory_head (seen_ms);

-- The newest checkpoint of ours that each witness has cosigned.
CREATE TABLE superapp_directory_cosignature (
    witness TEXT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    root TEXT NOT NULL,
    line TEXT NOT NULL,
    time_s BIGINT NOT NULL
);

-- What servers signed that contradicts itself. A server with evidence that no admin has lifted is frozen.
CREATE TABLE superapp_directory_evidence (
    evidence_id TEXT NOT NULL PRIMARY KEY,
    server TEXT NOT NULL,
    kind TEXT NOT NULL,
    evidence TEXT NOT NULL,
    found_ms BIGINT NOT NULL,
    lifted_ms BIGINT,
    lifted_by TEXT,
    CHECK ((lifted_ms IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX superapp_directory_evidence_server ON superapp_directory_evidence (server);

-- The directory keys that this homeserver has had, oldest first. rotation is signed by the one before; empty for the
-- first, and where the one before was lost.
CREATE TABLE superapp_directory_key (
    number INTEGER NOT NULL PRIMARY KEY,
    public_key TEXT NOT NULL,
    rotation TEXT NOT NULL,
    since_ms BIGINT NOT NULL
);

-- What this homeserver says of itself: keys, features, fees, links. One row, once it has been asked for.
CREATE TABLE superapp_directory_server (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    record TEXT NOT NULL
);
