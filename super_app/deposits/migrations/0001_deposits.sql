-- Deposits that strangers have put down for people of this homeserver. While they lie aside their money stands on the
-- recipient's account of the kind "gift", beside that of pots, where nobody can spend it.
CREATE TABLE superapp_deposit (
    payer TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    recipient TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor BETWEEN 1 AND 9007199254740991),
    currency TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('expected', 'open', 'due', 'returning', 'returned', 'kept')),
    cue TEXT CHECK (cue IN ('answer', 'accept', 'time', 'spam', 'gone')),
    made_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    tries INTEGER NOT NULL CHECK (tries >= 0),
    retry_ms BIGINT,
    PRIMARY KEY (payer, payment_id),
    CHECK ((cue IS NULL) = (state IN ('expected', 'open')))
);
CREATE INDEX superapp_deposit_of ON superapp_deposit (acct, made_ms);
CREATE INDEX superapp_deposit_live ON superapp_deposit (made_ms) WHERE state IN ('expected', 'open', 'due');
