-- The right to run training jobs: of all servers with this database, one has it at a time.
CREATE TABLE training_lease (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- The server that has it, by a random name of its process. Empty if none had it yet.
    holder TEXT NOT NULL,
    -- Then another server may take it.
    ends_at_unix_seconds INTEGER NOT NULL,
    -- The job that it runs, and how far that is, for the other servers.
    job_id INTEGER,
    step INTEGER,
    steps INTEGER,
    epoch INTEGER,
    loss REAL,
    validation_accuracy REAL,
    samples_per_second REAL,
    seconds_left REAL
) STRICT;

INSERT INTO training_lease (id, holder, ends_at_unix_seconds) VALUES (1, '', 0);
