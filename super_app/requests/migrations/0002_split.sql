-- A request can ask each for the whole amount, split one amount among them, or collect towards a goal. amount_minor is a
-- payer's part, NULL where each is asked for the whole; excused_ms is when the requester let them off.
ALTER TABLE superapp_request ADD COLUMN kind TEXT NOT NULL DEFAULT 'each' CHECK (kind IN ('each', 'split', 'goal'));
ALTER TABLE superapp_request ADD COLUMN reminded_ms BIGINT;
ALTER TABLE superapp_request_payer ADD COLUMN amount_minor BIGINT CHECK (amount_minor >= 1);
ALTER TABLE superapp_request_payer ADD COLUMN excused_ms BIGINT;

-- What people have put towards a goal, each as often and as much as they like. One that comes to nothing goes away again.
CREATE TABLE superapp_request_contribution (
    requester TEXT NOT NULL,
    request_id TEXT NOT NULL,
    payer TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 1),
    state TEXT NOT NULL CHECK (state IN ('paying', 'paid')),
    PRIMARY KEY (requester, request_id, payer, payment_id),
    FOREIGN KEY (requester, request_id) REFERENCES superapp_request (requester, request_id)
);
