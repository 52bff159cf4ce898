"""PostgreSQL, or the network to it, fails. Identification goes on, writes say so, and everything comes back."""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import uuid

from clients import FAILURES, Walks, percentile
from scenario import Skipped, on_postgres
from world import Cluster, Threads, wait_for

USERS = 8

# Of users who are enrolled meanwhile, so that they are not found in the place of others.
NEW_WALKER = 100

# How long a write may take to be refused. The server's own limits are shorter.
REFUSED_WITHIN_SECONDS = 30

BACK_WITHIN_SECONDS = 60


class Outage:
    """Identifies on all replicas all the time, and writes when asked to."""

    def __init__(self, program, cluster):
        self.cluster, self.walks = cluster, Walks(program)
        self.connections = [replica.connect(timeout=REFUSED_WITHIN_SECONDS) for replica in cluster.replicas]
        self.all = range(len(self.connections))
        self.numbers = itertools.count()
        # Keys of writes without a final answer, each with its user.
        self.open = []
        self.acknowledged = set()
        self.seconds, self.failed = [], []

    def enroll(self, at, user, key):
        path = f"/v1/users/{user}/enrollments?create_user=true"
        return self.connections[at].send("POST", path, self.walks.get(NEW_WALKER, 1), {"idempotency-key": key})

    def write(self, at):
        """Sends a new write to a replica. Returns the answer, or None, and notes what must become of it."""
        user, key = f"written-{next(self.numbers)}", str(uuid.uuid4())
        try:
            answer = self.enroll(at, user, key)
        except FAILURES:
            answer = None
        if answer and answer.status == 201:
            self.acknowledged.add(user)
        else:
            self.open.append((user, key))
        return answer

    def refused(self, at):
        """A write must be refused in a way that tells the client to come back."""
        answer = self.write(at)
        assert answer, f"replica {at} did not answer a write within {REFUSED_WITHIN_SECONDS} s"
        assert answer.status in (503, 507) and answer.headers.get("retry-after"), f"replica {at}: {answer}"
        return answer

    def back(self):
        """Waits until every replica writes again. Returns the seconds."""
        start = time.monotonic()
        for at in self.all:
            wait_for(lambda: (answer := self.write(at)) and answer.status == 201, BACK_WITHIN_SECONDS)
        return time.monotonic() - start

    def check(self):
        """Repeats what was left open on another replica. Then every replica must have each user once."""
        for number, (user, key) in enumerate(self.open):
            answer = None

            def final():
                nonlocal answer
                answer = self.enroll(number % len(self.connections), user, key)
                return answer.status == 201

            try:
                wait_for(final, BACK_WITHIN_SECONDS)
            except AssertionError:
                raise AssertionError(f"the retry of {user}: {answer}") from None
            self.acknowledged.add(user)
        for connection, replica in zip(self.connections, self.cluster.replicas):
            for user in self.acknowledged:
                found = connection.send("GET", f"/v1/users/{user}")
                assert found.status == 200, f"replica {replica.number} lost {user}: {found}"
                assert found.document["enrollments"] == 1, f"{user} counts wrongly: {found}"

    def identify(self, connection):
        walker = next(self.numbers) % USERS
        start = time.monotonic()
        try:
            answer = connection.send("POST", "/v1/identify", self.walks.get(walker, 2))
        except FAILURES as error:
            self.failed.append(str(error))
            return
        self.seconds.append(time.monotonic() - start)
        if answer.status != 200 or answer.document["candidates"][0]["user"] != f"user-{walker}":
            self.failed.append(str(answer))
        time.sleep(0.02)


@contextlib.contextmanager
def outage(program, report, **options):
    """A cluster with users, of which all replicas identify walkers until the end of the block."""
    with Cluster(program, **options) as cluster:
        world = Outage(program, cluster)
        for walker in range(USERS):
            connection = world.connections[walker % len(world.connections)]
            path = f"/v1/users/user-{walker}/enrollments?create_user=true"
            answer = connection.send("POST", path, world.walks.get(walker, 1))
            assert answer.status == 201, answer
        for replica in cluster.replicas:
            wait_for(lambda: replica.metric("bipedalnet_gallery_users") == USERS)
        with Threads() as threads:
            for replica in cluster.replicas:
                threads.repeat(world.identify, replica.connect())
            yield world
        report("identifications meanwhile", len(world.seconds))
        middle, late = (percentile(world.seconds, share) for share in (0.5, 0.99))
        report("seconds of one, p50 and p99", f"{middle:.3f}, {late:.3f}")
        assert not world.failed, (len(world.failed), world.failed[:3])
        assert world.seconds
        world.check()


def refuse_on_all(world, report):
    for at, replica in enumerate(world.cluster.replicas):
        start = time.monotonic()
        answer = world.refused(at)
        took = time.monotonic() - start
        shown = " / ".join(replica.ready()[1].split("\n"))
        report(f"replica {at}", f"{answer.status} {answer.document['type']} after {took:.1f} s; /readyz: {shown}")
        assert replica.ready()[0] == 200, "identification works, so a balancer must not take it away"


@on_postgres
def restart(program, report):
    """PostgreSQL is stopped and started, in order and like a crash."""
    for how in (signal.SIGINT, signal.SIGQUIT):
        with outage(program, report) as world:
            world.cluster.postgres.stop(how)
            refuse_on_all(world, report)
            for replica in world.cluster.replicas:
                wait_for(lambda: "behind" in replica.ready()[1])
            age = [f"{replica.metric('bipedalnet_gallery_age_seconds'):.1f}" for replica in world.cluster.replicas]
            report("age of the galleries in seconds", ", ".join(age))
            world.cluster.postgres.start()
            report("writes again after seconds", f"{world.back():.1f}")


@on_postgres
def failover(program, report):
    """A standby is promoted, and the addresses lead there. Nothing that was acknowledged is lost."""
    settings = {"synchronous_commit": "on"}.items()
    # The standby is there until all users were looked for.
    with contextlib.ExitStack() as stack, outage(program, report, settings=settings) as world:
        primary = world.cluster.postgres
        standby = primary.standby()
        stack.callback(standby.delete)
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
        state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for(lambda: primary.sql(state) == "1")
        for at in [*world.all, *world.all]:
            assert world.write(at).status == 201
        primary.stop(signal.SIGQUIT)
        refuse_on_all(world, report)
        standby.promote()
        for link in world.cluster.links:
            link.targets = [("127.0.0.1", standby.port)]
            link.cut_all()
        report("writes again after seconds", f"{world.back():.1f}")


@on_postgres
def exhausted(program, report):
    """PostgreSQL has no connections left."""
    with outage(program, report) as world:
        postgres = world.cluster.postgres
        postgres.sql("ALTER ROLE app CONNECTION LIMIT 0")
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        refuse_on_all(world, report)
        postgres.sql("ALTER ROLE app CONNECTION LIMIT -1")
        report("writes again after seconds", f"{world.back():.1f}")


@on_postgres
def full(program, report):
    """The disk of PostgreSQL is full."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o755)
        mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            raise Skipped("only root can make a small disk")
        try:
            fill(program, report, folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(program, report, folder):
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB"}.items()
    with outage(program, report, folder=folder, settings=settings) as world:
        postgres = world.cluster.postgres
        space = os.statvfs(folder)
        other = pathlib.Path(folder) / "other"
        other.write_bytes(bytes(space.f_bavail * space.f_frsize))
        # The next part of the log does not fit.
        with contextlib.suppress(AssertionError):
            for _ in range(8):
                postgres.sql("SELECT pg_switch_wal(); CREATE TABLE filler AS SELECT 1", database="app")
                postgres.sql("DROP TABLE filler", database="app")
        refuse_on_all(world, report)
        other.unlink()
        if postgres.process.poll() is not None:
            postgres.start()
        report("writes again after seconds", f"{world.back():.1f}")


@on_postgres
def slow(program, report):
    """Every packet between one replica and PostgreSQL takes 200 ms more."""
    with outage(program, report) as world:
        world.cluster.links[0].delay_seconds = 0.2
        # The first write may need a new connection.
        for at in [*world.all, 0]:
            start = time.monotonic()
            answer = world.write(at)
            report(f"write on replica {at}", f"{answer and answer.status} after {time.monotonic() - start:.1f} s")
            assert answer and (answer.status == 201 or answer.headers.get("retry-after")), answer
        world.cluster.links[0].delay_seconds = 0.0
        report("writes again after seconds", f"{world.back():.1f}")


@on_postgres
def one_way(program, report):
    """The network between one replica and PostgreSQL is cut in one direction, then in the other."""
    with outage(program, report) as world:
        link, replica = world.cluster.links[0], world.cluster.replicas[0]
        for direction in ("carries_requests", "carries_answers"):
            setattr(link, direction, False)
            start = time.monotonic()
            answer = world.refused(0)
            report(f"write without {direction}", f"{answer.status} after {time.monotonic() - start:.1f} s")
            for at in world.all[1:]:
                assert world.write(at).status == 201
            wait_for(lambda: "behind" in replica.ready()[1], BACK_WITHIN_SECONDS)
            report("/readyz", " / ".join(replica.ready()[1].split("\n")))
            setattr(link, direction, True)
            report("writes again after seconds", f"{world.back():.1f}")
            wait_for(lambda: "behind" not in replica.ready()[1], BACK_WITHIN_SECONDS)


@on_postgres
def clocks(program, report):
    """The clocks of the replicas are five minutes apart."""
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "clock.so"
        compiler = ["cc", "-shared", "-fPIC", "tests/leaping_clock.c", "-o", library]
        subprocess.run(compiler, check=True)

        def variables(number):
            seconds = pathlib.Path(folder) / str(number)
            seconds.write_text(str((-300, 0, 300)[number]))
            return {"LD_PRELOAD": str(library), "LEAPING_CLOCK": str(seconds)}

        with outage(program, report, variables=variables) as world:
            early, late = world.connections[0], world.connections[2]
            for first, second in ((early, late), (late, early)):
                kept_answers(world, first, second)
                challenges(world, first, second)
            created = []
            for at in world.all:
                answer = world.write(at)
                created.append(answer.document["created_at_unix_seconds"])
            report("times of users who were created one after the other", [time - min(created) for time in created])
            assert max(created) - min(created) <= 10, created


def kept_answers(world, first, second):
    user, key = f"written-{next(world.numbers)}", str(uuid.uuid4())
    path = f"/v1/users/{user}/enrollments?create_user=true"
    answers = [
        connection.send("POST", path, world.walks.get(NEW_WALKER, 1), {"idempotency-key": key})
        for connection in (first, second)
    ]
    assert [answer.status for answer in answers] == [201, 201], answers
    assert answers[0].body == answers[1].body, answers
    world.acknowledged.add(user)


def challenges(world, first, second):
    """A challenge is valid once, on any replica."""
    walk = itertools.count(20 + next(world.numbers))
    made = first.send("POST", "/v1/users/user-3/challenges")
    assert made.status in (200, 201), made
    path = f"/v1/users/user-3/verify?challenge={made.document['challenge']}"
    used = second.send("POST", path, world.walks.get(3, next(walk)))
    assert used.status == 200, used
    again = first.send("POST", path, world.walks.get(3, next(walk)))
    assert 400 <= again.status < 500, again
