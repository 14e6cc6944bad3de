"""The scoreboard: scores against oracles, baselines against brute force, rows and shape."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from agents.climatology import Climatology
from agents.contract import asleep, speak
from agents.technical import Technical
from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Costs
from domain.errors import DataRefused
from domain.market import BarFrame, MarketState
from domain.opinion import ADVERSE_MOVE, Opinion
from domain.ports import Agent, Needs
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable
from sim import baselines as base
from sim.baselines.naive import Rates
from sim.comparisons import compare
from sim.detail import Judge
from sim.evaluate import evaluate, fitted_baselines, forecast, scoreboard
from sim.notes import notes_of
from sim.panel import Range
from sim.scoring import (
    Floats,
    Forecasts,
    Truth,
    day_block_shuffles,
    directional,
    scores,
)
from sim.statistics.calibration import calibration_slope
from sim.statistics.comparing import block_bootstrap, dm_t
from sim.worlds import BLOCK, DEMO_START_MS, DemoMarket, PlantedEdge, RandomWalk

STEP = 300_000
S_KEYS = {
    "n", "brier", "brier_skill_1e4", "log_loss", "auc", "accuracy", "pinball_bps", "coverage_80",
    "interval_score_bps", "risk_brier", "risk_auc", "weight_mean",
}  # fmt: skip


def council() -> Council:
    rules = DecisionRules(prob_min=0.52, min_expected_return=0.0, min_forecasters=1, quorum=0.0)
    members = CouncilSettings(members=("climatology", "technical"))
    return Council(members, rules, lambda state: Costs(10.0, 1.0, 2.0))


def agents() -> dict[str, Agent]:
    return {"climatology": Climatology(), "technical": Technical()}


def truth_of(log_return: Floats, drop: Floats | None = None, rise: Floats | None = None) -> Truth:
    """What happened on consecutive five-minute bars, at a constant volatility."""
    n = len(log_return)
    still = np.zeros(n)
    return Truth(
        log_return, still if drop is None else drop, still if rise is None else rise,
        DEMO_START_MS + STEP * np.arange(n), log_return**2, np.full(n, 0.002),
    )  # fmt: skip


def case(n: int, seed: int) -> tuple[Forecasts, Truth]:
    rng = np.random.default_rng(seed)
    truth = truth_of(
        rng.normal(0, 0.002, n), np.abs(rng.normal(0, 0.004, n)), np.abs(rng.normal(0, 0.004, n))
    )
    columns = Forecasts.silent(n)
    columns.p_up[:] = rng.uniform(0.05, 0.95, n).round(2)
    columns.quantiles[:] = np.sort(rng.normal(0, 0.002, (n, 13)), axis=1)
    columns.risk_down[:] = rng.uniform(0, 1, n).round(2)
    columns.weight[:] = 0.25
    return columns, truth


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(n=st.integers(50, 400), seed=st.integers(0, 2**31))
def test_scores_when_compared_with_other_libraries_then_they_agree(n: int, seed: int) -> None:
    import scoringrules  # compiles for seconds, which whoever only collects tests need not wait for

    columns, truth = case(n, seed)
    found = scores(columns, truth)
    p, y, r = columns.p_up, truth.up.astype(float), truth.log_return
    q = columns.quantiles[:, [CANONICAL_LEVELS.index(level) for level in (0.1, 0.5, 0.9)]]
    assert found["n"] == n
    assert found["brier"] == pytest.approx(scoringrules.brier_score(y, p).mean())
    assert found["brier_skill_1e4"] == pytest.approx((0.25 - found["brier"]) * 1e4)
    assert found["log_loss"] == pytest.approx(sklearn_log_loss(y, p))
    assert found["auc"] == pytest.approx(roc_auc_score(y, p))
    assert found["accuracy"] == pytest.approx(np.mean((p > 0.5) == truth.up))
    pinball = [
        scoringrules.quantile_score(r, q[:, k], level).mean()
        for k, level in enumerate((0.1, 0.5, 0.9))
    ]
    assert found["pinball_bps"] == pytest.approx(np.mean(pinball) * 1e4)
    interval = scoringrules.interval_score(r, q[:, 0], q[:, 2], 0.2).mean()
    assert found["interval_score_bps"] == pytest.approx(interval * 1e4)
    assert found["coverage_80"] == pytest.approx(np.mean((q[:, 0] <= r) & (r <= q[:, 2])))
    event = truth.drop > ADVERSE_MOVE
    assert found["risk_brier"] == pytest.approx(
        scoringrules.brier_score(event.astype(float), columns.risk_down).mean()
    )
    assert found["risk_auc"] == pytest.approx(roc_auc_score(event, columns.risk_down))
    assert found["weight_mean"] == pytest.approx(0.25)


def test_scores_when_asleep_in_sample_or_outside_the_rows_then_only_the_rest_counts() -> None:
    columns, truth = case(100, 1)
    columns.p_up[:10] = np.nan
    columns.quantiles[:10] = np.nan
    columns.risk_down[:10] = np.nan
    columns.in_sample[10:30] = True
    rows = np.arange(100) < 90
    found = scores(columns, truth, rows)
    assert found["n"] == 60
    assert found["in_sample"] == 20
    p, y = columns.p_up[30:90], truth.up[30:90]
    assert found["brier"] == pytest.approx(((p - y) ** 2).mean())


def test_scores_when_nothing_was_forecast_then_every_score_is_null() -> None:
    _, truth = case(20, 2)
    found = scores(Forecasts.silent(20), truth)
    assert set(found) >= S_KEYS
    assert found["n"] == 0
    assert {found[key] for key in S_KEYS - {"n"}} == {None}


def test_scores_when_one_class_only_happened_then_auc_is_null_and_nothing_is_nan() -> None:
    columns, truth = case(100, 3)
    columns.p_up[:] = 0.5
    up = truth_of(np.abs(truth.log_return))
    found = scores(columns, up)
    assert found["auc"] is None
    assert found["risk_auc"] is None
    assert all(not isinstance(v, float) or math.isfinite(v) for v in found.values())


def test_dm_t_when_losses_are_autocorrelated_then_the_error_is_that_of_newey_and_west() -> None:
    rng = np.random.default_rng(4)
    gain = np.convolve(rng.normal(0.02, 1.0, 3000), np.ones(5), mode="valid")
    d = gain - gain.mean()
    gamma = [float(np.sum(d[k:] * d[: len(d) - k])) / len(d) for k in range(61)]
    variance = gamma[0] + 2 * sum((1 - k / 61) * gamma[k] for k in range(1, 61))
    assert dm_t(gain) == pytest.approx(gain.mean() / math.sqrt(variance / len(gain)))
    naive = gain.mean() / (gain.std() / math.sqrt(len(gain)))
    assert abs(dm_t(gain) or 0) < 0.6 * abs(naive)
    assert dm_t(np.zeros(500)) is None
    assert dm_t(gain[:40]) is None


@pytest.mark.parametrize(
    ("horizon", "step", "lag", "block"),
    [(5, STEP, 60, 288), (288, STEP, 576, 576), (5, 12 * STEP, 60, 24)],
)
def test_errors_when_horizon_or_timeframe_differ_then_lag_and_block_follow_them(
    horizon: int, step: int, lag: int, block: int
) -> None:
    columns, truth = case(2_000, 11)
    other, _ = case(2_000, 12)
    truth = replace(truth, ts=DEMO_START_MS + step * np.arange(2_000))
    valid = np.ones(2_000, dtype=np.bool_)
    gain = 0.25 - (columns.p_up - truth.up) ** 2
    spread = block_bootstrap(gain * 1e4, block)
    assert spread is not None
    row = Judge.of(truth, valid, horizon, step, {}).row(columns)
    assert scores(columns, truth, horizon=horizon)["dm_t"] == row["dm_t"]
    assert row["dm_t"] == pytest.approx(dm_t(gain, lag))
    assert row["gain_se"] == pytest.approx(float(spread.se))
    better = (other.p_up - truth.up) ** 2 - (columns.p_up - truth.up) ** 2
    spread = block_bootstrap(better * 1e4, block)
    assert spread is not None
    (pair, *_) = compare("a", columns, {"b": other}, truth, valid, horizon, step_ms=step)
    assert pair["dm_t"] == pytest.approx(dm_t(better, lag))
    assert (pair["lo"], pair["hi"]) == pytest.approx((float(spread.lo), float(spread.hi)))


def pinball_pair(calm: Floats, seed: int = 13) -> tuple[Forecasts, Forecasts, Truth]:
    """A wide and a fitting range at volatilities ``calm``; they agree after row 600."""
    rng, n = np.random.default_rng(seed), len(calm)
    truth = replace(truth_of(0.002 * rng.standard_normal(n)), volatility=calm)
    level = np.linspace(-0.0038, 0.0038, 13)
    good, wide = Forecasts.silent(n), Forecasts.silent(n)
    good.quantiles[:] = level
    wide.quantiles[:] = level * np.where(np.arange(n) < 600, 3.0, 1.0)[:, None]
    return good, wide, truth


def evidence_of(calm: Floats, rows: int) -> dict[str, float]:
    good, wide, truth = pinball_pair(calm)
    valid = np.arange(len(calm)) < rows
    (row,) = compare("good", good, {"wide": wide}, truth, valid, 5)
    return {str(key): row[key] for key in ("e_value", "p_any_time", "cs_lo", "difference")}


def test_compare_when_a_wilder_market_follows_then_evidence_of_before_is_left_as_it_was() -> None:
    calm = np.where(np.arange(1_800) < 600, 0.002, 0.02)
    before, after = evidence_of(calm, 600), evidence_of(calm, 1_800)
    assert before["e_value"] > 1.5
    assert after["e_value"] == pytest.approx(before["e_value"], rel=1e-6)
    assert after["p_any_time"] == pytest.approx(before["p_any_time"], rel=1e-6)


def test_compare_when_the_price_stood_still_or_is_young_then_evidence_is_still_counted() -> None:
    calm = np.full(600, 0.002)
    calm[:5], calm[5:10] = 0.0, np.nan
    found = evidence_of(calm, 600)
    assert all(math.isfinite(value) for value in found.values())
    assert found["cs_lo"] < found["difference"]  # both in bp
    assert found["difference"] == pytest.approx(evidence_of(np.full(600, 0.002), 600)["difference"])


def test_direction_when_p_only_drifts_then_it_is_none() -> None:
    rng = np.random.default_rng(14)
    drift = 0.5 + np.cumsum(5e-5 * rng.standard_normal(100_000))
    assert drift.std() > 0.002
    assert not directional(drift)
    assert not directional(np.full(10, 0.52))
    assert not directional(np.array([np.nan, 0.4]))
    assert directional(0.5 + 0.002 * rng.standard_normal(1_000))


@pytest.mark.parametrize(
    ("timeframe", "step", "enough"), [("5m", STEP, 2_880), ("1h", 12 * STEP, 240),
                                      ("1d", 288 * STEP, 240)]
)  # fmt: skip
def test_notes_when_ten_days_are_scored_then_rows_are_not_few(
    timeframe: str, step: int, enough: int
) -> None:
    frame = RandomWalk(1).bars(DEMO_START_MS, enough)
    columns = (frame.open, frame.high, frame.low, frame.close, frame.volume)
    bars = BarFrame("BTC/USDT", timeframe, frame.ts[0] + step * np.arange(enough), *columns)
    _, truth = case(enough, 15)
    valid = np.ones(enough, dtype=np.bool_)
    assert not any(note.startswith("Only") for note in notes_of(bars, {}, {}, None, truth, valid))
    valid[0] = False
    assert any(note.startswith("Only") for note in notes_of(bars, {}, {}, None, truth, valid))


def test_calibration_slope_when_p_is_too_sure_then_it_is_the_logistic_slope_below_one() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(0, 0.4, 20_000)
    up = rng.random(20_000) < 1 / (1 + np.exp(-0.5 * logit))
    p = 1 / (1 + np.exp(-logit))
    oracle = LogisticRegression(C=1e9, tol=1e-10).fit(logit[:, None], up)
    assert calibration_slope(p, up) == pytest.approx(oracle.coef_[0, 0], abs=1e-4)
    assert 0.4 < (calibration_slope(p, up) or 0) < 0.6
    assert calibration_slope(np.full(100, 0.5), up[:100]) is None


@given(n=st.integers(2, 2000), seed=st.integers(0, 1000))
def test_shuffles_when_made_then_rows_are_permuted_in_whole_days(n: int, seed: int) -> None:
    for order in day_block_shuffles(n, 2, np.random.default_rng(seed), BLOCK):
        assert sorted(order.tolist()) == list(range(n))
        together = np.mean((np.diff(order) % n) == 1)
        assert together >= 1 - (math.ceil(n / BLOCK) + 1) / max(n - 1, 1)


def test_trailing_when_bars_are_missing_then_it_is_the_quantile_of_the_last_observed_returns() -> (
    None
):
    whole = RandomWalk(1).bars(DEMO_START_MS, 9_400)
    keep = np.r_[0:4_000, 4_010:9_400]
    frame = BarFrame(
        whole.symbol, whole.timeframe, whole.ts[keep], whole.open[keep], whole.high[keep],
        whole.low[keep], whole.close[keep], whole.volume[keep],
    )  # fmt: skip
    found = base.trailing_quantiles(frame, 5)
    log, ts = np.log(frame.close), frame.ts
    for row in (4_002, 4_500, 9_000, 9_389):
        moves = [log[j] - log[j - 5] for j in range(5, row + 1) if ts[j] - ts[j - 5] == 5 * STEP]
        expected = np.quantile(moves[-8_640:], (0.1, 0.5, 0.9))
        np.testing.assert_allclose(found[row], expected, atol=1e-12)
    assert np.isnan(found[290]).all()
    np.testing.assert_array_equal(found[:5_000], base.trailing_quantiles(frame.slice(0, 5_000), 5))


RATES = base.Fitted(
    "BTC/USDT", "5m", 5, DEMO_START_MS,
    {"base_rate": Rates(up=0.504, down=0.094, up_risk=0.091, one_sigma=0.24)},
)  # fmt: skip


def test_baselines_when_fitted_elsewhere_then_only_the_free_ones_speak() -> None:
    frame = RandomWalk(1, "ETH/USDT").bars(DEMO_START_MS, 400)
    found = base.baselines(frame, np.arange(300, 400), 5, RATES)
    assert list(found) == list(base.NAMES)
    assert np.all(found["half"].p_up == 0.5)
    assert {name for name, columns in found.items() if columns.awake.any()} == {"half", "trailing"}


def test_baselines_when_rows_open_before_the_fit_ended_then_they_are_in_sample() -> None:
    start = DEMO_START_MS - 200 * STEP
    frame = RandomWalk(1, start_ms=start).bars(start, 400)
    found = base.baselines(frame, np.arange(400), 5, RATES)["base_rate"]
    assert found.in_sample.sum() == 200
    assert found.awake.sum() == 200
    assert 0.5 < found.p_up[-1] < 0.51


class Scripted:
    """Says the same things every time, asleep on every seventh bar; quantiles only."""

    name, version, needs = "scripted", "1", Needs(bars=1)
    quantiles = Quantiles((0.1, 0.5, 0.9), (0.003, -0.002, 0.001))  # crossed

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [
            asleep(self.name, self.version, state, 5)
            if state.as_of // STEP % 7 == 0
            else speak(self.name, self.version, state, 5, quantiles=self.quantiles)
            for state in states
        ]


@pytest.mark.long
def test_evaluate_when_run_then_the_board_has_the_documented_shape_and_no_nan() -> None:
    frame = PlantedEdge(1).bars(DEMO_START_MS, 900)
    asked = {**agents(), "scripted": Scripted()}
    seen: list[tuple[str, int, int]] = []
    start = DEMO_START_MS + 400 * STEP
    board = evaluate(
        frame, asked, council, start_ms=start, baselines=fitted_baselines(RATES),
        sha256="00", commit="abc",
        steps=lambda title: lambda done, total: seen.append((title, done, total)),
    )  # fmt: skip
    assert set(board) == {
        "data", "horizon_bars", "agents", "consensus", "baselines", "common", "models", "commit",
        "comparisons", "overfitting", "abstention", "drift", "weights", "notes",
    }  # fmt: skip
    assert board["data"].pop("mean_move_bps") > 1
    assert board["data"] == {
        "symbol": "BTC/USDT", "timeframe": "5m", "start": "2025-01-02T09:20:00Z",
        "end": "2025-01-04T03:00:00Z", "bars": 500, "sha256": "00",
    }  # fmt: skip
    everybody = [*board["agents"].values(), board["consensus"], *board["baselines"].values()]
    assert all(set(row) >= S_KEYS for row in [*everybody, *board["common"].values()])
    assert json.loads(json.dumps(board, allow_nan=False)) == board
    assert board["baselines"]["half"]["n"] == 495
    assert board["models"] == {name: agent.version for name, agent in asked.items()}
    common = board["common"]
    assert set(common) == {*asked, "consensus", *board["baselines"]}
    told = forecast(Range.of(frame, start, None, 5), asked, council)
    rows = np.logical_and.reduce([c.awake for c in told.agents.values()]) & told.valid
    assert 0 < rows.sum() < board["agents"]["scripted"]["n"] < 495
    assert {common[name]["n"] for name in (*asked, "consensus", "half")} == {rows.sum()}
    p = told.agents["technical"].p_up[rows]
    assert common["technical"]["brier"] == pytest.approx(np.mean((p - told.truth.up[rows]) ** 2))
    assert ("bars forecast", 1_000, 1_000) in seen  # once for the agents, once for the council
    assert [done == total for _, done, total in seen][-1]


def test_evaluate_when_an_agent_gives_quantiles_only_then_its_p_is_the_mass_above_zero() -> None:
    frame = RandomWalk(2).bars(DEMO_START_MS, 400)
    seen = forecast(Range.of(frame, None, None, 5), {"scripted": Scripted()})
    columns = seen.agents["scripted"]
    table = QuantileTable.of((0.1, 0.5, 0.9), (-0.002, 0.001, 0.003))
    spoke = columns.awake
    assert 0 < spoke.sum() < len(frame)
    np.testing.assert_allclose(columns.p_up[spoke], 1 - table.cdf(0.0)[0])
    np.testing.assert_allclose(
        columns.quantiles[spoke][:, [2, 6, 10]], [[-0.002, 0.001, 0.003]] * spoke.sum()
    )


@pytest.mark.long
def test_evaluate_when_an_agent_was_trained_on_rows_then_it_is_not_asked_about_them() -> None:
    frame = RandomWalk(2).bars(DEMO_START_MS, 800)
    end = DEMO_START_MS + 500 * STEP
    board = evaluate(
        frame, agents(), council, start_ms=DEMO_START_MS + 300 * STEP,
        training_end={"technical": end},
    )  # fmt: skip
    assert board["agents"]["technical"]["in_sample"] == 200
    assert board["agents"]["technical"]["n"] <= 295
    where = Range.of(frame, DEMO_START_MS + 300 * STEP, None, 5)
    seen = forecast(where, agents(), council, training_end={"technical": end})
    assert np.isnan(seen.agents["technical"].p_up[:200]).all()
    assert np.isnan(seen.agents["technical"].weight[:200]).all()


def test_evaluate_when_bars_are_missing_then_rows_near_the_hole_are_not_scored() -> None:
    whole = RandomWalk(3).bars(DEMO_START_MS, 1_000)
    keep = np.r_[0:500, 510:1_000]
    frame = BarFrame(
        whole.symbol, whole.timeframe, whole.ts[keep], whole.open[keep], whole.high[keep],
        whole.low[keep], whole.close[keep], whole.volume[keep],
    )  # fmt: skip
    board = evaluate(frame, {"climatology": Climatology()}, baselines=fitted_baselines(None))
    before, after = 500 - 287 - 5, 490 - 287 - 5
    assert board["baselines"]["half"]["n"] == before + after
    assert board["agents"]["climatology"]["n"] <= before + after


def test_evaluate_when_the_range_is_empty_then_it_says_so() -> None:
    with pytest.raises(DataRefused, match="no bar in the range"):
        evaluate(RandomWalk(1).bars(DEMO_START_MS, 10), {}, start_ms=DEMO_START_MS + 10 * STEP)


@pytest.mark.long
def test_evaluate_when_bars_follow_the_range_then_they_change_nothing() -> None:
    frame = PlantedEdge(5).bars(DEMO_START_MS, 900)
    end = DEMO_START_MS + 700 * STEP
    start = DEMO_START_MS + 350 * STEP
    cut = evaluate(frame.slice(0, 700), agents(), council, start_ms=start)
    assert evaluate(frame, agents(), council, start_ms=start, end_ms=end) == cut


@pytest.mark.long
def test_forecast_when_the_market_has_an_edge_then_the_council_finds_it_and_weighs_it() -> None:
    frame = DemoMarket().bars(DEMO_START_MS, 2_600)
    board = scoreboard(forecast(Range.of(frame, None, None, 5), agents(), council))
    assert board["consensus"]["auc"] > 0.65
    assert board["agents"]["technical"]["weight_mean"] > 0.8
    assert board["agents"]["climatology"]["brier_skill_1e4"] < 10


def walk(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    else:
        yield value


def test_evaluate_when_nobody_is_asked_then_the_baselines_still_stand() -> None:
    board = evaluate(RandomWalk(1).bars(DEMO_START_MS, 400), {}, baselines=fitted_baselines(None))
    assert board["agents"] == {}
    assert board["consensus"]["n"] == 0
    assert board["common"]["half"]["n"] == board["baselines"]["half"]["n"] == 400 - 287 - 5
    assert not [x for x in walk(board) if isinstance(x, float) and not math.isfinite(x)]
