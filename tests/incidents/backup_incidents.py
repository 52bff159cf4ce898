"""Backups stop, or fail."""

import sqlite3
import subprocess

from incident import incident

# The rules' 26 hours are not scaled, as they are seconds.
LONG_AGO_SECONDS = 27 * 3600


def age(world, statement):
    database = sqlite3.connect(world.server.database)
    with database:
        database.execute(statement, (LONG_AGO_SECONDS,))
    database.close()


def enroll(world):
    """An old database with a user."""
    world.server.send("PUT", "/v1/users/ann")
    age(world, "UPDATE _sqlx_migrations SET installed_on = datetime(unixepoch() - ?, 'unixepoch')")
    back_up(world, world.server.folder / "first.db")


def back_up(world, copy):
    command = [world.server.program, "backup", "--database", world.server.database, copy]
    return subprocess.run(command, capture_output=True).returncode == 0


@incident(alert="BipedalnetBackupOld", within_minutes=10, prepare=enroll)
def backup_old(world):
    """The last backup is older than a day."""
    age(world, "UPDATE backup_times SET succeeded_at_unix_seconds = unixepoch() - ?")
    yield
    assert back_up(world, world.server.folder / "second.db")


@incident(alert="BipedalnetBackupFailing", within_minutes=5, prepare=enroll)
def backup_fails(world):
    """A backup fails, as its disk is not mounted."""
    assert not back_up(world, world.server.folder / "not-mounted" / "second.db")
    yield
    world.pass_minutes(2)
    assert back_up(world, world.server.folder / "second.db")
