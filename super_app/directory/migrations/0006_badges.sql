-- The badges of a name, signed, as a JSON list; they stand in its records.
ALTER TABLE superapp_directory_handle ADD COLUMN badges TEXT NOT NULL DEFAULT '[]';
CREATE INDEX superapp_directory_handle_badges ON superapp_directory_handle (name) WHERE badges <> '[]';

-- For whom an organisation, which is a verified name of this homeserver, vouches.
CREATE TABLE superapp_directory_member (
    organisation TEXT NOT NULL,
    handle TEXT NOT NULL,
    acct TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (organisation, handle)
);
