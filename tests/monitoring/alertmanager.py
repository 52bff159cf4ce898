"""Checks that alerts arrive where docker/alertmanager/alertmanager.yml sends them.

    python3 tests/monitoring/alertmanager.py PROGRAM

A server ends and starts again. One page about it must arrive, with a link that works, and its resolution. Durations
are scaled as in tests/incidents.
"""

import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "incidents"))
from world import World, free_port, scaled, wait_for

CONFIG = pathlib.Path("docker/alertmanager/alertmanager.yml")
PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the messages that it gets, by path."""

    def __init__(self):
        self.messages = {"/page": [], "/ticket": []}
        messages = self.messages

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                messages[self.path].append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def about(self, path, instance):
        """Status and names of the alerts of each message about an instance."""
        found = [message for message in self.messages[path] if message["groupLabels"].get("instance") == instance]
        return [(message["status"], sorted({alert["labels"]["alertname"] for alert in message["alerts"]}))
                for message in found]


def check(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def written_config(folder, receiver):
    """The configuration with scaled durations and the receiver's address. Returns its path."""
    text = scaled(CONFIG.read_text())
    file = folder / "alertmanager.yml"
    addresses = {name: f"http://127.0.0.1:{receiver.server_port}/{name}" for name in ("page", "ticket")}
    for name, address in addresses.items():
        (folder / f"{name}-url").write_text(address + "\n")
        assert f"url_file: /etc/alertmanager/{name}-url" in text
    file.write_text(text.replace("/etc/alertmanager", str(folder)))
    if subprocess.run(["amtool", "check-config", file], capture_output=True).returncode:
        # Before version 0.26, Alertmanager reads no address from a file.
        for name, address in addresses.items():
            text = text.replace(f"url_file: /etc/alertmanager/{name}-url", f"url: {address}")
        file.write_text(text)
    check("amtool", "check-config", str(file))
    return file


def check_routes(config):
    for labels, wanted in (
        ("severity=page", "pages"),
        ("severity=ticket", "tickets"),
        ("severity=unheard-of", "pages"),
        ("alertname=WithoutSeverity", "pages"),
    ):
        got = check("amtool", "config", "routes", "test", f"--config.file={config}", labels)
        assert got == wanted, f"{labels} goes to {got}, not to {wanted}"


def check_outage(world, receiver):
    instance = world.server.metrics_address
    world.server.process.kill()
    world.server.process.wait()
    wait_for(lambda: receiver.about("/page", instance))
    world.server.start()
    wait_for(lambda: len(receiver.about("/page", instance)) > 1)
    down = ["BipedalnetDown"]
    assert receiver.about("/page", instance) == [("firing", down), ("resolved", down)], receiver.messages
    assert receiver.about("/ticket", instance) == [], receiver.messages

    alert = receiver.messages["/page"][0]["alerts"][0]
    link, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    with urllib.request.urlopen(link) as answer:
        assert f'id="{anchor}"' in answer.read().decode(), alert["annotations"]


def check_inhibition(address, receiver):
    """Causes silence their symptoms, and pages their tickets."""

    def alert(name, severity, instance):
        return {"labels": {"alertname": name, "severity": severity, "job": "bipedalnet", "instance": instance}}

    alerts = [
        alert("BipedalnetShedding", "page", "b"), alert("BipedalnetSlow", "page", "b"),
        alert("BipedalnetErrors", "page", "c"), alert("BipedalnetErrors", "ticket", "c"),
        alert("BipedalnetDatabaseGone", "page", "d"), alert("BipedalnetErrors", "page", "d"),
        # Alone.
        alert("BipedalnetSlow", "page", "e"), alert("BipedalnetErrors", "ticket", "f"),
    ]
    request = urllib.request.Request(
        f"http://{address}/api/v2/alerts", json.dumps(alerts).encode(), {"content-type": "application/json"})
    urllib.request.urlopen(request).close()
    # The ticket is the last to be sent.
    wait_for(lambda: receiver.about("/ticket", "f") and receiver.about("/page", "e"))
    for path, instance, wanted in (
        ("/page", "b", [("firing", ["BipedalnetShedding"])]),
        ("/page", "c", [("firing", ["BipedalnetErrors"])]),
        ("/ticket", "c", []),
        ("/page", "d", [("firing", ["BipedalnetDatabaseGone"])]),
        ("/page", "e", [("firing", ["BipedalnetSlow"])]),
        ("/ticket", "f", [("firing", ["BipedalnetErrors"])]),
    ):
        got = receiver.about(path, instance)
        assert got == wanted, f"{path} got {got} about {instance}, not {wanted}"


def main():
    receiver = Receiver()
    with World(sys.argv[1], ()) as world:
        config = written_config(world.folder, receiver)
        check_routes(config)
        address = f"127.0.0.1:{free_port()}"
        with (world.folder / "alertmanager.log").open("w") as log:
            alertmanager = subprocess.Popen(
                [PROGRAM, f"--config.file={config}", f"--storage.path={world.folder}/alertmanager",
                 f"--web.listen-address={address}", "--cluster.listen-address="],
                stdout=log, stderr=log)
        try:
            world.watch(alertmanager=address)
            wait_for(world.prometheus.has_scraped)
            start = time.monotonic()
            check_outage(world, receiver)
            check_inhibition(address, receiver)
            print(f"alerts arrive; {time.monotonic() - start:.0f} s")
        except AssertionError:
            print((world.folder / "alertmanager.log").read_text())
            raise
        finally:
            alertmanager.kill()
            alertmanager.wait()


main()
