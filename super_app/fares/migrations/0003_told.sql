-- When the homeserver of whoever came by a link said that they have left: from then on it pays for nothing, whether they
-- have or not.
ALTER TABLE superapp_fare_terms ADD COLUMN told_ms BIGINT;
