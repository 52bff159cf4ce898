-- Users and what is kept of their walks. Raw recordings are not kept.
--
-- Tables are STRICT, so that a wrong type is an error here and not a surprise later.

-- "BPNT": tells this program's databases from others.
PRAGMA application_id = 1112559188;

CREATE TABLE users (
    -- Chosen by the caller; see identity::UserId for what is allowed.
    id TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    created_at_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE enrollments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Erasing a user erases all that is held about them.
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The model whose feature space the template lies in: templates of two models cannot be compared.
    model TEXT NOT NULL,
    -- Sum of the windows' unit feature vectors, little-endian 32-bit floats.
    template BLOB NOT NULL CHECK (length(template) > 0 AND length(template) % 4 = 0),
    windows INTEGER NOT NULL CHECK (windows > 0),
    created_at_unix_seconds INTEGER NOT NULL
) STRICT;

-- A user's enrollments, and the cascade when a user goes.
CREATE INDEX enrollments_by_user ON enrollments (user_id);
