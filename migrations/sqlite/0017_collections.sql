-- Collections of users, each with its own gallery, thresholds and limits. Identification is within one.
CREATE TABLE collections (
    -- See identity::CollectionId for what is allowed.
    id TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    -- Limits of the collection. NULL is no limit but the server's.
    max_users INTEGER CHECK (max_users > 0),
    max_enrollments_per_user INTEGER CHECK (max_enrollments_per_user > 0),
    created_at_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO collections (id, created_at_unix_seconds) VALUES ('default', unixepoch());

-- The collections that a key may use, separated by spaces. NULL is all.
ALTER TABLE api_keys ADD COLUMN collections TEXT CHECK (length(collections) > 0);

-- The id of a user of another collection is COLLECTION/NAME, which the CHECK of the first migration
-- forbids. SQLite cannot change a CHECK, so the table is built anew. Foreign keys are off during
-- migrations: otherwise DROP TABLE would delete all walks.
DROP VIEW user_summaries;

CREATE TABLE new_users (
    -- NAME in the default collection, COLLECTION/NAME in others; see identity::UserId.
    id TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 129),
    created_at_unix_seconds INTEGER NOT NULL,
    -- Names the user's key in the keyring. NULL only in a database that is not encrypted yet.
    key_id BLOB CHECK (length(key_id) = 16),
    consent_reference TEXT CHECK (length(consent_reference) BETWEEN 1 AND 200),
    consent_at_unix_seconds INTEGER
        CHECK ((consent_at_unix_seconds IS NULL) = (consent_reference IS NULL)),
    last_active_at_unix_seconds INTEGER NOT NULL DEFAULT 0,
    collection TEXT NOT NULL DEFAULT 'default' REFERENCES collections (id),
    CHECK (CASE WHEN collection = 'default' THEN instr(id, '/') = 0
        ELSE substr(id, 1, length(collection) + 1) = collection || '/' END)
) STRICT, WITHOUT ROWID;

INSERT INTO new_users
    (id, created_at_unix_seconds, key_id, consent_reference, consent_at_unix_seconds,
     last_active_at_unix_seconds)
SELECT id, created_at_unix_seconds, key_id, consent_reference, consent_at_unix_seconds,
    last_active_at_unix_seconds
FROM users;

DROP TABLE users;
ALTER TABLE new_users RENAME TO users;
CREATE INDEX users_by_collection ON users (collection, id);

-- As before.
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
