"""The market to learn on: one account, many accounts, and the paper broker's arithmetic."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba")
pytest.importorskip("stable_baselines3", reason="needs the extra rl")

from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import DataRefused
from rl.actions import ADJUST, BUY, COUNTS, HEDGE, KINDS, SELL, SKIP, allowed, verb_of
from rl.batch import BatchedTradingEnv
from rl.course import runs_of
from rl.env import Style, TradingEnv
from rl.playing import allow_all, play_all, skip_all, stretches
from tests.gate_scenes import PERP, SPOT, course, decided, frame_of, terms_of

FREE = Style(length=40, guard=False)
STYLES = {
    "free": FREE,
    "guard": Style(length=40),
    "override": Style(length=40, override=True),
    "no penalty": replace(FREE, penalty=0.0),
}


def draws(rng, n):
    return np.stack([rng.integers(0, count, n) for count in COUNTS], axis=1)


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium.*")
def test_env_when_gymnasium_checks_it_then_it_has_nothing_to_say():
    check_env(TradingEnv(course(), FREE), skip_render_check=True)


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(STYLES)), st.sampled_from([PERP, SPOT]), st.integers(0, 2**31),
    st.integers(1, 5),
)  # fmt: skip
def test_batch_when_played_beside_single_accounts_then_every_number_is_the_same(
    style, symbol, seed, copies
):
    on, how = course(symbol=symbol), STYLES[style]
    batch = BatchedTradingEnv(on, copies, how, seed)
    singles = [TradingEnv(on, how, seed, number) for number in range(copies)]
    rng, seen = np.random.default_rng(seed), batch.reset()
    assert np.array_equal(seen, [single.reset()[0] for single in singles])
    for _ in range(90):
        assert np.array_equal(batch.action_masks(), [one.action_masks() for one in singles])
        chosen = draws(rng, copies)
        seen, rewards, ends, infos = batch.step(chosen)
        for i, single in enumerate(singles):
            mine, reward, lost, over, _ = single.step(chosen[i])
            assert np.float32(reward) == rewards[i]
            assert (lost or over) == ends[i]
            if ends[i]:
                assert np.array_equal(mine, infos[i]["terminal_observation"])
                mine, _ = single.reset()
            assert np.array_equal(mine, seen[i])


def test_env_when_an_episode_ends_then_its_rewards_are_what_the_account_gained():
    env = TradingEnv(course(), replace(FREE, penalty=0.0), 9)
    rng, total, over = np.random.default_rng(1), 0.0, False
    _, begun = env.reset()
    while not over:
        _, reward, _, over, told = env.step(draws(rng, 1)[0])
        total += reward
    assert told["fills"] > 0
    assert total == pytest.approx(1e4 * (told["worth"] - begun["worth"]) / 500.0, abs=1e-6)


def test_reward_when_it_falls_then_the_penalty_is_taken_once_and_a_rise_pays_in_full():
    on = course()
    plain, punished = (TradingEnv(on, replace(FREE, penalty=p), 4) for p in (0.0, 0.5))
    plain.reset(), punished.reset()
    action = np.array([BUY, 3, 0])
    peak = fallen = worth = 0.0
    for _ in range(39):
        gain, less = plain.step(action)[1], punished.step(action)[1]
        worth += gain
        peak = max(peak, worth)
        deeper = max(0.0, peak - worth - fallen)
        fallen = peak - worth
        assert less == pytest.approx(gain - 0.5 * deeper, abs=1e-6)


@pytest.mark.parametrize(
    ("lots", "intent", "spot", "guard", "override", "kinds"),
    [
        (0, 1, False, True, False, "skip buy"),
        (0, -1, False, True, False, "skip sell"),
        (0, -1, True, True, False, "skip"),
        (2, -1, True, True, False, "skip sell"),
        (0, 1, False, True, True, "skip buy sell"),
        (3, 0, False, True, True, "skip"),
        (0, 0, False, False, False, "skip buy sell"),
        (0, 0, True, False, False, "skip buy"),
        (1, 0, True, False, False, "skip buy sell adjust hedge"),
    ],
)
def test_mask_when_asked_then_only_what_can_be_done_is_allowed(
    lots, intent, spot, guard, override, kinds
):
    found = [k for k in range(5) if allowed(k, lots, intent, spot, guard, override)]
    assert " ".join(KINDS[k] for k in found) == kinds


def test_choice_when_it_is_about_a_decision_then_it_is_one_of_four_verbs():
    assert verb_of(BUY, 3, 1) == ("allow", 1.0)
    assert verb_of(SELL, 1, -1) == ("shrink", 0.5)
    assert verb_of(SKIP, 3, 1) == verb_of(HEDGE, 3, -1) == ("veto", 0.0)
    assert verb_of(SELL, 2, 1) == ("override", 0.75)
    assert verb_of(ADJUST, 0, 1) == ("allow", 1.0)


def test_env_when_hedged_or_adjusted_then_the_position_goes_or_gets_a_stop():
    env = TradingEnv(course(), FREE, 2)
    env.reset()
    for _ in range(2):
        *_, told = env.step(np.array([BUY, 3, 0]))
    assert told["lots"] > 0
    env.step(np.array([ADJUST, 0, 1]))
    assert np.isfinite(env._account["stop"][0]) or env._account["lots"][0] == 0
    env.reset()
    for _ in range(2):
        env.step(np.array([SELL, 0, 0]))
    *_, told = env.step(np.array([HEDGE, 0, 0]))
    assert told["lots"] == 0
    assert told["trades"] == 1


def test_runs_when_bars_are_missing_then_no_episode_crosses_the_gap():
    at = np.arange(200, dtype=np.int64) * 300_000
    at[100:] += 300_000
    usable = np.ones(200, dtype=bool)
    usable[150] = False
    assert runs_of(at, 300_000, usable).tolist() == [[0, 100], [100, 150], [151, 200]]
    assert runs_of(at[:20], 300_000, usable[:20]).tolist() == []


def test_course_when_it_is_too_short_then_it_says_so():
    with pytest.raises(DataRefused, match="more than 5000 bars"):
        course().starts(5_000)


def test_playing_when_nobody_acts_then_nothing_is_gained_and_every_bar_is_played():
    on = course()
    starts, lasts = stretches(on, 300)
    assert int((lasts - starts).sum()) == sum(b - a - 1 for a, b in on.runs.tolist())
    assert play_all(on, skip_all, FREE, 300).gains.tolist() == [0.0] * len(starts)


@pytest.mark.long
def test_playing_when_everything_is_allowed_then_it_loses_what_the_loop_loses():
    from decimal import Decimal

    from execution.limits import EXERCISE
    from execution.sizing import SizingSettings
    from execution.strategies import EmaCross
    from sim.backtest import BacktestRules, run_backtest, unasked_states

    frame, on = frame_of("walk", 2_000), course()
    first = int(on.runs[0, 0])
    rules = BacktestRules("exercise", EXERCISE, SizingSettings(mode="fixed", fixed_notional=500.0))
    result = run_backtest(
        frame, EmaCross(), terms_of().instrument, rules=rules,
        states=list(unasked_states(frame, rules))[first:],
    )  # fmt: skip
    played = play_all(on, allow_all(on), Style(), 10_000)
    equity = [float(x) for x in result.run.equity]
    # the loop marks before it fills: the last close of both is the same bar
    gained = 1e4 * (equity[-1] - 10_000.0) / 500.0
    assert len(result.closed) > 30
    assert played.gains.sum() == pytest.approx(gained, abs=1e-6)
    assert result.final_equity == pytest.approx(Decimal(equity[-1]))


def test_observation_when_the_market_is_decided_on_then_every_row_is_whole():
    frame = frame_of("walk", 400)
    rows = list(decided(frame))
    assert len(rows) == 400
    assert np.isfinite(course().market[300:]).all()
    assert np.isnan(course().market[:286]).any(axis=1).all()
