-- Links to calls in rooms of this homeserver, by the person who made them, and who asked to be let in by one.
CREATE TABLE superapp_calls_link (
    link_id TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    host TEXT NOT NULL,
    made_ms BIGINT NOT NULL
);
CREATE INDEX superapp_calls_link_host ON superapp_calls_link (host, made_ms);

CREATE TABLE superapp_calls_link_guest (
    link_id TEXT NOT NULL REFERENCES superapp_calls_link (link_id),
    user_id TEXT NOT NULL,
    asked_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'admitted', 'away')),
    PRIMARY KEY (link_id, user_id)
);
