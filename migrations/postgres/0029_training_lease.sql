-- As SQLite's migration of this number.
CREATE TABLE training_lease (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    ends_at_unix_seconds BIGINT NOT NULL,
    job_id BIGINT,
    step BIGINT,
    steps BIGINT,
    epoch BIGINT,
    loss REAL,
    validation_accuracy REAL,
    samples_per_second REAL,
    seconds_left REAL
);

INSERT INTO training_lease (id, holder, ends_at_unix_seconds) VALUES (1, '', 0);
