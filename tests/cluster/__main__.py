"""Runs scenarios on a cluster, and prints what they measured.

Usage: python3 tests/cluster PROGRAM [--sqlite] [--size N] [SCENARIO...]
"""

import argparse
import importlib
import sys
import time
import traceback

from scenario import ALL, Skipped

# Each has scenarios.
for module in ("kills", "swaps", "outages", "rolling", "dumps", "versions", "pooler"):
    importlib.import_module(module)


def report(what, figure):
    print(f"- {what}: {figure}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--sqlite", action="store_true", help="one server with SQLite")
    parser.add_argument("--size", type=int, default=400, help="users to enroll, and requests to send")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(ALL))
    arguments = parser.parse_intermixed_args()
    failed = []
    for name in arguments.scenarios or ALL:
        run = ALL[name]
        print(f"{name}: {run.__doc__.splitlines()[0]}", flush=True)
        start = time.monotonic()
        try:
            run(arguments.program, arguments.sqlite, arguments.size, report)
            report("passed", f"{time.monotonic() - start:.0f} s")
        except Skipped as missing:
            report("skipped", missing)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


main()
