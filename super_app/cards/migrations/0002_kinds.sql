-- The kinds of cards are those that the code knows; the table that was made before knew three of them.
DROP INDEX superapp_card_due;
ALTER TABLE superapp_card RENAME TO superapp_card_before;
CREATE TABLE superapp_card (
    card_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind <> ''),
    subject TEXT NOT NULL,
    event_id TEXT,
    shown TEXT,
    attempts INTEGER NOT NULL,
    due_ms BIGINT
);
INSERT INTO superapp_card (card_id, kind, subject, event_id, shown, attempts, due_ms)
SELECT card_id, kind, subject, event_id, shown, attempts, due_ms FROM superapp_card_before;
DROP TABLE superapp_card_before;
CREATE INDEX superapp_card_due ON superapp_card (due_ms) WHERE due_ms IS NOT NULL;
