-- How else a call rang, so that an answer by one protocol can stop the rings of the others; and what the callee's
-- homeserver offers instead of an answer (a JSON list).
ALTER TABLE superapp_calls_session ADD COLUMN rtc_ring_id TEXT;
ALTER TABLE superapp_calls_session ADD COLUMN legacy_party TEXT;
ALTER TABLE superapp_calls_session ADD COLUMN offers TEXT;

-- Times of an answered call that may yet change its end, a wish to be called back, and what a client measured (JSON).
ALTER TABLE superapp_calls_record ADD COLUMN media_ms BIGINT;
ALTER TABLE superapp_calls_record ADD COLUMN media_by_ms BIGINT;
ALTER TABLE superapp_calls_record ADD COLUMN left_ms BIGINT;
ALTER TABLE superapp_calls_record ADD COLUMN left_by TEXT;
ALTER TABLE superapp_calls_record ADD COLUMN callback_ms BIGINT;
ALTER TABLE superapp_calls_record ADD COLUMN quality TEXT;

-- MatrixRTC memberships that are no room state and end by themselves (MSC4354).
CREATE TABLE superapp_calls_member (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    member_key TEXT NOT NULL,
    event_id TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, user_id, member_key)
);
CREATE INDEX superapp_calls_member_until ON superapp_calls_member (until_ms);

-- Calls that people here began through the API, and a hash of what they asked for: the same again is a replay.
CREATE TABLE superapp_calls_order (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    call_id TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    ordered_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, call_id)
);
CREATE INDEX superapp_calls_order_age ON superapp_calls_order (ordered_ms);

-- Push rules by which rings in groups are silenced for one person, until their ring is over.
CREATE TABLE superapp_calls_silence (
    user_id TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    until_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, rule_id)
);
CREATE INDEX superapp_calls_silence_until ON superapp_calls_silence (until_ms);
