"""A server and a Prometheus, in a folder of their own."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from incident import MINUTE_SECONDS

PROMETHEUS = pathlib.Path("docker/prometheus")

UNIT_MINUTES = {"s": 1 / 60, "m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, seconds=60):
    """Waits until `condition` returns something true, and returns it."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.05)
    return result


def scaled(rules):
    """Rules with all durations scaled. Templates are left as they are."""

    def scale(found):
        milliseconds = int(found[1]) * UNIT_MINUTES[found[2]] * MINUTE_SECONDS * 1000
        return f"{milliseconds:.0f}ms"

    expression = re.compile(r"(?<![\w.{\"])(\d+)([smhdw])(?!\w)")
    lines = rules.splitlines()
    described = re.compile(r"\s*(#|summary:|description:|runbook_url:|- record:|- name:)")
    return "\n".join(line if described.match(line) else expression.sub(scale, line) for line in lines)


def can_have_a_disk():
    """Whether a server can have a small disk of its own."""
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


class Server:
    """`serve` on ports of its own. `start` again keeps ports and database, except on a disk of its own."""

    def __init__(self, program, folder, flags, disk_mib):
        self.program, self.folder = program, folder
        self.disk_mib = disk_mib
        self.disk = folder / "disk"
        self.database = (self.disk if disk_mib else folder) / "server.db"
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.flags = flags
        self.log = folder / "server.log"
        self.process = None

    def start(self, *more_flags):
        command = [self.program, "serve", "--listen", self.address, "--database", self.database]
        command += ["--metrics-listen", self.metrics_address, *self.flags, *more_flags]
        if self.disk_mib:
            self.disk.mkdir(exist_ok=True)
            mount = f'mount -t tmpfs -o size={self.disk_mib}m disk {self.disk} && exec "$0" "$@"'
            # Only the server sees the disk. No privileges are needed.
            command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, *command]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: self.process.poll() is not None or self.answers())
        assert self.process.poll() is None, self.log.read_text()

    def on_disk(self, name):
        """A file on the server's own disk."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{self.disk}") / name

    def fill_disk(self, leave_bytes):
        space = os.statvfs(self.on_disk(""))
        missing = max(0, space.f_bavail * space.f_frsize - leave_bytes)
        with self.on_disk("other").open("wb") as file:
            file.write(bytes(missing))

    def free_disk(self):
        self.on_disk("other").unlink()

    def answers(self):
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}/metrics"):
                return True
        except OSError:
            return False

    def send(self, method, path, body=None, headers=()):
        """Returns the status and the document. Status 0 means that nobody answered."""
        body = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        headers = {"content-type": "application/json", **dict(headers)}
        request = urllib.request.Request(f"http://{self.address}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        except OSError:
            return 0, None
        return status, json.loads(text) if text else None


class Prometheus:
    """Evaluates the rules of this project, scaled."""

    def __init__(self, folder, target, alertmanager):
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        (folder / "rules.yml").write_text(scaled((PROMETHEUS / "rules.yml").read_text()))
        config = (PROMETHEUS / "prometheus.yml").read_text()
        config = config.replace("bipedalnet:9464", target).replace("interval: 15s", "interval: 250ms")
        config = config.replace("alertmanager:9093", alertmanager)
        (folder / "prometheus.yml").write_text(config)
        command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"]
        command += ["--query.lookback-delta=5s", f"--web.external-url=http://{self.address}"]
        command += [f"--web.console.templates={PROMETHEUS}/consoles"]
        with (folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, path):
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}") as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """Values of a query, one for each series."""
        found = self.ask("query?query=" + urllib.parse.quote(expression))["result"]
        return [float(series["value"][1]) for series in found]

    def has_scraped(self):
        try:
            rules = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
            evaluated = all(rule["health"] == "ok" for rule in rules)
            return evaluated and self.query('up{job="bipedalnet"}') == [1.0]
        except OSError:
            return False

    def firing(self):
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


class World:
    """What an incident happens to."""

    def __init__(self, program, flags, disk_mib=None):
        self.program = program
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.server = Server(program, self.folder, flags, disk_mib)
        self.prometheus = None
        self.over = threading.Event()
        self.walks = {}

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for process in (self.server.process, self.prometheus and self.prometheus.process):
            if process:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def watch(self, alertmanager="127.0.0.1:9"):
        """Starts Prometheus. By default, nobody gets its alerts."""
        self.prometheus = Prometheus(self.folder, self.server.metrics_address, alertmanager)

    def check_running(self):
        log = (self.folder / "prometheus.log").read_text()
        assert self.prometheus.process.poll() is None, log

    def walk(self, walker, walk=1):
        """A simulated recording as a document."""
        if (walker, walk) not in self.walks:
            command = [self.program, "simulate", "--walker", str(walker), "--walk", str(walk)]
            self.walks[walker, walk] = json.loads(subprocess.check_output(command))
        return self.walks[walker, walk]

    def enroll(self, user, walker):
        status, document = self.server.send("PUT", f"/v1/users/{user}")
        assert status in (200, 201), document
        for walk in (1, 2):
            body = self.walk(walker, walk)
            status, document = self.server.send("POST", f"/v1/users/{user}/enrollments", body)
            assert status == 201, document

    def pass_minutes(self, minutes):
        time.sleep(minutes * MINUTE_SECONDS)

    def every(self, minutes, act):
        """Calls `act` in a thread until the incident is over."""

        def repeat():
            while not self.over.wait(minutes * MINUTE_SECONDS):
                act()

        threading.Thread(target=repeat, daemon=True).start()
