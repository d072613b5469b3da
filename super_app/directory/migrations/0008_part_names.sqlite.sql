-- Whether a name is still public anywhere is asked for each name of the index of parts. Without this, each question read
-- the whole table.
CREATE INDEX superapp_directory_replica_name ON superapp_directory_replica (name);
