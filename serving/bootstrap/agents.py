"""The agents of a process, which follow what is promoted."""

from __future__ import annotations

from collections.abc import Iterable

from agents.reloading import Reloading
from data.memory import LIVE_BARS
from domain.market import BarFrame
from serving.plan import RunPlan
from serving.promotion import following
from serving.settings import Settings


def live_agents(
    settings: Settings, names: Iterable[str] | None = None, plan: RunPlan | None = None
) -> dict[str, Reloading]:
    """Build agents that can move to what is promoted later.

    Parameters
    ----------
    names : None = all that the settings name.
    plan : its stored bars are what agents are examined on; None = no examination.
    """
    names = settings.models.agents if names is None else names
    if plan is None:
        return following(names, settings)
    world = plan.world

    def past() -> list[BarFrame]:
        from serving.bootstrap.storage import open_storage  # an agent that nobody examines
        from storage.queries import Reader  # starts without

        reader = Reader(open_storage(settings), world)
        frames = (
            reader.newest_bars(symbol, settings.data.timeframe, LIVE_BARS)
            for symbol in settings.data.symbols
        )
        return [frame for frame in frames if len(frame)]

    return following(names, settings, past)
