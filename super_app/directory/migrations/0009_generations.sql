-- That this database is a backup that was put back (super-app restore writes a row). base is the tree that it came with;
-- settled_ms is when the peers had been asked what they have seen of the log that was lost.
CREATE TABLE superapp_directory_restore (
    restore_id TEXT NOT NULL PRIMARY KEY,
    restored_ms BIGINT NOT NULL,
    base_size BIGINT,
    base_root TEXT,
    base_s BIGINT,
    settled_ms BIGINT
);

-- Generations of our own log, each begun by a restore that lost leaves which others had seen. given_up is the JSON list of
-- the checkpoints that count no more, those of earlier generations included; statement is what we sign about it.
CREATE TABLE superapp_directory_own_generation (
    number BIGINT NOT NULL PRIMARY KEY,
    base_size BIGINT NOT NULL,
    base_root TEXT NOT NULL,
    base_s BIGINT NOT NULL,
    declared_ms BIGINT NOT NULL,
    given_up TEXT NOT NULL,
    statement TEXT NOT NULL
);

-- What other homeservers declared about generations of their logs, as they signed it. begun_ms is when we went on from
-- it, and before the checkpoint that we knew until then. Kept for ever: it is what people are shown.
CREATE TABLE superapp_directory_generation (
    server TEXT NOT NULL,
    number BIGINT NOT NULL,
    statement TEXT NOT NULL,
    before_note TEXT,
    seen_ms BIGINT NOT NULL,
    begun_ms BIGINT,
    PRIMARY KEY (server, number)
);

-- Names that we knew from after the backup of a homeserver that was restored: their records may be lost there. Whoever it
-- gives such a name to until then is not believed to have it.
CREATE TABLE superapp_directory_guarded (
    handle TEXT NOT NULL PRIMARY KEY,
    server TEXT NOT NULL,
    record TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE INDEX superapp_directory_guarded_until ON superapp_directory_guarded (until_ms);
