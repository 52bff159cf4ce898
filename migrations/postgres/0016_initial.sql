-- The tables of SQLite's migrations up to 0016, for PostgreSQL. The comments there hold here too.

CREATE TABLE users (
    -- COLLATE "C" orders ids by their bytes, as SQLite does.
    id TEXT COLLATE "C" PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 129),
    created_at_unix_seconds BIGINT NOT NULL,
    key_id BYTEA CHECK (octet_length(key_id) = 16),
    consent_reference TEXT CHECK (length(consent_reference) BETWEEN 1 AND 200),
    consent_at_unix_seconds BIGINT
        CHECK ((consent_at_unix_seconds IS NULL) = (consent_reference IS NULL)),
    last_active_at_unix_seconds BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE enrollments (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at_unix_seconds BIGINT NOT NULL,
    source TEXT NOT NULL DEFAULT 'enrollment' CHECK (source IN ('enrollment', 'verification'))
);

CREATE INDEX enrollments_by_user ON enrollments (user_id, source);

CREATE TABLE templates (
    model TEXT NOT NULL,
    enrollment_id BIGINT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    template BYTEA NOT NULL CHECK (octet_length(template) > 0),
    windows BIGINT NOT NULL CHECK (windows > 0),
    scale DOUBLE PRECISION CHECK (scale > 0),
    damaged BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (model, enrollment_id)
);

CREATE INDEX templates_by_enrollment ON templates (enrollment_id);
CREATE INDEX damaged_templates ON templates (enrollment_id) WHERE damaged;

CREATE TABLE recordings (
    enrollment_id BIGINT PRIMARY KEY REFERENCES enrollments (id) ON DELETE CASCADE,
    recording BYTEA NOT NULL,
    created_at_unix_seconds BIGINT NOT NULL,
    damaged BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX recordings_by_age ON recordings (created_at_unix_seconds);
CREATE INDEX damaged_recordings ON recordings (enrollment_id) WHERE damaged;

CREATE TABLE fingerprints (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    enrollment_id BIGINT REFERENCES enrollments (id) ON DELETE CASCADE,
    fingerprint BYTEA NOT NULL CHECK (octet_length(fingerprint) > 0),
    damaged BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX fingerprints_by_user ON fingerprints (user_id, id);
CREATE INDEX fingerprints_by_enrollment ON fingerprints (enrollment_id);
CREATE INDEX damaged_fingerprints ON fingerprints (id) WHERE damaged;

CREATE TABLE erasures (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_digest BYTEA NOT NULL CHECK (octet_length(user_digest) = 32),
    salt BYTEA NOT NULL CHECK (octet_length(salt) = 16),
    enrollments BIGINT NOT NULL CHECK (enrollments >= 0),
    erased_at_unix_seconds BIGINT NOT NULL,
    keyed BOOLEAN NOT NULL
);

CREATE TABLE erased_keys (
    key_id BYTEA PRIMARY KEY CHECK (octet_length(key_id) = 16)
);

CREATE TABLE replies (
    key_digest BYTEA PRIMARY KEY CHECK (octet_length(key_digest) = 32),
    request_digest BYTEA NOT NULL CHECK (octet_length(request_digest) = 32),
    status BIGINT NOT NULL CHECK (status BETWEEN 200 AND 299),
    content_type TEXT,
    body BYTEA,
    created_at_unix_seconds BIGINT NOT NULL,
    location TEXT,
    key_id BYTEA CHECK (octet_length(key_id) = 16)
);

CREATE INDEX replies_by_age ON replies (created_at_unix_seconds);

CREATE TABLE reply_users (
    user_id TEXT COLLATE "C" NOT NULL,
    key_digest BYTEA NOT NULL REFERENCES replies (key_digest) ON DELETE CASCADE,
    PRIMARY KEY (user_id, key_digest)
);

CREATE INDEX reply_users_by_reply ON reply_users (key_digest);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY CHECK (length(id) > 0),
    secret_digest BYTEA NOT NULL CHECK (octet_length(secret_digest) = 32),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at_unix_seconds BIGINT NOT NULL,
    expires_at_unix_seconds BIGINT,
    revoked BOOLEAN NOT NULL DEFAULT FALSE,
    last_used_at_unix_seconds BIGINT
);

CREATE TABLE models (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    parent TEXT,
    name TEXT NOT NULL,
    training_data TEXT NOT NULL,
    metrics TEXT NOT NULL,
    shipped BOOLEAN NOT NULL,
    active BOOLEAN NOT NULL DEFAULT FALSE,
    comparison TEXT,
    created_at_unix_seconds BIGINT NOT NULL,
    sha256 BYTEA NOT NULL CHECK (octet_length(sha256) = 32),
    file BYTEA NOT NULL CHECK (octet_length(file) > 0),
    -- The order of registration. SQLite has this column by itself.
    rowid BIGINT GENERATED ALWAYS AS IDENTITY
);

CREATE UNIQUE INDEX one_active_model ON models (active) WHERE active;

CREATE TABLE training_jobs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope TEXT NOT NULL CHECK (scope IN ('whole', 'last_layers')),
    epochs BIGINT CHECK (epochs > 0),
    budget_seconds BIGINT CHECK (budget_seconds > 0),
    activate BOOLEAN NOT NULL,
    seed BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    parent TEXT,
    last_enrollment BIGINT,
    users BIGINT,
    users_left_out BIGINT,
    resumptions BIGINT NOT NULL DEFAULT 0,
    model TEXT,
    activated BOOLEAN NOT NULL DEFAULT FALSE,
    reason TEXT,
    created_at_unix_seconds BIGINT NOT NULL,
    started_at_unix_seconds BIGINT,
    ended_at_unix_seconds BIGINT,
    CHECK ((epochs IS NULL) <> (budget_seconds IS NULL))
);

CREATE TABLE training_events (
    job_id BIGINT NOT NULL REFERENCES training_jobs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    epochs BIGINT,
    loss REAL,
    validation_accuracy REAL,
    PRIMARY KEY (job_id, number)
);

CREATE TABLE training_checkpoints (
    job_id BIGINT PRIMARY KEY REFERENCES training_jobs (id) ON DELETE CASCADE,
    checkpoint BYTEA NOT NULL
);

CREATE TABLE failed_verifications (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    api_key TEXT NOT NULL,
    failures BIGINT NOT NULL CHECK (failures > 0),
    last_at_unix_seconds BIGINT NOT NULL,
    PRIMARY KEY (user_id, api_key)
);

CREATE TABLE failing_clients (
    client TEXT PRIMARY KEY,
    failures BIGINT NOT NULL CHECK (failures > 0),
    since_unix_seconds BIGINT NOT NULL
);

CREATE INDEX failing_clients_by_age ON failing_clients (since_unix_seconds);

CREATE VIEW user_summaries AS
SELECT
    id,
    created_at_unix_seconds,
    (SELECT count(*) FROM enrollments WHERE user_id = users.id) AS enrollments,
    (SELECT coalesce(sum(windows), 0)::BIGINT
     FROM enrollments JOIN templates ON enrollment_id = enrollments.id
     WHERE user_id = users.id AND NOT damaged
     AND model = (SELECT models.id FROM models WHERE active)) AS windows,
    (SELECT count(*) FROM enrollments AS walk WHERE walk.user_id = users.id AND NOT EXISTS
     (SELECT 1 FROM enrollments AS earlier
      WHERE earlier.user_id = walk.user_id AND earlier.id < walk.id
      AND earlier.created_at_unix_seconds >= walk.created_at_unix_seconds - 3600)) AS occasions
FROM users;

CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    at_unix_seconds BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    user_digest BYTEA CHECK (octet_length(user_digest) = 32),
    detail TEXT,
    hash BYTEA NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE TABLE audit_start (
    -- One row.
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    number BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (octet_length(hash) = 32)
);

INSERT INTO audit_start (number, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- What happened, until a server chains it. Writers need not wait for one another then.
CREATE TABLE audit_notes (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_unix_seconds BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    user_digest BYTEA,
    detail TEXT
);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
FOR EACH ROW EXECUTE FUNCTION refuse_audit_change('audit entries are never changed');

CREATE TRIGGER audit_start_stays BEFORE DELETE ON audit_start
FOR EACH ROW EXECUTE FUNCTION refuse_audit_change('audit_start has one row');

CREATE FUNCTION check_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.number <> 1 + (SELECT coalesce(max(number), 0) FROM audit) THEN
        RAISE EXCEPTION 'audit entries are added at the end';
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.number > (SELECT number FROM audit_start) THEN
            RAISE EXCEPTION 'audit entries are only deleted up to audit_start';
        END IF;
        RETURN OLD;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
FOR EACH ROW EXECUTE FUNCTION check_audit_change();

CREATE TRIGGER audit_is_pruned_at_its_start BEFORE DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION check_audit_change();

CREATE FUNCTION check_audit_start() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number <= OLD.number OR NEW.number >= (SELECT coalesce(max(number), 0) FROM audit)
        OR NEW.hash IS DISTINCT FROM (SELECT hash FROM audit WHERE number = NEW.number) THEN
        RAISE EXCEPTION 'audit_start moves to the newest entry that is pruned';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_start_moves_on BEFORE UPDATE ON audit_start
FOR EACH ROW EXECUTE FUNCTION check_audit_start();

CREATE TABLE retention_clock (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    seen_at_unix_seconds BIGINT NOT NULL,
    steady_since_unix_seconds BIGINT NOT NULL,
    leapt_from_unix_seconds BIGINT,
    confirmations BIGINT NOT NULL DEFAULT 0
);

INSERT INTO retention_clock (seen_at_unix_seconds, steady_since_unix_seconds)
SELECT now, now FROM (SELECT extract(epoch FROM now())::BIGINT AS now) AS clock;

CREATE TABLE template_generation (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    generation BIGINT NOT NULL CHECK (generation >= 0)
);

INSERT INTO template_generation (generation) VALUES (1);

-- Keys, apart from what they encrypt: a dump can leave this schema out.
CREATE SCHEMA keyring;

CREATE TABLE keyring.root (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    id BYTEA NOT NULL CHECK (octet_length(id) = 16),
    wrapped BYTEA NOT NULL
);

CREATE TABLE keyring.keys (
    id BYTEA PRIMARY KEY CHECK (octet_length(id) = 16),
    wrapped BYTEA NOT NULL
);
