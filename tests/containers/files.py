"""The container files, read."""

import dataclasses
import pathlib
import re

import ruamel.yaml


def documents(path):
    return [document for document in ruamel.yaml.YAML(typ="safe").load_all(path.read_text()) if document]


@dataclasses.dataclass
class Container:
    """One that runs the program."""

    where: str
    arguments: list
    # Values are None if they come from elsewhere.
    variables: dict

    @property
    def serves(self):
        return self.arguments[:1] == ["serve"]

    def port(self, program, setting):
        address = self.variables.get(setting) or program.default(setting)
        return int(address.rpartition(":")[2])


class Image:
    """What the Dockerfile says."""

    def __init__(self, root):
        text = (root / "docker/Dockerfile").read_text()
        self.variables = dict(re.findall(r"(BIPEDALNET_\w+)=(\S+)", text.rpartition("FROM ")[2]))
        self.user = int(re.search(r"^USER (\d+)", text, re.MULTILINE)[1])
        self.command = re.findall(r"\w+", re.search(r"^CMD \[(.*)\]", text, re.MULTILINE)[1])


class Compose:
    """A Compose file."""

    def __init__(self, root, name):
        self.path = root / "docker" / name
        self.text = self.path.read_text()
        [document] = documents(self.path)
        self.document = document
        self.services = document["services"]

    def containers(self, image):
        for name, service in self.services.items():
            if service.get("image") == "bipedalnet":
                arguments = service.get("command", image.command)
                variables = {**image.variables, **service.get("environment", {})}
                yield Container(f"{self.path.name}: {name}", arguments, variables)

    def serving(self, image):
        names = {container.where.rpartition(" ")[2] for container in self.containers(image) if container.serves}
        return {name: self.services[name] for name in names}


class Kubernetes:
    """A folder of manifests."""

    def __init__(self, root, name):
        self.folder = root / "packaging/kubernetes" / name
        self.name = name
        [self.kustomization] = documents(self.folder / "kustomization.yaml")
        self.kustomization_text = (self.folder / "kustomization.yaml").read_text()
        files = sorted(self.folder.glob("*.yaml"))
        self.files = [file.name for file in files if file.name != "kustomization.yaml"]
        self.resources = [
            document for file in self.files for document in documents(self.folder / file)
        ]

    def of_kind(self, kind):
        return [resource for resource in self.resources if resource["kind"] == kind]

    def one(self, kind):
        [found] = self.of_kind(kind)
        return found

    def templates(self):
        """The templates of pods, each with the name of its owner."""
        for deployment in self.of_kind("Deployment"):
            yield deployment["metadata"]["name"], deployment["spec"]["template"]
        for job in self.of_kind("CronJob"):
            yield job["metadata"]["name"], job["spec"]["jobTemplate"]["spec"]["template"]

    def pod_containers(self):
        for owner, template in self.templates():
            pod = template["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield f"{self.name}: {owner}/{container['name']}", pod, container

    def containers(self, image):
        for where, _, container in self.pod_containers():
            given = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
            yield Container(where, container["args"], {**image.variables, **given})
