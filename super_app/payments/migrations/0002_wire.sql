-- Statements name the payment of each credit from another homeserver.
CREATE INDEX superapp_payment_wire ON superapp_payment (payee_acct, wire_id) WHERE wire_id IS NOT NULL;
