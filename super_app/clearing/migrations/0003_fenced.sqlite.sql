-- The pages of FENCED are found by the FENCE that they answer, in the column by which payments are found.
UPDATE superapp_clearing_object SET wire_id = json_extract(body, '$.fence') WHERE type = 'FENCED';

-- 1: our operator has suspended, resumed or closed the link since this recovery began, which what comes back of the
-- past does not undo.
ALTER TABLE superapp_clearing_recovery ADD COLUMN stood INTEGER NOT NULL DEFAULT 0 CHECK (stood IN (0, 1));
