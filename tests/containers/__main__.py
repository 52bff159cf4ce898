"""Compares the container files with the program, and shows that each check finds what it is for.

Usage: python3 tests/containers PROGRAM
"""

import pathlib
import shutil
import sys
import tempfile

from checks import complaints
from program import Program

CLUSTER = "docker/cluster.yaml"
HAPROXY = "docker/haproxy/haproxy.cfg"
PROMETHEUS = "docker/prometheus/cluster.yml"
POSTGRES = "packaging/kubernetes/postgres"
SQLITE = "packaging/kubernetes/sqlite"

# A file, what is replaced in it by what, and what is said of it.
MISTAKES = [
    (CLUSTER, "BIPEDALNET_CONNECTIONS_PER_ADDRESS", "BIPEDALNET_ADDRESS_CONNECTIONS", "no such variable"),
    (f"{SQLITE}/first-key.yaml", "[keys, create,", "[key, create,", "no such command"),
    ("docker/compose.yaml", '--keep, "28"', '--keep-newest, "28"', "no such flag"),
    (CLUSTER, "secrets: [master-key, pgpass]", "secrets: [master-key]", "names a secret that it does not get"),
    (CLUSTER, "secrets: [certificate.pem]", "secrets: [certificate]", "no such secret"),
    (CLUSTER, "> postgres-password", "> password", "do not make the secret postgres-password"),
    (CLUSTER, "stop_grace_period: 40s", "stop_grace_period: 20s", "stop_grace_period is too short"),
    (CLUSTER, "memswap_limit: 3g", "memswap_limit: 4g", "may be swapped"),
    (CLUSTER, "0.0.0.0:9464", "0.0.0.0:9465", "which is not that of the metrics"),
    (CLUSTER, "/cluster.yml", "/prometheus.yml", "does not read cluster.yml"),
    (CLUSTER, "networks: [database, front]", "networks: [database]", "has no network with replica-1"),
    (PROMETHEUS, ', "replica-3:9464"', "", "targets are"),
    (PROMETHEUS, "haproxy:8405", "balancer:8405", "no such service"),
    (HAPROXY, "replica-2:8080", "replica-2:80", "servers are"),
    (HAPROXY, "uri /readyz", "uri /livez", "does not say whether a replica is ready"),
    (HAPROXY, "http-keep-alive 60s", "http-keep-alive 75s", "keeps connections for longer"),
    (HAPROXY, "timeout server 40s", "timeout server 30s", "is shorter than a request may take"),
    (HAPROXY, "bind :8443", "bind :443", "nothing listens on the published port"),
    (HAPROXY, "crt /run/secrets/certificate.pem", "crt /run/secrets/tls.pem", "does not get the secret tls.pem"),
    (f"{POSTGRES}/deployment.yaml", "args: [serve]", "args: [serve, --postgres]", "no such flag"),
    (f"{POSTGRES}/deployment.yaml", "BIPEDALNET_LOG_FORMAT", "BIPEDALNET_LOGS", "no such variable"),
    (f"{POSTGRES}/deployment.yaml", "maxUnavailable: 0", "maxUnavailable: 1", "takes a server away"),
    (f"{POSTGRES}/deployment.yaml", "GracePeriodSeconds: 40", "GracePeriodSeconds: 26", "is too short"),
    (f"{POSTGRES}/deployment.yaml", "path: /livez", "path: /readyz", "livenessProbe asks"),
    (f"{POSTGRES}/deployment.yaml", "/readyz, port: metrics", "/readyz, port: http", "startupProbe asks"),
    (f"{POSTGRES}/deployment.yaml", "containerPort: 8080", "containerPort: 80", "ports are"),
    (f"{POSTGRES}/deployment.yaml", 'port: "9464"', 'port: "8080"', "prometheus.io/port"),
    (f"{POSTGRES}/deployment.yaml", "path: /metrics", "path: /prometheus", "prometheus.io/path"),
    (f"{POSTGRES}/deployment.yaml", "key: database", "key: url", "do not make the secret url"),
    (f"{POSTGRES}/deployment.yaml", "- {name: temporary, mountPath", "- {name: tmp, mountPath", "no such volume"),
    (f"{POSTGRES}/deployment.yaml", "mountPath: /run/secrets/bipedalnet", "mountPath: /secrets", "on no volume"),
    (f"{POSTGRES}/deployment.yaml", "runAsUser: 65532", "runAsUser: 1000", "another user"),
    (f"{POSTGRES}/deployment.yaml", "RuntimeDefault", "Unconfined", "no seccomp profile"),
    (f"{POSTGRES}/deployment.yaml", "enableServiceLinks: false", "enableServiceLinks: true", "gets a token"),
    (f"{POSTGRES}/deployment.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may gain"),
    (f"{POSTGRES}/deployment.yaml", "drop: [ALL]", "drop: [NET_RAW]", "has capabilities"),
    (f"{POSTGRES}/deployment.yaml", 'limits: {cpu: "2", memory: 3Gi}', "limits: {}", "no limit of memory"),
    (f"{POSTGRES}/budget.yaml", "maxUnavailable: 1", "maxUnavailable: 3", "no server is left"),
    (f"{POSTGRES}/budget.yaml", "component: server", "component: web", "does not select the servers"),
    (f"{POSTGRES}/service.yaml", ", app.kubernetes.io/component: server", "", "selects 2 of 2"),
    (f"{POSTGRES}/service.yaml", "targetPort: http", "targetPort: metrics", "does not lead to the API"),
    (f"{POSTGRES}/network.yaml", "{port: metrics}", "{port: http}", "exactly the ports"),
    (f"{POSTGRES}/network.yaml", "name: bipedalnet}\n  policy", "component: server}\n  policy", "selects 1 of 2"),
    (f"{POSTGRES}/kustomization.yaml", "  - network.yaml\n", "", "lists other files"),
    (f"{SQLITE}/deployment.yaml", "replicas: 1", "replicas: 2", "two servers could have the database"),
    (f"{SQLITE}/deployment.yaml", "type: Recreate", "type: RollingUpdate", "two servers could have the database"),
    (f"{SQLITE}/backup.yaml", "claimName: bipedalnet-keyring", "claimName: keyring", "no such claim"),
    (f"{SQLITE}/backup.yaml", "--keyring,", "--keys,", "no such flag"),
]


def copy(root):
    for folder in ("docker", "packaging"):
        shutil.copytree(folder, root / folder, ignore=shutil.ignore_patterns("secrets", "master-key"))


def main():
    program = Program(pathlib.Path(sys.argv[1]).resolve())
    found = list(complaints(pathlib.Path("."), program))
    assert not found, "\n".join(found)
    for file, old, new, expected in MISTAKES:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            copy(root)
            text = (root / file).read_text()
            assert old in text, f"{file} does not have {old}"
            (root / file).write_text(text.replace(old, new))
            found = list(complaints(root, program))
            assert any(expected in complaint for complaint in found), (file, old, new, found)
    print(f"container files: no complaints, and {len(MISTAKES)} of {len(MISTAKES)} mistakes found")


main()
