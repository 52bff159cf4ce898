-- That a person's data was erased, and when: no name and nothing biometric, so that the record may
-- outlive the data.
CREATE TABLE erasures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256 of the salt followed by the user id: who knows the id can show that it was erased.
    user_digest BLOB NOT NULL CHECK (length(user_digest) = 32),
    salt BLOB NOT NULL CHECK (length(salt) = 16),
    enrollments INTEGER NOT NULL CHECK (enrollments >= 0),
    erased_at_unix_seconds INTEGER NOT NULL
) STRICT;

-- Each user with how much is known of them.
CREATE VIEW user_summaries AS
SELECT
    id,
    created_at_unix_seconds,
    (SELECT count(*) FROM enrollments WHERE user_id = users.id) AS enrollments,
    (SELECT coalesce(sum(windows), 0) FROM enrollments WHERE user_id = users.id) AS windows
FROM users;
