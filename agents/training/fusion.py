"""Learn how Chronos's timeframes go together, on opinions and outcomes of the training period."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.chronos_fusion import LearnedFusion, inputs_of
from agents.chronos_network import ChronosNetwork
from agents.chronos_views import TIMEFRAMES, Stretch, needed_bars, usable, views_of
from agents.training.volatility import fit_logistic, newton
from agents.windows import segments
from data.labels import Labels, adverse, make_labels, training_rows
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS

Floats = NDArray[np.float64]

_RIDGE = 1e-4  # on the direction's coefficients, per row
_FEWEST = 1000  # rows
_CHUNK = 4096  # states asked about at a time


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What every timeframe said on n rows, and what came of it.

    Attributes
    ----------
    widths, logits : (n, k). ``y`` : (n,) log return. ``down``, ``up`` : (n,) adverse moves.
    """

    widths: Floats
    logits: Floats
    y: Floats
    down: NDArray[np.bool_]
    up: NDArray[np.bool_]


def listen(
    frames: Sequence[BarFrame], network: ChronosNetwork, horizon_bars: int,
    start_ms: int, end_ms: int, stride: int,
) -> Heard:  # fmt: skip
    """Ask about every ``stride``-th row whose label was known at ``end_ms``.

    Raises
    ------
    DataRefused : if there are fewer than 1 000 rows.
    """
    parts = [
        part for frame in frames
        for part in _listen(frame.between(None, end_ms), network, horizon_bars, start_ms, end_ms,
                            stride)
    ]  # fmt: skip
    _require(sum(len(part.y) for part in parts))
    return Heard(*(
        np.concatenate([getattr(part, name) for part in parts])
        for name in Heard.__dataclass_fields__
    ))  # fmt: skip


def require_rows(
    frames: Sequence[BarFrame], horizon_bars: int, start_ms: int, end_ms: int, stride: int
) -> None:
    """Refuse bars that :func:`listen` would refuse, before a network is trained for nothing.

    Raises
    ------
    DataRefused : if there are fewer than 1 000 rows.
    """
    cut = (frame.between(None, end_ms) for frame in frames)
    _require(
        sum(
            len(_rows(one, make_labels(one, horizon_bars), start_ms, end_ms, stride)) for one in cut
        )
    )


def _require(rows: int) -> None:
    if rows < _FEWEST:
        raise DataRefused(
            "bars", f"must give {_FEWEST} rows to learn the fusion on", rows,
            "Fetch more history, or move the end.",
        )  # fmt: skip


def _rows(
    bars: BarFrame, labels: Labels, start_ms: int, end_ms: int, stride: int
) -> NDArray[np.int64]:
    known = labels.valid & training_rows(bars.ts, end_ms, labels.horizon, bars.step_ms)
    return np.flatnonzero(known & (bars.ts >= start_ms))[::stride]


def _listen(
    bars: BarFrame, network: ChronosNetwork, horizon_bars: int, start_ms: int, end_ms: int,
    stride: int,
) -> Iterator[Heard]:  # fmt: skip
    labels = make_labels(bars, horizon_bars)
    chosen = _rows(bars, labels, start_ms, end_ms, stride)
    down, up = adverse(labels)
    timeframes = usable(bars.timeframe, TIMEFRAMES)
    limit = needed_bars(bars.timeframe, timeframes)
    for start, stop in segments(bars):
        inside = chosen[(chosen >= start) & (chosen < stop)]
        for at in range(0, len(inside), _CHUNK):
            rows = inside[at : at + _CHUNK]
            back = max(start, int(rows[0]) - limit)
            lengths = np.minimum(rows - start + 1, limit)
            stretch = Stretch(bars.slice(back, int(rows[-1]) + 1), rows - back, lengths)
            (views,) = views_of([stretch], network, timeframes, horizon_bars)
            if timeframes[0] not in views:
                continue
            widths, logits, heard = inputs_of(views, len(rows), timeframes)
            keep, rows = heard[:, 0], rows[heard[:, 0]]
            yield Heard(widths[keep], logits[keep], labels.y[rows], down[rows], up[rows])


def learn(heard: Heard, unseen: Heard, timeframes: Sequence[str]) -> LearnedFusion:
    """Fit widths by quasi-likelihood, direction and risks by likelihood, residuals as they are.

    Parameters
    ----------
    heard : for widths, residuals and risks.
    unseen : rows that the network was not trained on, for the direction.
    """
    ones = np.ones((len(heard.y), 1))
    sigma, width = _fit_width(np.concatenate((ones, heard.widths), axis=1), heard.y)
    direction = _fit_direction(unseen.logits, unseen.y > 0)
    eta = direction[0] + np.sum(heard.logits * direction[1:], axis=1)
    tilt = (2.0 / (1.0 + np.exp(-eta)) - 1.0) * sigma
    drift = float(np.sum(tilt * heard.y) / max(float(np.sum(tilt * tilt)), 1e-30))
    drift = float(np.clip(drift, 0.0, 1.0))
    every = np.ones(len(heard.y), np.bool_)
    return LearnedFusion(
        tuple(timeframes), width, direction,
        np.quantile((heard.y - drift * tilt) / sigma, CANONICAL_LEVELS), drift,
        fit_logistic(sigma, heard.down, every), fit_logistic(sigma, heard.up, every),
    )  # fmt: skip


def _fit_width(matrix: Floats, y: Floats) -> tuple[Floats, Floats]:
    """σ̂ = exp(x·β) with β minimising mean(2x·β + y²·e^(−2x·β)); returns σ̂ and β."""
    squares = np.maximum(y * y, 1e-14)

    def derivatives(beta: Floats) -> tuple[float, Floats, Floats]:
        eta = 2.0 * (matrix @ beta)
        ratio = squares * np.exp(-eta)
        gradient = 2.0 * matrix.T @ (1.0 - ratio) / len(y)
        return float(np.mean(eta + ratio)), gradient, 4.0 * (matrix.T * ratio) @ matrix / len(y)

    start = np.zeros(matrix.shape[1])
    start[1] = 1.0
    beta = newton(start, derivatives, ridge=1e-6)
    return np.exp(matrix @ beta), beta


def _fit_direction(x: Floats, up: NDArray[np.bool_]) -> Floats:
    """Logistic regression with a slight ridge; the intercept stays 0, so that ½ remains ½."""
    happened = up.astype(np.float64)

    def derivatives(beta: Floats) -> tuple[float, Floats, Floats]:
        eta = np.clip(x @ beta, -30.0, 30.0)
        chance = 1.0 / (1.0 + np.exp(-eta))
        value = np.mean(np.logaddexp(0.0, eta) - happened * eta) + _RIDGE * beta @ beta / 2.0
        gradient = x.T @ (chance - happened) / len(up) + _RIDGE * beta
        hessian = (x.T * (chance * (1.0 - chance))) @ x / len(up) + _RIDGE * np.eye(len(beta))
        return float(value), gradient, hessian

    return np.concatenate(([0.0], newton(np.zeros(x.shape[1]), derivatives, ridge=1e-9)))
