"""The active model changes under load."""

import collections
import itertools
import signal
import time

from clients import RetryingClient, Walks, percentile
from scenario import scenario
from world import Cluster, Threads

SWAPS = 20
USERS = 12

# How long after its acknowledgement a swap may take to reach every replica.
GRACE_SECONDS = 1.0

OTHER_MODEL = "models/bipedalnet.safetensors"


class Traffic:
    """Identifies and verifies on one replica. Notes the model of each answer, and from when to when it was asked."""

    def __init__(self, replica, walks):
        self.replica, self.walks = replica, walks
        self.connection = replica.connect()
        self.answers, self.failed, self.mixed = [], [], []
        self.turn = itertools.count()

    def send(self):
        number = next(self.turn)
        walker = number % USERS
        kind = ("identify", "verify", "batch")[number % 3]
        # New walks, because a walk that is verified twice is a replay.
        walk = self.walks.get(walker, 10 + number // (3 * USERS))
        start = time.monotonic()
        if kind == "batch":
            items = [self.identification(number + more) for more in range(4)]
            answer = self.connection.send("POST", "/v1/batch", {"items": items})
        else:
            path = "/v1/identify" if kind == "identify" else f"/v1/users/user-{walker}/verify"
            answer = self.connection.send("POST", path, walk)
        self.note(answer, start, kind)

    def identification(self, number):
        return {"identify": {"walk": self.walks.document(number % USERS, 3)}}

    def note(self, answer, start, kind):
        if answer.status != 200:
            self.failed.append(f"{kind}: {answer}")
            return
        found = [answer.document]
        if kind == "batch":
            outcomes = answer.document["outcomes"]
            if any(outcome["status"] != 200 for outcome in outcomes):
                self.failed.append(f"{kind}: {answer}")
                return
            found = [outcome["identified"] for outcome in outcomes]
        models = {document["model"] for document in found}
        if len(models) != 1:
            self.mixed.append(f"{kind}: {models}")
        self.answers.append((start, time.monotonic(), models.pop()))


def outdated(traffic, swaps):
    """Answers with a model that was not active at any time from their request to a second before it."""
    wrong = []
    for start, end, model in traffic.answers:
        spans = [
            (begun, following[1] + GRACE_SECONDS if following else float("inf"))
            for (begun, _, activated), following in itertools.zip_longest(swaps, swaps[1:])
            if activated == model
        ]
        if not any(begun <= end and start <= over for begun, over in spans):
            wrong.append((traffic.replica.number, start, end, model))
    return wrong


def back_and_forth(traffic, swaps):
    """Answers of one replica with an earlier model, after one with a later model."""
    wrong = []
    for (begun, _, activated), following in itertools.zip_longest(swaps, swaps[1:]):
        over = following[0] if following else float("inf")
        ended = [end for start, end, model in traffic.answers if start >= begun and model == activated]
        if not ended:
            continue
        first = min(ended)
        wrong += [
            (traffic.replica.number, start, end, model)
            for start, end, model in traffic.answers
            if first < start and end < over and model != activated
        ]
    return wrong


def register(replica, model):
    """Only a start registers a model file."""
    replica.stop(signal.SIGTERM)
    replica.flags += ["--model", model]
    replica.start()
    replica.wait_until_ready()


@scenario
def swaps(program, sqlite, size, report):
    """20 swaps of the model, while all replicas identify and verify."""
    walks = Walks(program)
    with Cluster(program, sqlite=sqlite, flags=("--keep-recordings-days", "1")) as cluster:
        register(cluster.replicas[0], OTHER_MODEL)
        client = RetryingClient(cluster.connect(timeout=60), seed=1)
        for walker in range(USERS):
            for walk in (1, 2):
                path = f"/v1/users/user-{walker}/enrollments?create_user=true"
                answer = client.send("POST", path, walks.get(walker, walk))
                assert answer.status == 201, answer
        models = client.send("GET", "/v1/models").document["models"]
        assert len(models) == 2, models
        [active] = [model["model"] for model in models if model["active"]]
        order = itertools.cycle(sorted((model["model"] for model in models), key=lambda model: model == active))
        done = [(0.0, 0.0, active)]
        traffic = [Traffic(replica, walks) for replica in cluster.replicas for _ in range(2)]
        # Each swap is sent to another replica, and some are cut.
        cluster.proxy.cut_share = 0.02
        with Threads() as threads:
            for one in traffic:
                threads.repeat(one.send)
            for _ in range(SWAPS):
                answered = sum(len(one.answers) for one in traffic)
                model, begun = next(order), time.monotonic()
                client.connection.close()
                answer = client.send("POST", f"/v1/models/{model}/activate", {"force": True})
                assert answer.status == 200, answer
                done.append((begun, time.monotonic(), model))
                # Some traffic with this model before the next swap, and after what it may take.
                until = done[-1][1] + 1.5 * GRACE_SECONDS
                while time.monotonic() < until and not threads.over.is_set():
                    time.sleep(0.01)
                assert sum(len(one.answers) for one in traffic) > answered or threads.errors, "no traffic"
        answers = sum(len(one.answers) for one in traffic)
        failed = [problem for one in traffic for problem in one.failed]
        mixed = [problem for one in traffic for problem in one.mixed]
        late = [problem for one in traffic for problem in outdated(one, done)]
        back = [problem for one in traffic for problem in back_and_forth(one, done)]
        counts = collections.Counter(model for one in traffic for *_, model in one.answers)
        report("swaps", SWAPS)
        report("answers by model", dict(counts))
        report("seconds that a swap took, at most", f"{max(end - start for start, end, _ in done):.2f}")
        report("seconds from a swap's answer to a replica's first with it, at most", f"{spread(traffic, done):.3f}")
        times = [end - start for one in traffic for start, end, _ in one.answers]
        report("seconds of an answer, p50 and p99", f"{percentile(times, 0.5):.3f}, {percentile(times, 0.99):.3f}")
        report("failed, mixed, outdated, back and forth", (len(failed), len(mixed), len(late), len(back)))
        assert not (failed or mixed or late or back), (failed[:3], mixed[:3], late[:3], back[:3])
        assert answers > SWAPS and len(counts) == 2, counts


def spread(traffic, swaps):
    """How long after a swap a replica still answered with the earlier model, in seconds."""
    latest = 0.0
    for (_, acknowledged, model), following in itertools.zip_longest(swaps[1:], swaps[2:]):
        over = following[0] if following else float("inf")
        old = [
            start - acknowledged
            for one in traffic
            for start, _, found in one.answers
            if acknowledged < start < over and found != model
        ]
        latest = max([latest, *old])
    return latest
