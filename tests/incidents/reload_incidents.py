"""The certificate or the settings change while the server runs."""

import signal
import subprocess

from incident import incident


def certificate(world, days):
    """Writes a new certificate with its key."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    command += ["-days", str(days), "-keyout", world.folder / "tls.key"]
    subprocess.run([*command, "-out", world.folder / "tls.crt"], check=True, capture_output=True)


def with_tls(world):
    certificate(world, 90)
    server = world.server
    server.process.kill()
    server.process.wait()
    server.flags += ("--tls-certificate", world.folder / "tls.crt", "--tls-key", world.folder / "tls.key")
    server.start()


def hang_up(world):
    world.server.process.send_signal(signal.SIGHUP)


@incident(alert="BipedalnetCertificateExpires", within_minutes=20, prepare=with_tls)
def certificate_nears_its_end(world):
    """A renewal gives a certificate for ten days."""
    certificate(world, 10)
    yield
    certificate(world, 90)


@incident(alert="BipedalnetCertificateExpiresNow", within_minutes=10, prepare=with_tls)
def certificate_at_its_end(world):
    """The certificate ends tomorrow."""
    certificate(world, 1)
    hang_up(world)
    yield
    certificate(world, 90)
    hang_up(world)


@incident(alert="BipedalnetReloadFailed", within_minutes=20, prepare=with_tls)
def half_a_renewal(world):
    """A renewal replaces the certificate and not its key."""
    key = (world.folder / "tls.key").read_bytes()
    certificate(world, 90)
    (world.folder / "tls.key").write_bytes(key)
    yield
    certificate(world, 90)


def with_settings(world):
    server = world.server
    server.process.kill()
    server.process.wait()
    (world.folder / "settings.toml").write_text("max-users = 5\n")
    server.flags += ("--config", world.folder / "settings.toml")
    server.start()


@incident(alert="BipedalnetReloadFailed", within_minutes=10, prepare=with_settings)
def settings_with_a_mistake(world):
    """The settings file has a mistake."""
    (world.folder / "settings.toml").write_text("max-user = 6\n")
    hang_up(world)
    yield
    (world.folder / "settings.toml").write_text("max-users = 6\n")
    hang_up(world)
