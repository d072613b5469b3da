-- Each mark as its realm signed it: what another server says of our shares counts only if we said it ourselves.
ALTER TABLE superapp_recovery_mark ADD COLUMN signature TEXT NOT NULL DEFAULT '';
