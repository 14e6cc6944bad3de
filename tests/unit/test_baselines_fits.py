"""Baselines against brute force and other libraries, on small series."""

from __future__ import annotations

import numpy as np
import pytest
from arch import arch_model
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from domain.errors import DataRefused
from domain.market import BarFrame
from domain.quantiles import CANONICAL_LEVELS
from domain.scores import log_loss
from sim.baselines import Inputs, fit_logistic_54
from sim.baselines.blend import online_factors, remembered
from sim.baselines.garch import Garch, fit_garch, garch_sigma, horizon_variance, next_variance
from sim.baselines.shape import LEVELS, rescaled, stretched
from tests.unit.feature_bars import random_bars

STEP = 300_000


def holed(n: int, holes: tuple[int, ...] = ()) -> BarFrame:
    return random_bars(n, seed=3, gaps=holes)


def garch_path(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shocks, out, h = rng.standard_t(6, n) * np.sqrt(4 / 6), np.empty(n), 4e-6
    for i in range(n):
        out[i] = np.sqrt(h) * shocks[i]
        h = 2e-7 + 0.1 * out[i] ** 2 + 0.85 * h
    return out


def test_garch_when_filtered_then_variances_are_the_forecasts_of_arch() -> None:
    r = garch_path(4_000, 1)
    model = fit_garch(r)
    oracle = arch_model(r * 1e3, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    # at our parameters: an optimiser may end an ulp elsewhere with another number of threads
    found = oracle.fix([model.omega * 1e6, model.alpha, model.beta, model.nu])
    ahead = found.forecast(horizon=5, start=1_000, reindex=False).variance.to_numpy() / 1e6
    ours = next_variance(model, r)[1_000:]
    np.testing.assert_allclose(ours, ahead[:, 0], rtol=1e-9)
    np.testing.assert_allclose(horizon_variance(model, ours, 5), ahead.sum(axis=1), rtol=1e-9)
    best = oracle.fit(disp="off").params
    assert (model.alpha, model.beta, model.nu) == pytest.approx(tuple(best[1:]), rel=1e-4)
    with pytest.raises(DataRefused, match="1000 observed returns"):
        fit_garch(r[:900])


def test_garch_when_bars_are_missing_then_the_return_across_the_hole_is_not_one() -> None:
    frame = holed(600, (300,))
    model = Garch(omega=2e-8, alpha=0.1, beta=0.9, nu=5.0, start=1e-6)
    h, expected = model.start, []
    for i in range(len(frame)):
        if i and frame.ts[i] - frame.ts[i - 1] == STEP:
            r = np.log(frame.close[i] / frame.close[i - 1])
            h = model.omega + model.alpha * r * r + model.beta * h
        total, ahead = 0.0, h
        for _ in range(3):
            total, ahead = total + ahead, model.omega + (model.alpha + model.beta) * ahead
        expected.append(np.sqrt(total))
    found = garch_sigma(model, frame, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(garch_sigma(model, frame.slice(0, 450), 3), found[:450])


def test_logistic_when_c_is_given_then_it_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(3.0, 2.0, (900, 6))
    up = rng.random(900) < 1 / (1 + np.exp(3.0 - x[:, 0]))
    train = np.arange(900) % 3 > 0
    assert np.abs((x - x[train].mean(0)) / x[train].std(0)).max() < 4
    oracle = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.5, tol=1e-13, solver="newton-cg")
    )
    oracle.fit(x[train], up[train])
    found = fit_logistic_54(x, up, train, strength=0.5)
    np.testing.assert_allclose(found.chance(x), oracle.predict_proba(x)[:, 1], atol=1e-9)
    far = x.copy()
    far[:, 0] = 1e6
    edge = found.mean + 4.0 * found.scale
    far_edge = x.copy()
    far_edge[:, 0] = edge[0]
    np.testing.assert_array_equal(found.chance(far), found.chance(far_edge))


def test_logistic_when_c_is_chosen_then_it_is_the_best_on_the_purged_last_tenth() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2_000, 5))
    up = rng.random(2_000) < 1 / (1 + np.exp(-0.3 * x[:, 0]))
    train = np.ones(2_000, dtype=bool)
    head = np.arange(2_000) < 1_795
    choices = (1e-4, 1e-2, 1.0)
    losses = [
        log_loss(fit_logistic_54(x, up, head, c).chance(x[1_800:]), up[1_800:]).mean()
        for c in choices
    ]
    found = fit_logistic_54(x, up, train, choices)
    assert found.strength == choices[int(np.argmin(losses))]
    fixed = fit_logistic_54(x, up, train, found.strength)
    np.testing.assert_array_equal(found.chance(x), fixed.chance(x))
    with pytest.raises(DataRefused, match="both outcomes"):
        fit_logistic_54(x, up, up)


def test_online_factors_when_made_then_they_are_quantiles_of_outcomes_already_known() -> None:
    frame = holed(3_000, (1_200,))
    rng = np.random.default_rng(5)
    rows = np.arange(100, 3_000)
    scale = np.exp(rng.normal(-7, 0.3, len(rows)))
    quantiles = scale[:, None] * np.sort(rng.normal(0, 1, (len(rows), 13)), axis=1)
    quantiles[700] = np.nan
    lower, upper = online_factors(quantiles, Inputs(frame, 5), rows)
    log, ts = np.log(frame.close), frame.ts
    for k in (1_500, 2_050, 2_400, 2_899):
        past = [
            j
            for j in range(k)
            if rows[j] + 5 <= rows[k]
            and ts[rows[j] + 5] - ts[rows[j]] == 5 * STEP
            and np.isfinite(quantiles[j]).all()
        ]
        q = quantiles[past]
        y = np.array([log[rows[j] + 5] - log[rows[j]] for j in past])
        if len(past) < 2_016:
            assert (lower[k], upper[k]) == (1.0, 1.0)
            continue
        above = np.quantile((y - q[:, 6]) / (q[:, 10] - q[:, 6]), 0.9)
        below = np.quantile((q[:, 6] - y) / (q[:, 6] - q[:, 2]), 0.9)
        assert lower[k] == pytest.approx(below)
        assert upper[k] == pytest.approx(above)
    wide = rescaled(quantiles, lower, upper)
    np.testing.assert_allclose(
        wide[2_500, 10] - wide[2_500, 6], upper[2_500] * np.diff(quantiles[2_500, [6, 10]])[0]
    )


def test_online_factors_when_a_row_has_no_forecast_then_it_still_counts_among_the_last_rows() -> (
    None
):
    frame = holed(2_400)
    rows, inputs = np.arange(2_400), Inputs(frame, 5)
    quantiles = np.tile(1e-3 * (LEVELS - 0.5), (2_400, 1))
    quantiles[100:110] = np.nan
    whole = online_factors(quantiles, inputs, rows, 2_100)
    near = remembered(inputs, rows[2_350:], int(frame.ts[0]), 2_100)
    assert near.tolist() == list(range(2_350 - 2_105, 2_400))
    assert remembered(inputs, rows[2_350:], int(frame.ts[2_000]), 2_100)[0] == 2_000
    late = online_factors(quantiles[near], inputs, near, 2_100)
    for a, b in zip(whole, late, strict=True):
        np.testing.assert_array_equal(a[2_350:], b[-50:])
        assert (b[-50:] != 1.0).all()


def test_online_factors_when_later_bars_change_then_earlier_factors_stay() -> None:
    frame = holed(2_900)
    rows = np.arange(2_900)
    quantiles = np.tile(1e-3 * (LEVELS - 0.5), (2_900, 1))
    cut = online_factors(quantiles[:2_700], Inputs(frame.slice(0, 2_700), 5), rows[:2_700])
    whole = online_factors(quantiles, Inputs(frame, 5), rows)
    for part, all_of_it in zip(cut, whole, strict=True):
        assert (part != 1.0).any()
        np.testing.assert_array_equal(part, all_of_it[:2_700])


def test_stretched_when_given_three_quantiles_then_the_rest_keeps_the_shape() -> None:
    shape = np.sort(np.random.default_rng(6).standard_t(4, 13))
    three = np.array([[-2.0, 0.5, 1.0], [-1.0, -1.0, 3.0]])
    found = stretched(three, shape)
    levels = [CANONICAL_LEVELS.index(level) for level in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(found[:, levels], three)
    assert (np.diff(found, axis=1) >= 0).all()
    share = (shape[12] - shape[6]) / (shape[10] - shape[6])
    np.testing.assert_allclose(found[:, 12], three[:, 1] + share * (three[:, 2] - three[:, 1]))
