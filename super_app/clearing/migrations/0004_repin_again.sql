-- Payment keys that are pinned anew while they already are.

-- What a FENCE that our operator has confirmed says it comes after: an epoch that began with a key which nobody ever
-- confirmed counts up to there, by its hashes.
ALTER TABLE superapp_clearing_repin ADD COLUMN vouched TEXT NOT NULL DEFAULT '';

-- FENCEs of ours that were signed and taken back before the peer had answered them. It may have got one.
CREATE TABLE superapp_clearing_taken_back (
    link_id TEXT NOT NULL REFERENCES superapp_clearing_link (link_id),
    message_id TEXT NOT NULL,
    PRIMARY KEY (link_id, message_id)
);
