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

-- Replies belong to the key that asked: two clients may choose the same idempotency key. Those of
-- before, which did not, are for retries of the last 24 hours: they go.
DROP TABLE replies;

CREATE TABLE replies (
    -- SHA-256 of API key and idempotency key: clients put names into the latter.
    key_digest BLOB PRIMARY KEY CHECK (length(key_digest) = 32),
    -- SHA-256 of method, path and body: another request under the same key is an error.
    request_digest BLOB NOT NULL CHECK (length(request_digest) = 32),
    status INTEGER NOT NULL CHECK (status BETWEEN 200 AND 299),
    -- Of the body; NULL where there is none.
    content_type TEXT,
    -- NULL once somebody whom it names was erased: that the request was carried out must not be
    -- forgotten with what was answered, lest a retry carry it out again.
    body BLOB,
    created_at_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX replies_by_age ON replies (created_at_unix_seconds);

-- Whom an answer names. Not a reference to users: the answer to an erasure outlives the user, and
-- names nobody.
CREATE TABLE reply_users (
    user_id TEXT NOT NULL,
    key_digest BLOB NOT NULL REFERENCES replies (key_digest) ON DELETE CASCADE,
    PRIMARY KEY (user_id, key_digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX reply_users_by_reply ON reply_users (key_digest);
