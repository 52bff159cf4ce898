-- As SQLite's migration of this number.
CREATE TABLE sessions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    principal TEXT NOT NULL,
    name TEXT NOT NULL,
    of_features BOOLEAN NOT NULL,
    model TEXT NOT NULL,
    used_at_unix_seconds BIGINT NOT NULL,
    UNIQUE (user_id, principal, name, of_features)
);

CREATE INDEX sessions_by_age ON sessions (used_at_unix_seconds);

CREATE TABLE session_walks (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id BIGINT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    walk BYTEA NOT NULL
);

CREATE INDEX walks_of_session ON session_walks (session_id);
