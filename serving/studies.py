"""A search for a training's settings: what it asks, what was tried, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.inspection import judged_by
from agents.training.dataset import Source
from agents.training.settings import Setting, as_setting
from agents.training.trainable import Trainable
from domain.canonical import canonical_json, plain, short_hash
from domain.errors import ModelError

State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial.

    Attributes
    ----------
    number : from 1 on.
    settings : what was tried, by dotted name.
    score : by which trials are compared, of the last validation; None if there was none.
    state : ``stopped`` early, because others did better by then; ``failed`` with an error.
    reached : steps or folds done.
    seconds : of work.
    """

    number: int
    settings: Mapping[str, Setting]
    score: float | None
    state: State
    reached: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Study:
    """What is searched.

    Attributes
    ----------
    spec : the training; what its settings leave open is chosen.
    source : of every trial, and the search's seed.
    trials : how many. ``concurrent`` : how many at a time; more than one makes a search quicker
        and its course depend on who is done first.
    root : folder of the training's studies.
    """

    spec: Trainable
    source: Source
    trials: int
    concurrent: int
    root: Path

    @property
    def name(self) -> str:
        """Hash of the question: bars, end, seed, commit, settings, space, trials."""
        source = self.source
        asked = [
            self.spec.question, dict(self.spec.space), source.data_sha256, source.end_ms,
            source.seed, source.folds, self.trials, source.commit,
        ]  # fmt: skip
        return short_hash(asked, 12)

    @property
    def folder(self) -> Path:
        """Where it keeps everything."""
        return self.root / self.name

    @property
    def checkpoint(self) -> Path:
        """The best trial's, once the study is finished: training goes on from it."""
        return self.folder / "best.checkpoint"

    @property
    def length(self) -> int:
        """Steps or folds of a trial that is not stopped."""
        return self.spec.length(self.source.folds)

    @property
    def judge(self) -> tuple[str, bool]:
        """The validation score that decides, and whether more is better."""
        return judged_by(self.spec.name)

    def finished(self) -> Found | None:
        """Return what an earlier run found, or None if there is still something to do.

        Raises
        ------
        ModelError : if its file cannot be read.
        """
        path = self.folder / "found.json"
        if not path.is_file():
            return None
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            tried = tuple(Tried(**row) for row in body["trials"])
            return Found(body["study"], body["metric"], body["more"], tried)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"study {path}", f"must be readable: {error}", None, "Search anew with --fresh."
            ) from error

    def finish(self, found: Found) -> None:
        """Keep what was found, so that the same question is not searched again."""
        path = self.folder / "found.json"
        part = path.with_suffix(".part")
        part.write_text(canonical_json(found.as_json()), encoding="utf-8")
        part.replace(path)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a study.

    Attributes
    ----------
    study : its name. ``metric``, ``more`` : the score that decided, and whether more is better.
    trials : in order.

    Raises
    ------
    ModelError : if no trial came to its end.
    """

    study: str
    metric: str
    more: bool
    trials: tuple[Tried, ...]

    def __post_init__(self) -> None:
        if not ended(self.trials):
            raise ModelError(
                f"study {self.study}", f"none of its {len(self.trials)} trials came to its end"
            )

    @property
    def best(self) -> Tried:
        """The best of the trials that came to their end; the first of equals."""
        return better(ended(self.trials), self.more)

    def notes(self) -> dict[str, Any]:
        """Return what a model card says about the search."""
        states = [one.state for one in self.trials]
        counts = {state: states.count(state) for state in ("finished", "stopped", "failed")}
        told = {"trials": len(states), **counts, "best_trial": self.best.number}
        return {"tuning": {"study": self.study, "metric": self.metric, **told,
                           "best": self.best.score}}  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        body: dict[str, Any] = plain(
            {"study": self.study, "metric": self.metric, "more": self.more,
             "best_trial": self.best.number, "trials": self.trials}
        )  # fmt: skip
        return body


def ended(trials: Iterable[Tried]) -> list[Tried]:
    """Return the trials that came to their end, with a score."""
    return [one for one in trials if one.state == "finished" and one.score is not None]


def better(trials: Sequence[Tried], more: bool) -> Tried:
    """Return the trial with the best score, the first of equals; all have one."""
    sign = 1.0 if more else -1.0
    return max(trials, key=lambda one: sign * (one.score or 0.0))


def words(settings: Mapping[str, Setting]) -> str:
    """Return settings as ``--with`` takes them, e.g. ``hidden=16 schedule.rate=0.002``."""
    return " ".join(f"{name}={as_setting(value)}" for name, value in sorted(settings.items()))
