"""Replicas of the program on one database, behind a proxy."""

import contextlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from postgres import Postgres, free_port
from proxy import Proxy

# How long a server may take to start, on a busy machine.
START_SECONDS = 60


def wait_for(condition, seconds=START_SECONDS):
    """Waits until `condition` returns something true, and returns it."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.05)
    return result


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def document(self):
        return json.loads(self.body) if self.body else None

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Connection:
    """Sends requests one after the other. Connects again after an error."""

    def __init__(self, port, timeout=10.0):
        self.port, self.timeout = port, timeout
        self.http = None

    def send(self, method, path, body=b"", headers=()):
        """Raises OSError or HTTPException if no whole answer comes."""
        body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        kind = "application/json" if body[:1] in (b"{", b"[") else "application/cbor"
        headers = {"accept": "application/json", "content-type": kind, **dict(headers)}
        self.http = self.http or http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        try:
            self.http.request(method, path, body, headers)
            response = self.http.getresponse()
            # Otherwise, headers that were cut look as if they were whole.
            if response.status != 204 and response.length is None:
                raise http.client.IncompleteRead(b"")
            return Answer(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self):
        if self.http:
            self.http.close()
            self.http = None


class Replica:
    """`serve` on ports of its own, which stay the same after a restart."""

    def __init__(self, program, folder, number, database, variables, flags=()):
        self.number, self.database, self.flags = number, database, list(flags)
        self.program, self.variables = program, variables
        self.port, self.metrics_port = free_port(), free_port()
        self.log = folder / f"replica-{number}.log"
        self.process = None

    def start(self):
        command = [self.program, "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--metrics-listen", f"127.0.0.1:{self.metrics_port}", "--log-level", "warn"]
        # All requests come from one address.
        command += ["--address-requests-per-second", "0", "--connections-per-address", "1024", *self.flags]
        variables = {**os.environ, **self.variables, "BIPEDALNET_DATABASE": str(self.database)}
        with self.log.open("a") as log:
            # It ends with the thread that started it.
            command = ["setpriv", "--pdeathsig=KILL", *map(str, command)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)

    def wait_until_ready(self):
        wait_for(lambda: self.process.poll() is not None or self.ready()[0] == 200)
        assert self.process.poll() is None, self.log.read_text()[-2000:]

    def stop(self, how):
        self.process.send_signal(how)
        self.process.wait()

    def connect(self, timeout=10.0):
        return Connection(self.port, timeout)

    def operator(self, path):
        """Asks the metrics port. Status 0 means that nobody answered."""
        with contextlib.closing(Connection(self.metrics_port)) as connection:
            try:
                answer = connection.send("GET", path)
                return answer.status, answer.body.decode()
            except (OSError, http.client.HTTPException):
                return 0, ""

    def ready(self):
        return self.operator("/readyz")

    def metric(self, name):
        """The sum over all labels."""
        lines = self.operator("/metrics")[1].splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(map(float, values))

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """`with Cluster(...) as cluster:` has replicas that are ready. They share PostgreSQL, or one has SQLite."""

    def __init__(
        self, program, replicas=3, sqlite=False, flags=(), settings=(), folder=None, variables=None, direct=False,
        pooler=None,
    ):
        self.program, self.sqlite, self.direct = program, sqlite, direct
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.closing = contextlib.ExitStack()
        # `variables(number)`: what one replica has more than the others.
        self.variables = variables or (lambda number: {})
        self.count, self.flags = 1 if sqlite else replicas, flags
        self.settings, self.database_folder = settings, folder
        # `pooler(server)`: what stands before PostgreSQL.
        self.pooler = pooler
        self.postgres, self.links, self.replicas = None, [], []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            if not self.sqlite:
                self.postgres = stack.enter_context(Postgres(self.settings, self.database_folder))
                # Not a superuser.
                self.postgres.sql(f"CREATE ROLE app LOGIN PASSWORD '{self.postgres.password}'")
                self.postgres.sql("CREATE DATABASE app OWNER app")
                if self.pooler:
                    self.pooler = stack.enter_context(self.pooler(self.postgres))
            master_key = secrets.token_hex(32)
            for number in range(self.count):
                variables = {"BIPEDALNET_MASTER_KEY": master_key, **self.variables(number)}
                replica = Replica(
                    self.program, self.folder, number, self.address(stack), variables, self.flags
                )
                self.replicas.append(replica)
                stack.callback(self.end, replica)
                replica.start()
            for replica in self.replicas:
                replica.wait_until_ready()
            self.proxy = Proxy([("127.0.0.1", replica.port) for replica in self.replicas])
            stack.callback(self.proxy.close)
            self.closing = stack.pop_all()
        return self

    def __exit__(self, *exception):
        if exception[0]:
            self.print_logs()
        self.closing.close()

    def address(self, stack):
        """Each replica reaches PostgreSQL through a proxy of its own, unless it is direct."""
        if self.sqlite:
            return self.folder / "cluster.db"
        if self.direct:
            return self.postgres.url(user="app", database="app")
        link = Proxy([("127.0.0.1", (self.pooler or self.postgres).port)])
        self.links.append(link)
        stack.callback(link.close)
        return self.postgres.url(link.port, "app", "app") + (self.pooler.options if self.pooler else "")

    @staticmethod
    def end(replica):
        if replica.process and replica.process.poll() is None:
            replica.stop(signal.SIGKILL)

    def print_logs(self):
        for replica in self.replicas:
            if replica.log.exists():
                print(f"-- replica {replica.number}", replica.log.read_text()[-3000:], sep="\n")

    def connect(self, timeout=10.0):
        return Connection(self.proxy.port, timeout)


class Threads:
    """Runs functions until the end of the block, and raises what they raised."""

    def __init__(self):
        self.over = threading.Event()
        self.threads, self.errors = [], []

    def start(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except BaseException as error:
                self.errors.append(error)
                self.over.set()

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def repeat(self, function, *arguments):
        """Calls a function again and again."""

        def run():
            while not self.over.is_set():
                function(*arguments)

        self.start(run)

    def join(self):
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.over.set()
        if not exception[0]:
            self.join()
