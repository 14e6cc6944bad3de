"""Negative controls: honest pipelines pass them, broken ones fail the one that is about them."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from time import sleep
from typing import Any

import numpy as np
import pytest

from agents.climatology import Climatology
from agents.contract import speak
from data.labels import Labels
from domain.decision import Action, Decision
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion, Outcome
from domain.ports import Agent, Needs
from domain.trading import ClosedTrade
from sim.controls import (
    Control,
    Sizes,
    Subject,
    planted_edge,
    run_controls,
    shifted,
    shuffled_labels,
)
from sim.learners import Score, Table, logistic
from sim.panel import Range
from sim.processes import each_in_order
from sim.scoring import Floats, Mask, Truth
from sim.worlds import DEMO_START_MS, PlantedEdge

HORIZON, BARS, START = 5, 9_000, 6_000
SMALL = Sizes(
    shuffles=20, council_rows=1_500, world_bars=BARS, strength=6.0, train_from_ms=DEMO_START_MS
)


@cache
def bars() -> BarFrame:
    return PlantedEdge(11, 3.0).bars(DEMO_START_MS, BARS)


@cache
def split() -> tuple[Range, Table]:
    where = Range.of(bars(), int(bars().ts[START]), None, HORIZON)
    return where, Table.of(where.past, where.start_ms, HORIZON, DEMO_START_MS)


def shuffles(subject: Subject, sizes: Sizes = SMALL) -> Control:
    where, table = split()
    return shuffled_labels(where, table, subject, sizes, 7)


def oversized(x: Floats, up: Mask, train: Mask) -> Floats:
    """Is fitted on the rows that it is scored on."""
    return logistic(x, up, np.ones_like(train))


def clairvoyant(x: Floats, up: Mask, train: Mask) -> Floats:
    return np.where(up, 0.6, 0.4)


def ignorant(x: Floats, up: Mask, train: Mask) -> Floats:
    return np.full(len(up), 0.5)


class Echo:
    """Says that things go on as they did in the last outcome it was told."""

    name = "council"

    def __init__(self) -> None:
        self.p = 0.5

    def prepare_state(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> MarketState:
        return state

    def generate_signal(self, prepared: MarketState, now: int) -> Decision:
        return Decision(
            prepared.symbol, prepared.timeframe, prepared.as_of, now, HORIZON, self.name,
            Action.NO_TRADE, Action.NO_TRADE, (), "", self.p, None, None, None, None, None, None,
            None, None,
        )  # fmt: skip

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        for _, row in rows:
            if isinstance(row, Outcome):
                self.p = 0.55 if row.up else 0.45

    def post_trade_update(self, trade: ClosedTrade) -> None:
        return None


class Deaf(Echo):
    """Says ½, whatever it was told."""

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        return None


class Tosser:
    """Has a direction on every bar, that of a clock."""

    name, version, needs = "tosser", "1", Needs(bars=1)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [
            speak(
                self.name, self.version, state, HORIZON,
                p_up=0.5 + 0.01 * (state.as_of // 300_000 % 3),
            )
            for state in states
        ]  # fmt: skip


def one_horizon_early(labels: Labels, told: Truth, row: int, state: MarketState) -> Outcome | None:
    if not (labels.valid[row] and np.isfinite(told.log_return[row])):
        return None
    return Outcome(
        state.symbol, state.timeframe, state.as_of, HORIZON, state.as_of + HORIZON * 300_000,
        float(told.log_return[row]), 0.0, 0.0,
    )  # fmt: skip


@pytest.mark.long
def test_controls_when_the_learner_is_honest_then_all_of_them_pass() -> None:
    seen: list[tuple[int, int]] = []
    made = run_controls(
        bars(), Subject(logistic), start_ms=int(bars().ts[START]), sizes=SMALL,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert {name: control.ok for name, control in made.items()} == dict.fromkeys(
        ("shuffled_labels", "random_walk", "planted_edge", "leak", "delay"), True
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (48, 48)
    left = made["shuffled_labels"].figures
    assert left["shuffles"] == 20
    assert left["learner_gain_real"] > 20.0 > 0.0 > left["learner_gain_mean"]
    assert left["learner_gain_min"] <= left["learner_gain_mean"] <= left["learner_gain_max"]
    assert 0.4 < left["learner_auc_min"] < 0.5 < left["learner_auc_max"] < 0.6
    edge = made["planted_edge"].figures
    assert edge["oracle_t"] > 3.0
    assert edge["learner_auc"] == pytest.approx(edge["oracle_auc"], abs=0.03)
    assert made["leak"].figures["leak_auc"] > 0.65 > made["leak"].figures["honest_auc"]
    assert made["delay"].figures["delay_gain"] < made["delay"].figures["honest_gain"]


def test_controls_when_they_are_run_again_then_the_figures_are_the_same() -> None:
    subject, sizes = Subject(logistic, council=Echo), Sizes(shuffles=2, council_rows=900)
    assert shuffles(subject, sizes) == shuffles(subject, sizes)
    where, table = split()
    assert shuffled_labels(where, table, subject, sizes, 8) != shuffles(subject, sizes)


@pytest.mark.parametrize("learner", [oversized, clairvoyant])
def test_shuffled_labels_when_the_learner_saw_the_test_rows_then_it_fails(learner: Any) -> None:
    control = shuffles(Subject(learner), Sizes(shuffles=20))
    assert control.ok is False
    assert control.figures["learner_over_base_mean"] > 5.0


@pytest.mark.long
def test_shuffled_labels_when_the_council_hears_outcomes_in_time_then_it_passes() -> None:
    control = shuffles(Subject(council=Echo), Sizes(shuffles=20, council_rows=1_500))
    assert control.ok is True
    assert control.figures["council_rows"] == 1_495
    assert control.figures["council_gain_mean"] < 0.0


def test_shuffled_labels_when_the_council_hears_outcomes_early_then_it_fails() -> None:
    subject = Subject(council=Echo, due=one_horizon_early)
    control = shuffles(subject, Sizes(shuffles=20, council_rows=1_500))
    assert control.ok is False
    assert control.figures["council_gain_mean"] > 100.0


def test_shuffled_labels_when_processes_share_the_work_then_the_figures_are_the_same() -> None:
    subject = Subject(council=Echo)
    alone, shared = (
        shuffles(subject, Sizes(shuffles=4, council_rows=900, processes=n)) for n in (1, 2)
    )
    assert alone == shared


def test_shuffled_labels_when_most_are_up_then_knowing_that_is_no_gain() -> None:
    def base_rate(x: Floats, up: Mask, train: Mask) -> Floats:
        return np.full(len(up), up[train].mean())

    where, table = split()
    often = table.up | (np.arange(len(table.up)) % 3 == 0)
    tilted = replace(table, up=often)
    control = shuffled_labels(where, tilted, Subject(base_rate), SMALL, 7)
    assert control.figures["learner_gain_mean"] > 100.0
    assert control.ok is True


def test_controls_when_the_learner_knows_nothing_then_only_what_needs_skill_fails() -> None:
    made = run_controls(
        bars(), Subject(ignorant), start_ms=int(bars().ts[START]), sizes=Sizes(
            shuffles=2, world_bars=BARS, train_from_ms=DEMO_START_MS
        ),
    )  # fmt: skip
    assert {name: control.ok for name, control in made.items()} == {
        "shuffled_labels": True, "random_walk": True, "planted_edge": False, "leak": False,
        "delay": None,
    }  # fmt: skip
    assert "no skill" in made["delay"].note


@pytest.mark.long
@pytest.mark.parametrize(
    ("agents", "ok"), [([Climatology()], True), ([Climatology(), Tosser()], False)]
)
def test_planted_edge_when_no_agent_looks_for_a_direction_then_the_learner_decides(
    agents: list[Agent], ok: bool
) -> None:
    subject = Subject(logistic, {agent.name: agent for agent in agents}, council=Deaf)
    made = planted_edge(PlantedEdge(7, 6.0), subject, HORIZON, SMALL)
    assert made.ok is ok
    assert made.figures["learner_t"] > 3.0 > made.figures["council_t"]
    assert ("council not judged" in made.note) is ok


def test_planted_edge_when_there_is_nobody_to_judge_then_it_is_not_made() -> None:
    sizes = replace(SMALL, world_bars=4_000)
    made = planted_edge(PlantedEdge(7, 6.0), Subject(council=Deaf), HORIZON, sizes)
    assert made.ok is None
    assert "no agent but climatology" in made.note


def test_random_walk_when_the_learner_sees_the_labels_then_it_fails() -> None:
    made = run_controls(
        bars(), Subject(clairvoyant), start_ms=int(bars().ts[START]), sizes=Sizes(
            shuffles=1, world_bars=BARS, train_from_ms=DEMO_START_MS
        ),
    )  # fmt: skip
    assert made["random_walk"].ok is False


def test_leak_when_the_features_already_are_a_bar_ahead_then_a_delay_gives_it_away() -> None:
    _, table = split()
    ahead = table.shifted(1)
    made = shifted(ahead, logistic)
    assert made["delay"].figures["delay_gain"] == pytest.approx(table.learn(logistic).gain, abs=3.0)
    assert made["delay"].figures["honest_auc"] > 0.65


def test_controls_when_nothing_lies_before_the_range_then_they_say_so() -> None:
    made = run_controls(
        bars().slice(0, 2_000), Subject(logistic, council=Echo),
        sizes=Sizes(shuffles=1, world_bars=2_000, council_rows=900),
    )  # fmt: skip
    for name in ("leak", "delay"):
        assert made[name].ok is None
        assert "training rows" in made[name].note
    assert "no learner: fewer than 5000 training rows" in made["shuffled_labels"].note
    assert made["shuffled_labels"].figures["council_rows"] == 895
    assert made["planted_edge"].ok is None
    assert "fewer than 600 rows to score" in made["planted_edge"].note


def test_table_when_it_is_shifted_then_rows_get_the_features_of_their_neighbour() -> None:
    _, table = split()
    ahead, behind = table.shifted(1), table.shifted(-1)
    np.testing.assert_array_equal(ahead.x[500], table.x[501])
    np.testing.assert_array_equal(behind.x[500], table.x[499])
    np.testing.assert_array_equal(ahead.up, table.up)
    assert int(table.train.sum()) - int(behind.train.sum()) == 1


def test_table_when_it_is_split_then_no_training_label_reaches_into_the_range() -> None:
    _, table = split()
    assert int(np.flatnonzero(table.train)[-1]) == START - HORIZON - 1
    assert int(np.flatnonzero(table.test)[0]) == START
    assert not np.any(table.train & table.test)


def test_table_when_a_gap_lies_between_then_no_features_are_taken_across_it() -> None:
    frame = bars().slice(0, 2_000)
    keep = np.arange(2_000) != 1_000
    columns = (frame.open, frame.high, frame.low, frame.close, frame.volume)
    holed = BarFrame("BTC/USDT", "5m", frame.ts[keep], *(column[keep] for column in columns))
    table = Table.of(holed, int(holed.ts[-1]), HORIZON, 0)
    last = int(np.flatnonzero(table.usable & (table.ts < frame.ts[1_000]))[-1])
    assert last == 999 - HORIZON
    assert not table.shifted(1).usable[999]


def test_score_when_p_is_the_base_rate_then_nothing_is_gained_over_it() -> None:
    up = np.arange(1_000) % 4 == 0
    score = Score.of(np.full(1_000, 0.25), up, HORIZON)
    assert score.gain == pytest.approx(625.0)
    assert score.over_base == pytest.approx(0.0, abs=1e-9)


def test_score_when_labels_span_a_day_then_fewer_rows_count_as_independent() -> None:
    rng = np.random.default_rng(3)
    p = 0.5 + 0.1 * rng.standard_normal(20_000).clip(-3.0, 3.0)
    up = rng.random(20_000) < 0.5 + 0.4 * (p - 0.5)
    short, long = Score.of(p, up, HORIZON), Score.of(p, up, 288)
    assert short.auc == long.auc
    assert short.ranks
    assert not long.ranks
    runs = np.repeat(rng.random(70) < 0.5, 288)[:20_000]  # nothing is known of them
    assert Score.of(np.full(20_000, 0.6), runs, 288).se > (
        1.5 * Score.of(np.full(20_000, 0.6), runs, HORIZON).se
    )


def test_table_when_labels_span_a_day_then_it_wants_more_rows_to_score() -> None:
    _, table = split()
    assert table.trouble == ""
    few = replace(table, test=table.test & (np.arange(len(table.ts)) < START + 1_000))
    assert few.trouble == ""
    assert replace(few, horizon=288).trouble == "fewer than 2304 rows to score"


@pytest.mark.parametrize(
    ("step", "horizon", "block"), [(300_000, 5, 288), (300_000, 288, 576), (3_600_000, 5, 24)]
)
def test_table_when_it_is_shuffled_then_blocks_are_days_of_its_bars_or_two_horizons(
    step: int, horizon: int, block: int
) -> None:
    _, table = split()
    n, rows = len(table.ts), np.flatnonzero(table.test)
    told: Any = np.arange(n)
    made = replace(table, up=told, step=step, horizon=horizon).shuffled(np.random.default_rng(1))
    breaks = int((np.diff(made.up[rows].astype(np.int64)) != 1).sum())
    blocks = -(-len(rows) // block)
    assert 0.7 * blocks <= breaks <= blocks


@pytest.mark.parametrize("processes", [1, 3])
def test_each_in_order_when_work_is_shared_then_results_come_in_order(processes: int) -> None:
    base = np.arange(10.0)
    made = each_in_order(lambda k: float(base[k] ** 2), range(10), processes)
    assert list(made) == (base**2).tolist()


@pytest.mark.long
@pytest.mark.timeout(30)
def test_each_in_order_when_left_early_then_workers_end_whatever_this_process_does_on_sigterm() -> (
    None
):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        for _ in range(5):  # workers are told to end at every moment of their beginning
            made = each_in_order(sleep, [0, 300, 300], 3)
            assert next(made) is None
            made.close()
    finally:
        signal.signal(signal.SIGTERM, before)
