-- Why a name is never free again (kept_for), more reasons to freeze one, and names whose owner moved away. SQLite cannot
-- change a constraint, so the table is made anew.
CREATE TABLE superapp_directory_handle_next (
    name TEXT NOT NULL PRIMARY KEY,
    acct TEXT NOT NULL REFERENCES superapp_account (acct),
    origin TEXT NOT NULL CHECK (origin IN ('localpart', 'claimed', 'granted')),
    state TEXT NOT NULL CHECK (state IN ('active', 'moved', 'released', 'frozen', 'free')),
    frozen_for TEXT CHECK (frozen_for IN ('ambiguous', 'dispute', 'operator')),
    contested_by TEXT,
    skeleton TEXT NOT NULL,
    discover TEXT NOT NULL CHECK (discover IN ('public', 'exact', 'link', 'none')),
    chosen INTEGER NOT NULL CHECK (chosen IN (0, 1)),
    since_ms BIGINT NOT NULL,
    released_ms BIGINT,
    seq BIGINT NOT NULL CHECK (seq >= 0),
    digest TEXT,
    record TEXT,
    renew_ms BIGINT NOT NULL,
    badged INTEGER NOT NULL DEFAULT 0,
    kept_for TEXT CHECK (kept_for IN ('paid', 'verified', 'revoked')),
    CHECK ((state = 'frozen') = (frozen_for IS NOT NULL)),
    CHECK ((state IN ('released', 'free')) = (released_ms IS NOT NULL)),
    CHECK (origin <> 'localpart' OR state IN ('active', 'moved', 'frozen')),
    CHECK (state <> 'free' OR kept_for IS NULL)
);
INSERT INTO superapp_directory_handle_next
    (name, acct, origin, state, frozen_for, contested_by, skeleton, discover, chosen, since_ms, released_ms, seq, digest,
    record, renew_ms, badged)
SELECT name, acct, origin, state, frozen_for, contested_by, skeleton, discover, chosen, since_ms, released_ms, seq,
    digest, record, renew_ms, badged FROM superapp_directory_handle;
DROP TABLE superapp_directory_handle;
ALTER TABLE superapp_directory_handle_next RENAME TO superapp_directory_handle;
CREATE INDEX superapp_directory_handle_acct ON superapp_directory_handle (acct);
CREATE INDEX superapp_directory_handle_skeleton ON superapp_directory_handle (skeleton);
CREATE INDEX superapp_directory_handle_public ON superapp_directory_handle (name)
    WHERE discover = 'public' AND state = 'active';
CREATE INDEX superapp_directory_handle_renew ON superapp_directory_handle (renew_ms)
    WHERE discover = 'public' AND state IN ('active', 'frozen', 'moved');
CREATE INDEX superapp_directory_handle_badged ON superapp_directory_handle (name)
    WHERE discover = 'public' AND state = 'active' AND badged = 1;
-- The triggers went with the former table.
-- begin
CREATE TRIGGER superapp_directory_handle_part AFTER INSERT ON superapp_directory_handle
WHEN NEW.discover = 'public' BEGIN
    INSERT INTO superapp_directory_part_name (name) SELECT NEW.name
        WHERE NOT EXISTS (SELECT 1 FROM superapp_directory_part_name WHERE name = NEW.name);
END;
-- end
-- begin
CREATE TRIGGER superapp_directory_handle_part_again AFTER UPDATE OF discover ON superapp_directory_handle
WHEN NEW.discover = 'public' BEGIN
    INSERT INTO superapp_directory_part_name (name) SELECT NEW.name
        WHERE NOT EXISTS (SELECT 1 FROM superapp_directory_part_name WHERE name = NEW.name);
END;
-- end

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
CREATE TRIGGER superapp_directory_act_no_update BEFORE UPDATE ON superapp_directory_act
BEGIN
    SELECT RAISE(ABORT, 'superapp_directory: the log of acts is append-only');
END;
-- end
-- begin
CREATE TRIGGER superapp_directory_act_no_delete BEFORE DELETE ON superapp_directory_act
BEGIN
    SELECT RAISE(ABORT, 'superapp_directory: the log of acts is append-only');
END;
-- end
