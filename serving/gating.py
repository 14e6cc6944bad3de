"""From settings to what a gate is trained on: a strategy's decisions beside the bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agents.training.settings import Setting
from agents.training.watch import Watch
from consensus.council import Council
from data.labels import make_labels
from data.memory import MarketMemory
from domain.canonical import short_hash
from domain.decision import Costs, Decision
from domain.market import BarFrame, MarketState
from domain.ports import Agent, Strategy
from domain.times import timeframe_ms
from execution.funding import base_rate, no_funding
from rl.observation import Schema
from serving.deciders import build_strategy, question_hash, tapes_of
from serving.evaluating import REFITS, panel_for
from serving.refitting import TRAINED, trainers_for
from serving.rules import Market, council_settings, decision_rules, market_for, sizing, venue
from serving.settings import Settings
from sim.opinions import CouncilRun, widest
from sim.panel import Range, outcome_due
from sim.progress import Progress, Steps
from sim.refitting import folds_of, refit_agents

if TYPE_CHECKING:
    from rl.course import Course
    from rl.training import GateSpec

_ASKS_AGENTS = "council"
_BARS = 250  # that a strategy which asks nobody may look at
_GROUPS = ("consensus", "decision", "execution", "risk", "data")


def gate_spec(
    settings: Settings, commit: str, chosen: Mapping[str, Setting], board: Path | None = None,
    recipe: Mapping[str, Setting] | None = None,
) -> GateSpec:  # fmt: skip
    """Return the training of the gate for the strategy that the settings name.

    Parameters
    ----------
    chosen : settings of the training, by dotted name.
    board : folder for TensorBoard.
    recipe : settings that stand where none is chosen, and where a search begins.
    """
    from rl.training import GateSpec  # loads what only training needs

    strategy = settings.execution.strategy
    asked = question_hash(settings, {}, _GROUPS) + short_hash(settings.models.agents, 8)
    return GateSpec(
        strategy, settings.data.pred_horizon_steps, asked, Maker(settings, commit),
        dict(chosen), board, dict(recipe or {}),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Maker:
    """Puts a strategy's decisions beside bars, with what trading costs where it is executed.

    A council is heard as it would have been at the time: agents that are fitted ahead of their use
    are fitted anew every quarter on what was known before it, and those that cannot be in minutes
    (chronos, tft), whose models have seen these bars, are left out.
    """

    settings: Settings
    commit: str

    def __call__(self, bars: BarFrame, watch: Watch) -> Course:
        """Return the course of all bars."""
        from rl.course import Terms, course_of

        def steps(what: str) -> Progress:
            return lambda done, total: watch.tick(done, total, what)

        settings, symbol = self.settings, bars.symbol
        watch.say(f"what {settings.execution.strategy} decides on {len(bars):,} bars of {symbol}")
        market = _market(settings, bars)
        route = market.routes[symbol]
        terms = Terms(
            market.instruments[route], market.costs[route], venue(settings),
            sizing(settings).fixed_notional, float(settings.execution.initial_cash),
        )  # fmt: skip
        agents = _honest_agents(settings, bars, self.commit, steps)
        asks = settings.execution.strategy == _ASKS_AGENTS
        schema = Schema(tuple(sorted(agents)), horizon_bars=settings.data.pred_horizon_steps)
        if asks:
            decided = _by_council(settings, bars, agents, market, self.commit, steps)
        else:
            costs = _costs(settings, market, bars)
            decided = _alone(build_strategy(settings, costs, "replay", self.commit), bars)
        tick = steps("bars decided")
        return course_of(
            bars, decided, schema, terms,
            funding=base_rate if market.charges_funding else no_funding,
            tick=lambda done: tick(done, len(bars)),
        )  # fmt: skip


def _market(settings: Settings, bars: BarFrame) -> Market:
    price = {bars.symbol: float(bars.close[0])}
    return market_for(settings, [bars.symbol], price, keep_market=False)


def _costs(settings: Settings, market: Market, bars: BarFrame) -> Callable[[MarketState], Costs]:
    return partial(
        market.round_trip, timeframe_ms(bars.timeframe), settings.data.pred_horizon_steps
    )


def _alone(strategy: Strategy, bars: BarFrame) -> Iterator[tuple[MarketState, Decision]]:
    memory = MarketMemory(bars.symbol, bars.timeframe, keep=None)
    memory.append(bars)
    for state in memory.states(None, None, _BARS):
        prepared = strategy.prepare_state(state, (), {})
        yield state, strategy.generate_signal(prepared, state.as_of)


def _honest_agents(
    settings: Settings, bars: BarFrame, commit: str, steps: Steps
) -> Mapping[str, Agent]:
    if settings.execution.strategy != _ASKS_AGENTS:
        return {}
    panel = panel_for(settings, bars, commit, untrained=True)
    ready = {
        name: agent for name, agent in panel.agents.items()
        if getattr(agent, "trained_until", None) is None
    }  # fmt: skip
    names = [name for name in panel.names if name in ready or name in TRAINED]
    horizon = settings.data.pred_horizon_steps
    labels = make_labels(bars, horizon)
    end = int(bars.ts[-1]) + bars.step_ms
    folds = folds_of(labels, bars.step_ms, int(bars.ts[0]), end)
    trainers = trainers_for(settings.data.var_dir / REFITS, horizon, commit)
    return refit_agents(names, ready, trainers, bars, folds, horizon, steps("models trained"))


def _by_council(
    settings: Settings, bars: BarFrame, agents: Mapping[str, Agent], market: Market, commit: str,
    steps: Steps,
) -> Iterator[tuple[MarketState, Decision]]:  # fmt: skip
    horizon = settings.data.pred_horizon_steps
    where = Range.of(bars, None, None, horizon)
    memory = where.memory()
    tape = tapes_of(settings).record(
        agents, memory, where.start_ms, horizon=horizon, progress=steps("bars asked about")
    )
    members = replace(council_settings(settings), members=tuple(agents))
    costs = _costs(settings, market, bars)
    council = Council(members, decision_rules(settings), costs, git_commit=commit)
    run = CouncilRun(council, len(where.labels), list(agents))
    need = widest(agents)
    states = memory.states(where.start_ms, None, need.bars, max(need.feature_rows, 1))
    for row, (state, (opinions, absent)) in enumerate(zip(states, tape.rounds(), strict=True)):
        due = outcome_due(where.labels, where.truth, row, state)
        yield state, run.sit(row, state, opinions, absent, due)
