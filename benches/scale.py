"""Replays a day of a million phones against measured costs: when is the busiest hour too much, and what do outages do?

Usage: python3 benches/scale.py [--phones N] [--replicas N] [--cores N] [--seed N]

A phone sends what it has at the hours at which people walk. A request passes the network, a replica's processors and,
if it changes something, PostgreSQL. What fails is sent again, after a pause that doubles. During the day replicas die,
and at the busiest time PostgreSQL is away. Everything random follows from the seed.

The costs are those of docs/scale.md, in seconds of one processor.
"""

import argparse
import dataclasses
import heapq
import math
import random

DAY = 24 * 60 * 60

# The share of a day's requests in each hour: two commutes.
HOURS = [1, 1, 1, 1, 2, 5, 12, 20, 18, 8, 6, 6, 8, 7, 6, 7, 12, 19, 17, 10, 7, 5, 3, 2]

# What each phone sends a day, by kind.
A_DAY = {"verify": 2.0, "identify": 0.2, "enroll": 0.02}


@dataclasses.dataclass
class Costs:
    """Seconds of a processor, as benches/unit_costs.py measured them for 1,000 users without optimisation."""

    # On a replica, by kind; and in PostgreSQL.
    replica: dict = dataclasses.field(
        default_factory=lambda: {"verify": 3.1e-3, "identify": 2.4e-3, "enroll": 3.2e-3}
    )
    postgres: dict = dataclasses.field(
        default_factory=lambda: {"verify": 1.3e-3, "identify": 0.0, "enroll": 1.9e-3}
    )
    # An identification, for each user of its collection more.
    identify_by_user: float = 4.6e-8
    # What one enrollment costs each replica that follows, and PostgreSQL for that replica.
    follow_replica: float = 1.0e-3
    follow_postgres: float = 0.25e-3


@dataclasses.dataclass
class Phone:
    """How a phone repeats a request."""

    # The share of requests that never arrive, and of answers that never do.
    lost: float = 0.01
    timeout_seconds: float = 10.0
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    tries: int = 12


class Processors:
    """Takes requests in their order."""

    def __init__(self, count):
        self.free_at = [0.0] * count
        self.busy_seconds = 0.0

    def waits(self, now):
        return max(0.0, self.free_at[0] - now)

    def take(self, now, seconds):
        """Returns when it is done."""
        done = max(self.free_at[0], now) + seconds
        heapq.heapreplace(self.free_at, done)
        self.busy_seconds += seconds
        return done


class Outages:
    """When replicas and PostgreSQL are away."""

    def __init__(self, replicas):
        # Each hour another replica is killed, and is back after 5 s. One machine is gone for ten minutes at 17:20.
        self.replicas = [[] for _ in range(replicas)]
        for hour in range(24):
            self.replicas[hour % replicas].append((hour * 3600 + 1800, hour * 3600 + 1805))
        self.replicas[-1].append((17 * 3600 + 1200, 17 * 3600 + 1800))
        # A standby is promoted after 30 s, at the busiest time.
        self.postgres = [(7 * 3600 + 1800, 7 * 3600 + 1830)]

    def replica_away(self, number, now):
        return any(start <= now < end for start, end in self.replicas[number])

    def dies(self, number, start, end):
        return any(start < death <= end for death, _ in self.replicas[number])

    def postgres_away(self, now):
        return any(start <= now < end for start, end in self.postgres)


class Hour:
    def __init__(self):
        self.requests = self.refused = self.lost = self.given_up = self.changes = 0
        # From the first try to the answer, for a sample of requests.
        self.seconds = []
        # Time on replicas and in PostgreSQL, without following changes.
        self.replica_seconds = self.postgres_seconds = 0.0


class Day:
    def __init__(self, phones, replicas, cores, postgres_cores, users_searched, costs, seed):
        self.costs, self.phone = costs, Phone()
        self.random = random.Random(seed)
        self.phones, self.cores, self.postgres_cores = phones, cores, postgres_cores
        self.replicas = [Processors(cores) for _ in range(replicas)]
        self.postgres = Processors(postgres_cores)
        self.outages = Outages(replicas)
        self.hours = [Hour() for _ in range(24)]
        self.users_searched = users_searched

    def arrivals(self):
        """Times and kinds of new requests, in order."""
        kinds, weights = zip(*A_DAY.items())
        total = self.phones * sum(weights)
        for second in range(DAY):
            # Straight lines between the middles of hours, so that no hour begins with a jump.
            at = second / 3600 - 0.5
            low, share = math.floor(at), at - math.floor(at)
            weight = HOURS[low % 24] * (1 - share) + HOURS[(low + 1) % 24] * share
            mean = total * weight / sum(HOURS) / 3600
            count = max(0, round(self.random.gauss(mean, math.sqrt(mean))))
            for time in sorted(self.random.random() for _ in range(count)):
                yield second + time, self.random.choices(kinds, weights)[0]

    def run(self):
        again, number = [], 0
        new = self.arrivals()
        coming = next(new, None)
        while coming or again:
            if again and (not coming or again[0][0] <= coming[0]):
                now, _, first, kind, tried = heapq.heappop(again)
            else:
                (now, kind), first, tried = coming, coming[0], 0
                coming = next(new, None)
            hour = self.hours[int(now // 3600) % 24]
            hour.requests += 1
            answered, retry_at = self.send(now, kind, hour)
            if retry_at is None:
                if self.random.random() < 0.01:
                    hour.seconds.append(answered - first)
            elif tried + 1 == self.phone.tries:
                hour.given_up += 1
            else:
                pause = min(self.phone.first_pause_seconds * 2**tried, self.phone.longest_pause_seconds)
                number += 1
                at = retry_at + pause * self.random.uniform(0.5, 1.5)
                heapq.heappush(again, (at, number, first, kind, tried + 1))

    def send(self, now, kind, hour):
        """Returns when the answer came, and when the phone noticed that none comes: one is None."""
        phone = self.phone
        lost = self.random.random()
        if lost < phone.lost / 2:
            hour.lost += 1
            return None, now + phone.timeout_seconds
        alive = [at for at in range(len(self.replicas)) if not self.outages.replica_away(at, now)]
        if not alive:
            hour.refused += 1
            return None, now
        at = min(alive, key=lambda at: self.replicas[at].waits(now))
        replica = self.replicas[at]
        # A server refuses what it could not answer in time.
        if replica.waits(now) > phone.timeout_seconds:
            hour.refused += 1
            return None, now
        seconds = self.costs.replica[kind]
        if kind == "identify":
            seconds += self.users_searched * self.costs.identify_by_user
        hour.replica_seconds += seconds
        done = replica.take(now, seconds)
        if kind != "identify":
            if self.outages.postgres_away(done):
                hour.refused += 1
                return None, done
            if self.postgres.waits(done) > phone.timeout_seconds:
                hour.refused += 1
                return None, done
            # A verification changes no gallery.
            hour.changes += kind == "enroll"
            hour.postgres_seconds += self.costs.postgres[kind]
            done = self.postgres.take(done, self.costs.postgres[kind])
        if self.outages.dies(at, now, done):
            hour.lost += 1
            return None, done
        if lost < phone.lost:
            hour.lost += 1
            return None, now + phone.timeout_seconds
        return done, None

    def following(self, hour):
        """Seconds in an hour that replicas, and PostgreSQL for them, spend on the changes of others."""
        count = len(self.replicas) - 1
        return hour.changes * self.costs.follow_replica * count, hour.changes * self.costs.follow_postgres * count


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def show(day):
    print("| hour | requests a second | p50, ms | p99, s | sent again, % | refused | given up | replicas busy, % "
          "| PostgreSQL busy, % | enrollments a second |")
    print("|" + "--:|" * 10)
    for number, hour in enumerate(day.hours):
        follow_replica, follow_postgres = day.following(hour)
        replicas = (hour.replica_seconds + follow_replica) / (3600 * day.cores * len(day.replicas))
        postgres = (hour.postgres_seconds + follow_postgres) / (3600 * day.postgres_cores)
        print(
            f"| {number} | {hour.requests / 3600:.1f} | {percentile(hour.seconds, 0.5) * 1000:.1f} "
            f"| {percentile(hour.seconds, 0.99):.1f} | {100 * (hour.refused + hour.lost) / hour.requests:.1f} "
            f"| {hour.refused} | {hour.given_up} | {100 * replicas:.1f} | {100 * postgres:.1f} "
            f"| {hour.changes / 3600:.1f} |"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--phones", type=int, default=1_000_000)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2, help="of each replica")
    parser.add_argument("--postgres-cores", type=int, default=4)
    parser.add_argument("--users-searched", type=int, default=1000, help="by an identification: those of a collection")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    day = Day(**vars(arguments), costs=Costs())
    day.run()
    show(day)


main()
