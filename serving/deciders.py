"""The composition root's part that names who decides: agents and strategies.

Apart from :mod:`serving.bootstrap`, so that a backtest does not wait for what only a desk needs;
and what is named is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from domain.canonical import short_hash
from domain.decision import Costs
from domain.errors import UsageError
from domain.market import MarketState
from domain.ports import Agent, Strategy
from serving.settings import Settings

if TYPE_CHECKING:
    from sim.tapes import TapeStore

TAPES = "opinions"


def agents_named(
    names: Iterable[str], settings: Settings, timeframe: str | None = None
) -> dict[str, Agent]:
    """Build some agents with the models in use; see :func:`serving.promotion.load_named`.

    Raises
    ------
    ModelError : if one cannot be built even from what ships.
    """
    wanted = list(names)
    if not wanted:
        return {}
    from serving.promotion import load_named

    return {name: load_named(name, settings, timeframe).agent for name in wanted}


def trained_until(agents: Mapping[str, Agent]) -> dict[str, int]:
    """Return the end of each fitted agent's training, UTC ms; the others learn nothing ahead."""
    ends = ((name, getattr(agent, "trained_until", None)) for name, agent in agents.items())
    return {name: int(end) for name, end in ends if end is not None}


def tapes_of(settings: Settings) -> TapeStore:
    """Return the place where opinions are kept between runs."""
    from sim.tapes import TapeStore

    return TapeStore(settings.data.processed_dir / TAPES)


def question_hash(settings: Settings, agents: Mapping[str, Agent], groups: tuple[str, ...]) -> str:
    """Return a short hash of what shapes a result beside code and bars.

    Parameters
    ----------
    groups : of the settings that matter.
    """
    rules = {name: getattr(settings, name).model_dump(mode="json") for name in groups}
    versions = {name: agent.version for name, agent in agents.items()}
    return short_hash([versions, rules, settings.data.pred_horizon_steps], 8)


def build_strategy(
    settings: Settings, costs: Callable[[MarketState], Costs], source: str, commit: str
) -> Strategy:
    """Return the strategy the settings name.

    Raises
    ------
    UsageError : for a name nobody has.
    """
    name, horizon = settings.execution.strategy, settings.data.pred_horizon_steps
    if name == "council":
        return _council(settings, costs, source, commit)
    if name == "ema_cross":
        from execution.strategies import EmaCross

        return EmaCross(10, 20, horizon)
    if name == "mean_reversion":
        from execution.strategies import MeanReversion

        return MeanReversion(horizon_bars=horizon)
    hint = "There are council, ema_cross, mean_reversion."
    raise UsageError("strategy", "must be one that exists", name, hint)


def _council(
    settings: Settings, costs: Callable[[MarketState], Costs], source: str, commit: str
) -> Strategy:
    from consensus.council import Council
    from serving.rules import council_settings, decision_rules
    from serving.system import platform_name

    own, rules = council_settings(settings), decision_rules(settings)
    return Council(own, rules, costs, source, commit, platform_name())
