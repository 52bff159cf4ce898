-- Requests for a new network, and how far they are. The newest are kept.
CREATE TABLE training_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What was asked for: either epochs or a time.
    scope TEXT NOT NULL CHECK (scope IN ('whole', 'last_layers')),
    epochs INTEGER CHECK (epochs > 0),
    budget_seconds INTEGER CHECK (budget_seconds > 0),
    activate INTEGER NOT NULL CHECK (activate IN (0, 1)),
    seed INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    -- From its start on: the model that it goes out from, and the last enrollment that it learns from.
    parent TEXT,
    last_enrollment INTEGER,
    -- People that it learns to tell apart, and others who had too little walking.
    users INTEGER,
    users_left_out INTEGER,
    -- Restarts since it last got on: a job may be what ends the program.
    resumptions INTEGER NOT NULL DEFAULT 0,
    -- The model that came of it, and whether it took over.
    model TEXT,
    activated INTEGER NOT NULL DEFAULT 0 CHECK (activated IN (0, 1)),
    -- Why it failed, or its model did not take over. Names nobody: it outlives users.
    reason TEXT,
    created_at_unix_seconds INTEGER NOT NULL,
    started_at_unix_seconds INTEGER,
    ended_at_unix_seconds INTEGER,
    CHECK ((epochs IS NULL) <> (budget_seconds IS NULL))
) STRICT;

-- One for each change of state and each epoch, for whoever follows a job.
CREATE TABLE training_events (
    job_id INTEGER NOT NULL REFERENCES training_jobs (id) ON DELETE CASCADE,
    -- From 1 on.
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    epochs INTEGER,
    loss REAL,
    validation_accuracy REAL,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

-- What a running job goes on from (training::Checkpoint): the last epoch's.
CREATE TABLE training_checkpoints (
    job_id INTEGER PRIMARY KEY REFERENCES training_jobs (id) ON DELETE CASCADE,
    checkpoint BLOB NOT NULL
) STRICT;

-- Path of what a request made, where its answer tells it.
ALTER TABLE replies ADD COLUMN location TEXT;
