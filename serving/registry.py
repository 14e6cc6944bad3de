"""The models there are: those that ship, those trained here, and which of them are in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.artifacts import SHIPPED, Card, load, promote, promoted, versions
from domain.errors import ModelError, NotFound
from domain.times import iso

SHIPS, TRAINED = "shipped", "models_dir"

# What decides whether a model is better: the walk-forward score, and whether more is better.
_JUDGED_BY: Mapping[str, tuple[str, bool]] = {
    "baseline/trend": ("brier_skill_1e4", True),
    "baseline/return": ("pinball_bps", False),
    "baseline/risk": ("down_brier", False),
    "risk": ("pinball_bps", False),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of one model.

    Attributes
    ----------
    name : e.g. ``baseline/trend``.
    place : ``shipped`` or ``models_dir``.
    promoted : whether its place says to use it.
    in_use : whether agents load it: promoted in MODELS_DIR, or shipped and nothing promoted there.
    card : None if it does not verify; ``problem`` says why.
    """

    name: str
    version: str
    place: str
    promoted: bool
    in_use: bool
    card: Card | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        body: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "place": self.place,
            "promoted": self.promoted,
            "in_use": self.in_use,
            "problem": self.problem,
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


def listing(models_dir: Path, shipped: Path = SHIPPED) -> list[Listed]:
    """Return every version by name, those that ship first, oldest first."""
    rows = []
    for name in sorted({*names(shipped), *names(models_dir)}):
        chosen = promoted(models_dir, name)
        for place, root in ((SHIPS, shipped), (TRAINED, models_dir)):
            marked = promoted(root, name)
            for version in versions(root, name):
                is_marked = version == marked
                in_use = is_marked and (place == TRAINED or chosen is None)
                card, problem = _verified(root / name / version)
                rows.append(Listed(name, version, place, is_marked, in_use, card, problem))
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


def scores(card: Card) -> dict[str, float]:
    """Return the walk-forward means of a card; empty if it has none."""
    told = card.metrics.get("walk_forward", {})
    return {key: float(value) for key, value in told.items() if isinstance(value, int | float)}


def after_training(
    models_dir: Path, name: str, card: Card, *, promote_better: bool, shipped: Path = SHIPPED
) -> Outcome:
    """Promote a new version if that is wanted and it is better than the one in use.

    Better needs a comparison on the same rows: same bars, horizon and end. Anything else is left
    to people.
    """
    mine = scores(card)
    if not promote_better:
        return Outcome(False, "Not promoted: AUTO_PROMOTE is off.", mine)
    before = _in_use(models_dir, name, shipped)
    why_not = None if before is None else _worse(name, card, before)
    if why_not is not None:
        return Outcome(False, f"Not promoted: {why_not}.", mine)
    promote(models_dir, name, card.version)
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
    key, more = _JUDGED_BY[name]
    new, old = scores(card).get(key), scores(before).get(key)
    if new is None or old is None:
        return f"there is no {key} to compare"
    if (new > old) if more else (new < old):
        return None
    return f"{key} {new:.5g} is not better than {old:.5g} of {before.version}"


def _verified(folder: Path) -> tuple[Card | None, str]:
    try:
        return load(folder).card, ""
    except ModelError as error:
        return None, error.message
