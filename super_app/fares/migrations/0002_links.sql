-- Calls by the minute behind a link: no ring uses them, but being in the call of a room. link_id is that of the link, of
-- the payee's homeserver; room_id is known once the person was let in. On the payee's side answer_ms and end_ms are when
-- their homeserver saw the person come and go.
ALTER TABLE superapp_fare ADD COLUMN link_id TEXT;
ALTER TABLE superapp_fare ADD COLUMN room_id TEXT;
ALTER TABLE superapp_fare_terms ADD COLUMN link_id TEXT;
ALTER TABLE superapp_fare_terms ADD COLUMN room_id TEXT;
ALTER TABLE superapp_fare_terms ADD COLUMN answer_ms BIGINT;
ALTER TABLE superapp_fare_terms ADD COLUMN end_ms BIGINT;
