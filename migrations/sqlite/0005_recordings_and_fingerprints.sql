-- Raw recordings, kept only where the operator wants to train on them, and only for a time.
CREATE TABLE recordings (
    enrollment_id INTEGER PRIMARY KEY REFERENCES enrollments (id) ON DELETE CASCADE,
    -- CBOR of float32 samples, compressed with zstd.
    recording BLOB NOT NULL,
    created_at_unix_seconds INTEGER NOT NULL
) STRICT;

CREATE INDEX recordings_by_age ON recordings (created_at_unix_seconds);

-- What tells a walk that is sent again from a new one (gait::Fingerprint): of enrolled walks, and of
-- the latest that a verification accepted.
CREATE TABLE fingerprints (
    -- Never used again: a verification looks for those that came since it began.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- NULL for a walk that was verified.
    enrollment_id INTEGER REFERENCES enrollments (id) ON DELETE CASCADE,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) > 0)
) STRICT;

CREATE INDEX fingerprints_by_user ON fingerprints (user_id);
CREATE INDEX fingerprints_by_enrollment ON fingerprints (enrollment_id);
