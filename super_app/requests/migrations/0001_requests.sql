-- Requests for money that people of this homeserver make or are asked by. Ids are the requester's.
CREATE TABLE superapp_request (
    requester TEXT NOT NULL,
    request_id TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    currency TEXT NOT NULL,
    memo TEXT,
    room_id TEXT NOT NULL,
    event_id TEXT,
    cancelled_ms BIGINT,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (requester, request_id)
);
CREATE INDEX superapp_request_made ON superapp_request (requester, created_ms);

-- Who is asked, each for the whole amount, and how far they are. A payment that answers it stands here from its order
-- on, so that no second one does; it goes away again if it comes to nothing.
CREATE TABLE superapp_request_payer (
    requester TEXT NOT NULL,
    request_id TEXT NOT NULL,
    payer TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'paying', 'paid', 'declined')),
    payment_id TEXT,
    PRIMARY KEY (requester, request_id, payer),
    FOREIGN KEY (requester, request_id) REFERENCES superapp_request (requester, request_id),
    CHECK (state NOT IN ('paying', 'paid') OR payment_id IS NOT NULL)
);
CREATE INDEX superapp_request_payer_asked ON superapp_request_payer (payer, requester, request_id);

-- Payments from other homeservers whose events name a request. They count once the money is here.
CREATE TABLE superapp_request_named (
    payer TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    requester TEXT NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (payer, payment_id)
);

-- Events that this homeserver owes to rooms.
CREATE TABLE superapp_request_outbox (
    outbox_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX superapp_request_outbox_due ON superapp_request_outbox (due_ms);
