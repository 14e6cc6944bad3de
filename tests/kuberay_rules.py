"""What KubeRay 1.7 accepts: its CRD schemas, unknown fields refused, and its operator's rules."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.manifests import LOADER, Object, named, ray_cluster

FOLDER = os.environ.get("KUBERAY_CRDS")  # folder of ray.io_*.yaml; unset: schemas are not checked
NAME_MOST = 47
LEAST_RAY_FOR_TOKENS = (2, 52, 0)
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+|[1-9][0-9]*")


@functools.cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """The validator of a kind's v1 schema; skips the test where the schemas are not to be had."""
    if not FOLDER:
        pytest.skip("KUBERAY_CRDS is not set: no folder of KubeRay's CRD schemas")
    path = Path(FOLDER) / f"ray.io_{kind.lower()}s.yaml"
    body = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    version = next(v for v in body["spec"]["versions"] if v["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    _close(schema)
    return jsonschema.Draft202012Validator(schema)


def _close(schema: Any) -> None:
    """Refuse fields that the schema does not name, as a strict API server does."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        fields = schema.get("properties")
        if isinstance(fields, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)


def schema_problems(body: Object) -> Iterator[str]:
    for error in validator(body["kind"]).iter_errors(body):
        yield f"{named(body)}: schema: {error.json_path}: {error.message[:200]}"


def operator_problems(body: Object) -> Iterator[str]:
    """What the operator's validation would refuse, in its order."""
    name, spec = body["metadata"]["name"], body["spec"]
    if len(name) > NAME_MOST or not DNS_1035.fullmatch(name):
        yield f"{named(body)}: operator: name must be a DNS-1035 label of at most {NAME_MOST}"
    timeout = body["metadata"].get("annotations", {}).get("ray.io/initializing-timeout", "1m")
    if not DURATION.fullmatch(timeout):
        yield f"{named(body)}: operator: initializing-timeout must be a duration, not {timeout}"
    specific = _service if body["kind"] == "RayService" else _job
    for problem in (*_cluster(ray_cluster(body)), *specific(spec)):
        yield f"{named(body)}: operator: {problem}"


def _cluster(cluster: Object) -> Iterator[str]:
    head, workers = cluster["headGroupSpec"], cluster.get("workerGroupSpecs", [])
    groups = [head, *workers]
    if any(not group["template"]["spec"].get("containers") for group in groups):
        yield "every group needs a container"
        return
    for group in groups:
        params = group.get("rayStartParams", {})
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(params):
            yield "resources stand in rayStartParams or in resources, not in both"
        if "labels" in params:
            yield "labels do not belong into rayStartParams"
    env = {entry["name"] for entry in head["template"]["spec"]["containers"][0].get("env", [])}
    fault_tolerant = cluster.get("gcsFaultToleranceOptions")
    if "RAY_REDIS_ADDRESS" in env:
        yield "the address of Redis belongs into gcsFaultToleranceOptions"
    if fault_tolerant and "REDIS_PASSWORD" in env | {
        key.replace("-", "_").upper() for key in head.get("rayStartParams", {})
    }:
        yield "the password of Redis belongs into gcsFaultToleranceOptions"
    yield from _autoscaler(cluster, groups, env)
    if cluster.get("authOptions", {}).get("mode") == "token":
        version = cluster.get("rayVersion", "")
        numbers = tuple(map(int, version.split("."))) if re.fullmatch(r"[\d.]+", version) else ()
        if numbers < LEAST_RAY_FOR_TOKENS:
            yield f"tokens need rayVersion 2.52.0 or newer, not {version or 'none'}"


def _autoscaler(cluster: Object, groups: list[Object], env: set[str]) -> Iterator[str]:
    scales = cluster.get("enableInTreeAutoscaling", False)
    version = cluster.get("autoscalerOptions", {}).get("version")
    if "RAY_enable_autoscaler_v2" in env and (version or not scales):
        yield "the autoscaler's version belongs into autoscalerOptions"
    if scales and version == "v2":
        for group in groups:
            if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                yield "restartPolicy must be Never with autoscaler v2"
    if any(group.get("suspend") for group in groups):
        yield "a worker group cannot be suspended"


def _service(spec: Object) -> Iterator[str]:
    kind = spec.get("upgradeStrategy", {}).get("type", "NewCluster")
    if kind not in ("NewCluster", "None", "NewClusterWithIncrementalUpgrade"):
        yield f"upgradeStrategy.type {kind} is none"
    head = spec["rayClusterConfig"]["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "the head service must not be named"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds must not be negative"


def _job(spec: Object) -> Iterator[str]:
    shuts = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("suspend") and not shuts:
        yield "what is suspended must have shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "ttlSecondsAfterFinished must not be negative"
    if spec.get("ttlSecondsAfterFinished", 0) and not shuts:
        yield "ttlSecondsAfterFinished needs shutdownAfterJobFinishes"
    if spec.get("backoffLimit", 0) < 0 or spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "backoffLimit and activeDeadlineSeconds must be positive"
    if "rayClusterSpec" not in spec and not spec.get("clusterSelector"):
        yield "needs a cluster"
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"):
        yield f"submissionMode {mode} is none"
    if mode == "SidecarMode" and {"submitterPodTemplate", "submitterConfig"} & set(spec):
        yield "SidecarMode takes no submitterPodTemplate and no submitterConfig"
    if mode == "InteractiveMode" and spec.get("backoffLimit", 0) > 0:
        yield "InteractiveMode takes no backoffLimit"
    if "deletionStrategy" in spec:
        yield "deletionStrategy is behind a feature gate"
