"""Model versions for tests: the shipped ones under another time, changed or damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.artifacts import Card, FolderStore, promote, save
from domain.times import parse_iso

FIRST, SECOND, THIRD = "2027-01-01", "2027-01-02", "2027-01-03"


def made(
    root: Path,
    name: str,
    at: str = FIRST,
    params: Mapping[str, Any] | None = None,
    contents: Mapping[str, bytes] | None = None,
    **card: Any,
) -> Card:
    """Save what ships as a version of ``at``, with other params, files or card fields."""
    shipped = FolderStore().open(name)
    body = json.dumps({**shipped.params(), **(params or {})}).encode()
    files = {**shipped.contents, "params.json": body, **(contents or {})}
    changed = replace(shipped.card, created_at=parse_iso(at), commit="abc1234", **card)
    return save(root, name, changed, files)


def in_use(root: Path, name: str, at: str = FIRST, **changes: Any) -> Card:
    """Make a version and promote it, unseen: as by hand, or before it was damaged."""
    card = made(root, name, at, **changes)
    promote(root, name, card.version)
    return card


def wider(times: float) -> dict[str, Any]:
    """Params of a ``risk`` model whose quantiles are so many times as wide."""
    residuals = FolderStore().open("risk").params()["residuals"]
    return {"residuals": [times * value for value in residuals]}


def damage(root: Path, name: str, version: str, file: str = "params.json") -> Path:
    """Change one byte of a stored file and return its path."""
    path = root / name / version / file
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    return path
