"""Agents by name: the only list of who there is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

from agents.artifacts import FolderStore
from agents.contract import HORIZON_BARS
from domain.errors import ModelError, UsageError
from domain.ports import Agent


def agent_names() -> tuple[str, ...]:
    """Return the names of all agents that can be built, in their usual order."""
    return tuple(_BUILDERS)


def build_agents(
    names: Iterable[str],
    models_dir: Path | None = None,
    horizon_bars: int = HORIZON_BARS,
) -> dict[str, Agent]:
    """Build agents by name, with the models promoted in ``models_dir`` or else those that ship.

    Parameters
    ----------
    names : e.g. ``["climatology", "baseline"]``.
    models_dir : ``MODELS_DIR``; None means what ships.
    horizon_bars : bars ahead.

    Raises
    ------
    UsageError : for a name nobody has.
    ModelError : if a model is missing, damaged, or trained for another horizon.
    """
    store = FolderStore(models_dir)
    return {name: _build(name, store, horizon_bars) for name in names}


def _build(name: str, store: FolderStore, horizon_bars: int) -> Agent:
    if name not in _BUILDERS:
        close = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(_BUILDERS)}."
        raise UsageError("agent", "must be one that exists", name, hint)
    return _BUILDERS[name](store, horizon_bars)


def _climatology(_: FolderStore, horizon_bars: int) -> Agent:
    from agents.climatology import Climatology, ClimatologyConfig

    return Climatology(ClimatologyConfig(horizon_bars=horizon_bars))


def _technical(_: FolderStore, horizon_bars: int) -> Agent:
    from agents.technical import Technical, TechnicalConfig

    return Technical(TechnicalConfig(horizon_bars=horizon_bars))


def _baseline(store: FolderStore, horizon_bars: int) -> Agent:
    from agents.baseline import Baseline

    agent = Baseline.from_store(store)
    _same_horizon(agent.name, agent.horizon_bars, horizon_bars)
    return agent


def _risk(store: FolderStore, horizon_bars: int) -> Agent:
    from agents.risk import NAME, RiskAgent

    agent = RiskAgent(store.open(NAME))
    _same_horizon(agent.name, agent.horizon_bars, horizon_bars)
    return agent


def _same_horizon(name: str, trained: int, wanted: int) -> None:
    if trained != wanted:
        raise ModelError(
            name, f"was trained for a horizon of {trained} bars", wanted,
            f"Set PRED_HORIZON_STEPS={trained}, or train and promote a model for {wanted}.",
        )  # fmt: skip


_BUILDERS: dict[str, Callable[[FolderStore, int], Agent]] = {
    "climatology": _climatology,
    "technical": _technical,
    "baseline": _baseline,
    "risk": _risk,
}
