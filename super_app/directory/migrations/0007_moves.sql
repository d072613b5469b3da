-- Where an account went (moved_to) and where it came from (moved_from), as they stand in its records: JSON, signed with
-- them. While moved_to is there this homeserver forwards; moved_from is shown as long.
ALTER TABLE superapp_directory_owner ADD COLUMN moved_to TEXT;
ALTER TABLE superapp_directory_owner ADD COLUMN moved_from TEXT;

-- Accounts of this homeserver that moved to another one. Never undone: an account moves once.
CREATE TABLE superapp_directory_departure (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    user_id TEXT NOT NULL,
    to_user_id TEXT NOT NULL,
    to_acct TEXT NOT NULL,
    to_handle TEXT NOT NULL,
    moved_ms BIGINT NOT NULL,
    told_ms BIGINT,
    ended_ms BIGINT
);
CREATE INDEX superapp_directory_departure_open ON superapp_directory_departure (moved_ms) WHERE ended_ms IS NULL;

-- Accounts of this homeserver whose owners said that they come from elsewhere. claim is the word of their recovery key,
-- where the former homeserver is gone. from_acct is known once that homeserver, or the claim, named it.
CREATE TABLE superapp_directory_arrival (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    from_user_id TEXT NOT NULL,
    from_acct TEXT,
    claim TEXT,
    state TEXT NOT NULL CHECK (state IN ('announced', 'accepted', 'done')),
    announced_ms BIGINT NOT NULL,
    done_ms BIGINT,
    CHECK ((state = 'done') = (done_ms IS NOT NULL))
);
CREATE INDEX superapp_directory_arrival_from ON superapp_directory_arrival (from_user_id);

-- Moves between homeservers that were verified here, both halves of them: who was known as user_id is now to_user_id.
CREATE TABLE superapp_directory_forward (
    user_id TEXT NOT NULL PRIMARY KEY,
    acct TEXT NOT NULL,
    to_acct TEXT NOT NULL,
    to_user_id TEXT NOT NULL,
    moved_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);

-- Words of recovery keys that wait until the former homeserver has been silent for long enough. contested_ms is when it
-- answered all the same.
CREATE TABLE superapp_directory_recovery (
    acct TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    to_acct TEXT NOT NULL,
    to_user_id TEXT NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    asked_ms BIGINT NOT NULL,
    contested_ms BIGINT
);
