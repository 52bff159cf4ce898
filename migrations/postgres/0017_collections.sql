-- As SQLite's migration of this number.
CREATE TABLE collections (
    id TEXT COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    max_users BIGINT CHECK (max_users > 0),
    max_enrollments_per_user BIGINT CHECK (max_enrollments_per_user > 0),
    created_at_unix_seconds BIGINT NOT NULL
);

INSERT INTO collections (id, created_at_unix_seconds)
VALUES ('default', extract(epoch FROM now())::BIGINT);

ALTER TABLE api_keys ADD COLUMN collections TEXT CHECK (length(collections) > 0);

ALTER TABLE users ADD COLUMN collection TEXT COLLATE "C" NOT NULL DEFAULT 'default' REFERENCES collections (id);
ALTER TABLE users ADD CHECK (CASE WHEN collection = 'default' THEN position('/' IN id) = 0
    ELSE starts_with(id, collection || '/') END);

CREATE INDEX users_by_collection ON users (collection, id);
