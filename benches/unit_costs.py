"""Measures what docs/scale.md computes with: bytes a user, processor time of each request, and of following changes.

Usage: python3 benches/unit_costs.py PROGRAM [--sqlite] [USERS...]

For each number of USERS, replicas on PostgreSQL, or a server with SQLite, get as many users with a walk of 10 s each. A
commit waits for the disk. Needs postgresql.
"""

import pathlib
import signal
import sys
import time

sys.path.insert(0, "tests/cluster")
sys.path.insert(0, "benches")

from clients import Walks
from cluster import SETTINGS, processor_seconds, send_all
from world import Cluster, wait_for

# Those who verify and identify. All users walk differently, so that no search meets many who are equal.
WALKERS = 128
REQUESTS = 1000


def enrollments(walks, first, last):
    for user in range(first, last):
        path = f"/v1/users/user-{user}/enrollments?create_user=true"
        yield "POST", path, walks.get(user, 1), 201


def identifications(walks):
    for number in range(REQUESTS):
        yield "POST", "/v1/identify", walks.get(number % WALKERS, 2), 200


def verifications(walks):
    for number in range(REQUESTS):
        user, walk = number % WALKERS, 3 + number // WALKERS
        yield "POST", f"/v1/users/user-{user}/verify", walks.get(user, walk), 200


def resident_bytes(replica):
    fields = pathlib.Path(f"/proc/{replica.process.pid}/statm").read_text().split()
    return int(fields[1]) * 4096


class Meter:
    """Processor time of each replica and of PostgreSQL in a block, by request."""

    def __init__(self, cluster, requests):
        self.cluster, self.requests = cluster, requests

    def now(self):
        replicas = [replica.processor_seconds() for replica in self.cluster.replicas]
        postgres = self.cluster.postgres
        return [*replicas, processor_seconds(postgres.process) if postgres else 0.0, time.monotonic()]

    def __enter__(self):
        self.before = self.now()
        return self

    def __exit__(self, *_):
        spent = [after - before for before, after in zip(self.before, self.now())]
        *replicas, postgres, self.seconds = spent
        self.first, *self.others = (1e6 * one / self.requests for one in replicas)
        self.postgres = 1e6 * postgres / self.requests


def gallery(cluster, users):
    for replica in cluster.replicas:
        wait_for(lambda: replica.metric("bipedalnet_gallery_users") == users)


def sizes(cluster):
    """Bytes in the memory of a replica, and of the database."""
    if cluster.sqlite:
        stored = sum(file.stat().st_size for file in cluster.folder.glob("cluster.db*"))
    else:
        stored = int(cluster.postgres.sql("SELECT pg_database_size('app')"))
    return resident_bytes(cluster.replicas[-1]), stored


def costs(program, walks, replicas, users):
    """Rows of the table, for one number of replicas and users. All requests go to the first replica.

    No replicas: a server with SQLite.
    """
    flags, sqlite = ("--max-users", "10000000"), replicas == 0
    with Cluster(
        program, replicas=replicas, sqlite=sqlite, settings=SETTINGS.items(), flags=flags, direct=True
    ) as cluster:
        # Before the clock runs.
        for user in range(users):
            walks.get(user, 1)
        empty = sizes(cluster)
        with Meter(cluster, users) as meter:
            send_all(cluster, enrollments(walks, 0, users), only=0)
            gallery(cluster, users)
        print(f"| {users} | {replicas} | enroll | {row(meter)} | {users / meter.seconds:.0f} |", flush=True)
        with Meter(cluster, REQUESTS) as meter:
            send_all(cluster, verifications(walks), only=0)
        print(f"| {users} | {replicas} | verify | {row(meter)} | {REQUESTS / meter.seconds:.0f} |", flush=True)
        with Meter(cluster, REQUESTS) as meter:
            send_all(cluster, identifications(walks), only=0)
        print(f"| {users} | {replicas} | identify | {row(meter)} | {REQUESTS / meter.seconds:.0f} |", flush=True)
        # What enrolling took beside the gallery does not count.
        last = cluster.replicas[-1]
        last.stop(signal.SIGTERM)
        last.start()
        last.wait_until_ready()
        memory, disk = ((after - before) / users for before, after in zip(empty, sizes(cluster)))
        return f"- {users} users, {replicas} replicas: {memory:.0f} B a user in memory, {disk:.0f} B in the database"


def row(meter):
    others = sum(meter.others) / len(meter.others) if meter.others else float("nan")
    return f"{meter.first:.0f} | {others:.1f} | {meter.postgres:.0f}"


def main():
    program, *numbers = sys.argv[1:]
    counts = (1, 3)
    if "--sqlite" in numbers:
        numbers.remove("--sqlite")
        counts = (0,)
    walks = Walks(program)
    print("| users | replicas | request | µs on its replica | µs on each other replica | µs of PostgreSQL | a second |")
    print("|--:|--:|---|--:|--:|--:|--:|")
    lines = [
        costs(program, walks, replicas, int(users)) for users in numbers or ["1000"] for replicas in counts
    ]
    print("", *lines, sep="\n")


if __name__ == "__main__":
    main()
