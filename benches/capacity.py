"""Measures what a deployment needs: changes a second by disk, and growth of the database.

Usage: python3 benches/capacity.py PROGRAM FOLDER [SYNC_DELAY_MS...]

The database is made in FOLDER, so name a folder on the disk to measure. Each SYNC_DELAY_MS makes every
fdatasync that much slower, as on a slower disk; that needs a C compiler.
"""

import concurrent.futures
import http.client
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

SECONDS = 10
CONNECTIONS = 32
WALKS = 16

# Of each connection, and of each measurement of growth.
USERS = 100
GROWN_USERS = 200

DELAY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    usleep(atoi(getenv("SYNC_DELAY_MS")) * 1000);
    return real(file);
}
int fsync(int file) { return fdatasync(file); }
"""


def simulate(program, *flags):
    return subprocess.run([program, "simulate", *map(str, flags)], check=True, capture_output=True).stdout


class Server:
    def __init__(self, program, folder, delay_ms=0, flags=()):
        self.database = pathlib.Path(folder) / "capacity.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = dict(os.environ)
        if delay_ms:
            source = pathlib.Path(folder) / "delay.c"
            source.write_text(DELAY)
            library = source.with_suffix(".so")
            subprocess.run(["cc", "-shared", "-fPIC", "-O2", source, "-o", library, "-ldl"], check=True)
            environment |= {"LD_PRELOAD": str(library), "SYNC_DELAY_MS": str(delay_ms)}
        command = [program, "serve", "--listen", f"127.0.0.1:{self.port}", "--metrics-listen", ""]
        command += ["--database", self.database, "--address-requests-per-second", "0", *flags]
        command += ["--connections-per-address", "1024", "--log-level", "error"]
        self.process = subprocess.Popen(command, env=environment)
        while True:
            assert self.process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/livez").read()
                return
            except OSError:
                time.sleep(0.05)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def stop(self):
        """Returns the bytes of database and keyring."""
        self.process.terminate()
        self.process.wait()
        keyring = self.database.with_name("capacity.db-keyring")
        return self.database.stat().st_size, keyring.stat().st_size


def send(connection, method, path, body=b""):
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    return response.status, text


def sync_milliseconds(folder):
    """Median time to write 4 KiB and wait for the disk."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x" * 4096)
        file.flush()
        for _ in range(200):
            file.seek(0)
            file.write(b"y" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def rate(server, connections, requests):
    """Changes a second: each connection sends its requests for some seconds, or until they end."""

    def client(number):
        connection, done = server.connect(), 0
        start = time.monotonic()
        for method, path, body in requests(number):
            status, text = send(connection, method, path, body)
            # A slow disk made fewer users.
            if status == 404:
                break
            assert status == 201, text
            done += 1
            if time.monotonic() - start > SECONDS:
                break
        return done / (time.monotonic() - start)

    with concurrent.futures.ThreadPoolExecutor(connections) as threads:
        return sum(threads.map(client, range(connections)))


def rates(program, folder, delays):
    bodies = [simulate(program, "--seconds", 30, "--walker", 7, "--walk", walk) for walk in range(WALKS)]
    print("| fdatasync, ms | new users a second | enrollments a second: 1 connection | 32 connections |")
    print("|--:|--:|--:|--:|")
    for delay in [0, *delays]:
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            sync = sync_milliseconds(inner) + delay
            server = Server(program, inner, delay)

            def new_users(client):
                return (("PUT", f"/v1/users/{client}-{user}", b"") for user in range(USERS))

            def enrollments(client, walks):
                for user in range(USERS):
                    for walk in walks:
                        yield "POST", f"/v1/users/{client}-{user}/enrollments?confirmed=true", walk

            users = rate(server, CONNECTIONS, new_users)
            one = rate(server, 1, lambda client: enrollments(client, bodies[: WALKS // 2]))
            many = rate(server, CONNECTIONS, lambda client: enrollments(client, bodies[WALKS // 2 :]))
            server.stop()
            print(f"| {sync:.1f} | {users:.0f} | {one:.0f} | {many:.0f} |", flush=True)


def grown(program, folder, flags, before, after):
    """Bytes of the database and of the keyring for each user's part of `after`."""
    sizes = []
    for steps in (before, before + after):
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            server = Server(program, inner, flags=flags)
            connection = server.connect()
            for method, path, bodies in steps:
                for user in range(GROWN_USERS):
                    body = bodies[user % len(bodies)]
                    status, text = send(connection, method, path.format(user), body)
                    assert status in (200, 201), text
            sizes.append(server.stop())
    return [(last - first) / GROWN_USERS for first, last in zip(*sizes)]


def growth(program, folder):
    walks = [
        [simulate(program, "--seconds", 30, "--walker", user, "--walk", walk) for user in range(GROWN_USERS)]
        for walk in (1, 2)
    ]
    users = [("PUT", "/v1/users/u{}", [b""])]
    enrollments = [("POST", "/v1/users/u{}/enrollments", walks[0])]
    verifications = [("POST", "/v1/users/u{}/verify", walks[1])]
    kept = ("--keep-recordings-days", "30")
    print("\n| each | database, bytes | keyring, bytes |", "|---|--:|--:|", sep="\n")
    for what, flags, before, after in [
        ("user", (), [], users),
        ("enrollment of 30 s", (), users, enrollments),
        ("enrollment of 30 s with its recording", kept, users, enrollments),
        ("verification of 30 s", (), users + enrollments, verifications),
    ]:
        database, keyring = grown(program, folder, flags, before, after)
        print(f"| {what} | {database:,.0f} | {keyring:,.0f} |", flush=True)


def main():
    program, folder, *delays = sys.argv[1:]
    rates(program, folder, [int(delay) for delay in delays])
    growth(program, folder)


main()
