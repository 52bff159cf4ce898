"""What an incident is.

    @incident(alert="BipedalnetDown", within_minutes=3)
    def killed(world):
        \"\"\"The server is killed.\"\"\"
        world.server.process.kill()      # the cause; the alert must fire after it
        yield
        world.server.start()             # the cure, if there is one; the alert must resolve after it

Put it in a file NAME_incidents.py. No other alert may fire, except those in `also`.
"""

import dataclasses
import typing

# One minute of the rules, in seconds of the test.
MINUTE_SECONDS = 1.0

ALL = []


@dataclasses.dataclass
class Incident:
    cause: typing.Callable
    alert: str
    within_minutes: float
    # Alerts that may fire beside it.
    also: tuple
    # Of `serve`.
    flags: tuple
    # Runs before Prometheus, to enroll users for example.
    prepare: typing.Callable
    # How long the server must run without an alert before.
    calm_minutes: float
    # Size of a disk of its own for the database.
    disk_mib: typing.Optional[int]

    @property
    def name(self):
        return self.cause.__name__

    @property
    def title(self):
        return self.cause.__doc__.strip().splitlines()[0].rstrip(".")


def incident(
    alert, within_minutes, also=(), flags=(), prepare=None, calm_minutes=2, disk_mib=None
):
    def register(cause):
        incident = Incident(
            cause, alert, within_minutes, also, flags, prepare, calm_minutes, disk_mib
        )
        ALL.append(incident)
        return cause

    return register
