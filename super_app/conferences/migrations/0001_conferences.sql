-- Rooms of the SFU, by the name that it knows them by, and when one was last seen to exist.
CREATE TABLE superapp_calls_sfu_room (
    sfu_room TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    slot_id TEXT NOT NULL,
    ensured_ms BIGINT NOT NULL
);

-- Whom this homeserver gave a token, for as long as somebody can be in a room of the SFU because of it. participant is
-- the SFU's own name for who is connected; barred are those whom it was told to remove. sources are separated by blanks;
-- without any all are meant.
CREATE TABLE superapp_calls_sfu_seat (
    sfu_room TEXT NOT NULL REFERENCES superapp_calls_sfu_room (sfu_room),
    identity TEXT NOT NULL,
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    publishes_here BIGINT NOT NULL,
    can_publish BIGINT NOT NULL,
    sources TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    participant TEXT,
    barred BIGINT NOT NULL,
    PRIMARY KEY (sfu_room, identity)
);
CREATE INDEX superapp_calls_sfu_seat_until ON superapp_calls_sfu_seat (until_ms);
CREATE INDEX superapp_calls_sfu_seat_room ON superapp_calls_sfu_seat (room_id, user_id);

-- Delayed leave events that a client handed over: restarted while it is connected, sent when it no longer is.
CREATE TABLE superapp_calls_sfu_leave (
    sfu_room TEXT NOT NULL,
    identity TEXT NOT NULL,
    delay_id TEXT NOT NULL,
    delay_ms BIGINT NOT NULL,
    delegated_ms BIGINT NOT NULL,
    restarted_ms BIGINT NOT NULL,
    was_connected BIGINT NOT NULL,
    PRIMARY KEY (sfu_room, identity)
);
