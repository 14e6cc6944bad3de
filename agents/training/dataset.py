"""What the trainers share: bars with labels and features, which rows to use, how to boost."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.training.volatility import all_regressors, fit_har, fit_season, per_run
from agents.volatility import HarModel, Regressors, day_sigma, ewma_sigma, log_returns
from data.features import REFERENCE_54, build_features
from data.labels import Labels, adverse, make_labels, training_rows
from domain.errors import DataRefused, SettingError
from domain.market import BarFrame
from domain.times import DAY_MS, parse_iso

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Progress = Callable[[str], None]

VOLATILITY_FROM = parse_iso("2022-09-01")
VOLUME_FROM = parse_iso("2023-04-01")  # Binance spot volume changed its level here
FOLD_MS = 91 * DAY_MS
MIN_ROWS = 5_000
LIBRARIES = SKLEARN, LIGHTGBM = "sklearn", "lightgbm"  # that boost trees; the second is an extra


def silent(_: str) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a trainer is told about its run; nothing is read from clock, git or environment.

    Attributes
    ----------
    end_ms : bars that open before it are seen, and labels known by it; UTC ms.
    created_at : UTC ms. ``commit`` : of the code. ``data_sha256`` : of the bars' file.
    folds : walk-forward quarters (91 days each) before ``end_ms`` for the card's metrics.
    command : for the model card.
    """

    end_ms: int
    seed: int
    created_at: int
    commit: str
    data_sha256: str
    folds: int = 4
    command: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Everything known about each bar; row i is bar i.

    Attributes
    ----------
    realised : (n,) RV, sum of the squared log returns over the next H bars; 0 if not valid.
    down, up : (n,) adverse moves.
    ewma, day : (n,) σ of the horizon by EWMA and over the last day.
    features : (n, 54), or (n, 0) where they are not needed.
    """

    bars: BarFrame
    labels: Labels
    realised: Floats
    down: Flags
    up: Flags
    ewma: Floats
    day: Floats
    features: Floats

    @property
    def horizon_bars(self) -> int:
        """Bars ahead."""
        return self.labels.horizon

    def known_by(self, start_ms: int, end_ms: int) -> Flags:
        """Return the rows from ``start_ms`` on whose label was known at ``end_ms``, (n,)."""
        purged = training_rows(self.bars.ts, end_ms, self.horizon_bars, self.bars.step_ms)
        return np.asarray(self.labels.valid & (self.bars.ts >= start_ms) & purged)

    def between(self, start_ms: int, end_ms: int) -> Flags:
        """Return the valid rows of bars that open in [start, end), (n,)."""
        return np.asarray(self.labels.valid & (self.bars.ts >= start_ms) & (self.bars.ts < end_ms))


def require_rows(bars: BarFrame, end_ms: int, horizon_bars: int) -> Labels:
    """Return the labels of the bars before ``end_ms``, if there is enough to learn from.

    Raises
    ------
    DataRefused : if fewer than 5 000 rows are valid, or the price stood still on too many.
    """
    seen = bars.between(None, end_ms)
    labels = make_labels(seen, horizon_bars)
    valid = int(labels.valid.sum())
    moving = int((labels.valid & (labels.drop + labels.rise > 0)).sum())
    if min(valid, moving) < MIN_ROWS or 2 * moving < valid:
        still = "" if moving == valid else f", and the price moved on {moving} of them"
        raise DataRefused(
            f"bars of {bars.symbol}",
            f"training needs {MIN_ROWS} valid rows with a moving price before its end; "
            f"there are {valid}{still}",
            None, "Fetch more history, or move the end.",
        )  # fmt: skip
    return labels


def build_dataset(bars: BarFrame, end_ms: int, horizon_bars: int, features: bool) -> Dataset:
    """Cut the bars at ``end_ms`` and compute labels, volatilities and, if asked, features.

    Raises
    ------
    DataRefused : if there is not enough to learn from, see :func:`require_rows`.
    """
    seen = bars.between(None, end_ms)
    labels = require_rows(bars, end_ms, horizon_bars)
    squares = per_run(seen, log_returns) ** 2
    realised = np.zeros(len(seen))
    for k in range(1, horizon_bars + 1):
        realised[:-horizon_bars] += squares[k : len(seen) - horizon_bars + k]
    down, up = adverse(labels)
    columns = np.empty((len(seen), 0))
    if features:
        frame = build_features(seen)
        pick = [frame.names.index(name) for name in REFERENCE_54]
        columns = np.ascontiguousarray(frame.values[:, pick])
    return Dataset(
        seen, labels, np.where(labels.valid, realised, 0.0), down, up,
        per_run(seen, lambda run: ewma_sigma(run, horizon_bars)),
        per_run(seen, lambda run: day_sigma(run, horizon_bars)),
        columns,
    )  # fmt: skip


def fit_volatility(data: Dataset, end_ms: int, ranges: bool = True) -> tuple[HarModel, Regressors]:
    """Fit season and HAR on what was known at ``end_ms``; return it and every bar's regressors."""
    start = first_row_ms(data.bars, VOLATILITY_FROM, end_ms)
    season = fit_season(data.bars.between(start, end_ms))
    x = all_regressors(data.bars, season, data.horizon_bars)
    rows = data.known_by(start, end_ms)
    return fit_har(x, data.realised, rows, season, data.horizon_bars, ranges), x


def first_row_ms(bars: BarFrame, usual: int, end_ms: int) -> int:
    """Return ``usual``, or the first bar if that is later or ``usual`` leaves less than half."""
    first = int(bars.ts[0])
    return usual if first <= usual and end_ms - usual >= usual - first else first


def walk_forward(data: Dataset, source: Source) -> Iterator[tuple[int, int]]:
    """Iterate over the test spans [start, end) before the end that have enough rows before them."""
    for k in range(source.folds, 0, -1):
        start = source.end_ms - k * FOLD_MS
        if int(data.known_by(0, start).sum()) >= MIN_ROWS:
            yield start, start + FOLD_MS


@dataclass(frozen=True, slots=True)
class Boosting:
    """Histogram boosting: ≤ ``rounds``, stopped early on the last tenth, refitted on all rows."""

    learning_rate: float = 0.03
    leaves: int = 15
    rows_a_leaf: int = 1000
    rounds: int = 600
    patience: int = 40
    extra: float = 1.1  # × the best number of rounds, when fitted on all rows
    l2: float = 10.0
    bins: int = 127
    feature_share: float = 0.5

    def arguments(self, seed: int) -> dict[str, Any]:
        """Return the keyword arguments that every fit shares."""
        return {
            "learning_rate": self.learning_rate,
            "max_leaf_nodes": self.leaves,
            "min_samples_leaf": self.rows_a_leaf,
            "l2_regularization": self.l2,
            "max_bins": self.bins,
            "max_features": self.feature_share,
            "random_state": seed,
        }


def require_library(name: str) -> None:
    """Refuse a library that boosts no trees, or that is not installed.

    Raises
    ------
    SettingError : with what to install.
    """
    if name not in LIBRARIES:
        close = difflib.get_close_matches(name, LIBRARIES, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else ""
        raise SettingError("library", f"must be one of {', '.join(LIBRARIES)}", name, hint)
    if name == LIGHTGBM:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: installed, without the OpenMP it needs
            raise SettingError(
                "library lightgbm", f"must be installed: {error}",
                hint='Run: pip install -c constraints.txt -e ".[lightgbm]"',
            ) from error  # fmt: skip


def learner(library: str, loss: Literal["log_loss", "gamma"]) -> Callable[..., Any]:
    """Return what :func:`boost` fits: a library's model for a loss."""
    if library == LIGHTGBM:
        from agents.training.lightgbm_trees import LightGbm

        return partial(LightGbm, loss)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if loss == "log_loss":
        return HistGradientBoostingClassifier  # type: ignore[no-any-return]
    return partial(HistGradientBoostingRegressor, loss=loss)


def boost(
    kind: Callable[..., Any], x: Floats, target: Floats, rows: Flags, seed: int,
    config: Boosting, horizon_bars: int,
) -> Any:  # fmt: skip
    """Fit a boosted model with early stopping on the last tenth of the rows, in time order.

    Parameters
    ----------
    kind : makes a model with the face of ``HistGradientBoosting…``; see :func:`learner`.
    x, target : (n, k) and (n,), of which ``rows`` (n,) are used.
    """
    index = np.flatnonzero(rows)
    cut = int(len(index) * 0.9)
    head, tail = index[: cut - horizon_bars], index[cut:]
    trial = kind(
        early_stopping=True, max_iter=config.rounds, n_iter_no_change=config.patience, tol=0.0,
        **config.arguments(seed),
    ).fit(x[head], target[head], X_val=x[tail], y_val=target[tail])  # fmt: skip
    best = max(1, int(np.argmax(trial.validation_score_)))
    rounds = min(config.rounds, max(1, round(config.extra * best)))
    final = kind(early_stopping=False, max_iter=rounds, **config.arguments(seed))
    return final.fit(x[index], target[index])
