"""Mistakes in manifests, written as lines of a table: title | edit | what must be told.

An edit is ``PLACE PATH = YAML``, ``PLACE PATH += YAML`` (append), ``PLACE PATH del``,
``PLACE PATH s/before/after/`` or ``PLACE gone``. A place is ``Kind/name`` or one of PLACES; a path
has dots, and may begin with one of PATHS.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from tests.manifests import Object, one

PLACES = {
    "desk": "Deployment/conclave-desk",
    "serve": "RayService/conclave",
    "train": "RayJob/train-trend",
    "config": "ConfigMap/conclave-config",
    "retrain": "CronJob/retrain",
    "inference": "CronJob/run-inference",
    "postgres": "StatefulSet/conclave-postgres",
    "redis": "StatefulSet/conclave-redis",
    "route": "Ingress/conclave",
}
PATHS = {
    "pod": "spec.template.spec",
    "box": "spec.template.spec.containers.0",
    "ray": "spec.rayClusterConfig",
    "head": "spec.rayClusterConfig.headGroupSpec",
    "worker": "spec.rayClusterConfig.workerGroupSpecs.0",
    "trainer": "spec.rayClusterSpec.workerGroupSpecs.0",
}


class Mistake(NamedTuple):
    """One line of a table."""

    title: str
    edit: str
    told: str

    def make(self, objects: list[Object]) -> None:
        """Change the objects; fails if there is nothing to change."""
        place, _, rest = self.edit.partition(" ")
        kind, _, name = PLACES.get(place, place).partition("/")
        body = one(objects, kind, name)
        if rest == "gone":
            objects.remove(body)
            return
        path, _, operation = rest.partition(" ")
        *way, last = _steps(path)
        part: Any = body
        for step in way:
            part = part[step]
        _edit(part, last, operation)


def _steps(path: str) -> list[str | int]:
    first, dot, rest = path.partition(".")
    full = PATHS.get(first, first) + dot + rest
    return [int(word) if word.isdecimal() else word for word in full.split(".")]


def _edit(part: Any, field: str | int, operation: str) -> None:
    if operation == "del":
        del part[field]
    elif operation.startswith("s/"):
        _, before, after, _ = operation.split("/")
        assert before in part[field]
        part[field] = part[field].replace(before, after)
    elif operation.startswith("+= "):
        part[field].append(yaml.safe_load(operation[3:]))
    else:
        assert operation.startswith("= "), operation
        part[field] = yaml.safe_load(operation[2:])


def table(text: str) -> list[Mistake]:
    """Read the lines of a table; a backslash continues one, # begins one that says nothing."""
    lines = [line.strip() for line in text.replace("\\\n", "").splitlines()]
    return [
        Mistake(*(cell.strip() for cell in line.split(" | ")))
        for line in lines
        if line and not line.startswith("#")
    ]
