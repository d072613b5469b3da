-- Calls as this homeserver saw them. due_ms is when something happens by itself, NULL once nothing is open here.
CREATE TABLE superapp_calls_session (
    session_id TEXT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    callee TEXT,
    protocol TEXT NOT NULL CHECK (protocol IN ('superapp', 'legacy', 'matrixrtc')),
    media TEXT NOT NULL CHECK (media IN ('audio', 'video')),
    ring_ms BIGINT NOT NULL,
    ring_until_ms BIGINT NOT NULL CHECK (ring_until_ms > ring_ms),
    due_ms BIGINT,
    rtc_event_id TEXT,
    superapp_event_id TEXT
);
CREATE INDEX superapp_calls_session_call ON superapp_calls_session (room_id, call_id);
CREATE INDEX superapp_calls_session_open ON superapp_calls_session (room_id) WHERE due_ms IS NOT NULL;
CREATE INDEX superapp_calls_session_due ON superapp_calls_session (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX superapp_calls_session_caller ON superapp_calls_session (caller, ring_ms);
CREATE INDEX superapp_calls_session_age ON superapp_calls_session (ring_ms);

-- What each local person keeps of a session. "new" is a ring that the gate let pass and that does not exist yet.
CREATE TABLE superapp_calls_record (
    session_id TEXT NOT NULL REFERENCES superapp_calls_session (session_id),
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    user_id TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('incoming', 'outgoing')),
    peer TEXT NOT NULL,
    peer_server TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN (
        'new', 'ringing', 'answered', 'ended', 'screened', 'declined', 'missed', 'cancelled', 'busy', 'failed'
    )),
    ring_ms BIGINT NOT NULL,
    answer_ms BIGINT,
    end_ms BIGINT,
    ended_by TEXT,
    screened_by TEXT,
    PRIMARY KEY (session_id, owner_acct),
    CONSTRAINT superapp_calls_record_answered CHECK ((answer_ms IS NOT NULL) = (state IN ('answered', 'ended'))),
    CONSTRAINT superapp_calls_record_ended CHECK ((end_ms IS NULL) = (state IN ('new', 'ringing', 'answered'))),
    CONSTRAINT superapp_calls_record_times CHECK (
        (answer_ms IS NULL OR answer_ms >= ring_ms) AND (end_ms IS NULL OR end_ms >= COALESCE(answer_ms, ring_ms))
    )
);
CREATE INDEX superapp_calls_record_history ON superapp_calls_record (owner_acct, ring_ms, session_id);
CREATE INDEX superapp_calls_record_peer ON superapp_calls_record (owner_acct, peer_server, ring_ms);

-- Which events were applied: each moves a session at most once. Declines find their call by the ring's row.
CREATE TABLE superapp_calls_event (
    event_id TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES superapp_calls_session (session_id),
    PRIMARY KEY (event_id, session_id)
);
CREATE INDEX superapp_calls_event_session ON superapp_calls_event (session_id);

-- When a caller was last told politely that somebody is not available, and about which call.
CREATE TABLE superapp_calls_refusal (
    owner_acct TEXT NOT NULL REFERENCES superapp_account (acct),
    caller TEXT NOT NULL,
    session_id TEXT NOT NULL,
    refused_ms BIGINT NOT NULL,
    PRIMARY KEY (owner_acct, caller)
);

-- Events that this homeserver owes to rooms.
CREATE TABLE superapp_calls_outbox (
    outbox_id TEXT NOT NULL PRIMARY KEY,
    due_ms BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX superapp_calls_outbox_due ON superapp_calls_outbox (due_ms);
