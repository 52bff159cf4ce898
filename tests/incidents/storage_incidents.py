"""The database cannot be written to, or its files grow."""

import sqlite3

from incident import incident


def connect(world, file=""):
    # Its transactions are our own.
    return sqlite3.connect(f"{world.server.database}{file}", isolation_level=None)


def lock(world, file):
    locking = connect(world, file)
    locking.execute("BEGIN EXCLUSIVE")
    yield
    locking.execute("COMMIT")


@incident(alert="BipedalnetDatabaseLocked", within_minutes=10)
def locked(world):
    """Another process locks the database, and nobody sends a request."""
    yield from lock(world, "")


@incident(alert="BipedalnetDatabaseLocked", within_minutes=10)
def locked_keyring(world):
    """Another process locks the keyring, and users are created."""
    numbers = iter(range(1000))
    world.every(1, lambda: world.server.send("PUT", f"/v1/users/user-{next(numbers)}"))
    yield from lock(world, "-keyring")


@incident(alert="BipedalnetLogGrows", within_minutes=40)
def log_grows(world):
    """A reader keeps the write-ahead log, which grows."""
    reader, writer = connect(world), connect(world)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM users").fetchone()
    writer.execute("CREATE TABLE filler (bytes BLOB)")
    writer.execute("INSERT INTO filler VALUES (zeroblob(80000000))")
    yield
    reader.execute("COMMIT")
