-- Answers to writes that carried an Idempotency-Key, so that a retry gets the first one again. Each
-- is stored in the transaction of its effect: there is never one without the other.
CREATE TABLE replies (
    idempotency_key TEXT PRIMARY KEY CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    -- SHA-256 of method, path and body: another request under the same key is an error.
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    -- Erasing a user erases what was answered about them. Not a reference: the answer to the
    -- erasure itself outlives the user, and belongs to nobody.
    user_id TEXT,
    status INTEGER NOT NULL CHECK (status BETWEEN 200 AND 299),
    body BLOB NOT NULL,
    created_at_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX replies_by_user ON replies (user_id);
CREATE INDEX replies_by_age ON replies (created_at_unix_seconds);
