-- Orders to pay later, once or again and again. The next occurrence stands in the row itself: number counts them from 0,
-- due_ms is when it is due, act_ms when the clock has to look at it (to give notice, to pay, to try again). trying stands
-- while it is being paid; the payment's id follows from the schedule and the number, so that it is made once.
CREATE TABLE superapp_schedule (
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    schedule_id TEXT NOT NULL,
    payer TEXT NOT NULL,
    payee TEXT NOT NULL,
    payee_written TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    currency TEXT NOT NULL,
    memo TEXT,
    every TEXT NOT NULL CHECK (every IN ('once', 'daily', 'weekly', 'monthly')),
    first_day TEXT NOT NULL,
    at_minute INTEGER NOT NULL CHECK (at_minute BETWEEN 0 AND 1439),
    zone TEXT NOT NULL,
    until_day TEXT,
    state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'ended', 'cancelled')),
    number INTEGER NOT NULL CHECK (number >= 0),
    due_ms BIGINT NOT NULL,
    act_ms BIGINT,
    noticed INTEGER NOT NULL CHECK (noticed IN (0, 1)),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    trying INTEGER NOT NULL CHECK (trying IN (0, 1)),
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (acct, schedule_id),
    CHECK ((state = 'active') = (act_ms IS NOT NULL)),
    CHECK (state = 'active' OR trying = 0)
);
CREATE INDEX superapp_schedule_act ON superapp_schedule (act_ms) WHERE act_ms IS NOT NULL;
CREATE INDEX superapp_schedule_made ON superapp_schedule (acct, created_ms);

-- What became of each occurrence that is over.
CREATE TABLE superapp_schedule_occurrence (
    acct TEXT NOT NULL,
    schedule_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    due_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ordered', 'skipped', 'failed', 'missed')),
    payment_id TEXT,
    reason TEXT,
    over_ms BIGINT NOT NULL,
    PRIMARY KEY (acct, schedule_id, number),
    FOREIGN KEY (acct, schedule_id) REFERENCES superapp_schedule (acct, schedule_id),
    CHECK (outcome <> 'ordered' OR payment_id IS NOT NULL)
);
