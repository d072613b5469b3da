-- Payments of people of this homeserver that matched a name, each once. While state is open the payment keeps its money set
-- aside and goes no further.
CREATE TABLE superapp_review (
    payer_key TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    matched TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'released', 'denied')),
    noted_ms BIGINT NOT NULL,
    operator TEXT,
    reason TEXT,
    decided_ms BIGINT,
    PRIMARY KEY (payer_key, payment_id),
    FOREIGN KEY (payer_key, payment_id) REFERENCES superapp_payment (payer_key, payment_id),
    CHECK ((state = 'open') = (operator IS NULL)),
    CHECK ((state = 'open') = (decided_ms IS NULL))
);
CREATE INDEX superapp_review_state ON superapp_review (state, noted_ms);
