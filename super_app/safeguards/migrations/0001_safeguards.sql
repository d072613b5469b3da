-- What guards the wallet of one account. pin_tries counts those since the last right one, each before it is looked at, so
-- that tries at the same time count too. locked_ms: sending is off since then. careful_until_ms: small amounts only.
CREATE TABLE superapp_safeguard (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    tier TEXT,
    pin_hash TEXT,
    pin_set_ms BIGINT,
    pin_tries INTEGER NOT NULL DEFAULT 0 CHECK (pin_tries >= 0),
    pin_locked_until_ms BIGINT,
    pin_new_payee INTEGER NOT NULL DEFAULT 0 CHECK (pin_new_payee IN (0, 1)),
    locked_ms BIGINT,
    careful_until_ms BIGINT,
    CHECK ((pin_hash IS NULL) = (pin_set_ms IS NULL))
);

-- Above which amounts the person wants to be asked for the PIN, where that is less than what the operator says.
CREATE TABLE superapp_safeguard_pin_above (
    acct TEXT NOT NULL REFERENCES superapp_safeguard (acct),
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 0),
    PRIMARY KEY (acct, currency)
);
