-- Several servers share the database.

-- Users whose templates changed, for the memory of other servers. Old rows go.
CREATE TABLE changes (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The transaction. A reader asks for those that its last snapshot did not have.
    xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
    user_id TEXT COLLATE "C" NOT NULL,
    -- The key of a user who was deleted: no server may keep it in memory.
    key_id BYTEA,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX changes_by_xid ON changes (xid);
CREATE INDEX changes_by_age ON changes (at);

-- Servers that run. Each says each second that it is there.
CREATE TABLE servers (
    -- Random, for each process.
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    -- The model that it has in memory besides the active one.
    next_model TEXT
);

-- The model that is about to become active, for servers to load it.
CREATE TABLE next_model (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    model TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- The server that does what one server does for all: deletion of old data, for example.
CREATE TABLE keeper (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    server TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- The change that a stored response tells of.
ALTER TABLE replies ADD COLUMN change TEXT;
