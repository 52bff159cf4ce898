"""PgBouncer before PostgreSQL, which may give each transaction another session."""

import contextlib
import os
import shutil
import socket
import subprocess

from kills import enroll_under_kills
from postgres import free_port, unprivileged
from scenario import Skipped, on_postgres
from world import Cluster, wait_for

# Fewer than the connections of all replicas.
SESSIONS = 12

ENROLLMENTS = 200

# Replicas wait for sessions, too.
VISIBLE_WITHIN_SECONDS = 10.0


class PgBouncer:
    """`with PgBouncer(server) as pooler:` takes connections for a server on `pooler.port`."""

    # For the address.
    options = "?statement-cache-capacity=0"

    def __init__(self, server):
        self.server, self.port, self.process = server, free_port(), None
        self.log = server.folder / "pgbouncer.log"

    def __enter__(self):
        owner, as_owner = unprivileged()
        users = self.server.folder / "users"
        users.write_text(f'"app" "{self.server.password}"\n')
        file = self.server.folder / "pgbouncer.ini"
        file.write_text(f"""
[databases]
* = host=127.0.0.1 port={self.server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {SESSIONS}
# What clients of sqlx ask for when they connect.
ignore_startup_parameters = extra_float_digits
""")
        for path in (users, file):
            shutil.chown(path, owner.pw_uid, owner.pw_gid)
        with self.log.open("w") as log:
            command = ["setpriv", "--pdeathsig=KILL", *as_owner, "pgbouncer", file]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(self.accepts)
        return self

    def accepts(self):
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@on_postgres
def pooler(program, report):
    """Replicas are killed behind PgBouncer, which has fewer sessions than they have connections."""
    if not shutil.which("pgbouncer"):
        raise Skipped("PgBouncer is not installed")
    with Cluster(program, pooler=PgBouncer) as cluster:
        enroll_under_kills(cluster, program, ENROLLMENTS, report, VISIBLE_WITHIN_SECONDS)
        # Without the option, a name may stand for a statement of another client.
        url = cluster.postgres.url(cluster.pooler.port, "app", "app")
        variables = {**os.environ, "BIPEDALNET_DATABASE": url}
        refused = subprocess.run([program, "keys", "list"], env=variables, capture_output=True, text=True)
        assert refused.returncode and cluster.pooler.options in refused.stderr, refused
