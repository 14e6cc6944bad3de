"""Versioned models on disk: one folder a version, a card that pins every byte, no pickle.

    <root>/<agent>/<UTC time>-<commit>/card.json, params.json, model.onnx …
    <root>/<agent>/promoted.json                → the version in use
    <root>/<agent>/metrics/latest.json, history/<version>.json

``<agent>`` may have parts, e.g. ``baseline/trend``. ``<root>`` is ``MODELS_DIR``; what ships lies
in ``agents/weights`` under the same layout and is used where ``MODELS_DIR`` has nothing promoted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from data.features import names as feature_definitions
from domain.canonical import canonical_json, short_hash
from domain.errors import ModelError
from domain.times import iso

SHIPPED = Path(__file__).parent / "weights"
_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z._]{1,40}")
_LIBRARIES = ("numpy", "scikit-learn", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Card:
    """A model card: where a model comes from, and the hash of every file beside it.

    Attributes
    ----------
    agent, target : e.g. ``baseline`` and ``trend``.
    created_at : UTC ms.
    commit : git commit of the code that trained it.
    data_sha256 : of the bars file.
    symbol, timeframe, horizon_bars : what it forecasts.
    start_ms, end_ms : bars that open in [start, end) were seen; nothing later was.
    columns : feature columns read, in order; ``feature_schema`` hashes them and their definitions.
    metrics : validation scores inside the training period.
    command : what to type to train it again.
    files : name → sha256.
    """

    agent: str
    target: str
    created_at: int
    commit: str
    data_sha256: str
    symbol: str
    timeframe: str
    horizon_bars: int
    start_ms: int
    end_ms: int
    seed: int
    columns: tuple[str, ...] = ()
    feature_schema: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """``<UTC time>-<commit>``: the folder's name."""
        stamp = re.sub(r"[-:]|\.\d+", "", iso(self.created_at))
        return f"{stamp}-{self.commit[:12]}"

    @property
    def identity(self) -> str:
        """Short hash of the files' bytes: equal models are equal versions, wherever they lie."""
        return short_hash([self.agent, self.target, dict(self.files)], 12)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified version: its card and the bytes of its files."""

    folder: Path
    card: Card
    contents: Mapping[str, bytes]

    def params(self) -> dict[str, Any]:
        """Return ``params.json``.

        Raises
        ------
        ModelError : if there is none.
        """
        if "params.json" not in self.contents:
            raise ModelError(str(self.folder), "must hold params.json")
        body: dict[str, Any] = json.loads(self.contents["params.json"])
        return body


def columns_hash(columns: Sequence[str]) -> str:
    """Return the hash of the columns a model reads and of what they mean."""
    return short_hash([feature_definitions.DEFINITION, list(columns)])


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that shape a model."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def save(root: Path, name: str, card: Card, contents: Mapping[str, bytes]) -> Card:
    """Write a version and its metrics; return the card with the files' hashes.

    Raises
    ------
    ModelError : if the version exists with other bytes.
    """
    hashes = {file: hashlib.sha256(body).hexdigest() for file, body in contents.items()}
    fields = {key: getattr(card, key) for key in Card.__dataclass_fields__}
    final = Card(**{**fields, "files": hashes, "libraries": library_versions()})
    if not _VERSION.fullmatch(final.version):
        raise ModelError("version", "must be <UTC time>-<commit>", final.version)
    folder = root / name / final.version
    if folder.exists() and load(folder).card.files != final.files:
        raise ModelError(str(folder), "versions never change", None, "Train with a later time.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, body in contents.items():
        (folder / file).write_bytes(body)
    _write_json(folder / "card.json", fields_of(final))
    report = {"version": final.version, "metrics": final.metrics}
    _write_json(root / name / "metrics" / "latest.json", report)
    _write_json(root / name / "metrics" / "history" / f"{final.version}.json", report)
    return final


def fields_of(card: Card) -> dict[str, Any]:
    """Return a card as JSON-able fields."""
    return {key: getattr(card, key) for key in Card.__dataclass_fields__}


def load(folder: Path) -> Artifact:
    """Read a version and verify it.

    Raises
    ------
    ModelError : if the card is unreadable, a file's bytes are not those of the card, a file is
        pickled, or its feature columns mean something else today.
    """
    card = _read_card(folder / "card.json")
    contents = {}
    for name, expected in card.files.items():
        if Path(name).name != name or Path(name).suffix not in {".json", ".onnx"}:
            raise ModelError(f"{folder.name}: {name}", "files are plain .json or .onnx", name)
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{folder.name}: {name}", "is named in the card but missing")
        body = path.read_bytes()
        found = hashlib.sha256(body).hexdigest()
        if found != expected:
            raise ModelError(
                f"{folder.name}: {name}", f"its sha256 must be {expected}", found,
                "The file was changed or cut off: restore it, or train again.",
            )  # fmt: skip
        contents[name] = body
    if card.columns and card.feature_schema != columns_hash(card.columns):
        raise ModelError(
            folder.name, f"its feature schema must be {columns_hash(card.columns)}",
            card.feature_schema, "Features changed since it was trained: train again.",
        )  # fmt: skip
    return Artifact(folder, card, contents)


def versions(root: Path, name: str) -> list[str]:
    """Return the versions of an agent under ``root``, oldest first."""
    folder = root / name
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and _VERSION.fullmatch(p.name))


def promoted(root: Path, name: str) -> str | None:
    """Return the version in use under ``root``, or None."""
    path = root / name / "promoted.json"
    if not path.is_file():
        return None
    version = str(_read_json(path).get("version"))
    if not _VERSION.fullmatch(version):
        raise ModelError(str(path), "must name a version, <UTC time>-<commit>", version)
    return version


def promote(root: Path, name: str, version: str) -> None:
    """Put a version into use once it has been verified; the one before is remembered.

    Raises
    ------
    ModelError : if there is no such version or it does not verify.
    """
    known = versions(root, name)
    if version not in known:
        hint = f"There are: {', '.join(known)}." if known else "Train one first."
        raise ModelError(name, "can only promote a version that exists", version, hint)
    load(root / name / version)
    path = root / name / "promoted.json"
    before = _read_json(path) if path.is_file() else {"version": None, "history": []}
    if before["version"] != version:
        past = [*before["history"], before["version"]]
        _write_json(path, {"version": version, "history": past})


def rollback(root: Path, name: str) -> str | None:
    """Return to the version promoted before; None means what ships.

    Raises
    ------
    ModelError : if nothing was promoted.
    """
    path = root / name / "promoted.json"
    if not path.is_file():
        raise ModelError(name, "has no promoted version to leave", None, "What ships is in use.")
    history = list(_read_json(path)["history"])
    version = history.pop() if history else None
    if version is None:
        path.unlink()
    else:
        _write_json(path, {"version": version, "history": history})
    return version


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Where agents find their models: what was promoted in ``root``, else what ships."""

    root: Path | None = None
    shipped: Path = SHIPPED

    def current(self, agent: str) -> str | None:
        """Return the folder of the version in use, or None."""
        for root in (self.root, self.shipped):
            version = None if root is None else promoted(root, agent)
            if root is not None and version is not None:
                return str(root / agent / version)
        return None

    def open(self, agent: str) -> Artifact:
        """Load and verify the version in use.

        Raises
        ------
        ModelError : if there is none, or it does not verify.
        """
        folder = self.current(agent)
        if folder is None:
            target = "volatility" if agent == "risk" else agent.split("/")[-1]
            hint = f"Run `conclave train {target}` and promote the result."
            raise ModelError(agent, "needs a promoted or shipped model", None, hint)
        return load(Path(folder))


def _read_card(path: Path) -> Card:
    body = _read_json(path)
    unknown = set(body) - set(Card.__dataclass_fields__)
    if unknown:
        raise ModelError(str(path), "has fields this program does not know", sorted(unknown))
    try:
        return Card(**{**body, "columns": tuple(body.get("columns", ()))})
    except TypeError as error:
        raise ModelError(str(path), f"is no model card: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(str(path), f"must be readable JSON: {error}") from error
    if not isinstance(body, dict):
        raise ModelError(str(path), "must hold a JSON object")
    return body


def _write_json(path: Path, body: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp")
    part.write_text(canonical_json(body) + "\n", encoding="utf-8")
    part.replace(path)
