"""The process or its machine is in trouble."""

import json
import os
import signal
import threading

from incident import incident


@incident(alert="BipedalnetDown", within_minutes=3)
def killed(world):
    """The server is killed."""
    world.server.process.kill()
    world.server.process.wait()
    yield
    world.server.start()


@incident(alert="BipedalnetRestarts", within_minutes=20, also=("BipedalnetDown",))
def restarts(world):
    """The server ends soon after each start."""
    for _ in range(4):
        world.server.process.kill()
        world.server.process.wait()
        world.server.start()
        # The time of a start has whole seconds.
        world.pass_minutes(1.5)


@incident(alert="BipedalnetShedding", within_minutes=30, flags=("--request-timeout-seconds", "1"))
def starved(world):
    """Others take the processor, and walks arrive faster than they can be read."""
    walk = json.dumps(world.walk(1)).encode()
    for _ in range(64):
        world.every(0, lambda: world.server.send("POST", "/v1/identify", walk))

    # 2 % of one processor is left.
    stop_again_and_again(world, stopped_seconds=0.196)


@incident(alert="BipedalnetSlow", within_minutes=15)
def stutters(world):
    """Others take the processor, and twelve walks at a time wait."""
    walk = json.dumps(world.walk(1)).encode()
    for _ in range(12):
        world.every(0, lambda: world.server.send("POST", "/v1/identify", walk))
    stop_again_and_again(world, stopped_seconds=0.196)


def stop_again_and_again(world, stopped_seconds):
    def starve():
        while not world.over.is_set():
            os.kill(world.server.process.pid, signal.SIGSTOP)
            world.over.wait(stopped_seconds)
            os.kill(world.server.process.pid, signal.SIGCONT)
            world.over.wait(0.004)

    threading.Thread(target=starve, daemon=True).start()
