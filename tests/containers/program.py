"""What the program has: commands with their flags and variables, and what a server answers to."""

import functools
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


class Program:
    def __init__(self, path):
        self.path = path

    @functools.cache
    def help(self, command):
        """The help of a command, such as `("keys", "create")`. Empty if there is no such command."""
        asked = subprocess.run([self.path, *command, "--help"], capture_output=True, text=True)
        return asked.stdout if asked.returncode == 0 else ""

    def split(self, arguments):
        """Splits arguments into the longest command that exists, and the rest."""
        command = ()
        for argument in arguments:
            if not re.search(rf"^  {re.escape(argument)} ", self.commands(command), re.MULTILINE):
                break
            command += (argument,)
        return command, list(arguments[len(command) :])

    def commands(self, command):
        return self.help(command).partition("Commands:\n")[2].partition("\n\n")[0]

    def flags(self, command):
        return set(re.findall(r"--[a-z][a-z-]+", self.help(command)))

    def variables(self, command):
        named = set(re.findall(r"\[env: (BIPEDALNET_\w+)", self.help(command)))
        # Not a flag: a key in an argument could be read by others.
        return named | {"BIPEDALNET_MASTER_KEY", "BIPEDALNET_MASTER_KEY_FILE"}

    def default(self, variable):
        """The default of a setting of `serve`."""
        help = self.help(("serve",))
        return re.search(rf"\[env: {variable}=?\]\s*\[default: ([^\]]*)\]", help)[1]

    @functools.cache
    def answers(self, port, path):
        """Whether a server answers to the path, on its port `api` or `metrics`."""
        with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+") as log:
            command = [self.path, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
            server = subprocess.Popen([*command, "--database", f"{folder}/test.db"], stdout=log, stderr=log)
            try:
                while not (address := self.address(pathlib.Path(log.name), port)):
                    assert server.poll() is None, pathlib.Path(log.name).read_text()
                    time.sleep(0.05)
                with urllib.request.urlopen(f"http://{address}{path}"):
                    return True
            except urllib.error.HTTPError:
                return False
            finally:
                server.kill()
                server.wait()

    @staticmethod
    def address(log, port):
        name = {"api": "address", "metrics": "metrics"}[port]
        found = re.search(rf"\b{name}=([0-9.:]+)", log.read_text())
        return found and found[1]
