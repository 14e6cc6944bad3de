"""Evidence over time: right on paper (exact trees), right under the null, and able to see."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from domain.errors import UsageError
from domain.scores import auc, brier, pinball
from sim.statistics.comparing import hac_se
from sim.statistics.sequential import (
    BETS,
    ConfidenceSequence,
    brier_bound,
    confidence_sequence,
    e_process,
    p_value,
    pinball_bound,
)

Floats = NDArray[np.float64]

TWENTY = math.log(20.0)
HALF = np.array(0.5)


def trend(returns: Floats, span: int) -> Floats:
    """An exponential average of past returns, in standard deviations."""
    from scipy.signal import lfilter

    weight = 1.0 / span
    smooth = lfilter([weight], [1.0, weight - 1.0], returns)
    return np.asarray(smooth / math.sqrt(weight / (2.0 - weight)))


def overlapping(
    rng: np.random.Generator, n: int, horizon: int, drift: Floats | None = None
) -> tuple[Floats, Floats]:
    """Persistent forecasts (n,) from past returns alone, and whether the next H bars went up."""
    warm = 400
    returns = rng.standard_normal(warm + n + horizon)
    if drift is not None:
        returns[warm:] += drift
    p = 0.5 + 0.05 * np.tanh(trend(returns, 50)[warm - 1 : warm - 1 + n])
    path = np.concatenate([[0.0], np.cumsum(returns[warm:])])
    return p, (path[horizon : horizon + n] > path[:n]).astype(float)


def planted(
    rng: np.random.Generator, n: int, strength: float, horizon: int = 5
) -> tuple[Floats, Floats]:
    """Returns that drift with a persistent state, and the calibrated forecasts from that state."""
    from scipy.special import ndtr

    state = trend(rng.standard_normal(n + horizon + 400), 40)[400:]
    returns = rng.standard_normal(n + horizon) + strength * state
    path = np.concatenate([[0.0], np.cumsum(returns)])
    fades = sum((1.0 - 1.0 / 40.0) ** k for k in range(horizon)) / math.sqrt(horizon)
    return ndtr(strength * fades * state[:n]), (path[horizon : horizon + n] > path[:n]).astype(
        float
    )


def references(p: Floats, horizon: int) -> list[Floats]:
    """1 − p, against which the gain is exactly fair, the hardest null; and ½ where H is 5."""
    return [1.0 - p, HALF] if horizon == 5 else [1.0 - p]


def rejects(log_e: Floats) -> bool:
    return bool(log_e.max() >= TWENTY)


def misses(sequence: ConfidenceSequence, conditional: Floats) -> bool:
    """Whether the running mean of the conditional gains leaves the intervals anywhere."""
    target = (np.cumsum(conditional) / np.arange(1, len(conditional) + 1))[sequence.at]
    return bool(((sequence.lo > target) | (sequence.hi < target)).any())


def shares(bets: tuple[float, ...]) -> dict[float, float]:
    """λ → its part of the wealth at the start."""
    raw = {bet: 1.0 / (1.0 + math.log2(bet / math.sqrt(2.0)) ** 2) for bet in bets}
    return {bet: part / sum(raw.values()) for bet, part in raw.items()}


def slow_log_e(gain: Floats, bound: Floats, horizon: int, t: int, bets: tuple[float, ...]) -> float:
    """E at row t as its definition says, bet by bet."""
    total = 0.0
    for (bet, share), stream in itertools.product(shares(bets).items(), range(horizon)):
        wealth = share
        for s in range(stream, len(gain), horizon):
            stake = min(bet, 0.5 / bound[s])
            if s <= t:
                wealth *= 1.0 + stake * gain[s]
            elif s < t + horizon:
                wealth *= 1.0 - stake * bound[s]
        total += wealth
    return math.log(total / horizon)


def best_stop(values: Floats, horizon: int) -> float:
    """The highest expectation any stopping rule can reach, by backward induction.

    values : (2^bars, n) on all equally likely paths, ordered by bar; those of row t depend on the
    first t + H bars.
    """
    n = values.shape[1]
    best = values[:, n - 1]
    for t in range(n - 2, -1, -1):
        nodes = best.reshape(2 ** (t + horizon), -1).mean(axis=1)
        best = np.maximum(values[:, t], np.repeat(nodes, len(values) // len(nodes)))
    return float(best.mean())


@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_e_process_when_computed_bet_by_bet_then_it_is_the_same(horizon: int) -> None:
    rng = np.random.default_rng(1)
    bound = rng.uniform(0.01, 1.0, 17)
    gain = bound * rng.uniform(-1.0, 1.0, 17)
    log_e = e_process(gain, bound, horizon, bets=(0.3, 2.0))
    for t in range(17):
        assert log_e[t] == pytest.approx(slow_log_e(gain, bound, horizon, t, (0.3, 2.0)), abs=1e-12)


def test_e_process_when_any_stopping_rule_is_allowed_then_its_expectation_is_at_most_one() -> None:
    horizon, n = 3, 8
    paths = np.array(list(itertools.product([-1.0, 1.0], repeat=n + horizon - 1)))
    ups = np.lib.stride_tricks.sliding_window_view(paths, horizon, axis=1).sum(axis=2) > 0
    side = np.concatenate([np.ones((len(paths), 1)), paths[:, : n - 1]], axis=1)
    gain = side * np.where(ups, 0.2, -0.2)  # fair: three bars cannot tie
    bets = (1.5,)
    corrected = np.exp([e_process(row, 0.2, horizon, bets=bets) for row in gain])
    wealth = np.ones((len(paths), horizon))
    plain = np.empty_like(gain)
    for t in range(n):
        wealth[:, t % horizon] *= 1.0 + bets[0] * gain[:, t]
        plain[:, t] = wealth.mean(axis=1)
    assert plain.mean(axis=0) == pytest.approx(np.ones(n), abs=1e-12)
    assert best_stop(plain, horizon) > 1.02  # the plain mean of the streams may not be stopped
    assert best_stop(corrected, horizon) <= 1.0 + 1e-12
    assert corrected[:, -1] == pytest.approx(plain[:, -1], rel=1e-12)


def test_e_process_when_the_future_changes_then_the_past_does_not() -> None:
    rng = np.random.default_rng(2)
    p, y = overlapping(rng, 400, 5)
    gain, bound = brier(HALF, y) - brier(p, y), brier_bound(p)
    other, wider = gain.copy(), bound.copy()
    other[300:] *= -1.0
    wider[304:] += 0.1
    before = e_process(gain, bound, 5)[:300]
    assert (before == e_process(other, wider, 5)[:300]).all()
    live = e_process(gain[:300], bound[:304], 5)  # four decisions are open
    assert (before == live).all()


@pytest.mark.long
def test_e_process_when_nobody_has_skill_then_twenty_to_one_is_rare() -> None:
    for horizon in (1, 5, 12):
        rng = np.random.default_rng(horizon)
        false_alarms = np.zeros(2, dtype=int)
        for _ in range(200):
            p, y = overlapping(rng, 5000, horizon)
            for k, q in enumerate(references(p, horizon)):
                gain = brier(q, y) - brier(p, y)
                false_alarms[k] += rejects(e_process(gain, brier_bound(p, q), horizon))
        assert (false_alarms <= 16).all(), (horizon, false_alarms)


def test_e_process_when_the_overlap_is_ignored_then_false_alarms_are_many() -> None:
    rng = np.random.default_rng(5)
    alarms = np.zeros(2, dtype=int)
    for _ in range(100):
        p, y = overlapping(rng, 5000, 5)
        for k, q in enumerate((HALF, 1.0 - p)):
            gain = brier(q, y) - brier(p, y)
            alarms[k] += rejects(e_process(gain, brier_bound(p, q), horizon=1))
    assert (alarms >= [20, 40]).all(), alarms


@pytest.mark.long
def test_confidence_sequence_when_nobody_has_skill_then_it_covers_at_all_times() -> None:
    for horizon in (1, 5, 12):
        rng = np.random.default_rng(horizon)
        missed = np.zeros(2, dtype=int)
        for _ in range(200):
            p, y = overlapping(rng, 5000, horizon)
            for k, q in enumerate(references(p, horizon)):
                gain = brier(q, y) - brier(p, y)
                sequence = confidence_sequence(gain, brier_bound(p, q), horizon)
                missed[k] += misses(
                    sequence, np.broadcast_to((q - 0.5) ** 2, 5000) - (p - 0.5) ** 2
                )
        assert (missed <= 16).all(), (horizon, missed)


def test_confidence_sequence_when_the_gain_drifts_then_it_covers_its_running_mean() -> None:
    from scipy.special import ndtr

    n, horizon = 4000, 5
    drift = 0.2 * np.sign(np.sin(np.arange(n + horizon) / 300.0))
    ahead = np.lib.stride_tricks.sliding_window_view(drift, horizon).sum(axis=1)[:n]
    chance = ndtr(ahead / math.sqrt(horizon))
    rng, missed = np.random.default_rng(6), 0
    for _ in range(100):
        p, y = overlapping(rng, n, horizon, drift)
        gain = brier(HALF, y) - brier(p, y)
        conditional = 2.0 * (p - 0.5) * (chance - 0.5) - (p - 0.5) ** 2
        missed += misses(confidence_sequence(gain, brier_bound(p), horizon), conditional)
    assert missed <= 8


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 5, 12])
def test_evidence_when_nobody_has_skill_for_twenty_thousand_rows_then_alarms_are_rare(
    horizon: int,
) -> None:
    rng = np.random.default_rng(horizon)
    alarms = np.zeros(2, dtype=int)
    for _ in range(200):
        p, y = overlapping(rng, 20_000, horizon)
        gain, bound = brier(1.0 - p, y) - brier(p, y), brier_bound(p, 1.0 - p)
        sequence = confidence_sequence(gain, bound, horizon)
        alarms += [rejects(e_process(gain, bound, horizon)), misses(sequence, np.zeros(20_000))]
    assert (alarms <= 16).all(), alarms


@pytest.mark.long
def test_evidence_when_an_edge_is_planted_then_it_is_found() -> None:
    rng, found, areas = np.random.default_rng(7), np.zeros(2, dtype=int), []
    for _ in range(20):
        p, y = planted(rng, 50_000, 0.05)
        areas.append(auc(p, y == 1.0))
        gain, bound = brier(HALF, y) - brier(p, y), brier_bound(p)
        sequence = confidence_sequence(gain, bound)
        found += [rejects(e_process(gain, bound)), bool(sequence.lo.max() > 0.0)]
        assert sequence.hi.min() > 0.0
    assert 0.54 < np.mean(areas) < 0.56
    assert (found >= 16).all(), found


def test_confidence_sequence_when_forecasts_persist_then_it_is_about_twice_the_fixed_interval() -> (
    None
):
    p, y = overlapping(np.random.default_rng(8), 50_000, 5)
    gain = brier(HALF, y) - brier(p, y)
    sequence = confidence_sequence(gain, brier_bound(p))
    ratio = (sequence.hi[-1] - sequence.lo[-1]) / (2.0 * 1.96 * hac_se(gain))
    assert 1.3 < ratio < 2.5
    assert sequence.mean[-1] == pytest.approx(gain.mean(), rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 4])
def test_confidence_sequence_when_inverted_by_hand_then_its_ends_solve_the_equation(
    horizon: int,
) -> None:
    rng = np.random.default_rng(9)
    n = 60 * horizon
    bound = rng.uniform(0.0, 0.4, n)  # at λ = 4 some bets are too large and are booked as lost
    gain = bound * rng.uniform(-1.0, 1.0, n)
    bets = (0.1, 1.0, 4.0)
    sequence = confidence_sequence(gain, bound, horizon, 0.5, bets=bets, points=60)
    assert sequence.at[-1] == n - 1

    def evidence(t: int, delta: float, sign: float) -> float:
        total = 0.0
        for bet, share in shares(bets).items():
            log = -bet * sign * delta * (t + 1)
            for s in range(min(t + horizon, n)):
                fits = bet * bound[s] <= 0.5
                if s <= t:
                    log += math.log1p(bet * sign * gain[s]) if fits else -bet * bound[s]
                else:
                    log += math.log1p(-bet * bound[s]) if fits else -bet * bound[s]
                    log -= bet * bound[s]
            total += share * math.exp(log / horizon)
        return total

    solved = 0
    for k, t in enumerate(sequence.at):
        edge = bound[: t + 1].mean()
        for end, sign in ((sequence.lo[k], 1.0), (sequence.hi[k], -1.0)):
            if abs(end) < edge - 1e-12:
                assert evidence(t, end, sign) == pytest.approx(4.0, rel=1e-9)
                solved += 1
    assert solved > 40


def test_confidence_sequence_when_the_gain_changes_sign_then_its_ends_swap() -> None:
    p, y = overlapping(np.random.default_rng(10), 3000, 5)
    gain, bound = brier(HALF, y) - brier(p, y), brier_bound(p)
    one, other = confidence_sequence(gain, bound), confidence_sequence(-gain, bound)
    assert (one.lo == -other.hi).all()
    assert len(one.at) == 200
    assert one.at[-1] == 2999


def test_evidence_when_the_unit_changes_then_scale_makes_it_the_same() -> None:
    p, y = overlapping(np.random.default_rng(11), 2000, 5)
    gain, bound = brier(HALF, y) - brier(p, y), brier_bound(p)
    log_e, sequence = e_process(gain, bound), confidence_sequence(gain, bound)
    assert e_process(1e4 * gain, 1e4 * bound, scale=1e4) == pytest.approx(log_e, abs=1e-9)
    wide = confidence_sequence(1e4 * gain, 1e4 * bound, scale=1e4)
    assert wide.lo == pytest.approx(1e4 * sequence.lo, rel=1e-9)


def test_brier_bound_when_both_outcomes_are_tried_then_it_is_the_larger_gain() -> None:
    rng = np.random.default_rng(12)
    p, q = rng.random(300), rng.random(300)
    gains = [np.abs(brier(q, np.full(300, y)) - brier(p, np.full(300, y))) for y in (0.0, 1.0)]
    assert brier_bound(p, q) == pytest.approx(np.maximum(*gains), abs=1e-15)
    assert brier_bound(p) == pytest.approx(np.abs(p - 0.5) + (p - 0.5) ** 2, abs=1e-15)


def test_pinball_bound_when_outcomes_are_extreme_then_it_is_met_not_exceeded() -> None:
    rng = np.random.default_rng(13)
    levels = (0.1, 0.5, 0.9)
    a = np.sort(rng.standard_normal((200, 3)), axis=1)
    b = np.sort(rng.standard_normal((200, 3)), axis=1)
    worst = np.zeros(200)
    for r in np.concatenate([np.linspace(-4.0, 4.0, 41), [-1e3, 1e3]]):
        gain = pinball(b, r, levels).mean(axis=1) - pinball(a, r, levels).mean(axis=1)
        worst = np.maximum(worst, np.abs(gain))
    assert (worst <= pinball_bound(a, b, levels) + 1e-12).all()
    low = pinball(b[:, :1], -1e3, 0.1) - pinball(a[:, :1], -1e3, 0.1)
    assert pinball_bound(a[:, :1], b[:, :1], (0.1,)) == pytest.approx(np.abs(low[:, 0]), abs=1e-9)


def test_evidence_when_quantiles_are_compared_then_the_better_ones_win() -> None:
    rng = np.random.default_rng(14)
    n, levels = 20_000, (0.1, 0.5, 0.9)
    sigma = np.exp(0.5 * np.tanh(trend(rng.standard_normal(n + 400), 100)[400:]))
    r = sigma * rng.standard_normal(n)
    right = sigma[:, None] * np.array([-1.2816, 0.0, 1.2816])
    wrong = 1.15 * right
    gain = (pinball(wrong, r[:, None], levels) - pinball(right, r[:, None], levels)).mean(axis=1)
    bound = pinball_bound(right, wrong, levels)
    assert rejects(e_process(gain / sigma, bound / sigma))
    assert not rejects(e_process(-gain / sigma, bound / sigma))
    sequence = confidence_sequence(gain / sigma, bound / sigma)
    assert sequence.lo[-1] > 0.0


def test_p_value_when_the_evidence_peaks_then_it_is_one_over_the_peak() -> None:
    assert p_value(np.log([0.5, 40.0, 3.0])) == pytest.approx(1.0 / 40.0)
    assert p_value(np.log([0.5, 0.9])) == 1.0


def test_evidence_when_input_is_wrong_then_it_refuses_by_name() -> None:
    gain = np.array([0.1, -0.2, 0.1])
    with pytest.raises(UsageError, match=r"gain of row 1.*exceeds its bound"):
        e_process(gain, 0.15)
    with pytest.raises(UsageError, match="fewer than H more"):
        e_process(gain, np.full(8, 1.0), 5)
    with pytest.raises(UsageError, match="finite series"):
        confidence_sequence(np.array([0.1, np.nan]), 1.0)
    with pytest.raises(UsageError, match="horizon, scale and bets"):
        e_process(gain, 1.0, 0)
    with pytest.raises(UsageError, match="alpha"):
        confidence_sequence(gain, 1.0, alpha=0.0)


def test_evidence_when_a_forecast_equals_its_reference_then_nothing_is_bet() -> None:
    assert e_process(np.zeros(50), 0.0) == pytest.approx(np.zeros(50), abs=1e-12)
    sequence = confidence_sequence(np.zeros(50), 0.0)
    assert not sequence.lo.any()
    assert not sequence.hi.any()
    assert len(BETS) == 8
