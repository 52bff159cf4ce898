-- When the last backup began that succeeded, and when one failed last. 0 is never. A copy has the time of
-- its own beginning.
CREATE TABLE backup_times (
    succeeded_at_unix_seconds INTEGER NOT NULL,
    failed_at_unix_seconds INTEGER NOT NULL
) STRICT;

INSERT INTO backup_times VALUES (0, 0);

CREATE TRIGGER backup_times_is_one BEFORE INSERT ON backup_times
BEGIN SELECT RAISE(ABORT, 'backup_times has one row'); END;
