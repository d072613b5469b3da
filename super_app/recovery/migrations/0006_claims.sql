-- The guess that the other realms are being told of, and since when: on a homeserver with workers only one of several that
-- come at once may be told as the next one. NULL when none is.
ALTER TABLE superapp_recovery_share ADD COLUMN claimed_by TEXT;
ALTER TABLE superapp_recovery_share ADD COLUMN claimed_ms BIGINT;
