-- Verifications of a user that count together, for as long as the session is in use.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Who verifies. Principals do not share sessions.
    principal TEXT NOT NULL,
    -- Chosen by the client.
    name TEXT NOT NULL,
    -- Whether its walks are features. They do not add up with recordings.
    of_features INTEGER NOT NULL CHECK (of_features IN (0, 1)),
    -- The model that read its walks. Templates of two models cannot be added.
    model TEXT NOT NULL,
    used_at_unix_seconds INTEGER NOT NULL,
    UNIQUE (user_id, principal, name, of_features)
) STRICT;

CREATE INDEX sessions_by_age ON sessions (used_at_unix_seconds);

CREATE TABLE session_walks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    -- Template and fingerprints, encrypted with the user's key.
    walk BLOB NOT NULL
) STRICT;

CREATE INDEX walks_of_session ON session_walks (session_id);
