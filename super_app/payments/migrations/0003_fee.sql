-- What a payment of ours costs its payer besides its amount. It lies in a hold of its own, 'fee:' and the id of the other
-- one, until the payment has ended: then it is the house's, or the payer's again.
ALTER TABLE superapp_payment ADD COLUMN fee_minor BIGINT NOT NULL DEFAULT 0 CHECK (
    fee_minor BETWEEN 0 AND 9007199254740991
);
