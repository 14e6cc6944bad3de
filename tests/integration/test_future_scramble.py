"""The future-scramble test on the whole decision: features, agents, council, thresholds, fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from agents.artifacts import FolderStore
from agents.baseline import TARGETS, Baseline
from agents.climatology import Climatology
from agents.contract import speak
from agents.risk import RiskAgent
from agents.technical import Technical
from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from domain.decision import Action, Costs, Decision
from domain.errors import UsageError
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs
from domain.quantiles import Quantiles
from sim.lookahead import Difference, council_decider, first_difference, scramble_check, scrambled
from sim.worlds import DEMO_START_MS, DemoMarket

STEP = 300_000
HISTORY = 700


def council(members: Sequence[str]) -> Callable[[], Council]:
    def make() -> Council:
        rules = DecisionRules(prob_min=0.52, min_expected_return=0.0, min_forecasters=1, quorum=0.0)
        settings = CouncilSettings(members=tuple(members))
        return Council(settings, rules, lambda state: Costs(2.0, 0.5, 0.5))

    return make


def check(agents: Mapping[str, Agent], frame: BarFrame, rows: int) -> list[Difference]:
    decide_at = council_decider(agents, council(list(agents)), history=HISTORY, fold=30)
    return scramble_check(decide_at, frame, n_rows=rows, first=HISTORY)


def honest() -> dict[str, Agent]:
    return {"climatology": Climatology(), "technical": Technical()}


def shipped() -> dict[str, Agent]:
    """Everybody who ships, with the models that ship."""
    store = FolderStore()
    missing = [
        name for name in ("risk", *(f"baseline/{t}" for t in TARGETS)) if not store.current(name)
    ]
    if missing:
        pytest.skip(f"no model ships for {', '.join(missing)}")
    return {
        **honest(),
        "risk": RiskAgent(store.open("risk")),
        "baseline": Baseline.from_store(store),
    }


def market() -> BarFrame:
    return DemoMarket().bars(DEMO_START_MS, 1_500)


class Peeker:
    """Reads the bar after the last one, out of the array that its view was cut from."""

    name, version, needs = "peeker", "1", Needs(bars=2)

    def __init__(self, probability: bool) -> None:
        self.probability = probability

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [self.peek(state) for state in states]

    def peek(self, state: MarketState) -> Opinion:
        stamps, closes = state.bars.ts.base, state.bars.close.base
        found = np.flatnonzero(stamps == state.as_of)
        now = float(state.bars.close[-1])
        move = float(np.log(closes[found[0]] / now)) if len(found) else 0.0
        if self.probability:
            return speak(self.name, self.version, state, 5, p_up=0.5 + 0.1 * np.sign(move))
        width = 0.002 + min(abs(move), 0.01)
        shape = Quantiles((0.1, 0.5, 0.9), (-width, 0.0, width))
        return speak(self.name, self.version, state, 5, p_up=0.5, quantiles=shape)


def test_decision_when_the_future_is_scrambled_then_it_is_the_same_to_the_last_bit() -> None:
    assert check(honest(), market(), 12) == []


def test_decision_when_shipped_models_decide_then_the_future_changes_nothing_either() -> None:
    assert check(shipped(), market(), 8) == []


@pytest.mark.slow
def test_decision_when_two_hundred_futures_are_scrambled_then_every_one_is_the_same() -> None:
    assert check(honest(), market(), 200) == []


def test_decider_when_asked_then_decisions_are_made_and_their_fold_has_seen_outcomes() -> None:
    frame = market()
    decide_at = council_decider(honest(), council(list(honest())), history=HISTORY, fold=30)
    decisions = [decide_at(frame, row) for row in range(HISTORY, HISTORY + 60, 2)]
    assert [d.as_of for d in decisions] == [
        int(frame.ts[row]) + STEP for row in range(HISTORY, HISTORY + 60, 2)
    ]
    assert {d.inputs["kappa_n"] for d in decisions} == {26}
    assert len({d.prob_up for d in decisions}) == len(decisions)
    assert len({d.action for d in decisions}) > 1


@pytest.mark.parametrize(
    ("probability", "fields"),
    [(True, {"prob_up"}), (False, {"quantiles", "expected_return"})],
)
def test_decision_when_an_agent_uses_the_next_bar_then_it_is_caught(
    probability: bool, fields: set[str]
) -> None:
    agents = {**honest(), "peeker": Peeker(probability)}
    found = check(agents, market(), 12)
    assert len({difference.row for difference in found}) >= 6
    assert {difference.future for difference in found} == {"garbage", "absent"}
    assert {difference.field.partition(".")[0] for difference in found} <= {
        *fields, "intent", "action", "reasons", "reason",
    }  # fmt: skip
    assert "with the bars that followed" in str(found[0])


def test_decision_when_the_fold_hears_outcomes_early_then_it_is_caught() -> None:
    def decide_at(frame: BarFrame, row: int) -> Decision:
        honest_one = council_decider(honest(), council(list(honest())), history=HISTORY, fold=30)
        decision = honest_one(frame, row)
        later = frame.close[min(row + 5, len(frame) - 1)]
        kappa = 0.4 if later > frame.close[row] else 0.5
        return replace(decision, inputs={**decision.inputs, "kappa": kappa})

    found = scramble_check(decide_at, market(), n_rows=10, first=HISTORY)
    assert {difference.field for difference in found} == {"inputs.kappa"}


def test_scrambled_when_made_then_the_past_is_kept_and_the_future_is_valid_but_other() -> None:
    frame = market()
    other = scrambled(frame, 900, np.random.default_rng(1))
    for name in ("ts", "open", "high", "low", "close", "volume"):
        real, made = getattr(frame, name), getattr(other, name)
        np.testing.assert_array_equal(real[:901], made[:901])
        assert name == "ts" or not np.any(real[901:] == made[901:])
    assert np.all(other.high >= np.maximum(other.open, other.close))
    assert np.all(other.low <= np.minimum(other.open, other.close))
    assert np.all(other.low > 0)


def test_check_when_there_are_too_few_rows_then_it_refuses() -> None:
    decide_at = council_decider(honest(), council(list(honest())))
    with pytest.raises(UsageError, match="1 to 99"):
        scramble_check(decide_at, market().slice(0, 100), n_rows=100)


def test_first_difference_when_values_are_nested_then_it_names_the_path() -> None:
    left = {"action": Action.LONG.value, "inputs": {"a": [1, 2.0], "b": None}}
    assert first_difference(left, left) is None
    right = {"action": "LONG", "inputs": {"a": [1, 2.5], "b": None}}
    assert first_difference(left, right) == ("inputs.a[1]", 2.0, 2.5)
    assert first_difference(left, {"action": "LONG"}) == ("inputs", left["inputs"], None)
