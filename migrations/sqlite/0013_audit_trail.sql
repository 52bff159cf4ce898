-- The audit trail: who did what, and when. It names no user and holds nothing biometric, so it may
-- outlive them.
CREATE TABLE audit (
    -- From 1 on, without gaps.
    number INTEGER PRIMARY KEY,
    at_unix_seconds INTEGER NOT NULL,
    -- Id of the API key; or anonymous, server or command_line.
    actor TEXT NOT NULL,
    -- See store::AuditEvent for this and the detail.
    action TEXT NOT NULL,
    -- HMAC of the user's id under a secret of the keyring: it cannot be guessed from this file.
    user_digest BLOB CHECK (length(user_digest) = 32),
    detail TEXT,
    -- HMAC of the previous entry's and of the columns above, so that no entry can be changed, left out
    -- or moved without the secret.
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The newest entry that was pruned: the rest of the chain begins with its hash.
CREATE TABLE audit_start (
    number INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO audit_start VALUES (0, zeroblob(32));

-- What the command line did with API keys. It does not know the secret: the server makes entries of
-- these within a second, or when it starts.
CREATE TABLE audit_notes (
    number INTEGER PRIMARY KEY,
    at_unix_seconds INTEGER NOT NULL,
    action TEXT NOT NULL,
    detail TEXT
) STRICT;

-- These guard against mistakes. The hashes show changes by those who get around them.
CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
WHEN NEW.number <> 1 + (SELECT coalesce(max(number), 0) FROM audit)
BEGIN SELECT RAISE(ABORT, 'audit entries are added at the end'); END;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END;

CREATE TRIGGER audit_is_pruned_at_its_start BEFORE DELETE ON audit
WHEN OLD.number > (SELECT coalesce(max(number), 0) FROM audit_start)
BEGIN SELECT RAISE(ABORT, 'audit entries are only deleted up to audit_start'); END;

-- To an entry that is there, and not the newest.
CREATE TRIGGER audit_start_moves_on BEFORE UPDATE ON audit_start
WHEN NEW.number <= OLD.number OR NEW.number >= (SELECT coalesce(max(number), 0) FROM audit)
    OR NEW.hash IS NOT (SELECT hash FROM audit WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'audit_start moves to the newest entry that is pruned'); END;

CREATE TRIGGER audit_start_is_one BEFORE INSERT ON audit_start
BEGIN SELECT RAISE(ABORT, 'audit_start has one row'); END;

CREATE TRIGGER audit_start_stays BEFORE DELETE ON audit_start
BEGIN SELECT RAISE(ABORT, 'audit_start has one row'); END;

-- Consent of a user, and when they last enrolled a walk or were recognised, to the day.
ALTER TABLE users ADD COLUMN consent_reference TEXT CHECK (length(consent_reference) BETWEEN 1 AND 200);
ALTER TABLE users ADD COLUMN consent_at_unix_seconds INTEGER
    CHECK ((consent_at_unix_seconds IS NULL) = (consent_reference IS NULL));
ALTER TABLE users ADD COLUMN last_active_at_unix_seconds INTEGER NOT NULL DEFAULT 0;
-- It was not noted before.
UPDATE users SET last_active_at_unix_seconds = unixepoch();

-- What the clock showed when data past its time was last looked for, and since when it has not leapt.
CREATE TABLE retention_clock (
    seen_at_unix_seconds INTEGER NOT NULL,
    steady_since_unix_seconds INTEGER NOT NULL
) STRICT;

INSERT INTO retention_clock VALUES (unixepoch(), unixepoch());
