"""What a gate is worth: everybody on the same closes."""

import json

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba")
pytest.importorskip("sb3_contrib", reason="needs the extra rl")

from domain.canonical import plain
from rl.env import Style
from rl.evaluate import GATE, HOLD, NONE, RANDOM, SKIPS, compared, trained_on, walk_of
from rl.learning import GateConfig, Schedule
from rl.playing import allow_all, play_all
from rl.report import render
from tests.gate_scenes import course
from tests.unit.test_rl_gate import policy


@pytest.fixture(scope="module")
def found():
    on = course("walk", 3_000)
    at = on.bars.open_ms
    walks = walk_of(on, int(at[1_500]), int(at[-1]) + 1, 2)
    return walks, compared(walks, {1: [policy("skip")] * 2, 2: [policy(seed=3)] * 2}, Style(), 9)


def test_walk_when_it_is_cut_then_nothing_is_learned_from_what_is_judged(found):
    walks, _ = found
    for walk in walks:
        learned, judged = walk.fit.bars.open_ms, walk.test.bars.open_ms
        assert learned[-1] + 5 * 300_000 < judged[0]
    assert walks[0].test.bars.open_ms[-1] + 300_000 == walks[1].test.bars.open_ms[0]
    assert sum(len(walk.test) for walk in walks) == 1_500


def test_comparison_when_a_gate_vetoes_everything_then_it_is_nobody(found):
    rows = found[1]["contestants"]
    assert rows[f"{GATE}, seed 1"]["net_bps"] == rows[SKIPS]["net_bps"] == 0.0
    assert rows[f"{GATE}, seed 1"]["veto"] == 1.0
    assert rows[f"{RANDOM}, seed 1"]["trades"] == 0


def test_comparison_when_nobody_gates_then_it_is_what_the_environment_pays(found):
    walks, report = found
    played = sum(
        play_all(walk.test, allow_all(walk.test), Style(), 10_000).gains.sum() for walk in walks
    )
    row = report["contestants"][NONE]
    assert row["net_bps"] == pytest.approx(played, abs=1e-6)
    assert row["over_no_gate_bps"] == 0.0
    assert row["trades"] > 30
    assert row["costs_bps"] > 0.0
    assert 1.6 * row["trades"] <= row["turnover"] <= 2.0 * row["trades"]  # whole lots, in and out


def test_comparison_when_it_holds_then_it_earns_what_the_price_did(found):
    walks, report = found
    rises = [walk.test.bars.close[-1] / walk.test.bars.close[0] - 1.0 for walk in walks]
    row = report["contestants"][HOLD]
    assert row["net_bps"] == pytest.approx(0.95 * 1e4 * sum(rises), abs=60.0)
    assert row["trades"] == 0


def test_comparison_when_gates_are_random_then_they_veto_as_often(found):
    rows = found[1]["contestants"]
    assert rows[f"{RANDOM}, seed 2"]["veto"] == pytest.approx(
        rows[f"{GATE}, seed 2"]["veto"], abs=0.05
    )


def test_page_when_it_is_made_from_json_then_it_is_the_same_and_shows_everybody(found):
    report = {
        "data": {"symbol": "BTC/USDT", "timeframe": "5m", "start": "2025-01-01T00:00:00Z",
                 "end": "2025-01-06T00:00:00Z", "bars": 1500, "sha256": "0" * 64},
        "strategy": "<ema>", "profile": "exercise", "seeds": [1, 2], "cost": 0.0013, **found[1],
    }  # fmt: skip
    body = plain(report)
    page = render(body)
    assert page == render(json.loads(json.dumps(body)))
    assert "<ema>" not in page
    for name in (GATE, NONE, RANDOM, SKIPS, HOLD):
        assert name in page


def test_training_when_seeds_and_folds_are_given_then_each_has_a_policy():
    on = course("walk", 3_000)
    at = on.bars.open_ms
    walks = walk_of(on, int(at[2_000]), int(at[-1]) + 1, 1)
    config = GateConfig(
        Schedule(steps=512, copies=8, rollout=32, batch=64, epochs=1), hidden=(8,), length=60
    )
    told = []
    made = trained_on(walks, config, [1, 2], lambda *step: told.append(step))
    assert told == [(1, 2, "gates trained"), (2, 2, "gates trained")]
    assert not np.array_equal(made[1][0].weights[0], made[2][0].weights[0])
