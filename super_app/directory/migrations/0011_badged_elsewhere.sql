-- The few replicated records that show badges are looked through every ten minutes, whoever may find them.
CREATE INDEX superapp_directory_replica_badges ON superapp_directory_replica (handle) WHERE badged = 1;
