-- The account that the assistant of this homeserver made for itself, by localpart.
CREATE TABLE superapp_assistant_account (
    localpart TEXT PRIMARY KEY,
    made_ms BIGINT NOT NULL
);

-- Rooms in which the assistant reads what one person writes. Its own one with each person is unencrypted; in others it
-- can only say where to find it.
CREATE TABLE superapp_assistant_room (
    room_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    since_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX superapp_assistant_room_own ON superapp_assistant_room (user_id) WHERE own = 1;

-- What is to be done for a person, in the order of made_ms and task_id. due_ms is NULL once it is done; the row stays a
-- while, so that the same thing heard again is known.
CREATE TABLE superapp_assistant_task (
    task_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('heard', 'greet', 'order', 'news', 'message')),
    content TEXT NOT NULL,
    made_ms BIGINT NOT NULL,
    due_ms BIGINT,
    attempts INTEGER NOT NULL
);
CREATE INDEX superapp_assistant_task_due ON superapp_assistant_task (due_ms, user_id) WHERE due_ms IS NOT NULL;
CREATE INDEX superapp_assistant_task_user ON superapp_assistant_task (user_id, made_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX superapp_assistant_task_made ON superapp_assistant_task (made_ms) WHERE due_ms IS NULL;

-- What the assistant has asked a person and waits to hear.
CREATE TABLE superapp_assistant_question (
    user_id TEXT PRIMARY KEY,
    content TEXT NOT NULL,
    asked_ms BIGINT NOT NULL
);
