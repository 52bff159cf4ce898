"""A newer version has expanded the schema, while replicas of this one go on."""

from outages import outage
from scenario import on_postgres

# A column more in each table, and a table more, as the next version may add them.
EXPAND = """
DO $$
DECLARE found record;
BEGIN
    FOR found IN
        SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname IN ('public', 'keyring') AND tablename <> '_sqlx_migrations'
    LOOP
        EXECUTE format('ALTER TABLE %I.%I ADD COLUMN of_next_version TEXT DEFAULT ''x''',
            found.schemaname, found.tablename);
    END LOOP;
END $$;
CREATE TABLE of_next_version (id BIGINT PRIMARY KEY);
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES (9999, 'next version', TRUE, '\\x00', 0);
"""


@on_postgres
def versions(program, report):
    """The next version's first replica has migrated. Those of this version read and write as before."""
    with outage(program, report) as world:
        for at in world.all:
            assert world.write(at).status == 201
        before = len(world.seconds)
        world.cluster.postgres.sql(EXPAND, database="app")
        for at in [*world.all, *world.all]:
            answer = world.write(at)
            assert answer and answer.status == 201, answer
        report("identifications before and after", (before, len(world.seconds) - before))
