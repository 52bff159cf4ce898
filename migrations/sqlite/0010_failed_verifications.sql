-- Verifications that failed since the user was last accepted beyond doubt, by API key. They delay the
-- next one, and lock the user at last.
CREATE TABLE failed_verifications (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Not a reference: keys are never deleted.
    api_key TEXT NOT NULL,
    failures INTEGER NOT NULL CHECK (failures > 0),
    last_at_unix_seconds INTEGER NOT NULL,
    PRIMARY KEY (user_id, api_key)
) STRICT, WITHOUT ROWID;

-- Failed verifications by API key and by address, of all users, within an hour. Older rows go.
CREATE TABLE failing_clients (
    -- "key ID" or "address ADDRESS".
    client TEXT PRIMARY KEY,
    failures INTEGER NOT NULL CHECK (failures > 0),
    since_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX failing_clients_by_age ON failing_clients (since_unix_seconds);
