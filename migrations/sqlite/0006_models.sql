-- Networks, of which one serves. Their files are here, so that a backup has them too.
CREATE TABLE models (
    -- The first 16 digits of the checksum that the file holds.
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    -- The model that it was made from; it may be gone.
    parent TEXT,
    -- These three as in the file.
    name TEXT NOT NULL,
    training_data TEXT NOT NULL,
    metrics TEXT NOT NULL CHECK (json_valid(metrics)),
    -- The one that ships with the program is never dropped.
    shipped INTEGER NOT NULL CHECK (shipped IN (0, 1)),
    active INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    -- With the model that served when it was last to take over; see store::Comparison.
    comparison TEXT CHECK (comparison IS NULL OR json_valid(comparison)),
    created_at_unix_seconds INTEGER NOT NULL,
    -- Of the file as a whole.
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    file BLOB NOT NULL CHECK (length(file) > 0)
) STRICT;

CREATE UNIQUE INDEX one_active_model ON models (active) WHERE active = 1;

-- What a model made of a walk. A walk has one for each model that read it, so that another model can
-- take over at once, and hand back.
CREATE TABLE templates (
    -- Not a reference: templates from before this table are of a model that the server registers only
    -- when it starts.
    model TEXT NOT NULL,
    enrollment_id INTEGER NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    -- Sum of the windows' unit feature vectors, little-endian 32-bit floats.
    template BLOB NOT NULL CHECK (length(template) > 0 AND length(template) % 4 = 0),
    windows INTEGER NOT NULL CHECK (windows > 0),
    PRIMARY KEY (model, enrollment_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX templates_by_enrollment ON templates (enrollment_id);

INSERT INTO templates SELECT model, id, template, windows FROM enrollments;

DROP VIEW user_summaries;
ALTER TABLE enrollments DROP COLUMN model;
ALTER TABLE enrollments DROP COLUMN template;
ALTER TABLE enrollments DROP COLUMN windows;

-- Each user with how much is known of them: windows are those that the active model can use.
CREATE VIEW user_summaries AS
SELECT
    id,
    created_at_unix_seconds,
    (SELECT count(*) FROM enrollments WHERE user_id = users.id) AS enrollments,
    (SELECT coalesce(sum(windows), 0)
     FROM enrollments JOIN templates ON enrollment_id = enrollments.id
     WHERE user_id = users.id AND model = (SELECT models.id FROM models WHERE active = 1)) AS windows
FROM users;
