"""Measures requests by processor second: one server with SQLite, and one, two and three replicas on PostgreSQL.

Usage: python3 benches/cluster.py PROGRAM [ROUNDS]

Each round starts new servers, and sends the same requests to all: new users with a walk of 10 s, verifications, and
identifications. The processor time of the servers and of PostgreSQL counts, not that of the clients. Settings of
PostgreSQL are its own: a commit waits for the disk. Needs postgresql.
"""

import os
import pathlib
import statistics
import sys
import threading
import time

sys.path.insert(0, "tests/cluster")

from clients import Walks
from world import Cluster, Threads, wait_for

CLIENTS = 8
USERS = 128

# Walks to verify of each user. A walk is verified once, because the second time is a replay.
WALKS = 8
NEW_USERS = 1500
IDENTIFICATIONS = 3000

SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def processor_seconds(process):
    """Of a process and of its children, also of those that have ended."""
    seconds = 0.0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        own, waited = fields[11:13], fields[13:15]
        if int(folder.name) == process.pid:
            seconds += sum(map(int, own + waited))
        elif int(fields[1]) == process.pid:
            seconds += sum(map(int, own))
    return seconds / os.sysconf("SC_CLK_TCK")


def requests(walks):
    """Each kind with its requests: method, path, body and expected status."""
    yield "enroll", [
        ("POST", f"/v1/users/new-{user}/enrollments?create_user=true", walks.get(user % USERS, 1), 201)
        for user in range(NEW_USERS)
    ]
    yield "verify", [
        ("POST", f"/v1/users/user-{user}/verify", walks.get(user, 2 + walk), 200)
        for walk in range(WALKS)
        for user in range(USERS)
    ]
    yield "identify", [
        ("POST", "/v1/identify", walks.get(number % USERS, 2), 200) for number in range(IDENTIFICATIONS)
    ]


def send_all(cluster, listed, only=None):
    """Spreads requests over clients, and clients over replicas, unless `only` one shall get them."""
    waiting, lock = iter(listed), threading.Lock()

    def client(number):
        at = number % len(cluster.replicas) if only is None else only
        connection = cluster.replicas[at].connect(timeout=60)
        while True:
            with lock:
                request = next(waiting, None)
            if not request:
                return
            *request, expected = request
            answer = connection.send(*request)
            assert answer.status == expected, answer

    with Threads() as threads:
        for number in range(CLIENTS):
            threads.start(client, number)
        threads.join()


def measure(program, walks, replicas, sqlite):
    """Requests by second, by processor second of the servers, and by processor second of all."""
    with Cluster(program, replicas=replicas, sqlite=sqlite, settings=SETTINGS.items(), direct=True) as cluster:
        send_all(
            cluster,
            [
                ("POST", f"/v1/users/user-{user}/enrollments?create_user=true", walks.get(user, 1), 201)
                for user in range(USERS)
            ],
        )
        for replica in cluster.replicas:
            wait_for(lambda: replica.metric("bipedalnet_gallery_users") == USERS)
        found = {}
        for kind, listed in requests(walks):
            server, database = used(cluster)
            start = time.monotonic()
            send_all(cluster, listed)
            seconds = time.monotonic() - start
            server, database = (now - before for now, before in zip(used(cluster), (server, database)))
            found[kind] = [len(listed) / it for it in (seconds, server, server + database)]
        return found


def used(cluster):
    servers = sum(replica.processor_seconds() for replica in cluster.replicas)
    return servers, processor_seconds(cluster.postgres.process) if cluster.postgres else 0.0


def main():
    program, rounds = sys.argv[1], int((sys.argv[2:] or ["3"])[0])
    walks = Walks(program)
    kinds = {"SQLite": (1, True), **{f"PostgreSQL, {n} replicas": (n, False) for n in (1, 2, 3)}}
    figures = {name: [] for name in kinds}
    for _ in range(rounds):
        # By turns, because other programs use the machine, too.
        for name, (replicas, sqlite) in kinds.items():
            figures[name].append(measure(program, walks, replicas, sqlite))
    print("| request | servers | a second | by processor second of the servers | and with PostgreSQL |")
    print("|---|---|--:|--:|--:|")
    for kind in ("enroll", "verify", "identify"):
        for name, measured in figures.items():
            middle = [statistics.median(values) for values in zip(*(one[kind] for one in measured))]
            print(f"| {kind} | {name} |", " | ".join(f"{value:,.0f}" for value in middle), "|")


if __name__ == "__main__":
    main()
