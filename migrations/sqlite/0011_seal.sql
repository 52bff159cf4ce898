-- Biometric data is encrypted (store::keyring). The keys are in a file of their own, so that a copy of
-- this one cannot be read once they are destroyed.

-- The keyring that this database needs. Empty until the first start of a server.
CREATE TABLE keyring (
    id BLOB PRIMARY KEY CHECK (length(id) = 16)
) STRICT, WITHOUT ROWID;

-- Names the user's key in the keyring. Random, so that a user who is deleted and created again has
-- another key. NULL only in a database that is not encrypted yet.
ALTER TABLE users ADD COLUMN key_id BLOB CHECK (length(key_id) = 16);

-- Keys of deleted users that are still to be destroyed: the keyring changes after this database.
CREATE TABLE erased_keys (
    key_id BLOB PRIMARY KEY CHECK (length(key_id) = 16)
) STRICT, WITHOUT ROWID;

-- Whether `user_digest` is HMAC-SHA256 of the salted digest, with a secret of the keyring. Without the
-- keyring nobody can guess ids then.
ALTER TABLE erasures ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0 CHECK (keyed IN (0, 1));

-- The key of `body`; NULL for that of the database.
ALTER TABLE replies ADD COLUMN key_id BLOB CHECK (length(key_id) = 16);

-- Rows that cannot be decrypted are set aside. Each start tries them again.
ALTER TABLE templates ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0 CHECK (damaged IN (0, 1));
ALTER TABLE recordings ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0 CHECK (damaged IN (0, 1));
ALTER TABLE fingerprints ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0 CHECK (damaged IN (0, 1));
CREATE INDEX damaged_templates ON templates (enrollment_id) WHERE damaged = 1;
CREATE INDEX damaged_recordings ON recordings (enrollment_id) WHERE damaged = 1;
CREATE INDEX damaged_fingerprints ON fingerprints (id) WHERE damaged = 1;

-- As before, without damaged templates.
DROP VIEW user_summaries;
CREATE VIEW user_summaries AS
SELECT
    id,
    created_at_unix_seconds,
    (SELECT count(*) FROM enrollments WHERE user_id = users.id) AS enrollments,
    (SELECT coalesce(sum(windows), 0)
     FROM enrollments JOIN templates ON enrollment_id = enrollments.id
     WHERE user_id = users.id AND damaged = 0
     AND model = (SELECT models.id FROM models WHERE active = 1)) AS windows,
    (SELECT count(*) FROM enrollments AS walk WHERE walk.user_id = users.id AND NOT EXISTS
     (SELECT 1 FROM enrollments AS earlier
      WHERE earlier.user_id = walk.user_id AND earlier.id < walk.id
      AND earlier.created_at_unix_seconds >= walk.created_at_unix_seconds - 3600)) AS occasions
FROM users;
