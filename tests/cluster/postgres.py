"""A PostgreSQL server in a temporary folder. As a program, it runs a command beside one."""

import glob
import os
import pathlib
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

USER = "bipedalnet"

# Data need not survive a power failure. Tests open many connections at once.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "400",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "fatal",
    "max_wal_size": "4GB",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def programs():
    """The folder of PostgreSQL's programs. Debian has one for each version."""
    found = max(glob.glob("/usr/lib/postgresql/*/bin/postgres"), default=shutil.which("postgres"))
    assert found, "PostgreSQL is not installed: apt-get install postgresql"
    return pathlib.Path(found).parent


def unprivileged():
    """PostgreSQL refuses to run as root, so root runs it as another user."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()), []
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return user, [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


class Postgres:
    """`with Postgres() as server:` starts one, and stops and deletes it at the end.

    It ends with the thread that started it, even if that is killed.
    """

    def __init__(self, settings=(), folder=None):
        self.settings = {**SETTINGS, **dict(settings)}
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process = None
        self.owner, self.as_owner = unprivileged()
        os.chown(self.folder, self.owner.pw_uid, self.owner.pw_gid)

    def __enter__(self):
        try:
            self.create()
            self.start()
        except BaseException:
            self.delete()
            raise
        return self

    def __exit__(self, *_):
        self.delete()

    def command(self, program, *arguments):
        return ["setpriv", "--pdeathsig=QUIT", *self.as_owner, programs() / program, *arguments]

    def run(self, program, *arguments):
        result = subprocess.run(
            self.command(program, *arguments), cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PGPASSWORD": self.password},
        )
        assert result.returncode == 0, f"{program}: {result.stdout}{result.stderr}"
        return result.stdout

    def sql(self, statements, database="postgres"):
        """Runs statements as the superuser, and returns what they print."""
        flags = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]
        return self.run("psql", *flags, f"--command={statements}", self.url(database=database)).strip()

    def create(self):
        password = self.folder / "password"
        password.write_text(self.password)
        os.chown(password, self.owner.pw_uid, self.owner.pw_gid)
        password.chmod(0o600)
        self.run(
            "initdb", f"--pgdata={self.data}", f"--username={USER}", "--auth=scram-sha-256",
            f"--pwfile={password}", "--encoding=UTF8", "--no-sync",
        )

    def start(self):
        """Starts it, and waits until it answers."""
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        command = self.command("postgres", "-D", self.data, f"--port={self.port}", *settings)
        with self.log.open("a") as log:
            # A session of its own, so that Ctrl-C reaches the tests first.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def answers(self):
        command = [programs() / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        return subprocess.run(command).returncode == 0

    def stop(self, how=signal.SIGINT):
        """SIGINT ends it at once and in order; SIGQUIT like a crash."""
        self.process.send_signal(how)
        self.process.wait()

    def standby(self):
        """A copy of this server, which follows it."""
        other = Postgres(self.settings)
        other.password = self.password
        self.run(
            "pg_basebackup", f"--pgdata={self.folder}/standby", "--host=127.0.0.1", f"--port={self.port}",
            f"--username={USER}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
        )
        (self.folder / "standby").rename(other.data)
        other.start()
        return other

    def promote(self):
        self.run("pg_ctl", "promote", f"--pgdata={self.data}", "--wait")

    def delete(self):
        if self.process and self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, port=None, user=USER, database="postgres"):
        return f"postgres://{user}:{self.password}@127.0.0.1:{port or self.port}/{database}"


def main(command):
    with Postgres() as server:
        variables = {**os.environ, "BIPEDALNET_TEST_POSTGRES": server.url()}
        process = subprocess.Popen(command, env=variables)
        # Ctrl-C reaches the command, too. It decides when to end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
