-- Which programs can use these tables: those that know this version of the schema, or a later one. A
-- migration that takes away what an earlier version reads raises it.
CREATE TABLE compatibility (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    oldest_schema BIGINT NOT NULL
);

INSERT INTO compatibility (oldest_schema) VALUES (31);
