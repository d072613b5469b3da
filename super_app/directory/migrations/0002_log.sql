-- The log of all records that were issued, a tree of RFC 6962. One row: size counts the leaves that were appended, in
-- the transaction that issues the record; tree_size those that are in the tiles, under the root. note is the newest
-- checkpoint, signed with key_id; time_s is the time of its own cosignature, which never goes back.
CREATE TABLE superapp_directory_log (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    size BIGINT NOT NULL,
    tree_size BIGINT NOT NULL,
    root TEXT NOT NULL,
    note TEXT NOT NULL,
    key_id TEXT NOT NULL,
    time_s BIGINT NOT NULL,
    CHECK (tree_size >= 0 AND size >= tree_size)
);
INSERT INTO superapp_directory_log (singleton, size, tree_size, root, note, key_id, time_s)
    VALUES (1, 0, 0, '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU', '', '', 0);

-- What was appended: the salted hash of a record, which tells nothing without the salt. Never changed.
CREATE TABLE superapp_directory_leaf (
    number BIGINT NOT NULL PRIMARY KEY,
    entry TEXT NOT NULL
);

-- Where the newest record of a subject (a name; empty for the server record) is, and the salt that opens the leaf.
-- The salt of a record that was replaced is forgotten.
CREATE TABLE superapp_directory_logged (
    subject TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    number BIGINT NOT NULL UNIQUE,
    salt TEXT NOT NULL
);

-- Hashes of the tree, up to 256 neighbours in a row.
CREATE TABLE superapp_directory_tile (
    level INTEGER NOT NULL,
    number BIGINT NOT NULL,
    hashes TEXT NOT NULL,
    PRIMARY KEY (level, number)
);

-- Records that were issued before there was a log are issued anew, into it.
UPDATE superapp_directory_handle SET renew_ms = 0 WHERE record IS NOT NULL;
