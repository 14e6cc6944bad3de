"""What a direction can be learned from, and how well it was: a table of rows, split by time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.training.dataset import VOLUME_FROM as VOLUME_FROM
from data.features import REFERENCE_54, build_features
from data.labels import make_labels, training_rows
from domain import scores as proper
from domain.market import BarFrame
from sim.scoring import Floats, Mask, day_block_shuffles
from sim.statistics.comparing import block_bars, hac_lag, hac_se

Learner = Callable[[Floats, Mask, Mask], Floats]
"""x (n, k) finite, up (n,), training rows (n,) → p (n,). It is given the labels of all rows, so
that one which reads those of the others is found out."""

MIN_TRAIN = 5_000  # rows; with fewer nothing is fitted
MIN_TEST = 600  # rows; with fewer nothing is scored
_SPANS = 4  # nor with fewer than so many lags of the errors
NO_TRAINING = f"fewer than {MIN_TRAIN} training rows before the range"


def min_test(horizon: int) -> int:
    """Return with how many rows anything is scored: 600, more where labels overlap for long."""
    return max(MIN_TEST, _SPANS * hac_lag(horizon))


def no_test(horizon: int) -> str:
    """Say why nothing is scored."""
    return f"fewer than {min_test(horizon)} rows to score"


def logistic(x: Floats, up: Mask, train: Mask) -> Floats:
    """Learn a standardised logistic regression with L2 (C = 1e-3): the default learner."""
    from sim.baselines.logistic import fit_logistic_54

    return fit_logistic_54(x, up, train, 1e-3).chance(x)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What a learner learns from; row i is bar i.

    Attributes
    ----------
    ts : (n,) bar opens, UTC ms. ``step`` in ms. ``horizon`` : bars that a label spans.
    x : (n, 54) features. ``up`` : (n,) labels.
    usable : (n,) rows with features and a label.
    train, test : (n,) usable rows before the range, purged, and inside it.
    """

    ts: NDArray[np.int64]
    step: int
    x: Floats
    up: Mask
    usable: Mask
    train: Mask
    test: Mask
    horizon: int

    @classmethod
    def of(cls, past: BarFrame, start_ms: int, horizon: int, train_from_ms: int) -> Table:
        """Make features and labels of all bars and split them at ``start_ms``."""
        made, labels = build_features(past), make_labels(past, horizon)
        x = made.values[:, [made.names.index(name) for name in REFERENCE_54]]
        usable = labels.valid & np.isfinite(x).all(axis=1)
        early = training_rows(past.ts, start_ms, horizon, past.step_ms)
        train = usable & early & (past.ts >= train_from_ms)
        test = usable & (past.ts >= start_ms)
        return cls(past.ts, past.step_ms, x, labels.up, usable, train, test, horizon)

    def shifted(self, bars: int) -> Table:
        """Return the table with features of bar i + ``bars`` on row i, where there is that bar."""
        index = np.arange(len(self.ts)) + bars
        inside = np.clip(index, 0, len(self.ts) - 1)
        there = (inside == index) & (self.ts[inside] - self.ts == bars * self.step)
        there &= np.isfinite(self.x[inside]).all(axis=1)
        usable, train, test = (mask & there for mask in (self.usable, self.train, self.test))
        return replace(self, x=self.x[inside], usable=usable, train=train, test=test)

    def shuffled(self, rng: np.random.Generator) -> Table:
        """Return the table with labels shuffled by blocks, among training and among test rows.

        A block is a day, or two horizons if they are longer.
        """
        up, block = self.up.copy(), block_bars(self.horizon, self.step)
        for mask in (self.train, self.test):
            rows = np.flatnonzero(mask)
            (order,) = day_block_shuffles(len(rows), 1, rng, block)
            up[rows] = self.up[rows[order]]
        return replace(self, up=up)

    @property
    def trouble(self) -> str:
        """Why nothing can be learned and scored here; empty if it can."""
        if int(self.train.sum()) < MIN_TRAIN:
            return NO_TRAINING
        enough = int(self.test.sum()) >= min_test(self.horizon)
        return "" if enough else no_test(self.horizon)

    def learn(self, learner: Learner) -> Score:
        """Fit on the training rows and score the test rows."""
        rows = np.flatnonzero(self.train | self.test)
        p = learner(self.x[rows], self.up[rows], self.train[rows])
        test = self.test[rows]
        return Score.of(p[test], self.up[rows][test], self.horizon)


@dataclass(frozen=True, slots=True)
class Score:
    """How n forecasts did.

    Attributes
    ----------
    gain : mean of ¼ − (p − y)², × 10⁴.
    se : its standard error (Newey-West, lag max(60, 2·``horizon``)).
    over_base : the gain over the best constant forecast in hindsight: what shuffled labels still
        give away is how often they are up.
    horizon : bars that a label spans.
    """

    n: int
    gain: float
    se: float
    auc: float
    over_base: float
    horizon: int

    @classmethod
    def of(cls, p: Floats, up: Mask, horizon: int) -> Score:
        """Score p (n,) against what happened (n,), n above max(60, 2·horizon) + 1."""
        gains = (0.25 - proper.brier(p, up)) * 1e4
        gain, base = float(gains.mean()), float((up.mean() - 0.5) ** 2 * 1e4)
        error = hac_se(gains, hac_lag(horizon))
        return cls(len(p), gain, error, proper.auc(p, up), gain - base, horizon)

    @property
    def ranks(self) -> bool:
        """Whether the AUC is 3 standard errors above ½, with rows / horizon of them independent.

        The error is that of the rank sum under the null (Mann & Whitney 1947); labels overlap, so
        one row a horizon is counted.
        """
        error = math.sqrt(self.horizon / (3.0 * self.n))
        return bool(self.auc - 0.5 >= 3.0 * error)

    @property
    def t(self) -> float:
        """``gain`` over its standard error; 0 if it does not vary."""
        return self.gain / self.se if self.se > 0.0 else 0.0
