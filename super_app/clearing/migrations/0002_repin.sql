-- Payment keys that are pinned anew. ordered 1: our operator has ordered it, and confirmed is the fingerprint of the
-- peer's key that they were told; take_back 1: what the peer holds of ours and this database does not have is taken.
-- asked is the fingerprint of a key that the peer wants pinned and nobody here has confirmed. Empty for none.
CREATE TABLE superapp_clearing_repin (
    link_id TEXT NOT NULL PRIMARY KEY REFERENCES superapp_clearing_link (link_id),
    ordered INTEGER NOT NULL CHECK (ordered IN (0, 1)),
    confirmed TEXT NOT NULL,
    take_back INTEGER NOT NULL CHECK (take_back IN (0, 1)),
    asked TEXT NOT NULL,
    CHECK (ordered = 0 OR confirmed <> '')
);
