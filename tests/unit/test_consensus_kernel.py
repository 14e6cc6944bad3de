"""The compiled fold against the council itself: the same numbers, whatever happens."""

import numpy as np
import pytest
from consensus_cases import COSTS, STEP, SYMBOL, T0, TIMEFRAME, H, opinion, outcome, quantiles

from consensus.admission import Admitted, examine
from consensus.council import Council
from consensus.rounds import WIDTH
from consensus.settings import AGENTS, CouncilSettings, DecisionRules
from domain.market import BarFrame, FeatureFrame, MarketState
from sim.opinions import CouncilRun

kernel = pytest.importorskip("consensus.kernel", reason="needs numba")

EVERYBODY = sorted((*AGENTS, "stranger"))
HISTORY = 60


def world(seed, n):
    """n states, who says what about each of them, and what happens.

    Agents sleep now and then, forecast only part, jump; the stranger knows the future for a while
    and then is wrong about it, ``technical`` is a certain liar.
    """
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(3, n + HISTORY) * 1e-3
    close = 100.0 * np.exp(np.cumsum(moves))
    ts = T0 + np.arange(n + HISTORY) * STEP
    states, said, returns = [], [], np.full(n, np.nan)
    for t in range(n):
        last = t + HISTORY
        cut = slice(t, last)
        bars = BarFrame(SYMBOL, TIMEFRAME, ts[cut], *[close[cut]] * 4, np.ones(HISTORY))
        frame = FeatureFrame(("atr_14",), np.array([[0.5]]), "test")
        states.append(
            MarketState(SYMBOL, TIMEFRAME, int(ts[last - 1]) + STEP, bars, frame, HISTORY)
        )
        if t + H < n:
            returns[t] = float(np.log(close[last - 1 + H] / close[last - 1]))
        said.append(opinions(rng, t, np.sign(moves[last : last + H].sum()), n))
    return states, said, returns


def opinions(rng, t, sign, n):
    heard = []
    for agent in EVERYBODY:
        if rng.random() < 0.1:
            continue
        p = float(np.clip(0.5 + rng.normal(0, 0.03), 0, 1))
        if agent == "stranger":
            p = 0.5 + (0.2 if t < n // 2 else -0.2) * sign
        if agent == "technical":
            p = float(rng.choice([0.0, 1.0]))
        shape = quantiles(rng.normal(0, 2e-4), rng.uniform(0.5, 2)) if rng.random() < 0.8 else None
        risks = {
            name: float(rng.uniform(0, 0.3)) if rng.random() < 0.8 else None
            for name in ("risk_down", "risk_up")
        }
        direction = None if shape is not None and rng.random() < 0.1 else p
        heard.append(
            opinion(agent, direction, t + HISTORY, shape, as_of=T0 + (t + HISTORY) * STEP, **risks)
        )
    return heard


def lived(judge, states, said, returns, drops, rises):
    run = CouncilRun(judge, len(states), EVERYBODY)
    decisions = []
    for t, state in enumerate(states):
        due = None
        if t >= H and np.isfinite(returns[t - H]):
            at = t - H
            due = outcome(
                at + HISTORY, float(returns[at]), drop=float(drops[at]), rise=float(rises[at])
            )
        decisions.append(run.sit(t, state, said[t], {}, due))
    return decisions


def panel_of(decisions, said, returns, drops, rises, settings):
    n = len(decisions)
    rows = np.full((n, len(EVERYBODY), WIDTH), np.nan)
    for t, heard in enumerate(said):
        for one in heard:
            verdict = examine(one, settings)
            assert isinstance(verdict, Admitted)
            rows[t, EVERYBODY.index(one.agent)] = verdict.said.row
    optional = [[d.inputs["sigma"], *d.inputs["case"].values()] for d in decisions]
    measured = np.array([[np.nan if x is None else x for x in row] for row in optional])
    stamps = np.array([d.as_of for d in decisions])
    return kernel.Panel(
        EVERYBODY, rows, returns, drops, rises, np.arange(n) + H, stamps // STEP % H,
        measured[:, 0], measured[:, 1:],
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_kernel_when_against_the_council_then_the_same_numbers(seed):
    n = 1_600
    settings = CouncilSettings(half_life=500.0, conformal_rate=0.05, debate_step=0.2)
    rng = np.random.default_rng(seed + 100)
    states, said, returns = world(seed, n)
    drops, rises = np.abs(rng.normal(0, 4e-3, (2, n)))
    judge = Council(settings, DecisionRules(), lambda _: COSTS)
    decisions = lived(judge, states, said, returns, drops, rises)
    found = kernel.fold(panel_of(decisions, said, returns, drops, rises, settings), settings)

    def column(get):
        values = [get(d) for d in decisions]
        return np.array([np.nan if value is None else value for value in values])

    def close(mine, theirs):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)

    close(found.p_up, column(lambda d: d.prob_up))
    close(found.expected, column(lambda d: d.expected_return))
    close(found.mean_abs, column(lambda d: d.inputs["mean_abs_return"]))
    close(found.kappa, column(lambda d: d.inputs["kappa"]))
    close(found.risks[:, 0], column(lambda d: d.risk_down))
    close(found.risks[:, 1], column(lambda d: d.risk_up))
    for t, decision in enumerate(decisions):
        if decision.quantiles is not None:
            close(found.quantiles[t], decision.quantiles.values)
        for k, agent in enumerate(EVERYBODY):
            close(found.weights[t, k], decision.weights.get(agent, 0.0))
    weighs = found.weights[:, EVERYBODY.index("stranger")] > 0
    liar = found.weights[:, EVERYBODY.index("technical")] > 0
    assert weighs.any()  # seats were won and lost in it, or the test is about less than it says
    assert not weighs[-1]
    assert liar[0]
    assert not liar[-1]
    assert any(d.inputs["debate"] for d in decisions)


@pytest.mark.long
def test_kernel_when_nobody_says_anything_then_it_publishes_nothing():
    settings = CouncilSettings(members=("a",))
    silent = np.full((10, 1, WIDTH), np.nan)
    nothing = np.full(10, np.nan)
    found = kernel.fold(
        kernel.Panel(["a"], silent, nothing, nothing, nothing, np.arange(10) + H,
                     np.arange(10) % H, nothing, np.full((10, 4), np.nan)), settings
    )  # fmt: skip
    assert np.isnan(found.p_up).all()
    assert (found.kappa == settings.kappa_prior).all()


def test_kernel_when_agents_are_not_sorted_then_it_refuses():
    nothing = np.full(1, np.nan)
    with pytest.raises(ValueError, match="sorted"):
        kernel.fold(
            kernel.Panel(["b", "a"], np.full((1, 2, WIDTH), np.nan), nothing, nothing,
                         nothing, np.array([H]), np.array([0]), nothing, np.full((1, 4), np.nan)),
            CouncilSettings(),
        )  # fmt: skip
