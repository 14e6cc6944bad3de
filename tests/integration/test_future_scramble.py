"""The future-scramble test on the whole decision: features, agents, council, thresholds, fold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.artifacts import FolderStore
from agents.baseline import TARGETS, Baseline
from agents.climatology import Climatology
from agents.contract import asleep, speak
from agents.risk import RiskAgent
from agents.technical import Technical
from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from data.features import FeatureEngine
from data.memory import MarketMemory
from domain.decision import Action, Costs, Decision
from domain.errors import UsageError
from domain.market import BarFrame, FeatureFrame, MarketState
from domain.opinion import Opinion, Outcome
from domain.ports import Agent, Needs, Strategy
from domain.quantiles import Quantiles
from domain.trading import ClosedTrade
from sim.lookahead import (
    Lookahead,
    MemoryMaker,
    check,
    council_decider,
    first_difference,
    history_wanted,
    scramble_check,
    scrambled,
)
from sim.panel import Range, hear
from sim.worlds import DEMO_START_MS, DemoMarket

STEP = 300_000
HISTORY = 700


def council(members: Sequence[str]) -> Callable[[], Council]:
    def make() -> Council:
        rules = DecisionRules(prob_min=0.52, min_expected_return=0.0, min_forecasters=1, quorum=0.0)
        settings = CouncilSettings(members=tuple(members))
        return Council(settings, rules, lambda state: Costs(2.0, 0.5, 0.5))

    return make


def tried(
    agents: Mapping[str, Agent],
    rows: int = 4,
    make: Callable[[], Strategy] | None = None,
    memory: MemoryMaker | None = None,
    frame: BarFrame | None = None,
    stretch: int = 30,
) -> Lookahead:
    return check(
        market() if frame is None else frame, agents, make or council(list(agents)), n_rows=rows,
        history=HISTORY, fold=30, stretch=stretch, cuts=3, memory=memory,
    )  # fmt: skip


def kinds(found: Lookahead) -> set[str]:
    return {difference.future for difference in found.differences}


def named(found: Lookahead) -> set[str]:
    return {difference.field for difference in found.differences}


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
    """Reads a bar after the last one, out of the array that its view was cut from."""

    name, version, needs = "peeker", "1", Needs(bars=2)

    def __init__(self, what: str = "p_up", ahead: int = 1) -> None:
        self.what, self.ahead = what, ahead

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [self.peek(state) for state in states]

    def peek(self, state: MarketState) -> Opinion:
        stamps, closes = state.bars.ts.base, state.bars.close.base
        found = np.flatnonzero(stamps == state.as_of + (self.ahead - 1) * STEP)
        now = float(state.bars.close[-1])
        move = float(np.log(closes[found[0]] / now)) if len(found) else 0.0
        if self.what == "p_up":
            return speak(self.name, self.version, state, 5, p_up=0.5 + 0.1 * np.sign(move))
        return self.wide(state, 0.002 + min(abs(move), 0.01))

    def wide(self, state: MarketState, width: float) -> Opinion:
        shape = Quantiles((0.1, 0.5, 0.9), (-width, 0.0, width))
        return speak(self.name, self.version, state, 5, p_up=0.5, quantiles=shape)


class EarlyVolatility(Peeker):
    """Its EWMA of squared returns, and nothing else, is one bar ahead: worth .8 % of pinball."""

    name, needs = "peeker", Needs(bars=200)

    def peek(self, state: MarketState) -> Opinion:
        stop = int(np.searchsorted(state.bars.ts.base, state.as_of)) + 1
        squares = np.diff(np.log(state.bars.close.base[max(0, stop - 200) : stop])) ** 2
        weights = 0.94 ** np.arange(len(squares))[::-1]
        sigma = math.sqrt(5.0 * float(squares @ weights) / float(weights.sum()))
        return self.wide(state, 1.28 * sigma)


class Normaliser(Peeker):
    """Standardises by mean and s.d. of every bar it can get hold of."""

    def peek(self, state: MarketState) -> Opinion:
        closes = state.bars.close.base
        z = (float(state.bars.close[-1]) - float(closes.mean())) / float(closes.std())
        return speak(self.name, self.version, state, 5, p_up=0.5 - 0.01 * math.tanh(z))


class BatchReader(Peeker):
    """Standardises by the batch that it is asked about."""

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        mean = float(np.mean([state.bars.close[-1] for state in states]))
        return [
            speak(self.name, self.version, s, 5, p_up=0.5 + 0.01 * (s.bars.close[-1] > mean))
            for s in states
        ]


class Sleeper:
    """Never wakes."""

    name, version, needs = "sleeper", "1", Needs(bars=1)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [asleep(self.name, self.version, state, 5) for state in states]


class EarlyCouncil:
    """Tells its council every outcome one bar before it is known."""

    name = "council"

    def __init__(self, inner: Council) -> None:
        self.inner, self.numbers = inner, itertools.count(1)

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Any:
        closes = state.bars.close.base
        stop = int(np.searchsorted(state.bars.ts.base, state.as_of))
        if stop < len(closes):
            move = float(np.log(closes[stop] / state.bars.close[-5]))
            due = state.as_of + STEP
            outcome = Outcome(
                state.symbol, state.timeframe, due - 5 * STEP, 5, due, move, 0.0, 0.0
            )  # fmt: skip
            self.inner.observe([(next(self.numbers), outcome)])
        return self.inner.prepare_state(state, opinions, absent)

    def generate_signal(self, prepared: Any, now: int) -> Decision:
        # the count of rows differs at the file's end too: that alone must not be the finding
        return replace(self.inner.generate_signal(prepared, now), state_seq=0)

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        told = [row for _, row in rows if not isinstance(row, Outcome)]
        self.inner.observe([(next(self.numbers), row) for row in told])

    def post_trade_update(self, trade: ClosedTrade) -> None:
        self.inner.post_trade_update(trade)


class LeakyEngine(FeatureEngine):
    """One column is made from bars to come."""

    __slots__ = ("centred", "column")

    def update(self, chunk: BarFrame) -> FeatureFrame:
        made = super().update(chunk)
        j = made.names.index(self.column)
        x = made.values[:, j]
        made.values[:-1, j] = (x[:-1] + x[1:]) / 2.0 if self.centred else x[1:]
        return made


def leaky(column: str, centred: bool) -> MemoryMaker:
    def make(symbol: str, timeframe: str) -> MarketMemory:
        memory = MarketMemory(symbol, timeframe, keep=None)
        memory.engine = LeakyEngine(timeframe)
        memory.engine.column, memory.engine.centred = column, centred
        return memory

    return make


@pytest.mark.long
def test_check_when_nothing_sees_the_future_then_all_is_the_same_to_the_last_bit() -> None:
    told: list[tuple[int, int]] = []
    found = check(
        market(), honest(), council(list(honest())), n_rows=8, history=HISTORY, fold=30,
        stretch=40, cuts=3, progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (found.ok, found.rows, found.stretch, found.prefixes) == (True, 8, 40, 3)
    assert found.futures == ("real", "garbage", "absent")
    assert dict(found.awake) == {"climatology": 48, "technical": 48, "consensus": 48}
    assert found.not_tested == ()
    assert told == [(k, 28) for k in range(1, 29)]


@pytest.mark.long
def test_check_when_shipped_models_decide_then_the_future_changes_nothing_either() -> None:
    found = tried(shipped())
    assert found.differences == ()
    assert min(found.awake.values()) == 34


@pytest.mark.slow
def test_check_when_two_hundred_futures_are_scrambled_then_every_one_is_the_same() -> None:
    found = tried(shipped(), rows=200, stretch=600)
    assert (found.ok, found.not_tested) == (True, ())


def test_check_when_history_is_not_given_then_it_fills_the_longest_window_there_is() -> None:
    assert history_wanted(honest(), fold=30) == 8_645 + 30
    assert history_wanted({"technical": Technical()}, fold=30) == 2_016 + 2_304 + 30
    short = check(
        market().slice(0, 900), {"technical": Technical()}, council(["technical"]), n_rows=2,
        fold=30, stretch=10, cuts=1,
    )  # fmt: skip
    assert (short.history, short.history_wanted) == (450, 4_350)


@pytest.mark.long
def test_path_when_it_decides_a_stretch_then_it_is_what_the_scoreboard_decides() -> None:
    frame, agents = market(), honest()
    path = council_decider(agents, council(list(agents)), history=HISTORY)
    mine = [answer.decision for answer in path.answers(frame, HISTORY)]
    theirs: list[Decision] = []
    where = Range.of(frame, int(frame.ts[HISTORY]), None, 5)
    hear(where, where.memory(), agents, council(list(agents)), on_decision=theirs.append)
    assert mine == theirs


def test_path_when_asked_about_rows_then_their_fold_has_seen_outcomes() -> None:
    frame = market()
    decide_at = council_decider(honest(), council(list(honest())), history=HISTORY, fold=30)
    rows = range(HISTORY, HISTORY + 40, 4)
    decisions = [decide_at(frame, row).decision for row in rows]
    assert [d.as_of for d in decisions] == [int(frame.ts[row]) + STEP for row in rows]
    assert {d.inputs["kappa_n"] for d in decisions} == {26}
    assert len({d.prob_up for d in decisions}) == len(decisions)
    assert len({d.action for d in decisions}) > 1


@pytest.mark.long
@pytest.mark.parametrize("what", ["p_up", "quantiles"])
def test_check_when_an_agent_uses_the_next_bar_then_it_is_caught(what: str) -> None:
    found = tried({**honest(), "peeker": Peeker(what)})
    assert len({difference.row for difference in found.differences}) >= 3
    assert kinds(found) == {"garbage", "absent", "cut"}
    assert all(field.startswith(f"opinions.peeker.{what}") for field in named(found))
    assert "with the bars that followed" in str(found.differences[0])


@pytest.mark.long
def test_check_when_the_leak_weighs_nothing_then_it_is_caught_all_the_same() -> None:
    agents = {**honest(), "peeker": Peeker()}
    found = tried(agents, make=council(["climatology", "technical"]))
    assert named(found) == {"opinions.peeker.p_up"}
    path = council_decider(agents, council(["climatology", "technical"]), history=HISTORY, fold=30)
    row = found.differences[0].row
    real, cut = path(market(), row), path(market().slice(0, row + 1), row)
    assert (real.decision.prob_up, real.decision.action) == (
        cut.decision.prob_up, cut.decision.action,
    )  # fmt: skip


@pytest.mark.long
def test_check_when_only_a_width_knows_one_bar_of_volatility_then_it_is_caught() -> None:
    found = tried({**honest(), "peeker": EarlyVolatility()})
    assert kinds(found) == {"garbage", "absent", "cut"}
    assert named(found) == {"opinions.peeker.quantiles.values[0]"}


def test_check_when_an_agent_standardises_by_the_whole_file_then_it_is_caught() -> None:
    found = tried({**honest(), "peeker": Normaliser()})
    assert kinds(found) == {"garbage", "absent", "cut"}
    assert named(found) == {"opinions.peeker.p_up"}


def test_check_when_an_agent_reads_far_ahead_then_the_prefixes_catch_it() -> None:
    found = tried({**honest(), "peeker": Peeker("quantiles", ahead=60)})
    assert kinds(found) == {"cut"}


def test_check_when_an_agent_depends_on_its_batch_then_it_is_caught() -> None:
    found = tried({**honest(), "peeker": BatchReader()})
    assert "cut" in kinds(found)
    assert "opinions.peeker.p_up" in named(found)


@pytest.mark.long
@pytest.mark.parametrize(("column", "centred"), [("rv_12", False), ("ewma94_var", True)])
def test_check_when_a_feature_sees_the_next_bar_then_it_is_named(
    column: str, centred: bool
) -> None:
    found = tried(honest(), memory=leaky(column, centred))
    assert kinds(found) == {"garbage", "absent", "cut"}
    assert named(found) == {f"features.{column}"}


def test_check_when_the_fold_hears_outcomes_one_bar_early_then_it_is_caught() -> None:
    make = council(list(honest()))
    found = tried(honest(), make=lambda: EarlyCouncil(make()))
    assert kinds(found) == {"garbage", "absent", "cut"}
    assert "inputs.kappa" in named(found)
    assert all(name.startswith("inputs.") for name in named(found))  # the first that differs


@pytest.mark.long
def test_check_when_an_agent_never_speaks_then_it_is_not_tested() -> None:
    found = tried({**honest(), "sleeper": Sleeper()})
    assert found.ok
    assert found.not_tested == ("sleeper",)
    assert tried({"sleeper": Sleeper()}).not_tested == ("sleeper", "consensus")


def test_scrambled_when_made_then_the_past_is_kept_and_the_future_is_valid_but_other() -> None:
    frame = market()
    other = scrambled(frame, 900, np.random.default_rng(1))
    assert len(other) == 901 + 288
    for name in ("ts", "open", "high", "low", "close", "volume"):
        real, made = getattr(frame, name), getattr(other, name)
        np.testing.assert_array_equal(real[:901], made[:901])
        assert name == "ts" or not np.any(real[901 : len(made)] == made[901:])
    assert np.all(other.high >= np.maximum(other.open, other.close))
    assert np.all(other.low <= np.minimum(other.open, other.close))
    assert np.all(other.low > 0)


def test_check_when_there_are_too_few_rows_then_it_refuses() -> None:
    decide_at = council_decider(honest(), council(list(honest())))
    with pytest.raises(UsageError, match="1 to 99"):
        scramble_check(decide_at, market().slice(0, 100), n_rows=100)
    with pytest.raises(UsageError, match="lookahead rows"):
        check(market().slice(0, 400), honest(), council(list(honest())), n_rows=200)


def test_first_difference_when_values_are_nested_then_it_names_the_path() -> None:
    left = {"action": Action.LONG, "inputs": {"a": [1, 2.0], "b": None}}
    assert first_difference(left, left) is None
    right = {"action": Action.LONG, "inputs": {"a": [1, 2.5], "b": None}}
    assert first_difference(left, right) == ("inputs.a[1]", 2.0, 2.5)
    told = first_difference(left, {"action": Action.LONG})
    assert told == ("inputs", {"a": [1, 2.0], "b": None}, "missing")
    shape = Quantiles((0.1, 0.5, 0.9), (-1.0, 0.0, 1.0))
    other = replace(shape, values=(-1.0, 0.0, 2.0))
    assert first_difference({"q": shape}, {"q": other}) == ("q.values[2]", 1.0, 2.0)


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (math.nan, math.inf, ("nan", "inf")),
        (math.nan, None, ("nan", None)),
        (math.inf, -math.inf, ("inf", "-inf")),
        (0.0, -0.0, (0.0, -0.0)),
        (1, 1.0, (1, 1.0)),
        (True, 1, (True, 1)),
        ((1.0,), [1.0], ([1.0], [1.0])),
        ([1.0], [1.0, 2.0], ([1.0], [1.0, 2.0])),
        (Action.LONG, "LONG", ("LONG", "LONG")),
    ],
)
def test_first_difference_when_values_look_alike_then_it_tells_them_apart(
    left: Any, right: Any, told: tuple[Any, Any]
) -> None:
    assert first_difference({"x": left}, {"x": right}) == ("x", *told)
    assert first_difference({"x": left}, {"x": left}) is None


def test_first_difference_when_none_stands_for_a_missing_key_then_it_tells_them_apart() -> None:
    assert first_difference({"x": None}, {}) == ("x", None, "missing")
    assert first_difference({}, {"x": None}) == ("x", "missing", None)
