-- Names under which people hold credentials of the TURN server, each for one person in one call or in the call of one
-- room: so that who is in no call any more can be shown out of it. Empty where its command line is not configured. Of an
-- account that is closed the name alone stays, until whoever relays under it is out.
CREATE TABLE superapp_calls_relayed (
    name TEXT NOT NULL PRIMARY KEY,
    owner_acct TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT,
    room_id TEXT,
    until_ms BIGINT NOT NULL,
    CONSTRAINT superapp_calls_relayed_place CHECK ((session_id IS NULL) <> (room_id IS NULL))
);
CREATE INDEX superapp_calls_relayed_owner ON superapp_calls_relayed (owner_acct);
CREATE INDEX superapp_calls_relayed_room ON superapp_calls_relayed (room_id) WHERE room_id IS NOT NULL;
