-- Whether the newest record has badges: verified people are found first.
ALTER TABLE superapp_directory_handle ADD COLUMN badged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE superapp_directory_replica ADD COLUMN badged INTEGER NOT NULL DEFAULT 0;
CREATE INDEX superapp_directory_handle_badged ON superapp_directory_handle (name)
    WHERE discover = 'public' AND state = 'active' AND badged = 1;
CREATE INDEX superapp_directory_replica_badged ON superapp_directory_replica (name)
    WHERE discover = 'public' AND status = 'active' AND badged = 1;

-- Every name that is or was public here, once, and three letters in a row of it: what finds a part of a name. The number
-- is there because FTS5 refers to it, and rowids without a name change when the file is compacted. A name that is public
-- no more is dropped later; it leads to no row that would be shown.
CREATE TABLE superapp_directory_part_name (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE VIRTUAL TABLE superapp_directory_part
    USING fts5(name, content = 'superapp_directory_part_name', content_rowid = 'number', tokenize = 'trigram');

INSERT INTO superapp_directory_part_name (name)
    SELECT name FROM superapp_directory_handle WHERE discover = 'public'
    UNION SELECT name FROM superapp_directory_replica WHERE discover = 'public';
INSERT INTO superapp_directory_part (superapp_directory_part) VALUES ('rebuild');

-- begin
CREATE TRIGGER superapp_directory_part_added AFTER INSERT ON superapp_directory_part_name BEGIN
    INSERT INTO superapp_directory_part (rowid, name) VALUES (NEW.number, NEW.name);
END;
-- end
-- begin
CREATE TRIGGER superapp_directory_part_removed AFTER DELETE ON superapp_directory_part_name BEGIN
    INSERT INTO superapp_directory_part (superapp_directory_part, rowid, name) VALUES ('delete', OLD.number, OLD.name);
END;
-- end
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
-- begin
CREATE TRIGGER superapp_directory_replica_part AFTER INSERT ON superapp_directory_replica
WHEN NEW.discover = 'public' BEGIN
    INSERT INTO superapp_directory_part_name (name) SELECT NEW.name
        WHERE NOT EXISTS (SELECT 1 FROM superapp_directory_part_name WHERE name = NEW.name);
END;
-- end
-- begin
CREATE TRIGGER superapp_directory_replica_part_again AFTER UPDATE OF discover ON superapp_directory_replica
WHEN NEW.discover = 'public' BEGIN
    INSERT INTO superapp_directory_part_name (name) SELECT NEW.name
        WHERE NOT EXISTS (SELECT 1 FROM superapp_directory_part_name WHERE name = NEW.name);
END;
-- end
