"""What every pod of the cluster must be, as functions from objects to problems in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.manifests import Object, Pod, named, of, one, pods, pods_of, references, secret_templates

NAMESPACE = "ml"
CLAIMS = {"ml-data-pvc", "ml-models-pvc", "ml-logs-pvc"}
TAG = re.compile(r"[\w./:-]+:v?\d+(\.\d+)+[\w.-]*")
WITH_ACCOUNT = {"RayService/conclave head", "CronJob/retrain"}  # may talk to the Kubernetes API
LONG_LIVED = ("Deployment", "StatefulSet")
DIRECTORIES = {
    "VAR_DIR": "/mnt/data", "DATA_DIR_RAW": "/mnt/data", "DATA_DIR_PROCESSED": "/mnt/data",
    "MODELS_DIR": "/mnt/models", "LOGS_DIR": "/mnt/logs",
}  # fmt: skip
# Which Secrets each component may see: whoever runs submitted jobs sees none to trade with.
MAY_SEE = {
    "serve": {"conclave-api", "conclave-database", "conclave-objects"},
    "desk": {
        "conclave-api",
        "conclave-database",
        "conclave-objects",
        "conclave-telegram",
        "conclave-trading",
    },
    "inference": {"conclave-database", "conclave-objects"},
    "database": {"conclave-database"},
    "redis": {"conclave-redis"},
    "train": {"conclave-objects"},
    "submit": set(),
    "retrain": set(),
}
# No template: made by whoever trades, or has a store; no setting of ours reads them.
OPTIONAL = {"conclave-objects", "conclave-trading"}


def pod_problems(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        for problem in (
            *_identity(pod), *_containers(pod), *_volumes(pod), *_links(pod), *_placement(pod),
            *_secrets(pod),
        ):  # fmt: skip
            yield f"{pod.where}: {problem}"
    yield from _probes(objects)
    yield from _known_references(objects)
    yield from _directories(objects)


def _identity(pod: Pod) -> Iterator[str]:
    context = pod.spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "must run as a user that is not root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "needs the seccomp profile RuntimeDefault"
    if not context.get("fsGroup"):
        yield "needs a fsGroup, or it cannot write to its volumes"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"must not have {field}"


def _containers(pod: Pod) -> Iterator[str]:
    for container in pod.containers():
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield "must not be able to gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield "must drop ALL capabilities and add none"
        if context.get("readOnlyRootFilesystem") is not True:
            yield "needs a read-only root filesystem"
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield "must run as a user that is not root"
        if not TAG.fullmatch(container["image"]):
            yield f"image {container['image']} must have an exact tag"
        for side in ("requests", "limits"):
            if {"cpu", "memory"} - set(container.get("resources", {}).get(side, {})):
                yield f"needs {side} of cpu and memory"


def _volumes(pod: Pod) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    known = set(volumes)
    if pod.owner.startswith("StatefulSet/"):
        known |= {"database", "redis"}  # of their volumeClaimTemplates
    for container in pod.containers():
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in known:
                yield f"mounts {mount['name']}, which is no volume of it"
            if mount["mountPath"].startswith("/app"):
                yield "mounts over the application"
    for volume in volumes.values():
        kind = next(iter(set(volume) - {"name"}), None)
        if kind not in ("emptyDir", "persistentVolumeClaim"):
            yield f"volume {volume['name']} is a {kind}"
        if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} needs a sizeLimit"
        if kind == "persistentVolumeClaim" and volume[kind]["claimName"] not in CLAIMS:
            yield f"volume {volume['name']} claims {volume[kind]['claimName']}, which is none"


def _links(pod: Pod) -> Iterator[str]:
    # a service conclave-… would put CONCLAVE_…_PORT into the environment: an unknown setting
    if pod.spec.get("enableServiceLinks") is not False:
        yield "must have enableServiceLinks: false"
    wants = pod.where in WITH_ACCOUNT
    if pod.spec.get("automountServiceAccountToken") is not wants:
        yield f"must have automountServiceAccountToken: {str(wants).lower()}"
    if pod.spec.get("serviceAccountName") in (None, "default"):
        yield "must not use the default service account"


def _placement(pod: Pod) -> Iterator[str]:
    trains = pod.owner.startswith("RayJob/")
    if trains and pod.spec.get("nodeSelector") != {"role": "ml"}:
        yield "must run where role=ml"


def _secrets(pod: Pod) -> Iterator[str]:
    seen = {name for kind, name in references(pod.spec) if kind == "Secret"}
    if pod.component not in MAY_SEE:
        yield f"has no known component, but {pod.component or 'none'}"
        return
    for name in sorted(seen - MAY_SEE[pod.component]):
        yield f"must not see the Secret {name}"
    for container in pod.containers():
        env = {entry["name"]: entry for entry in container.get("env", [])}
        open_to_others = env.get("API_HOST", {}).get("value", "127.0.0.1") != "127.0.0.1"
        if open_to_others and "API_TOKEN" not in env:
            yield "leaves loopback without an API_TOKEN"
        for name, entry in env.items():
            if re.search(r"TOKEN|PASSWORD|SECRET|API_KEY|DATABASE_URL", name) and "value" in entry:
                yield f"{name} must come from a Secret"


def _probes(objects: list[Object]) -> Iterator[str]:
    for body in objects:
        for pod in pods_of(body):
            for container in pod.spec["containers"]:
                probes = {p for p in ("startupProbe", "readinessProbe", "livenessProbe")
                          if p in container}  # fmt: skip
                if body["kind"] in LONG_LIVED and len(probes) < 3:
                    yield f"{pod.where}: needs startup, readiness and liveness probes"
                if body["kind"] in ("RayService", "RayJob") and probes:
                    yield f"{pod.where}: must leave its probes to KubeRay"


def _known_references(objects: list[Object]) -> Iterator[str]:
    templates = {body["metadata"]["name"] for body in secret_templates()} | OPTIONAL
    maps = {body["metadata"]["name"] for body in of(objects, "ConfigMap")}
    accounts = {body["metadata"]["name"] for body in of(objects, "ServiceAccount")}
    for pod in pods(objects):
        for kind, name in references(pod.spec):
            if name not in (templates if kind == "Secret" else maps):
                yield f"{pod.where}: refers to {kind} {name}, which is nowhere"
        if pod.spec.get("serviceAccountName") not in accounts:
            yield f"{pod.where}: uses the service account {pod.spec.get('serviceAccountName')}"
    claims = {body["metadata"]["name"] for body in of(objects, "PersistentVolumeClaim")}
    if claims != CLAIMS:
        yield f"PersistentVolumeClaims must be {sorted(CLAIMS)}, not {sorted(claims)}"
    for body in objects:
        space = body["metadata"].get("namespace")
        if body["kind"] != "Namespace" and space != NAMESPACE:
            yield f"{named(body)}: must be in namespace {NAMESPACE}, not {space}"


def _directories(objects: list[Object]) -> Iterator[str]:
    config = one(objects, "ConfigMap", "conclave-config")["data"]
    for name, mount in DIRECTORIES.items():
        if PurePosixPath(mount) not in PurePosixPath(config.get(name, "/")).parents and (
            config.get(name) != mount
        ):
            yield f"ConfigMap/conclave-config: {name} must lie on {mount}"
