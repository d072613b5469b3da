-- How often somebody did what is limited, in slots of the window: for homeservers of several processes, which count
-- together. With one process it stays empty.
CREATE TABLE superapp_calls_taken (
    limit_name TEXT NOT NULL,
    subject TEXT NOT NULL,
    slot BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (limit_name, subject, slot)
);
CREATE INDEX superapp_calls_taken_until ON superapp_calls_taken (until_ms);
