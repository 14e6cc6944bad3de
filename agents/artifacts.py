"""Versioned models on disk: one folder a version, a card that pins every byte, no pickle.

    <root>/<agent>/<UTC time>-<commit>/card.json, params.json, model.onnx …
    <root>/<agent>/promoted.json                → the version in use
    <root>/<agent>/metrics/latest.json, history/<version>.json

``<agent>`` may have parts, e.g. ``baseline/trend``. ``<root>`` is ``MODELS_DIR``; what ships lies
in ``agents/weights`` under the same layout and is used where ``MODELS_DIR`` has nothing promoted,
or nothing that can be used. :mod:`agents.mirror` keeps ``MODELS_DIR`` as an object store has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.environment import library_versions, training_environment
from data.features import names as feature_definitions
from domain.canonical import canonical_json, short_hash
from domain.cards import SHIPPED as SHIPS
from domain.cards import TRAINED, ModelInUse
from domain.errors import ModelError
from domain.times import iso

SHIPPED = Path(__file__).parent / "weights"
SUFFIXES = (".json", ".onnx", ".safetensors")  # nothing that runs code when it is read
POINTER = "promoted.json"
_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z._]{1,40}")
Publish = Callable[[str, bytes], object]  # name of a model and its pointer, to other machines
_KINDS = {"str": str, "int": int, "tuple[str, ...]": list}  # of a card's fields; the rest are maps


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
    metrics : validation scores inside the training period; :mod:`agents.training.reports` names
        them.
    settings : what the trainer was told.
    command : what to type to train it again.
    libraries, environment : what it was made with, see :mod:`agents.environment`.
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
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """``<UTC time>-<commit>``: the folder's name."""
        stamp = re.sub(r"[-:]|\.\d+", "", iso(self.created_at))
        return f"{stamp}-{self.commit[:12]}"

    def noting(self, notes: Mapping[str, Any] | None) -> Card:
        """Return the card with more in its metrics."""
        return replace(self, metrics={**self.metrics, **(notes or {})})

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


def save(root: Path, name: str, card: Card, contents: Mapping[str, bytes]) -> Card:
    """Write a version and its metrics; return the card with the files' hashes.

    Raises
    ------
    ModelError : if the version exists with other bytes.
    """
    hashes = {file: hashlib.sha256(body).hexdigest() for file, body in contents.items()}
    made_with = {"libraries": library_versions(), "environment": training_environment()}
    final = Card(**{**fields_of(card), "files": hashes, **made_with})
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
    card = read_card(folder / "card.json")
    contents = {}
    for name, expected in card.files.items():
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
    """Return the version in use under ``root``, or None.

    Raises
    ------
    ModelError : if the pointer is unreadable, e.g. half written.
    """
    return _pointer(root, name).version


def promote(root: Path, name: str, version: str, publish: Publish | None = None) -> None:
    """Put a version into use once it has been verified; the one before is remembered.

    The pointer is written even if it named that version already: whoever follows it looks again.

    Parameters
    ----------
    publish : told first; if it raises, nothing changed here either.

    Raises
    ------
    ModelError : if there is no such version or it does not verify.
    """
    known = versions(root, name)
    if version not in known:
        hint = f"There are: {', '.join(known)}." if known else "Train one first."
        raise ModelError(name, "can only promote a version that exists", version, hint)
    load(root / name / version)
    try:
        before = _pointer(root, name)
    except ModelError:  # what it named is lost; this mends it
        before = _Pointer()
    past = before.history if before.version == version else (*before.history, before.version)
    _point(root, name, _Pointer(version, past), publish)


def rollback(root: Path, name: str, publish: Publish | None = None) -> str | None:
    """Return to the newest earlier version that still verifies; None means what ships.

    Parameters
    ----------
    publish : told first; if it raises, nothing changed here either.

    Raises
    ------
    ModelError : if nothing was promoted, or the pointer is unreadable.
    """
    before = _pointer(root, name)
    if before.version is None:
        raise ModelError(name, "has no promoted version to leave", None, "What ships is in use.")
    history = list(before.history)
    version = history.pop() if history else None
    while version is not None and not _verifies(root / name / version):
        version = history.pop() if history else None
    _point(root, name, _Pointer(version, tuple(history if version is not None else ())), publish)
    return version


def set_pointer(root: Path, name: str, body: bytes) -> bool:
    """Take over a pointer as another machine wrote it; return whether it differs from ours.

    Raises
    ------
    ModelError : if it is none.
    """
    path = root / name / POINTER
    _parsed_pointer(body, path.as_posix(), name)
    if path.is_file() and path.read_bytes() == body:
        return False
    _write(path, body)
    return True


def pointers_stamp(root: Path, agent: str) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when a model of an agent is promoted or rolled back; cheap to ask."""
    found = []
    for path in (root / agent / POINTER, *sorted((root / agent).glob(f"*/{POINTER}"))):
        try:
            seen = path.stat()
        except OSError:
            continue
        found.append((str(path), seen.st_mtime_ns, seen.st_size, seen.st_ino))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Where agents find their models: what was promoted in ``root``, else what ships.

    A promoted version that cannot be used is passed over for the one promoted before it, and so
    on back to what ships; ``opened`` tells.

    Attributes
    ----------
    admits : raises ModelError for a card under ``root`` that must not be used (name, card).
    only : name → the one version under ``root`` that will do.
    passed : (name, version) → why a version under ``root`` is not to be tried.
    spares : whether versions that were never promoted may stand in where nothing else fits.
    fetch : brings a version (name, version) that does not lie under ``root`` yet, or raises
        ModelError.
    opened : name → what :meth:`open` gave last.
    """

    root: Path | None = None
    shipped: Path = SHIPPED
    admits: Callable[[str, Card], object] | None = None
    only: Mapping[str, str] = field(default_factory=dict)
    passed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    spares: bool = False
    fetch: Callable[[str, str], object] | None = None
    opened: dict[str, ModelInUse] = field(default_factory=dict, compare=False)

    def current(self, agent: str) -> str | None:
        """Return the folder of the version that is meant to be in use, or None."""
        for root in (self.root, self.shipped):
            version = None if root is None else promoted(root, agent)
            if root is not None and version is not None:
                return str(root / agent / version)
        return None

    def open(self, agent: str) -> Artifact:
        """Load and verify the version in use, or the best that can stand in for it.

        Raises
        ------
        ModelError : if there is none, or none that may be used.
        """
        refusals: list[ModelError] = []
        try:
            wanted = self._wanted(agent)
        except ModelError as error:
            wanted = None
            refusals.append(error)
        for place, root, version in dict.fromkeys(self._candidates(agent)):
            try:
                artifact = self._admitted(agent, place, root / agent / version)
            except ModelError as error:
                refusals.append(error)
                continue
            problem = refusals[0].message if refusals else ""
            self.opened[agent] = ModelInUse(agent, version, place, wanted, problem)
            return artifact
        raise _unusable(agent, refusals)

    def promoted_at(self, agent: str) -> int:
        """Return when the pointer under ``root`` was written, ns; 0 if there is none."""
        stamp = () if self.root is None else pointers_stamp(self.root, agent)
        return max((written for _, written, _, _ in stamp), default=0)

    def _wanted(self, agent: str) -> str | None:
        if agent in self.only or self.root is None:
            return self.only.get(agent)
        return promoted(self.root, agent)

    def _candidates(self, agent: str) -> Iterator[tuple[str, Path, str]]:
        """Every version worth trying, in order: place, root, version."""
        if self.root is not None and agent in self.only:
            yield TRAINED, self.root, self.only[agent]
            return
        if self.root is not None:
            pointer = _pointer_or_none(self.root, agent)
            past = [pointer.version, *reversed(pointer.history)]
            yield from ((TRAINED, self.root, v) for v in dict.fromkeys(past) if v is not None)
        ships = promoted(self.shipped, agent)
        if ships is not None:
            yield SHIPS, self.shipped, ships
        if self.spares and self.root is not None:
            yield from ((TRAINED, self.root, v) for v in reversed(versions(self.root, agent)))

    def _admitted(self, agent: str, place: str, folder: Path) -> Artifact:
        told = self.passed.get((agent, folder.name)) if place == TRAINED else None
        if told is not None:
            raise ModelError(told)  # tried before
        if place == TRAINED and self.fetch is not None:
            self.fetch(agent, folder.name)
        artifact = load(folder)
        if self.admits is not None and (place == TRAINED or self.spares):
            self.admits(agent, artifact.card)
        return artifact


@dataclass(frozen=True, slots=True)
class _Pointer:
    """``promoted.json``: the version in use and those before it, oldest first; None = shipped."""

    version: str | None = None
    history: tuple[str | None, ...] = ()


def _pointer(root: Path, name: str) -> _Pointer:
    path = root / name / POINTER
    if not path.is_file():
        return _Pointer()
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), f"must be readable: {error}") from error
    return _parsed_pointer(body, str(path), name)


def _parsed_pointer(text: bytes, where: str, name: str) -> _Pointer:
    mend = f"Write it anew: conclave models promote {name} VERSION"
    body = _parsed(text, where, mend)
    version, history = body.get("version", ""), body.get("history", [])
    past = history if isinstance(history, list) else [history]
    if not all(one is None or is_version(one) for one in (version, *past)):
        raise ModelError(where, "must name a version, <UTC time>-<commit>", version, mend)
    return _Pointer(version, tuple(past))


def _point(root: Path, name: str, pointer: _Pointer, publish: Publish | None) -> None:
    told = {"version": pointer.version, "history": pointer.history}
    body = (canonical_json(told) + "\n").encode()
    if publish is not None:
        publish(name, body)
    _write(root / name / POINTER, body)


def is_version(name: object) -> bool:
    """Return whether it reads ``<UTC time>-<commit>``."""
    return isinstance(name, str) and _VERSION.fullmatch(name) is not None


def _pointer_or_none(root: Path, name: str) -> _Pointer:
    try:
        return _pointer(root, name)
    except ModelError:
        return _Pointer()


def _verifies(folder: Path) -> bool:
    try:
        load(folder)
    except ModelError:
        return False
    return True


def _unusable(agent: str, refusals: Sequence[ModelError]) -> ModelError:
    if not refusals:
        kind, _, target = agent.rpartition("/")
        target = {"risk": "volatility"}.get(agent, "gate" if kind == "gate" else target)
        hint = f"Run `conclave train {target}` and promote the result."
        return ModelError(agent, "needs a promoted or shipped model", None, hint)
    if len(refusals) == 1:
        return refusals[0]
    told = "; ".join(error.message for error in refusals)
    return ModelError(agent, f"has no version that can be used: {told}", hint=refusals[0].hint)


def read_card(path: Path) -> Card:
    """Read a card alone; the files it names may be missing.

    Raises
    ------
    ModelError : if it is no card, or names files that must not lie beside one.
    """
    body = _read_json(path)
    unknown = set(body) - set(Card.__dataclass_fields__)
    if unknown:
        raise ModelError(str(path), "has fields this program does not know", sorted(unknown))
    for key, value in body.items():
        kind = _KINDS.get(str(Card.__dataclass_fields__[key].type), dict)
        if not isinstance(value, kind):
            raise ModelError(f"{path}: {key}", f"must be a JSON {kind.__name__}", value)
    for name in body.get("files", ()):
        if Path(name).name != name or Path(name).suffix not in SUFFIXES:
            told = "files are plain .json, .onnx or .safetensors"
            raise ModelError(f"{path.parent.name}: {name}", told, name)
    try:
        return Card(**{**body, "columns": tuple(body.get("columns", ()))})
    except TypeError as error:
        raise ModelError(str(path), f"is no model card: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), f"must be readable JSON: {error}") from error
    return _parsed(text, str(path))


def _parsed(text: bytes, where: str, hint: str = "") -> dict[str, Any]:
    try:
        body = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise ModelError(where, f"must be readable JSON: {error}", hint=hint) from error
    if not isinstance(body, dict):
        raise ModelError(where, "must hold a JSON object", hint=hint)
    return body


def _write_json(path: Path, body: Mapping[str, Any]) -> None:
    _write(path, (canonical_json(body) + "\n").encode())


def _write(path: Path, body: bytes) -> None:
    """Write a file as a whole; several processes may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with part.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
    part.replace(path)
