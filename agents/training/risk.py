"""Train the risk agent, and the volatility baselines that are shown beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents.artifacts import Card, save
from agents.contract import HORIZON_BARS
from agents.risk import NAME, RiskModel
from agents.scales import Scales
from agents.training.dataset import (
    VOLATILITY_FROM,
    Dataset,
    Floats,
    Progress,
    Source,
    build_dataset,
    first_row_ms,
    fit_volatility,
    silent,
    walk_forward,
)
from agents.training.model import require_distinct
from agents.training.reports import climatology_scores, mean_scores, quantile_scores, risk_scores
from agents.training.scales import scales_of
from agents.training.volatility import all_regressors, fit_logistic
from domain.canonical import canonical_json
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS

_LEVELS = np.array(CANONICAL_LEVELS)


def train(
    bars: Sequence[BarFrame], out_dir: Path, source: Source, horizon_bars: int = HORIZON_BARS,
    progress: Progress = silent,
) -> Card:  # fmt: skip
    """Fit the risk agent on bars before ``source.end_ms`` and save a version under ``out_dir``.

    Parameters
    ----------
    bars : one frame per symbol; the others than the first only say how wide their intervals are.

    Raises
    ------
    DataRefused : if there are too few valid rows.
    UsageError : if a symbol is given twice.
    """
    require_distinct(bars)
    first = bars[0]
    data = build_dataset(first, source.end_ms, horizon_bars, features=False)
    folds: list[dict[str, float]] = []
    for start, end in walk_forward(data, source):
        progress(f"risk: walk-forward fold {len(folds) + 1} of {source.folds}")
        rows = data.between(start, end)
        usual = [climatology_scores(target, data, start, rows) for target in ("return", "risk")]
        folds.append({**_validate(data, start, end), **usual[0], **usual[1]})
    progress("risk: fit on all rows")
    model, _ = _fit(data, source.end_ms)
    scales = scales_of(
        bars, source.end_ms, horizon_bars, model.residuals,
        lambda d: model.har.sigma_of(all_regressors(d.bars, model.har.season, horizon_bars)),
        features=False,
    )  # fmt: skip
    model = replace(model, scales=Scales(scales))
    card = Card(
        NAME, NAME, source.created_at, source.commit, source.data_sha256,
        first.symbol, first.timeframe, horizon_bars,
        first_row_ms(data.bars, VOLATILITY_FROM, source.end_ms), source.end_ms, source.seed,
        metrics={"walk_forward": mean_scores(folds)}, settings={"symbols": list(scales)},
        command=source.command,
    )  # fmt: skip
    return save(out_dir, NAME, card, {"params.json": canonical_json(model.to_json()).encode()})


def _fit(data: Dataset, end_ms: int) -> tuple[RiskModel, Floats]:
    """The model known at ``end_ms``, and its σ̂ for every bar."""
    har, x = fit_volatility(data, end_ms)
    plain, _ = fit_volatility(data, end_ms, ranges=False)
    start = first_row_ms(data.bars, VOLATILITY_FROM, end_ms)
    rows = data.known_by(start, end_ms)
    sigma = har.sigma_of(x)

    def residuals(scale: Floats) -> Floats:
        return np.asarray(np.quantile(data.labels.y[rows] / scale[rows], _LEVELS))

    model = RiskModel(
        har, residuals(sigma), fit_logistic(sigma, data.down, rows),
        fit_logistic(sigma, data.up, rows), residuals(data.ewma),
        fit_logistic(data.ewma, data.down, rows), plain, residuals(plain.sigma_of(x)),
    )  # fmt: skip
    return model, sigma


def _validate(data: Dataset, start: int, end: int) -> dict[str, float]:
    model, sigma = _fit(data, start)
    rows = data.between(start, end)
    y, ewma = data.labels.y[rows], data.ewma[rows]
    return {
        **quantile_scores(sigma[rows, None] * model.residuals, y),
        "ewma_pinball_bps": quantile_scores(ewma[:, None] * model.ewma_residuals, y)["pinball_bps"],
        **risk_scores("down", model.down.chance(sigma[rows]), data.down[rows]),
        **risk_scores("up", model.up.chance(sigma[rows]), data.up[rows]),
        **risk_scores("ewma_down", model.ewma_down.chance(ewma), data.down[rows]),
    }
