"""Runs incidents and prints a row for each. Usage: python3 tests/incidents PROGRAM [NAME...]"""

import concurrent.futures
import importlib
import pathlib
import sys
import time
import traceback

from incident import ALL, MINUTE_SECONDS
from world import World, can_have_a_disk

# Most of the time they wait.
AT_ONCE = 4

# How long after the cure an alert may go on, in minutes.
RESOLVES_WITHIN = 40


def wait_until(condition, minutes, what, world):
    start = time.monotonic()
    while not condition():
        world.check_running()
        late = time.monotonic() - start > minutes * MINUTE_SECONDS
        firing = late and sorted(world.prometheus.firing())
        assert not late, f"not within {minutes} minutes: {what}; these fire: {firing}"
        time.sleep(0.1)
    return (time.monotonic() - start) / MINUTE_SECONDS


def firing(incident, world):
    """Alerts that fire, without what this machine is to blame for."""
    # To the scaled rules, its disk fills up sixty times as fast as it does.
    return world.prometheus.firing() - (set() if incident.disk_mib else {"BipedalnetDiskFull"})


def run(incident, program):
    """Returns the alert's delay in minutes."""
    with World(program, incident.flags, incident.disk_mib) as world:
        if incident.prepare:
            incident.prepare(world)
        world.watch()
        wait_until(world.prometheus.has_scraped, 60, "a scrape", world)
        world.pass_minutes(incident.calm_minutes)
        before = firing(incident, world)
        assert not before, f"fires before the incident: {sorted(before)}"

        steps = incident.cause(world)
        cures = hasattr(steps, "__next__")
        if cures:
            next(steps)
        fires = lambda: incident.alert in world.prometheus.firing()
        delay = wait_until(fires, incident.within_minutes, incident.alert, world)
        others = firing(incident, world) - {incident.alert, *incident.also}
        assert not others, f"beside {incident.alert}, these fire: {sorted(others)}"
        if cures:
            next(steps, None)
            wait_until(lambda: not fires(), RESOLVES_WITHIN, f"{incident.alert} resolves", world)
        return delay


def main():
    program, *names = sys.argv[1:]
    folder = pathlib.Path(__file__).parent
    for file in sorted(folder.glob("*_incidents.py")):
        importlib.import_module(file.stem)
    chosen = [incident for incident in ALL if not names or incident.name in names]
    assert chosen, f"no such incident: {names}"
    print("| incident | alert | after minutes |", "|---|---|--:|", sep="\n", flush=True)
    if not can_have_a_disk():
        for incident in [incident for incident in chosen if incident.disk_mib]:
            chosen.remove(incident)
            print(f"| {incident.title} | {incident.alert} | skipped: needs a user namespace |")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        runs = {threads.submit(run, incident, program): incident for incident in chosen}
        for done in concurrent.futures.as_completed(runs):
            incident = runs[done]
            try:
                result = f"{done.result():.1f}"
            except AssertionError as error:
                result, failed = f"**failed**: {error}", failed + 1
            except Exception:
                traceback.print_exc()
                result, failed = "**failed**", failed + 1
            print(f"| {incident.title} | {incident.alert} | {result} |", flush=True)
    sys.exit(failed > 0)


main()
