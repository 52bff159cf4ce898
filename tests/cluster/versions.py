"""A newer version has expanded the schema, while replicas of this one go on."""

import signal

from outages import NEW_WALKER, outage
from scenario import on_postgres
from world import START_SECONDS, Replica, wait_for

# Undoes the newest migration, so that the next start has one to make.
BACK = """
DROP TABLE compatibility;
DELETE FROM _sqlx_migrations WHERE version = 31;
"""

# As migrations do, so that no other session gets an error.
LOCK_TABLES = """
SET lock_timeout = '500ms';
DO $$ BEGIN
    EXECUTE (SELECT 'LOCK TABLE ' || string_agg(format('%I.%I', schemaname, tablename), ', ')
        FROM pg_tables WHERE schemaname IN ('public', 'keyring'));
END $$;
"""

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

# What the version after it may do: take away what this one reads.
CONTRACT = "UPDATE compatibility SET oldest_schema = 9999"


def change(postgres, statements):
    """Changes tables that replicas use."""

    def done():
        try:
            postgres.sql(LOCK_TABLES + statements, database="app")
        except AssertionError as error:
            assert "lock timeout" in str(error), error
            return False
        return True

    wait_for(done)


@on_postgres
def versions(program, report):
    """Replicas go on while tables are brought up to date, and with those of the next version."""
    with outage(program, report) as world:
        for at in world.all:
            assert world.write(at).status == 201
        before = len(world.seconds)
        cluster = world.cluster
        running = cluster.replicas[0]
        late = Replica(program, cluster.folder, len(cluster.replicas), running.database, running.variables)
        change(cluster.postgres, BACK)
        late.start()
        late.wait_until_ready()
        late.stop(signal.SIGTERM)
        change(cluster.postgres, EXPAND)
        for at in [*world.all, *world.all]:
            answer = world.write(at)
            assert answer and answer.status == 201, answer
        report("identifications before and after", (before, len(world.seconds) - before))
        # One of this version starts, as after a way back.
        late.start()
        late.wait_until_ready()
        path = "/v1/users/late/enrollments?create_user=true"
        answer = late.connect().send("POST", path, world.walks.get(NEW_WALKER, 1))
        assert answer.status == 201, answer
        late.stop(signal.SIGTERM)
        cluster.postgres.sql(CONTRACT, database="app")
        late.start()
        assert late.process.wait(timeout=START_SECONDS) != 0
        assert "made by a newer version" in late.log.read_text()
