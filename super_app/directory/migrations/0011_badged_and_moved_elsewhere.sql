-- The few replicated records that show badges are looked through every ten minutes, whoever may find them.
CREATE INDEX superapp_directory_replica_badges ON superapp_directory_replica (handle) WHERE badged = 1;

-- Searches by whole name lead on from those who moved.
CREATE INDEX superapp_directory_replica_moved ON superapp_directory_replica (name)
    WHERE discover = 'public' AND status = 'moved';
