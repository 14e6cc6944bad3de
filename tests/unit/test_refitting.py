"""Walk-forward: each fold's agent speaks for its fold, and saw nothing from after its fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agents.contract import sleep_reason, speak
from agents.risk import RiskAgent
from data.labels import make_labels
from data.memory import MarketMemory
from domain.errors import DataRefused
from domain.market import BarFrame, MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs
from serving.refitting import trainers_for
from sim.refitting import NOT_FITTED, Refitted, folds_of, refit_agents, told
from sim.tapes import TapeStore
from sim.worlds import RandomWalk

STEP = 300_000
JANUARY = 1_704_067_200_000  # 2024-01-01
DAY = 288


class Base:
    """Says how often the bars it was given went up, and remembers the newest of them."""

    name, needs = "base", Needs(bars=1)

    def __init__(self, bars: BarFrame) -> None:
        self.rate = float(np.mean(np.diff(bars.close) > 0))
        self.newest = int(bars.ts[-1])
        self.version = f"until-{self.newest}"

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        return [speak(self.name, self.version, state, 5, p_up=self.rate) for state in states]


def market(days: int) -> BarFrame:
    start = JANUARY + 60 * DAY * STEP  # from the first of March on
    return RandomWalk(3, start_ms=start).bars(start, days * DAY)


def walked(frame: BarFrame) -> tuple[list[tuple[int, int]], Agent]:
    labels = make_labels(frame, 5)
    end = int(frame.ts[-1]) + STEP
    folds = folds_of(labels, STEP, int(frame.ts[0]), end)
    seen: list[tuple[int, int]] = []

    def train(bars: BarFrame, fit_ms: int) -> Agent:
        seen.append((fit_ms, int(bars.ts[-1])))
        return Base(bars)

    agents = refit_agents(["base"], {}, {"base": train}, frame, folds, 5)
    return seen, agents["base"]


def test_folds_when_quarters_have_enough_before_them_then_each_is_fitted_an_embargo_earlier() -> (
    None
):
    frame = market(130)
    folds = folds_of(make_labels(frame, 5), STEP, int(frame.ts[0]), int(frame.ts[-1]) + STEP)
    assert [told(fold)["start"] for fold in folds] == [
        "2024-04-01T00:00:00Z", "2024-07-01T00:00:00Z",
    ]  # fmt: skip
    for fold in folds:
        assert fold.fit_ms == fold.start_ms - 5 * STEP
        assert (frame.ts[fold.train] + 6 * STEP <= fold.fit_ms).all()
        assert not (fold.train & fold.test).any()


def test_folds_when_nothing_comes_before_the_range_then_it_says_how_much_is_needed() -> None:
    frame = market(20)
    with pytest.raises(DataRefused, match="needs 5000 valid rows before a quarter"):
        folds_of(make_labels(frame, 5), STEP, int(frame.ts[0]), int(frame.ts[-1]) + STEP)


@pytest.mark.long
def test_refitted_when_asked_then_every_fold_is_answered_by_the_agent_that_was_fitted_for_it() -> (
    None
):
    frame = market(130)
    seen, agent = walked(frame)
    assert all(newest < fit_ms for fit_ms, newest in seen)
    assert isinstance(agent, Refitted)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    states = list(memory.states(None, None, 1, 1))
    said = agent.opine(states)
    assert {opinion.model_version for opinion in said} == {agent.version}
    silent = [sleep_reason(opinion) for opinion in said[: 31 * DAY]]
    assert set(silent) == {NOT_FITTED}
    rates = [opinion.p_up for opinion in said[31 * DAY :]]
    april = float(np.mean(np.diff(frame.between(None, seen[0][0]).close) > 0))
    july = float(np.mean(np.diff(frame.between(None, seen[1][0]).close) > 0))
    assert set(rates[: 91 * DAY]) == {april}
    assert set(rates[91 * DAY :]) == {july}
    assert agent.opine(states[40 * DAY : 40 * DAY + 3]) == said[40 * DAY : 40 * DAY + 3]


@pytest.mark.long
def test_refitted_when_taped_then_rows_before_its_first_fold_are_silent_and_not_in_sample() -> None:
    frame = market(60)
    _, agent = walked(frame)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    columns = TapeStore().record({"base": agent}, memory, horizon=5).columns("base")
    assert not columns.in_sample.any()
    assert columns.awake.sum() == 29 * DAY


def test_trainers_when_asked_twice_then_the_model_of_the_first_time_is_used(tmp_path: Path) -> None:
    frame = market(40)
    fit = int(frame.ts[35 * DAY])
    agent = trainers_for(tmp_path, 5, "abc")["risk"](frame.between(None, fit), fit)
    assert isinstance(agent, RiskAgent)
    assert agent.trained_until == fit
    [model] = (tmp_path / "risk").iterdir()
    written = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    again = trainers_for(tmp_path, 5, "abc")["risk"](frame.between(None, fit), fit)
    assert again.version == agent.version
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == written
    trainers_for(tmp_path, 6, "abc")["risk"](frame.between(None, fit), fit)
    assert len(list((tmp_path / "risk").iterdir())) == 2
