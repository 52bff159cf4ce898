"""Replicas are killed and connections are cut, while clients enroll users."""

import collections
import signal
import time

from clients import FAILURES, RetryingClient, Walks, percentile
from scenario import scenario
from world import Cluster, Threads

CLIENTS = 8
WALKERS = 64

# An identification among fewer enrolled users is refused.
AMONG = 5

KILL_EVERY_SECONDS = 5
VISIBLE_WITHIN_SECONDS = 1.0


class Enrolling:
    """One client. Enrolls its users one after the other, and looks for each on every replica."""

    def __init__(self, cluster, walks, number, users, seed, visible_within_seconds):
        self.cluster, self.walks = cluster, walks
        self.visible_within_seconds = visible_within_seconds
        self.users = [f"user-{number}-{user}" for user in range(users)]
        self.client = RetryingClient(cluster.connect(), seed)
        self.replicas = [replica.connect(timeout=5) for replica in cluster.replicas]
        # Seconds from the acknowledgement until a replica knew the user.
        self.delays = []
        self.after_token = collections.Counter()
        self.problems = []

    def run(self):
        for number, user in enumerate(self.users):
            walker = number % WALKERS
            path = f"/v1/users/{user}/enrollments?create_user=true"
            answer = self.client.send("POST", path, self.walks.get(walker, 1))
            acknowledged = time.monotonic()
            assert answer.status == 201, answer
            if number < AMONG - 1:
                continue
            self.read_after_write(number, answer.headers.get("bipedalnet-change"))
            for at in range(len(self.replicas)):
                self.look(at, number, acknowledged)

    def identify(self, at, number, headers=()):
        """Who the user's walk is found to be, by one replica."""
        among = ",".join(self.users[number - AMONG + 1 : number + 1])
        walk = self.walks.get(number % WALKERS, 2)
        answer = self.replicas[at].send("POST", f"/v1/identify?among={among}", walk, headers)
        return answer, answer.status == 200 and answer.document["candidates"][0]["user"] == self.users[number]

    def read_after_write(self, number, token):
        """An answer that is asked for after a change has the change, on any replica."""
        if not token:
            return
        at = number % len(self.replicas)
        try:
            answer, found = self.identify(at, number, {"bipedalnet-after": token})
        except FAILURES:
            # Killed.
            self.after_token["no answer"] += 1
            return
        self.after_token[answer.status] += 1
        is_later = answer.status == 409 and "retry-after" in answer.headers
        if not found and not is_later:
            self.problems.append(f"read after write on replica {at}: {answer}")

    def look(self, at, number, acknowledged):
        while True:
            sent = time.monotonic()
            try:
                answer, found = self.identify(at, number)
            except FAILURES:
                # Killed. Once it runs again, it has read everything.
                return
            if found:
                self.delays.append(time.monotonic() - acknowledged)
                return
            if sent > acknowledged + self.visible_within_seconds:
                self.problems.append(f"replica {at} does not know {self.users[number]} in time: {answer}")
                return
            if answer.status not in (200, 404, 422):
                self.problems.append(f"replica {at}: {answer}")
                return
            time.sleep(0.01)


def listed(replica):
    """The users that a replica has, each with the number of enrollments."""
    connection, users, after = replica.connect(), {}, ""
    while True:
        document = connection.send("GET", f"/v1/users?limit=100{after}").document
        users |= {user["user"]: user["enrollments"] for user in document["users"]}
        if not document.get("next"):
            return users
        after = f"&after={document['next']}"


@scenario
def kills(program, sqlite, size, report):
    """A replica is killed every 5 s, and connections are cut, while users are enrolled."""
    with Cluster(program, sqlite=sqlite, flags=("--max-users", "1000000")) as cluster:
        enroll_under_kills(cluster, program, size, report)


def enroll_under_kills(cluster, program, size, report, visible_within_seconds=VISIBLE_WITHIN_SECONDS):
    walks = Walks(program)
    with Threads() as threads:
        cluster.proxy.cut_share = 0.02
        clients = [
            Enrolling(cluster, walks, number, (size + number) // CLIENTS, number, visible_within_seconds)
            for number in range(CLIENTS)
        ]
        start = time.monotonic()
        for client in clients:
            threads.start(client.run)
        killed = kill_in_turn(cluster, threads)
        threads.join()
        seconds = time.monotonic() - start
        expected = {user: 1 for client in clients for user in client.users}
        for replica in cluster.replicas:
            replica.wait_until_ready()
            found = listed(replica)
            wrong = {user: found.get(user) for user in expected.keys() | found.keys()}
            wrong = {user: count for user, count in wrong.items() if count != expected.get(user)}
            assert not wrong, f"replica {replica.number} counts wrongly: {dict(list(wrong.items())[:5])}"
            gallery = replica.metric("bipedalnet_gallery_users")
            assert gallery == len(expected), f"replica {replica.number} has {gallery} users in its gallery"
        problems = [problem for client in clients for problem in client.problems]
        assert not problems, "\n".join(problems[:10])
        delays = [delay for client in clients for delay in client.delays]
        seen = sum((client.client.seen for client in clients), collections.Counter())
        after_token = sum((client.after_token for client in clients), collections.Counter())
        report("enrollments, each counted once", f"{len(expected)} in {seconds:.0f} s")
        report("replicas killed", killed)
        report("connections cut", dict(cluster.proxy.counts))
        report("answers to clients", dict(seen))
        report("reads after writes", dict(after_token))
        shown = [f"{share:.3g}: {percentile(delays, share):.3f}" for share in (0.5, 0.99, 1)]
        report("seconds until a replica knew a user, by share", ", ".join(shown))
        report("looked for on a replica", len(delays))


def kill_in_turn(cluster, threads):
    """Kills replicas until all clients are done. A lone server is left alone."""
    killed = 0
    while any(thread.is_alive() for thread in threads.threads):
        end = time.monotonic() + KILL_EVERY_SECONDS
        while time.monotonic() < end and any(thread.is_alive() for thread in threads.threads):
            time.sleep(0.05)
        if len(cluster.replicas) == 1 or time.monotonic() < end:
            continue
        replica = cluster.replicas[killed % len(cluster.replicas)]
        replica.stop(signal.SIGKILL)
        replica.start()
        replica.wait_until_ready()
        killed += 1
    return killed
