-- Challenges that were used, until an hour after they expired. Each is valid once, whichever server gets
-- it.
CREATE TABLE used_challenges (
    -- SHA-256.
    nonce_digest BLOB PRIMARY KEY CHECK (length(nonce_digest) = 32),
    expires_at_unix_seconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_challenges_by_age ON used_challenges (expires_at_unix_seconds);
