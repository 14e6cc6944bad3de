"""How much a score depends on which months were tested: combinatorial purged cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.splits import combinatorial_purged
from sim.learners import MIN_TRAIN, Learner, Table
from sim.progress import Progress

GROUPS, TESTED = 6, 2  # fifteen fits, five paths


@dataclass(frozen=True, slots=True)
class Paths:
    """Brier gains against ½ × 10⁴ of the paths through the same history.

    Attributes
    ----------
    paths : one a path; each bar is forecast once a path, by a fit that had purged it.
    mean, sd : over the paths. They share their history, so the sd is no standard error.
    """

    paths: tuple[float, ...]
    mean: float
    sd: float
    n: int


def cross_validate(
    table: Table, learner: Learner, horizon: int, progress: Progress | None = None
) -> Paths | None:
    """Score a learner on every path of combinatorial purged CV (López de Prado 2018, ch. 12).

    Parameters
    ----------
    table : all its usable rows take part, those of the range and those before it.
    progress : called with fits done and fits in all.

    Returns
    -------
    None if there are too few rows.
    """
    rows = np.flatnonzero(table.train | table.test)
    if len(rows) < MIN_TRAIN:
        return None
    ts, x, up = table.ts[rows], table.x[rows], table.up[rows]
    cut = combinatorial_purged(ts, horizon, table.step, GROUPS, TESTED, embargo=horizon)
    chances = np.full((len(cut.splits), len(rows)), np.nan)
    for k, split in enumerate(cut.splits):
        heard = np.flatnonzero(split.train | split.test)
        p = learner(x[heard], up[heard], split.train[heard])
        chances[k, split.test] = p[split.test[heard]]
        if progress is not None:
            progress(k + 1, len(cut.splits))
    gains = 0.25 - (cut.rejoin(chances) - up) ** 2
    paths = tuple((gains.mean(axis=1) * 1e4).tolist())
    return Paths(paths, float(np.mean(paths)), float(np.std(paths, ddof=1)), len(rows))
