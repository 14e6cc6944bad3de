"""From settings and a file to a scoreboard, its controls or a look-ahead check: who is asked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consensus.council import Council
from data.labels import make_labels
from domain.canonical import plain
from domain.errors import UsageError
from domain.market import BarFrame
from domain.ports import Agent
from domain.times import timeframe_ms
from serving.deciders import agents_named, question_hash, tapes_of, trained_until
from serving.market_files import BarsFile, require_bars
from serving.refitting import TRAINED, trainers_for
from serving.rules import council_settings, decision_rules, market_for
from serving.settings import Settings
from serving.settings.models import AGENTS
from serving.trials import Look
from sim.baselines import NAMES, shipped
from sim.controls import Sizes, Subject, run_controls
from sim.cpcv import cross_validate
from sim.evaluate import (
    CONSENSUS,
    Baselines,
    evaluate,
    fitted_baselines,
    refitted_baselines,
)
from sim.learners import VOLUME_FROM, Table, logistic
from sim.lookahead import Lookahead, check
from sim.panel import Range
from sim.pools import POOLS
from sim.progress import Progress, Steps, quiet
from sim.refitting import folds_of, refit_agents, told

REFITS = "refit"
PROCESSES = 2  # councils of the controls sit in so many
Span = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Who is evaluated.

    Attributes
    ----------
    names : of all agents, in the council's order.
    agents : by name; those that are still to be trained are missing.
    council : makes a council of all of them, its fold at the prior.
    """

    names: tuple[str, ...]
    agents: Mapping[str, Agent]
    council: Callable[[], Council]


def panel_for(
    settings: Settings,
    frame: BarFrame,
    commit: str,
    guests: Sequence[str] = (),
    *,
    untrained: bool = False,
) -> Panel:
    """Build the configured agents with their promoted or shipped models, and their council.

    Parameters
    ----------
    guests : agents that are not ours, as ``module:factory``; a factory takes nothing.
    untrained : leave out those that are about to be trained.

    Raises
    ------
    UsageError : for an agent that this version does not have, or that cannot be imported.
    ModelError : if a model is missing, damaged, or of another horizon.
    """
    ours = settings.models.agents
    asked = [name for name in ours if not (untrained and name in TRAINED)]
    agents = agents_named(asked, settings, frame.timeframe)
    for guest in guests:
        agent = imported(guest, taken=(*ours, *agents))
        agents[agent.name] = agent
    names = (*ours, *(name for name in agents if name not in ours))
    price = {frame.symbol: float(frame.close[0])}
    market = market_for(settings, [frame.symbol], price, keep_market=False)
    costs = partial(
        market.round_trip, timeframe_ms(frame.timeframe), settings.data.pred_horizon_steps
    )
    members = replace(council_settings(settings), members=names)
    rules = decision_rules(settings)

    def council() -> Council:
        return Council(members, rules, costs, git_commit=commit)

    return Panel(names, agents, council)


def imported(guest: str, taken: Sequence[str] = ()) -> Agent:
    """Build an agent from ``module:factory``, as an entry point names it.

    Modules are also looked for in the current folder, after everything that is installed.

    Parameters
    ----------
    taken : names that it must not have.

    Raises
    ------
    UsageError : if it cannot be imported, is no agent, or has the name of another row.
    """
    module, _, factory = guest.partition(":")
    hint = "Name it as module:factory, of a module in this folder or one that is installed."
    if "" not in sys.path:
        sys.path.append("")
    try:
        agent = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        raise UsageError("agent", f"could not be built: {error}", guest, hint) from error
    if not isinstance(agent, Agent):
        raise UsageError("agent", "must have name, version, needs and opine", guest, hint)
    if agent.name in (*taken, *AGENTS, *NAMES, *POOLS, CONSENSUS):
        raise UsageError("agent", "must have a name of its own", agent.name, "Another row has it.")
    return agent


def make_board(
    settings: Settings,
    panel: Panel,
    bars: BarsFile,
    span: Span,
    commit: str,
    *,
    refit: bool = False,
    controls: bool = False,
    steps: Steps = quiet,
) -> dict[str, Any]:
    """Return the scoreboard of ``evaluate --json``.

    Parameters
    ----------
    span : bars that open in it decide, UTC ms.
    refit : fit models and baselines anew every quarter, on what was known before it.
    controls : add the negative controls.
    steps : called with the name of each part of the work.

    Raises
    ------
    DataRefused : if no bar opens in the range, nothing can be scored, or, with ``refit``, nothing
        can be trained on.
    """
    horizon = settings.data.pred_horizon_steps
    asked = _walked(settings, panel, bars.frame, span, commit, steps) if refit else _fixed(panel)
    board = evaluate(
        bars.frame, asked.agents, panel.council, start_ms=span[0], end_ms=span[1],
        horizon=horizon, training_end=trained_until(asked.agents), baselines=asked.baselines,
        tapes=tapes_of(settings), sha256=bars.sha256, commit=commit, steps=steps,
    )  # fmt: skip
    board |= {"refit": asked.folds, "cpcv": asked.cpcv}
    if controls:
        subject = Subject(logistic, asked.agents, panel.council, trained_until(asked.agents))
        board["controls"] = _controls(settings, subject, bars.frame, span, steps)
    made: dict[str, Any] = plain(board)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    agents: Mapping[str, Agent]
    baselines: Baselines
    folds: Mapping[str, Any] | None = None
    cpcv: Mapping[str, Any] | None = None


def _fixed(panel: Panel) -> _Asked:
    """Models and baselines as they ship or were promoted."""
    return _Asked(panel.agents, fitted_baselines(shipped()))


def _walked(
    settings: Settings, panel: Panel, frame: BarFrame, span: Span, commit: str, steps: Steps
) -> _Asked:
    """Models and baselines fitted anew every quarter."""
    horizon = settings.data.pred_horizon_steps
    where = Range.of(frame, *span, horizon)
    end_ms = int(where.past.ts[-1]) + frame.step_ms
    labels = make_labels(where.past, horizon)
    folds = folds_of(labels, frame.step_ms, where.start_ms, end_ms)
    trainers = trainers_for(settings.data.var_dir / REFITS, horizon, commit)
    agents = refit_agents(
        panel.names,
        panel.agents,
        trainers,
        where.past,
        folds,
        horizon,
        steps("models trained"),
    )
    table = Table.of(where.past, where.start_ms, horizon, VOLUME_FROM)
    paths = cross_validate(table, logistic, horizon, steps("cross-validation"))
    return _Asked(
        agents,
        refitted_baselines(folds, steps("baselines fitted")),
        {"folds": [told(fold) for fold in folds]},
        None if paths is None else {"logistic_54": paths},
    )


def _controls(
    settings: Settings, subject: Subject, frame: BarFrame, span: Span, steps: Steps
) -> Mapping[str, Any]:
    return run_controls(
        frame, subject, start_ms=span[0], end_ms=span[1],
        horizon=settings.data.pred_horizon_steps, sizes=Sizes(processes=PROCESSES),
        tapes=tapes_of(settings), progress=steps("controls"),
    )  # fmt: skip


def evaluation_look(
    settings: Settings, panel: Panel, bars: BarsFile, span: Span, commit: str, *,
    refit: bool = False, controls: bool = False,
) -> Look:  # fmt: skip
    """Say what an evaluation looks at: the same agents, models and settings are the same look.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    """
    part = require_bars(bars, *span)
    hashed = question_hash(settings, panel.agents, ("consensus",))
    also = (" refitted quarterly" if refit else "") + (" with controls" if controls else "")
    what = f"{part.symbol} {part.timeframe}: {' + '.join(panel.names)} + council{also} #{hashed}"
    return Look("evaluate", int(part.ts[0]), int(part.ts[-1]) + part.step_ms, what, commit)


def check_lookahead(
    settings: Settings, frame: BarFrame, rows: int, seed: int, *, guests: Sequence[str] = (),
    progress: Progress | None = None,
) -> Lookahead:  # fmt: skip
    """Scramble the futures of random rows and cut the file short; see :mod:`sim.lookahead`.

    Raises
    ------
    UsageError : if the bars do not have so many rows with enough of a past.
    """
    panel = panel_for(settings, frame, "", guests)
    return check(
        frame, panel.agents, panel.council, n_rows=rows, seed=seed,
        horizon=settings.data.pred_horizon_steps, progress=progress,
    )  # fmt: skip
