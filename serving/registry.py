"""The models there are: those that ship, those trained here, and which of them are in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.artifacts import SHIPPED, Card, FolderStore, load, promote, promoted, versions
from agents.inspection import judged_by, scores
from agents.mirror import Mirror
from domain.cards import SHIPPED as SHIPS
from domain.cards import TRAINED, ModelInUse
from domain.errors import ModelError, NotFound
from domain.times import iso


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of one model.

    Attributes
    ----------
    name : e.g. ``baseline/trend``.
    place : ``shipped`` or ``models_dir``.
    promoted : whether its place says to use it.
    in_use : whether agents load it: promoted in MODELS_DIR, or what stands in for that.
    card : None if it does not verify.
    problem : why it must not be used.
    note : what it stands in for, and why; empty if it is the one that is meant.
    """

    name: str
    version: str
    place: str
    promoted: bool
    in_use: bool
    card: Card | None
    problem: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        body: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "place": self.place,
            "promoted": self.promoted,
            "in_use": self.in_use,
            "problem": self.problem,
            "note": self.note,
        }
        if self.card is not None:
            body |= {
                "symbol": self.card.symbol,
                "timeframe": self.card.timeframe,
                "horizon_bars": self.card.horizon_bars,
                "seen_from": iso(self.card.start_ms),
                "seen_until": iso(self.card.end_ms),
                "created_at": iso(self.card.created_at),
                "commit": self.card.commit,
                "identity": self.card.identity,
                "scores": scores(self.card),
            }
        return body


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a model that was just trained.

    Attributes
    ----------
    why : one sentence.
    scores : walk-forward means.
    """

    promoted: bool
    why: str
    scores: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        return {"promoted": self.promoted, "why": self.why, "scores": dict(self.scores)}


def names(root: Path) -> list[str]:
    """Return the names of all models under a root, e.g. ``baseline/trend``."""
    if not root.is_dir():
        return []
    found = {path.parent.parent.relative_to(root).as_posix() for path in root.rglob("card.json")}
    return sorted(found)


def listing(
    models_dir: Path,
    shipped: Path = SHIPPED,
    admits: Callable[[str, Card], object] | None = None,
) -> list[Listed]:
    """Return every version by name, those that ship first, oldest first.

    Parameters
    ----------
    admits : raises ModelError for a card that the settings do not allow.
    """
    rows = []
    for name in sorted({*names(shipped), *names(models_dir)}):
        used = _used(FolderStore(models_dir, shipped, admits), name)
        for place, root in ((SHIPS, shipped), (TRAINED, models_dir)):
            marked = _marked(root, name)
            for version in versions(root, name):
                in_use = used is not None and (used.place, used.version) == (place, version)
                card, problem = _verified(root / name / version)
                if card is not None and admits is not None and place == TRAINED:
                    problem = _refusal(admits, name, card)
                note = used.sentence if used is not None and in_use else ""
                mark = version == marked
                rows.append(Listed(name, version, place, mark, in_use, card, problem, note))
    return rows


def require_name(models_dir: Path, name: str, shipped: Path = SHIPPED) -> None:
    """Refuse a name that no model has.

    Raises
    ------
    NotFound : with the names there are.
    """
    known = sorted({*names(models_dir), *names(shipped)})
    if name not in known:
        raise NotFound("model", "must be one that exists", name, f"There are: {', '.join(known)}.")


def after_training(
    models_dir: Path,
    name: str,
    card: Card,
    *,
    promote_better: bool,
    sound: Callable[[str, str], object],
    shipped: Path = SHIPPED,
    store: Mirror | None = None,
) -> Outcome:
    """Promote a new version if that is wanted, it is better than the one in use, and sound.

    Better needs a comparison on the same rows: same bars, horizon and end. Anything else is left
    to people.

    Parameters
    ----------
    sound : raises ModelError for a version (name, version) that must not be promoted.
    store : whom a promotion is told first.
    """
    mine = scores(card)
    if not promote_better:
        return Outcome(False, "Not promoted: AUTO_PROMOTE is off.", mine)
    before = _in_use(models_dir, name, shipped)
    why_not = None if before is None else _worse(name, card, before)
    if why_not is not None:
        return Outcome(False, f"Not promoted: {why_not}.", mine)
    try:
        sound(name, card.version)
    except ModelError as error:
        return Outcome(False, f"Not promoted: {error.message}.", mine)
    promote(models_dir, name, card.version, None if store is None else store.publish)
    told = "no model was in use" if before is None else f"better than {before.version}"
    return Outcome(True, f"Promoted (AUTO_PROMOTE): {told}.", mine)


def _in_use(models_dir: Path, name: str, shipped: Path) -> Card | None:
    for row in listing(models_dir, shipped):
        if row.name == name and row.in_use:
            return row.card
    return None


def _worse(name: str, card: Card, before: Card) -> str | None:
    """Why a model is not better than another; None if it is."""
    told = [
        (c.data_sha256, c.symbol, c.timeframe, c.horizon_bars, c.end_ms) for c in (card, before)
    ]
    if told[0] != told[1]:
        return f"{before.version} was tested on other rows, so they cannot be compared"
    key, more = judged_by(name)
    new, old = scores(card).get(key), scores(before).get(key)
    if new is None or old is None:
        return f"there is no {key} to compare"
    if (new > old) if more else (new < old):
        return None
    return f"{key} {new:.5g} is not better than {old:.5g} of {before.version}"


def _used(store: FolderStore, name: str) -> ModelInUse | None:
    try:
        store.open(name)
    except ModelError:
        return None
    return store.opened[name]


def _marked(root: Path, name: str) -> str | None:
    try:
        return promoted(root, name)
    except ModelError:  # unreadable: it marks nothing
        return None


def _refusal(admits: Callable[[str, Card], object], name: str, card: Card) -> str:
    try:
        admits(name, card)
    except ModelError as error:
        return error.message
    return ""


def _verified(folder: Path) -> tuple[Card | None, str]:
    try:
        return load(folder).card, ""
    except ModelError as error:
        return None, error.message
