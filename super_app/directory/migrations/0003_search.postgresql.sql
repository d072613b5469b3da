-- Whether the newest record has badges: verified people are found first.
ALTER TABLE superapp_directory_handle ADD COLUMN badged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE superapp_directory_replica ADD COLUMN badged INTEGER NOT NULL DEFAULT 0;
CREATE INDEX superapp_directory_handle_badged ON superapp_directory_handle (name)
    WHERE discover = 'public' AND state = 'active' AND badged = 1;
CREATE INDEX superapp_directory_replica_badged ON superapp_directory_replica (name)
    WHERE discover = 'public' AND status = 'active' AND badged = 1;
-- Parts of names need an extension that may be missing, so their indexes are made at the start (search_store).
