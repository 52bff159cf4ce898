"""Compares the container files with the program, and with one another. Each check yields complaints."""

import re

from files import Compose, Image, Kubernetes, documents

LISTEN, METRICS = "BIPEDALNET_LISTEN", "BIPEDALNET_METRICS_LISTEN"

# After SIGTERM: a second in which requests are still taken, and 20 s to finish them.
DRAIN_SECONDS = 21


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def complaints(root, program):
    image = Image(root)
    for compose in (Compose(root, "compose.yaml"), Compose(root, "cluster.yaml")):
        yield from names(program, compose.containers(image))
        yield from compose_secrets(compose)
        yield from stopping_in_compose(compose, image)
        yield from prometheus_targets(root, program, compose, image)
    yield from balancer(root, program, Compose(root, "cluster.yaml"), image)
    for manifests in (Kubernetes(root, "postgres"), Kubernetes(root, "sqlite")):
        yield from names(program, manifests.containers(image))
        yield from resources_listed(manifests)
        yield from references(manifests)
        yield from ports(program, manifests, image)
        yield from probes(program, manifests)
        yield from restricted(manifests, image)
        yield from replacement(manifests)


def names(program, containers):
    """Commands, flags and variables."""
    for container in containers:
        command, rest = program.split(container.arguments)
        if not command:
            yield f"{container.where}: no such command: {container.arguments}"
            continue
        for flag in [argument for argument in rest if argument.startswith("--")]:
            if flag not in program.flags(command):
                yield f"{container.where}: no such flag: {' '.join(command)} {flag}"
        for variable in container.variables:
            # A container may have settings of `serve` that its command does not need.
            known = program.variables(command) | program.variables(("serve",))
            if variable.startswith("BIPEDALNET_") and variable not in known:
                yield f"{container.where}: no such variable: {variable}"


def compose_secrets(compose):
    declared = compose.document.get("secrets", {})
    for name, service in compose.services.items():
        for secret in service.get("secrets", []):
            if secret not in declared:
                yield f"{compose.path.name}: {name}: no such secret: {secret}"
        for variable, value in service.get("environment", {}).items():
            secret = str(value).removeprefix("/run/secrets/")
            if secret != str(value) and secret not in service.get("secrets", []):
                yield f"{compose.path.name}: {name}: {variable} names a secret that it does not get: {secret}"
    head = compose.text.partition("\nname:")[0]
    for name in declared:
        if not re.search(rf"> (docker/)?{re.escape(name)}\b", head):
            yield f"{compose.path.name}: the first lines do not make the secret {name}"


def stopping_in_compose(compose, image):
    for name, service in compose.serving(image).items():
        if seconds(service.get("stop_grace_period", "10s")) <= DRAIN_SECONDS:
            yield f"{compose.path.name}: {name}: stop_grace_period is too short"
        if service.get("mem_limit") != service.get("memswap_limit") or "mem_limit" not in service:
            yield f"{compose.path.name}: {name}: memory may be swapped, or has no limit"


def prometheus_targets(root, program, compose, image):
    file = {"compose.yaml": "prometheus.yml", "cluster.yaml": "cluster.yml"}[compose.path.name]
    [config] = documents(root / "docker/prometheus" / file)
    if not any(argument.endswith(f"/{file}") for argument in compose.services["prometheus"]["command"]):
        yield f"{compose.path.name}: Prometheus does not read {file}"
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "bipedalnet"]
    metrics = {
        f"{container.where.rpartition(' ')[2]}:{container.port(program, METRICS)}"
        for container in compose.containers(image)
        if container.serves
    }
    targets = set(job["static_configs"][0]["targets"])
    if targets != metrics:
        yield f"{file}: targets are {sorted(targets)}, but the servers are {sorted(metrics)}"
    for target in [t for job in config["scrape_configs"] for t in job["static_configs"][0]["targets"]]:
        if target.partition(":")[0] not in compose.services:
            yield f"{file}: no such service: {target}"


def balancer(root, program, compose, image):
    where = "haproxy.cfg"
    config = (root / "docker/haproxy/haproxy.cfg").read_text()
    serving = [container for container in compose.containers(image) if container.serves]
    expected = {
        f"{container.where.rpartition(' ')[2]}:{container.port(program, LISTEN)}" for container in serving
    }
    servers = set(re.findall(r"^\s+server \S+ (\S+)", config, re.MULTILINE))
    if servers != expected:
        yield f"{where}: servers are {sorted(servers)}, but the replicas are {sorted(expected)}"
    checked = int(re.search(r"check port (\d+)", config)[1])
    if any(checked != container.port(program, METRICS) for container in serving):
        yield f"{where}: checks port {checked}, which is not that of the metrics"
    path = re.search(r"http-check send .*uri (\S+)", config)[1]
    if path != "/readyz" or not program.answers("metrics", path):
        yield f"{where}: checks {path}, which does not say whether a replica is ready"
    timeout = {name: seconds(value) for name, value in re.findall(r"timeout (\S+) (\S+)", config)}
    idle = float(program.default("BIPEDALNET_IDLE_TIMEOUT_SECONDS"))
    if timeout["http-keep-alive"] >= idle:
        yield f"{where}: keeps connections for longer than the server, which closes them after {idle} s"
    if timeout["server"] <= float(program.default("BIPEDALNET_REQUEST_TIMEOUT_SECONDS")):
        yield f"{where}: timeout server is shorter than a request may take"
    ports = {int(port) for port in re.findall(r"bind :(\d+)", config)}
    for published in compose.services["haproxy"]["ports"]:
        if int(published.rpartition(":")[2]) not in ports:
            yield f"{where}: nothing listens on the published port {published}"
    for certificate in re.findall(r"crt /run/secrets/(\S+)", config):
        if certificate not in compose.services["haproxy"]["secrets"]:
            yield f"{where}: does not get the secret {certificate}"
    networks = set(compose.services["haproxy"]["networks"])
    for name, service in compose.serving(image).items():
        if not networks & set(service["networks"]):
            yield f"{where}: has no network with {name}"


def resources_listed(manifests):
    if sorted(manifests.kustomization["resources"]) != manifests.files:
        yield f"{manifests.name}: kustomization.yaml lists other files than {manifests.files}"


def references(manifests):
    """Selectors, secrets, claims and volumes."""
    labels = [template["metadata"]["labels"] for _, template in manifests.templates()]
    server = manifests.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = {
        resource["kind"]: resource["spec"].get("selector", resource["spec"].get("podSelector"))
        for resource in manifests.resources
        if resource["kind"] in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
    }
    for kind, selector in selectors.items():
        wanted = selector.get("matchLabels", selector)
        if not wanted.items() <= server.items():
            yield f"{manifests.name}: {kind} does not select the servers"
        selected = [pod for pod in labels if wanted.items() <= pod.items()]
        if len(selected) != (len(labels) if kind == "NetworkPolicy" else 1):
            yield f"{manifests.name}: {kind} selects {len(selected)} of {len(labels)} kinds of pods"
    made = set(re.findall(r"--from-literal=([\w-]+)=", manifests.kustomization_text))
    claims = {claim["metadata"]["name"] for claim in manifests.of_kind("PersistentVolumeClaim")}
    for where, pod, container in manifests.pod_containers():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{where}: no such volume: {mount['name']}"
        keys = [v["valueFrom"]["secretKeyRef"]["key"] for v in container.get("env", []) if "valueFrom" in v]
        for volume in volumes.values():
            keys += [item["key"] for item in volume.get("secret", {}).get("items", [])]
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                yield f"{where}: no such claim: {claim}"
        for key in set(keys) - made:
            yield f"{where}: the first lines of kustomization.yaml do not make the secret {key}"
        mounts = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        for variable in container.get("env", []):
            value = variable.get("value", "")
            if value.startswith("/") and not any(value.startswith(f"{mount}/") for mount in mounts):
                yield f"{where}: {variable['name']} is on no volume"


def ports(program, manifests, image):
    template = manifests.one("Deployment")["spec"]["template"]
    [server] = template["spec"]["containers"]
    [container] = [container for container in manifests.containers(image) if container.serves]
    named = {port["name"]: port["containerPort"] for port in server["ports"]}
    expected = {"http": container.port(program, LISTEN), "metrics": container.port(program, METRICS)}
    if named != expected:
        yield f"{manifests.name}: ports are {named}, but the server listens on {expected}"
    scrape = template["metadata"]["annotations"]
    if int(scrape["prometheus.io/port"]) != expected["metrics"]:
        yield f"{manifests.name}: prometheus.io/port is not that of the metrics"
    if not program.answers("metrics", scrape["prometheus.io/path"]):
        yield f"{manifests.name}: prometheus.io/path does not exist"
    for port in manifests.one("Service")["spec"]["ports"]:
        if port["targetPort"] != "http":
            yield f"{manifests.name}: the Service does not lead to the API"
    rules = manifests.one("NetworkPolicy")["spec"]["ingress"]
    if {port["port"] for rule in rules for port in rule["ports"]} != set(named):
        yield f"{manifests.name}: the NetworkPolicy does not allow exactly the ports of the server"


def probes(program, manifests):
    [server] = manifests.one("Deployment")["spec"]["template"]["spec"]["containers"]
    expected = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in expected.items():
        asked = server[probe]["httpGet"]
        # On the API's port, requests of the node could be refused.
        if asked["port"] != "metrics" or asked["path"] != path or not program.answers("metrics", path):
            yield f"{manifests.name}: {probe} asks {asked}"


def restricted(manifests, image):
    for where, pod, container in manifests.pod_containers():
        if pod["securityContext"]["runAsUser"] != image.user or not pod["securityContext"]["runAsNonRoot"]:
            yield f"{where}: runs as another user than that of the image"
        if pod["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault":
            yield f"{where}: has no seccomp profile"
        if pod["automountServiceAccountToken"] or pod["enableServiceLinks"]:
            yield f"{where}: gets a token, or variables of services"
        security = container["securityContext"]
        if security["allowPrivilegeEscalation"] or not security["readOnlyRootFilesystem"]:
            yield f"{where}: may gain privileges, or write to its image"
        if security["capabilities"]["drop"] != ["ALL"]:
            yield f"{where}: has capabilities"
        if "memory" not in container["resources"]["limits"]:
            yield f"{where}: has no limit of memory"


def replacement(manifests):
    """How a pod is replaced by a newer one."""
    spec = manifests.one("Deployment")["spec"]
    pod = spec["template"]["spec"]
    [server] = pod["containers"]
    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    if pod["terminationGracePeriodSeconds"] <= pause + DRAIN_SECONDS:
        yield f"{manifests.name}: terminationGracePeriodSeconds is too short"
    if manifests.name == "sqlite":
        if spec["replicas"] != 1 or spec["strategy"] != {"type": "Recreate"}:
            yield "sqlite: two servers could have the database"
        return
    if spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield f"{manifests.name}: a rolling update takes a server away before another one is ready"
    if manifests.one("PodDisruptionBudget")["spec"]["maxUnavailable"] >= spec["replicas"]:
        yield f"{manifests.name}: the budget allows that no server is left"
