-- One card for each payment, request and missed call of somebody here who began it. due_ms is when it has to be looked at;
-- shown is what it says now, NULL while it is not sent.
CREATE TABLE superapp_card (
    card_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('payment', 'request', 'call')),
    subject TEXT NOT NULL,
    event_id TEXT,
    shown TEXT,
    attempts INTEGER NOT NULL,
    due_ms BIGINT
);
CREATE INDEX superapp_card_due ON superapp_card (due_ms) WHERE due_ms IS NOT NULL;
