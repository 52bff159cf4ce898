"""PostgreSQL is dumped and restored, as docs/scale.md says."""

import signal

from clients import Walks
from scenario import on_postgres
from world import Cluster

USERS = 6


@on_postgres
def dumps(program, report):
    """A dump is restored with the newest keyring. A user who was deleted after the dump does not come back."""
    walks = Walks(program)
    with Cluster(program, replicas=1) as cluster:
        [replica] = cluster.replicas
        connection = replica.connect()

        def verify(walker, walk):
            answer = connection.send("POST", f"/v1/users/user-{walker}/verify", walks.get(walker, walk))
            return answer.status, answer.document.get("decision")

        for walker in range(USERS):
            path = f"/v1/users/user-{walker}/enrollments?create_user=true"
            assert connection.send("POST", path, walks.get(walker, 1)).status == 201
        postgres = cluster.postgres
        dump, keyring = (postgres.folder / name for name in ("dump", "keyring"))
        app = postgres.url(database="app")
        postgres.run("pg_dump", "--format=custom", "--exclude-schema=keyring", f"--file={dump}", app)
        assert connection.send("DELETE", "/v1/users/user-0").status == 204
        postgres.run("pg_dump", "--format=custom", "--schema=keyring", f"--file={keyring}", app)

        replica.stop(signal.SIGTERM)
        postgres.sql("CREATE DATABASE restored OWNER app")
        target = f"--dbname={postgres.url(user='app', database='restored')}"
        postgres.run("pg_restore", "--no-owner", target, dump)
        postgres.run("pg_restore", "--no-owner", target, keyring)
        replica.database = postgres.url(user="app", database="restored")
        replica.start()
        replica.wait_until_ready()
        connection.close()
        assert [verify(walker, 2) for walker in range(1, USERS)] == [(200, "accept")] * (USERS - 1)
        status, decision = verify(0, 2)
        assert decision != "accept", "a deleted user came back"
        report("a verification of the deleted user", status)
        report("lines of the log", len(replica.log.read_text().splitlines()))
