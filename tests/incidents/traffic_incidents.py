"""What clients send, or get, is wrong."""

import itertools
import socket
import sqlite3

from incident import incident

WALKERS = (1, 2, 3)


def enroll(world):
    for walker in WALKERS:
        world.enroll(f"user-{walker}", walker)


@incident(
    alert="BipedalnetErrors", within_minutes=15, disk_mib=48,
    also=("BipedalnetDiskFull", "BipedalnetReadOnly"),
)
def every_change_fails(world):
    """Every request fails, but there is one a minute."""
    users = itertools.count()
    world.server.fill_disk(leave_bytes=0)
    world.every(1, lambda: world.server.send("PUT", f"/v1/users/{next(users)}"))
    yield
    world.server.free_disk()


@incident(alert="BipedalnetRecordingsRefused", within_minutes=15)
def wrong_unit(world):
    """A new version of an app sends milli-g."""
    walk = dict(world.walk(1))
    walk["acceleration"] = [[value * 1000 / 9.80665 for value in sample] for sample in walk["acceleration"]]
    world.every(0.25, lambda: world.server.send("POST", "/v1/identify", walk))


@incident(alert="BipedalnetRecordingsRefused", within_minutes=70)
def wrong_unit_at_night(world):
    """The same, with one walk in four minutes."""
    walk = dict(world.walk(1))
    walk["acceleration"] = [[value / 9.80665 for value in sample] for sample in walk["acceleration"]]
    world.every(4, lambda: world.server.send("POST", "/v1/identify", walk))


@incident(alert="BipedalnetGuessing", within_minutes=12, prepare=enroll)
def guesses(world):
    """Somebody tries walks in the name of a user, on a server without API keys."""
    walks = iter([world.walk(walker) for walker in range(20, 80)])
    guess = lambda: world.server.send("POST", "/v1/users/user-1/verify", next(walks))
    world.every(0.2, guess)


def known_walkers(world):
    enroll(world)
    world.now = itertools.cycle([world.walk(walker, 3) for walker in WALKERS])
    world.every(0.1, lambda: world.server.send("POST", "/v1/identify", next(world.now)))


@incident(alert="BipedalnetUnknownShare", within_minutes=35, prepare=known_walkers, calm_minutes=60)
def unknown_walkers(world):
    """Nine of ten walkers are unknown, after an hour in which all were known."""
    strangers = [world.walk(walker) for walker in range(20, 29)]
    world.now = itertools.cycle([world.walk(1, 3), *strangers])


@incident(
    alert="BipedalnetTrainingStuck", within_minutes=45, also=("BipedalnetDatabaseLocked",),
    prepare=enroll, flags=("--keep-recordings-days", "1"),
)
def training_stuck(world):
    """A training job waits for a lock that another program never gives back."""
    status, document = world.server.send("POST", "/v1/training-jobs", {"activate": False})
    assert status == 202, document
    world.locked = sqlite3.connect(world.server.database, isolation_level=None, timeout=30)
    world.locked.execute("BEGIN IMMEDIATE")
    yield
    world.locked.close()


@incident(alert="BipedalnetConnectionsRefused", within_minutes=15, flags=("--max-connections", "8"))
def connections_are_taken(world):
    """Somebody opens connections and sends nothing."""
    address, port = world.server.address.split(":")
    held = []
    world.every(0.05, lambda: held.append(socket.create_connection((address, int(port)))))
