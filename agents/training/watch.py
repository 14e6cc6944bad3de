"""Who follows a training: progress for people, scores for whoever schedules trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def _nothing(*_: Any) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks of a training, and where it keeps what it needs to go on after a kill.

    Attributes
    ----------
    say : a new phase, in words.
    tick : steps done, steps in all, and a few words; called often.
    checked : steps or folds done, and validation scores; may raise to end the run.
    scored : the validation scores that the card will have, before the rest of the work; may raise
        to end the run.
    checkpoint : file that a training writes as it goes and resumes from; None = none.
    """

    say: Callable[[str], None] = _nothing
    tick: Callable[[int, int, str], None] = _nothing
    checked: Callable[[int, Mapping[str, float]], None] = _nothing
    scored: Callable[[Mapping[str, float]], None] = _nothing
    checkpoint: Path | None = None
