-- As SQLite's migration of this number.
CREATE TABLE used_challenges (
    nonce_digest BYTEA PRIMARY KEY CHECK (octet_length(nonce_digest) = 32),
    expires_at_unix_seconds BIGINT NOT NULL
);

CREATE INDEX used_challenges_by_age ON used_challenges (expires_at_unix_seconds);
