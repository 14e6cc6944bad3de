"""What the shipped rules and dashboards ask Prometheus for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RULES = CONFIGS / "prometheus-rules.yml"
DASHBOARDS = sorted((CONFIGS / "grafana").rglob("*.json"))
_PARTS = ("lhs", "rhs", "expr", "args", "param", "vector_selector")


def rules() -> list[dict[str, Any]]:
    """Every rule, recorded ones and alerts."""
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> dict[str, str]:
    """Every expression, by where it stands."""
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                where = f"{path.name} {panel['title']} {target['refId']}"
                found[where] = target["expr"].replace("$__rate_interval", "5m")
    return found


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    return set(_names(promql_parser.parse(expression)))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name
        return
    for part in _PARTS:
        inner = getattr(node, part, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None:
                yield from _names(one)
