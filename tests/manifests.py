"""The Kubernetes manifests as kustomize renders them, and ways to walk through them."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "k8s"
OVERLAYS = ("k3s-single", "k3s-multi", "k3s-store")
SECRETS = K8S / "secrets"
Object = dict[str, Any]

try:
    LOADER: Any = yaml.CSafeLoader
except AttributeError:  # PyYAML without its C part
    LOADER = yaml.SafeLoader


class Pod(NamedTuple):
    """A pod that some object makes: ``owner`` as Kind/name, ``part`` its role there."""

    owner: str
    part: str
    labels: dict[str, str]
    spec: Object

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def where(self) -> str:
        return f"{self.owner} {self.part}".strip()

    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def documents(text: str) -> list[Object]:
    return [body for body in yaml.load_all(text, LOADER) if body]


def kubectl() -> str | None:
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return shutil.which("kubectl", path=folders)


@functools.cache
def _rendered(folder: Path) -> tuple[str, ...]:
    program = kubectl()
    if program is None:
        pytest.skip("needs kubectl, which renders the overlays")
    done = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout,)


@functools.cache
def _parsed(folder: Path) -> list[Object]:
    return documents(_rendered(folder)[0])


def rendered(overlay: str) -> list[Object]:
    """The objects of an overlay, a copy of its own for everybody who asks."""
    return copy.deepcopy(_parsed(K8S / "overlays" / overlay))


def monitoring() -> list[Object]:
    return copy.deepcopy(_parsed(K8S / "monitoring"))


def secret_templates() -> list[Object]:
    return [body for path in sorted(SECRETS.glob("*.yaml")) for body in documents(path.read_text())]


def one(objects: list[Object], kind: str, name: str) -> Object:
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind}/{name}: {len(found)} of them"
    return found[0]


def of(objects: list[Object], kind: str) -> list[Object]:
    return [o for o in objects if o["kind"] == kind]


def named(body: Object) -> str:
    return f"{body['kind']}/{body['metadata'].get('name')}"


def ray_cluster(body: Object) -> Object:
    """The RayCluster's spec inside a RayService or RayJob."""
    spec: Object = body["spec"]
    return dict(spec.get("rayClusterConfig") or spec.get("rayClusterSpec") or {})


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Iterate over every pod that the objects lead to, Ray's with the labels KubeRay gives them."""
    for body in objects:
        yield from pods_of(body)


def pods_of(body: Object) -> Iterator[Pod]:
    kind, spec, owner = body["kind"], body.get("spec", {}), named(body)
    if kind in ("Deployment", "StatefulSet"):
        yield _pod(owner, "", spec["template"])
    elif kind == "CronJob":
        yield _pod(owner, "", spec["jobTemplate"]["spec"]["template"])
    elif kind in ("RayService", "RayJob"):
        cluster = ray_cluster(body)
        yield _pod(owner, "head", cluster["headGroupSpec"]["template"], node="head")
        for group in cluster["workerGroupSpecs"]:
            yield _pod(owner, f"workers {group['groupName']}", group["template"], node="worker")
        if "submitterPodTemplate" in spec:
            yield _pod(owner, "submitter", spec["submitterPodTemplate"])


def _pod(owner: str, part: str, template: Object, node: str | None = None) -> Pod:
    labels = dict(template.get("metadata", {}).get("labels", {}))
    if node:
        labels |= {"ray.io/node-type": node, "ray.io/is-ray-node": "yes"}
    return Pod(owner, part, labels, template["spec"])


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector fits labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(
        labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
        if rule["operator"] == "In"
    )


def references(spec: Object) -> Iterator[tuple[str, str]]:
    """Iterate over (Secret | ConfigMap, name) that the containers and volumes of a pod refer to."""
    kinds = {
        "secretRef": "Secret", "secretKeyRef": "Secret",
        "configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap",
    }  # fmt: skip
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        sources = list(container.get("envFrom", []))
        sources += [entry.get("valueFrom", {}) for entry in container.get("env", [])]
        for source in sources:
            for key, kind in kinds.items():
                if key in source:
                    yield kind, source[key]["name"]
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
