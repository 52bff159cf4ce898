"""The database cannot be written to, its files grow, or its clock leaps."""

import re
import sqlite3
import subprocess

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


DAY_SECONDS = 24 * 60 * 60


def leaping_clock(world):
    """Starts the server again, with a clock that shows the seconds in a file more."""
    library, seconds, program = (world.folder / name for name in ("clock.so", "seconds", "program"))
    compiler = ["cc", "-shared", "-fPIC", "tests/leaping_clock.c", "-o", library]
    subprocess.run(compiler, check=True)
    program.write_text(
        f"""#!/bin/sh
LD_PRELOAD={library} LEAPING_CLOCK={seconds} exec {world.program} "$@"
"""
    )
    program.chmod(0o755)
    world.server.process.terminate()
    world.server.process.wait()
    world.server.program = program
    world.server.start()


@incident(
    alert="BipedalnetClockLeapt",
    within_minutes=5,
    prepare=leaping_clock,
    flags=("--keep-recordings-days", "30"),
)
def clock_leaps(world):
    """The clock jumps 400 days, and old recordings are to be deleted."""
    (world.folder / "seconds").write_text(str(400 * DAY_SECONDS))
    yield
    confirm = [world.server.program, "confirm-clock", "--database", world.server.database]
    asked = subprocess.run(confirm, capture_output=True, text=True).stderr
    date = re.search(r"--date ([0-9-]+)", asked)[1]
    subprocess.run([*confirm, "--date", date], check=True, capture_output=True)


@incident(
    alert="BipedalnetReadOnly", within_minutes=15, also=("BipedalnetDiskFull",), disk_mib=40
)
def disk_full(world):
    """The disk is full, and a user is created every minute."""
    world.server.fill_disk(leave_bytes=0)
    numbers = iter(range(1000))
    world.every(1, lambda: world.server.send("PUT", f"/v1/users/user-{next(numbers)}"))
    yield
    world.server.free_disk()
