-- Whether anybody was ever given the acct of an account, or keeps something under it. Until then its owner may set a
-- recovery key, which is part of what the acct is the hash of.
ALTER TABLE superapp_account ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE superapp_account SET used = 1;
