-- A guess may be begun, which counts it, before the PIN is stretched: blinded is empty until it comes. begun_ms is when;
-- NULL where it came at once.
ALTER TABLE superapp_recovery_guess ADD COLUMN begun_ms BIGINT;
