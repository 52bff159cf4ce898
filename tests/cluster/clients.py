"""Walks, and clients that repeat what fails."""

import collections
import functools
import http.client
import json
import random
import subprocess
import time
import uuid

FAILURES = (OSError, http.client.HTTPException)


class Walks:
    """Simulated recordings as compact CBOR."""

    def __init__(self, program, seconds=10):
        self.program, self.seconds = program, seconds

    @functools.cache
    def get(self, walker, walk):
        return self.simulate(walker, walk, "--cbor")

    @functools.cache
    def document(self, walker, walk):
        """The recording as JSON, to put into a batch."""
        return json.loads(self.simulate(walker, walk))

    def simulate(self, walker, walk, *flags):
        command = [self.program, "simulate", "--seconds", str(self.seconds), *flags]
        command += ["--walker", str(walker), "--walk", str(walk)]
        return subprocess.run(command, check=True, capture_output=True).stdout


class RetryingClient:
    """Repeats a request with the same key until it is answered for good, as a phone would."""

    def __init__(self, connection, seed):
        self.connection = connection
        self.random = random.Random(seed)
        # How often each status came, or no answer.
        self.seen = collections.Counter()

    def send(self, method, path, body=b"", headers=()):
        headers = {"idempotency-key": str(uuid.UUID(int=self.random.getrandbits(128))), **dict(headers)}
        wait_seconds = 0.05
        end = time.monotonic() + 120
        while True:
            try:
                answer = self.connection.send(method, path, body, headers)
                self.seen[answer.status] += 1
                if answer.headers.get("idempotency-replayed"):
                    self.seen["replayed"] += 1
                if not self.is_temporary(answer):
                    return answer
                last = answer
            except FAILURES as error:
                self.seen["no answer"] += 1
                last = error
            assert time.monotonic() < end, f"no answer for good in 120 s: {last}"
            time.sleep(wait_seconds * (0.5 + self.random.random()))
            wait_seconds = min(2 * wait_seconds, 1.0)

    @staticmethod
    def is_temporary(answer):
        return answer.status in (429, 503, 504, 507) or answer.status == 409 and "retry-after" in answer.headers


def percentile(values, share):
    """Linear, with `share` from 0 to 1."""
    values = sorted(values)
    at = share * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)
