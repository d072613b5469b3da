-- The fee of one payment that the payer has confirmed with the schedule. If the price is another one by then, it is not
-- paid and the payer hears of it.
ALTER TABLE superapp_schedule ADD COLUMN fee_minor BIGINT NOT NULL DEFAULT 0 CHECK (
    fee_minor BETWEEN 0 AND 9007199254740991
);
