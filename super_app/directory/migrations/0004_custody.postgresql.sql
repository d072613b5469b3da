-- Why a name is never free again (kept_for), more reasons to freeze one, and names whose owner moved away.
ALTER TABLE superapp_directory_handle ADD COLUMN kept_for TEXT CHECK (kept_for IN ('paid', 'verified', 'revoked'));
ALTER TABLE superapp_directory_handle DROP CONSTRAINT superapp_directory_handle_state_check;
ALTER TABLE superapp_directory_handle ADD CONSTRAINT superapp_directory_handle_state_check
    CHECK (state IN ('active', 'moved', 'released', 'frozen', 'free'));
ALTER TABLE superapp_directory_handle DROP CONSTRAINT superapp_directory_handle_frozen_for_check;
ALTER TABLE superapp_directory_handle ADD CONSTRAINT superapp_directory_handle_frozen_for_check
    CHECK (frozen_for IN ('ambiguous', 'dispute', 'operator'));
-- The third constraint of the table as a whole, as PostgreSQL names them.
ALTER TABLE superapp_directory_handle DROP CONSTRAINT superapp_directory_handle_check2;
ALTER TABLE superapp_directory_handle ADD CONSTRAINT superapp_directory_handle_check2
    CHECK (origin <> 'localpart' OR state IN ('active', 'moved', 'frozen'));
ALTER TABLE superapp_directory_handle ADD CONSTRAINT superapp_directory_handle_check3
    CHECK (state <> 'free' OR kept_for IS NULL);
DROP INDEX superapp_directory_handle_renew;
CREATE INDEX superapp_directory_handle_renew ON superapp_directory_handle (renew_ms)
    WHERE discover = 'public' AND state IN ('active', 'frozen', 'moved');

-- When names were taken, by whom and from which address, for the pace of claims. Forgotten after a week.
CREATE TABLE superapp_directory_claim (
    acct TEXT NOT NULL,
    address TEXT NOT NULL,
    taken_ms BIGINT NOT NULL
);
CREATE INDEX superapp_directory_claim_acct ON superapp_directory_claim (acct, taken_ms);
CREATE INDEX superapp_directory_claim_address ON superapp_directory_claim (address, taken_ms);
CREATE INDEX superapp_directory_claim_taken ON superapp_directory_claim (taken_ms);

-- Names that somebody holds for some minutes before they confirm. Its look is in superapp_directory_skeleton meanwhile.
CREATE TABLE superapp_directory_reservation (
    name TEXT NOT NULL PRIMARY KEY,
    skeleton TEXT NOT NULL UNIQUE,
    acct TEXT NOT NULL UNIQUE,
    until_ms BIGINT NOT NULL
);

-- What operators did to names: who, when, why. Rows are never changed and never deleted.
CREATE TABLE superapp_directory_act (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    operator TEXT NOT NULL,
    act TEXT NOT NULL,
    name TEXT NOT NULL,
    from_acct TEXT,
    to_acct TEXT,
    reason TEXT NOT NULL
);
CREATE INDEX superapp_directory_act_name ON superapp_directory_act (name, seq);
ALTER TABLE superapp_directory_state ADD COLUMN acts BIGINT NOT NULL DEFAULT 0;
-- begin
CREATE FUNCTION superapp_directory_forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'superapp_directory: the log of acts is append-only';
END $$;
-- end
CREATE TRIGGER superapp_directory_act_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON superapp_directory_act
    FOR EACH STATEMENT EXECUTE FUNCTION superapp_directory_forbid();
