"""Replicas are exchanged one after the other, behind the balancer of docker/haproxy."""

import collections
import contextlib
import itertools
import pathlib
import re
import shutil
import signal
import subprocess
import time

from clients import FAILURES, Walks
from postgres import free_port
from scenario import Skipped, on_postgres
from world import Cluster, Connection, Threads, wait_for

CLIENTS = 4
USERS = 8


def configuration(cluster, port):
    """The balancer's own configuration, with the ports of this cluster and without TLS."""
    text = pathlib.Path("docker/haproxy/haproxy.cfg").read_text()
    text = re.sub(r"bind :8443 .*", f"bind 127.0.0.1:{port}", text)
    text = re.sub(r"bind :8405", f"bind 127.0.0.1:{free_port()}", text)
    text = re.sub(r"check port \d+ ", "check ", text)
    text = re.sub(r" resolvers docker init-addr \S+", "", text)
    # All clients have one address here.
    text = re.sub(r"gt 2000", "gt 1000000", text)

    def server(found):
        replica = cluster.replicas[int(found[1]) - 1]
        return f"server replica-{found[1]} 127.0.0.1:{replica.port} port {replica.metrics_port}"

    text, count = re.subn(r"server replica-(\d) \S+", server, text)
    assert count == len(cluster.replicas)
    return text


@contextlib.contextmanager
def balanced(cluster):
    """Yields the balancer's port."""
    port = free_port()
    file = cluster.folder / "haproxy.cfg"
    file.write_text(configuration(cluster, port))
    log = cluster.folder / "haproxy.log"
    with log.open("w") as output:
        process = subprocess.Popen(["haproxy", "-db", "-f", file], stdout=output, stderr=output)
    try:
        connection = Connection(port)

        def ready():
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(*FAILURES):
                return connection.send("GET", "/v1/models").status == 200

        wait_for(ready)
        yield port
    finally:
        process.kill()
        process.wait()


class Client:
    """Never repeats a request by itself."""

    def __init__(self, port, number, walks):
        self.connection, self.walks, self.number = Connection(port), walks, number
        self.turn = itertools.count()
        self.counts, self.failed = collections.Counter(), []

    def send(self):
        turn = next(self.turn)
        walker = turn % USERS
        if turn % 4 == 0:
            user = f"new-{self.number}-{turn}"
            path, body, expected = f"/v1/users/{user}/enrollments?create_user=true", self.walks.get(walker, 1), 201
        else:
            path, body, expected = "/v1/identify", self.walks.get(walker, 2), 200
        headers = {"idempotency-key": f"{self.number}-{turn}"} if expected == 201 else {}
        try:
            answer = self.connection.send("POST", path, body, headers)
            self.counts[answer.status] += 1
            if answer.status != expected:
                self.failed.append(f"{path}: {answer}")
        except FAILURES as error:
            self.counts["no answer"] += 1
            self.failed.append(f"{path}: {error!r}")


@on_postgres
def rolling(program, report):
    """Every replica is stopped and started again, twice, behind HAProxy. No request fails."""
    if not shutil.which("haproxy"):
        raise Skipped("HAProxy is not installed")
    walks = Walks(program)
    with Cluster(program) as cluster, balanced(cluster) as port:
        first = Connection(port)
        for walker in range(USERS):
            path = f"/v1/users/user-{walker}/enrollments?create_user=true"
            assert first.send("POST", path, walks.get(walker, 1)).status == 201
        clients = [Client(port, number, walks) for number in range(CLIENTS)]
        with Threads() as threads:
            for client in clients:
                threads.repeat(client.send)
            for replica in cluster.replicas * 2:
                replica.stop(signal.SIGTERM)
                replica.start()
                replica.wait_until_ready()
                # The balancer takes it back before the next one goes.
                time.sleep(1.0)
        counts = sum((client.counts for client in clients), collections.Counter())
        failed = [problem for client in clients for problem in client.failed]
        report("replicas exchanged", 2 * len(cluster.replicas))
        report("answers", dict(counts))
        assert not failed, failed[:5]
