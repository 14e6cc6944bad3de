"""From settings and a file to a scoreboard or a look-ahead check: who is asked, by what rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from agents.artifacts import FolderStore
from agents.contract import MIN_BARS
from agents.risk import NAME as RISK
from consensus.council import Council
from domain.canonical import short_hash
from domain.market import BarFrame
from domain.ports import Agent
from domain.times import timeframe_ms
from serving.bootstrap import configured_agents, council_settings, decision_rules, market_for
from serving.market_files import BarsFile, require_bars
from serving.settings import Settings
from serving.trials import Look
from sim.baselines import SHIPPED, Fitted, shipped
from sim.evaluate import evaluate
from sim.lookahead import DecideAt, Difference, council_decider, scramble_check
from sim.opinions import Progress

FOLD = 40  # decisions before a checked row whose outcomes the council has seen
PAST = 2_016 + FOLD  # bars before a checked row: as long as the features' longest window


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Who is evaluated.

    Attributes
    ----------
    agents : by name, in the council's order.
    council : makes a council of just these agents, its fold at the prior.
    trained_until : agent → UTC ms; its models saw bars that opened earlier.
    """

    agents: Mapping[str, Agent]
    council: Callable[[], Council]
    trained_until: Mapping[str, int]


def panel_for(settings: Settings, frame: BarFrame, commit: str) -> Panel:
    """Build the configured agents with their promoted or shipped models, and their council.

    Raises
    ------
    UsageError : for an agent that this version does not have.
    ModelError : if a model is missing, damaged, or of another horizon.
    """
    agents = configured_agents(settings)
    price = {frame.symbol: float(frame.close[0])}
    market = market_for(settings, [frame.symbol], price, keep_market=False)
    costs = partial(
        market.round_trip, timeframe_ms(frame.timeframe), settings.data.pred_horizon_steps
    )
    members = replace(council_settings(settings), members=tuple(agents))
    rules = decision_rules(settings)

    def council() -> Council:
        return Council(members, rules, costs, git_commit=commit)

    return Panel(agents, council, trained_until(agents))


def trained_until(agents: Mapping[str, Agent]) -> dict[str, int]:
    """Return the end of each fitted agent's training, UTC ms; the others learn nothing ahead."""
    ends = ((name, getattr(agent, "trained_until", None)) for name, agent in agents.items())
    return {name: int(end) for name, end in ends if end is not None}


def fitted_baselines() -> Fitted:
    """Return the parameters of the fitted baselines: those that ship, whatever was promoted."""
    store = FolderStore()
    return shipped(store.open(RISK)) if store.current(RISK) else SHIPPED


def make_board(
    settings: Settings,
    panel: Panel,
    bars: BarsFile,
    span: tuple[int | None, int | None],
    commit: str,
    *,
    controls: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the scoreboard of ``evaluate --json``.

    Parameters
    ----------
    span : bars that open in it decide, UTC ms.
    controls : add the shuffled-label control.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    """
    return evaluate(
        bars.frame, panel.agents, panel.council, start_ms=span[0], end_ms=span[1],
        horizon=settings.data.pred_horizon_steps, training_end=panel.trained_until,
        fitted=fitted_baselines(), controls=controls, sha256=bars.sha256, commit=commit,
        progress=progress,
    )  # fmt: skip


def evaluation_look(
    settings: Settings,
    panel: Panel,
    bars: BarsFile,
    span: tuple[int | None, int | None],
    commit: str,
) -> Look:
    """Say what an evaluation looks at: the same agents, models and settings are the same look.

    Raises
    ------
    DataRefused : if no bar opens in the range.
    """
    part = require_bars(bars, *span)
    told = question_hash(settings, panel.agents, ("consensus",))
    what = f"{part.symbol} {part.timeframe}: {' + '.join(panel.agents)} + council #{told}"
    return Look("evaluate", int(part.ts[0]), int(part.ts[-1]) + part.step_ms, what, commit)


def question_hash(settings: Settings, agents: Mapping[str, Agent], groups: tuple[str, ...]) -> str:
    """Return a short hash of what shapes a result beside code and bars.

    Parameters
    ----------
    groups : of the settings that matter.
    """
    rules = {name: getattr(settings, name).model_dump(mode="json") for name in groups}
    versions = {name: agent.version for name, agent in agents.items()}
    return short_hash([versions, rules, settings.data.pred_horizon_steps], 8)


def check_lookahead(
    settings: Settings,
    frame: BarFrame,
    rows: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> list[Difference]:
    """Decide random rows with three futures each; see :mod:`sim.lookahead`.

    Raises
    ------
    UsageError : if the bars do not have so many rows with enough of a past.
    """
    panel = panel_for(settings, frame, "")
    history = min(PAST, max(MIN_BARS + FOLD, len(frame) // 2))
    decide_at = council_decider(
        panel.agents, panel.council, history=history, fold=FOLD,
        horizon=settings.data.pred_horizon_steps,
    )  # fmt: skip
    return scramble_check(
        _counting(decide_at, 3 * rows, progress), frame, n_rows=rows, seed=seed, first=history
    )


def _counting(decide_at: DecideAt, total: int, progress: Progress | None) -> DecideAt:
    if progress is None:
        return decide_at
    done = 0

    def counted(frame: BarFrame, row: int) -> Any:
        nonlocal done
        decision = decide_at(frame, row)
        done += 1
        progress(done, total)
        return decision

    return counted
