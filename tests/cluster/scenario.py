"""What a scenario is."""

ALL = {}


class Skipped(Exception):
    """Says what is missing."""


def scenario(run):
    """Registers `run(program, sqlite, size, report)`. Its first line of documentation is its title.

    `report(what, figure)` prints a line. An AssertionError says what went wrong.
    """
    ALL[run.__name__] = run
    return run


def on_postgres(run):
    """Registers `run(program, report)`, which needs several replicas."""

    def run_if_possible(program, sqlite, size, report):
        if sqlite:
            raise Skipped("it is about PostgreSQL")
        run(program, report)

    run_if_possible.__name__, run_if_possible.__doc__ = run.__name__, run.__doc__
    scenario(run_if_possible)
    return run
