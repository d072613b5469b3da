-- Where an account is at home, as the operator has found out: ISO 3166-1 alpha-2.
CREATE TABLE superapp_safeguard_country (
    acct TEXT NOT NULL PRIMARY KEY REFERENCES superapp_account (acct),
    country TEXT NOT NULL CHECK (length(country) = 2)
);
