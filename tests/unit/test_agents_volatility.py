import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from agents.risk import Logistic
from agents.training.volatility import all_regressors, fit_har, fit_logistic, fit_season, newton
from agents.volatility import HarModel, Regressors, day_sigma, ewma_sigma, season_at
from agents.windows import run_of, runs
from data.memory import MarketMemory
from domain.errors import ModelError
from domain.times import DAY_MS, parse_iso
from tests.agents_world import STEP, market, with_gap

FLAT = np.ones((2, 288))


def test_ewma_sigma_when_compared_with_the_recursion_then_equal():
    bars = market(900)
    squares = np.diff(np.log(bars.close)) ** 2
    variance = 0.0
    for square in squares:
        variance = 0.94 * variance + 0.06 * square
    assert ewma_sigma(run_of(bars, 2017), 5)[-1] == pytest.approx(np.sqrt(5 * variance), rel=1e-9)


def test_day_sigma_when_a_day_has_passed_then_root_mean_square_of_its_moves():
    bars = market(900)
    moves = np.log(bars.close[5:]) - np.log(bars.close[:-5])
    expected = np.sqrt(np.mean(moves[-288:] ** 2))
    assert day_sigma(run_of(bars, 2017), 5)[-1] == pytest.approx(expected, rel=1e-12)


def test_har_when_states_are_alone_or_in_a_run_then_the_same_bits():
    bars = market(2600)
    model = HarModel(FLAT * np.linspace(0.5, 1.5, 288), np.full(11, 0.1), 5)
    memory = MarketMemory(bars.symbol, "5m", keep=None)
    memory.append(bars)
    states = list(memory.states(bars=2017, feature_rows=1))[2000:2040]
    (run,) = runs(states, 2017)
    together = model.sigma(run)
    alone = [float(model.sigma(next(runs([state], 2017)))[0]) for state in states]
    whole = model.sigma(run_of(bars, 2017))[2000:2040]
    assert together.tolist() == alone == whole.tolist()


def test_fit_har_when_blas_has_more_threads_then_the_same_bits():
    rng, n = np.random.default_rng(0), 20_000  # with fewer rows BLAS keeps to one thread anyway
    x = Regressors(rng.normal(size=(n, 4)), rng.normal(size=(n, 6)), rng.normal(size=n))
    realised, rows = rng.gamma(1.0, size=n), np.ones(n, dtype=bool)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(fit_har(x, realised, rows, FLAT, 5, ranges=True).beta.tolist())
    assert found[0] == found[1]


def test_season_at_when_saturday_begins_then_the_weekend_row_is_read():
    season = np.stack((np.full(288, 1.0), np.full(288, 2.0)))
    saturday = parse_iso("2024-01-06")
    assert season_at(season, np.array([saturday - STEP, saturday])).tolist() == [1.0, 2.0]
    season[1, 7] = 3.0
    assert season_at(season, np.array([saturday + DAY_MS + 7 * STEP])).tolist() == [3.0]


def test_fit_season_when_one_hour_is_wild_then_its_slots_stand_out():
    bars = market(30 * 288, noise=1e-4)
    wild = (bars.ts % DAY_MS) // 3_600_000 == 14
    steps = np.diff(np.log(bars.close), prepend=np.log(bars.close[0])) * np.where(wild, 4.0, 1.0)
    bars.close[:] = 50_000.0 * np.exp(np.cumsum(steps))
    season = fit_season(bars)
    assert season.mean() == pytest.approx(1.0)
    assert season[0, 14 * 12 + 2 : 15 * 12 - 2].min() > 3 * np.median(season[0])


def test_fit_har_when_variance_follows_the_model_then_coefficients_are_found():
    rng = np.random.default_rng(3)
    n = 20_000
    x = Regressors(rng.normal(size=(n, 4)), rng.normal(size=(n, 6)), rng.normal(size=n))
    beta = np.array([-9.0, 0.3, 0.2, 0.1, 0.0, 0.1, 0.05, 0.0, 0.1, -0.2, 0.1])
    eta = x.matrix(True) @ beta + x.offset
    realised = np.exp(eta) * rng.gamma(4.0, 0.25, n)
    model = fit_har(x, realised, np.ones(n, bool), FLAT, 5, ranges=True)
    assert model.beta == pytest.approx(beta, abs=0.02)


def test_fit_logistic_when_events_follow_the_curve_then_curve_is_found():
    rng = np.random.default_rng(4)
    sigma = 0.003 * np.exp(0.6 * rng.normal(size=40_000))
    curve = Logistic(-1.0, 2.0)
    event = rng.random(40_000) < curve.chance(sigma)
    found = fit_logistic(sigma, event, np.ones(40_000, bool))
    assert (found.intercept, found.slope) == (pytest.approx(-1, abs=0.1), pytest.approx(2, abs=0.1))


def test_newton_when_quadratic_then_one_step_reaches_the_minimum():
    matrix, target = np.array([[2.0, 0.3], [0.3, 1.0]]), np.array([1.0, -2.0])

    def derivatives(b):
        gradient = matrix @ b - target
        return float(0.5 * b @ matrix @ b - target @ b), gradient, matrix

    assert newton(np.zeros(2), derivatives, 0.0) == pytest.approx(np.linalg.solve(matrix, target))


def test_regressors_when_a_gap_lies_before_then_they_know_nothing_of_it():
    bars = with_gap(market(1500), 700, 5)
    after = all_regressors(bars.slice(700, len(bars)), FLAT, 5)
    whole = all_regressors(bars, FLAT, 5)
    assert np.array_equal(whole.log_returns[700:], after.log_returns)
    assert np.array_equal(whole.log_ranges[700:], after.log_ranges)


def test_regressors_when_nothing_moves_then_finite():
    bars = market(700, noise=0.0)
    x = all_regressors(bars, FLAT, 5)
    assert np.isfinite(x.matrix(True)).all()


@pytest.mark.parametrize(
    "change", [{"season": [[1.0] * 288]}, {"beta": [0.1] * 7}, {"beta": [float("nan")] * 11}]
)
def test_har_from_json_when_malformed_then_model_error(change):
    body = HarModel(FLAT, np.zeros(11), 5).to_json() | change
    with pytest.raises(ModelError):
        HarModel.from_json(body)
