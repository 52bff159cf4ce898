-- Keys of the API. A revoked key keeps its row: a service that ever had a key never turns anonymous
-- again, and the operator sees what there was.
CREATE TABLE api_keys (
    -- The readable part of the key.
    id TEXT PRIMARY KEY CHECK (length(id) > 0),
    -- SHA-256 of the secret part, which has 256 random bits: a slow hash would add nothing.
    secret_digest BLOB NOT NULL CHECK (length(secret_digest) = 32),
    name TEXT NOT NULL,
    -- Separated by spaces; see access::Scope.
    scopes TEXT NOT NULL,
    created_at_unix_seconds INTEGER NOT NULL,
    expires_at_unix_seconds INTEGER,
    revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    last_used_at_unix_seconds INTEGER
) STRICT, WITHOUT ROWID;

ALTER TABLE replies RENAME TO old_replies;

-- Replies belong to the key that asked: two clients may choose the same idempotency key.
CREATE TABLE replies (
    principal TEXT NOT NULL,
    idempotency_key TEXT NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    -- SHA-256 of method, path and body: another request under the same key is an error.
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    status INTEGER NOT NULL CHECK (status BETWEEN 200 AND 299),
    -- Of the body; NULL where there is none.
    content_type TEXT,
    body BLOB NOT NULL,
    created_at_unix_seconds INTEGER NOT NULL,
    PRIMARY KEY (principal, idempotency_key)
) STRICT, WITHOUT ROWID;

-- Erasing a user erases what was answered about them. Not a reference to users: the answer to an
-- erasure outlives the user, and belongs to nobody.
CREATE TABLE reply_users (
    principal TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (user_id, principal, idempotency_key),
    FOREIGN KEY (principal, idempotency_key)
        REFERENCES replies (principal, idempotency_key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

INSERT INTO replies
SELECT '', idempotency_key, request_digest, status,
       CASE WHEN length(body) > 0 THEN 'application/json' END, body, created_at_unix_seconds
FROM old_replies;

INSERT INTO reply_users
SELECT '', idempotency_key, user_id FROM old_replies WHERE user_id IS NOT NULL;

DROP TABLE old_replies;

CREATE INDEX replies_by_age ON replies (created_at_unix_seconds);
CREATE INDEX reply_users_by_reply ON reply_users (principal, idempotency_key);
