-- Guesses that were answered before a right PIN came, by another device or by themselves: settled_ms is when it came. They
-- can still be shown to be right for a while, which changes nothing any more.
ALTER TABLE superapp_recovery_guess ADD COLUMN settled_ms BIGINT;
