-- Of servers that share a PostgreSQL database. With SQLite it stays empty.
ALTER TABLE replies ADD COLUMN change TEXT;
