-- For statements that SQLite shares with PostgreSQL, which say `WHERE damaged` for `WHERE damaged = 1`.
CREATE INDEX templates_set_aside ON templates (enrollment_id) WHERE damaged;
CREATE INDEX recordings_set_aside ON recordings (enrollment_id) WHERE damaged;
CREATE INDEX fingerprints_set_aside ON fingerprints (id) WHERE damaged;

-- Notes of servers that share a database have these, too.
ALTER TABLE audit_notes ADD COLUMN actor TEXT NOT NULL DEFAULT 'command_line';
ALTER TABLE audit_notes ADD COLUMN user_digest BLOB CHECK (length(user_digest) = 32);
