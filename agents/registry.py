"""Agents by name: the only list of who there is."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from agents.artifacts import FolderStore
from agents.chronos import ChronosConfig
from agents.contract import HORIZON_BARS
from domain.cards import TRAINED, ModelInUse
from domain.errors import ConclaveError, ModelError, UsageError
from domain.ports import Agent

log = logging.getLogger(__name__)

Check = Callable[[Agent], object]  # raises ModelError for an agent that must not be used


@dataclass(frozen=True, slots=True)
class Loaded:
    """An agent and the models it was built from."""

    agent: Agent
    models: tuple[ModelInUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What agents are built for, besides their models."""

    horizon_bars: int
    chronos: ChronosConfig


def agent_names() -> tuple[str, ...]:
    """Return the names of all agents that can be built, in their usual order."""
    return tuple(_BUILDERS)


def build_agents(
    names: Iterable[str],
    models_dir: Path | None = None,
    horizon_bars: int = HORIZON_BARS,
    chronos: ChronosConfig | None = None,
) -> dict[str, Agent]:
    """Build agents by name, with the models promoted in ``models_dir`` or else those that ship.

    Parameters
    ----------
    names : e.g. ``["climatology", "baseline"]``.
    models_dir : ``MODELS_DIR``; None means what ships.
    horizon_bars : bars ahead.
    chronos : settings of that agent; its horizon is ``horizon_bars``.

    Raises
    ------
    UsageError : for a name nobody has.
    ModelError : if a model is missing, damaged, or trained for another horizon.
    """
    store = FolderStore(models_dir)
    return {name: load_agent(name, store, horizon_bars, chronos=chronos).agent for name in names}


def load_agent(
    name: str, store: FolderStore, horizon_bars: int = HORIZON_BARS, check: Check | None = None,
    chronos: ChronosConfig | None = None,
) -> Loaded:  # fmt: skip
    """Build an agent from the best models that it can be built from.

    What the store cannot open it passes over by itself. If the agent cannot be built from what it
    opened, or fails ``check``, the version promoted last is passed over, and so on back to what
    ships. Each model that is not the promoted one is logged once.

    Parameters
    ----------
    check : asked about an agent with at least one model of MODELS_DIR.

    Raises
    ------
    UsageError : for a name nobody has.
    ModelError : if it cannot be built even from what ships.
    """
    passed = dict(store.passed)
    while True:
        attempt = replace(store, passed=passed, opened={})
        try:
            agent = build_agent(name, attempt, horizon_bars, chronos)
            if check is not None and _trained_here(attempt):
                check(agent)
        except ModelError as error:
            suspects = _trained_here(attempt)
            if not suspects:
                raise
            last = max(suspects, key=lambda model: store.promoted_at(model.name))
            passed[last.name, last.version] = error.message
            continue
        for model in attempt.opened.values():
            if model.problem:
                log.warning("%s", model.sentence)
        return Loaded(agent, tuple(attempt.opened.values()))


def _trained_here(store: FolderStore) -> list[ModelInUse]:
    return [model for model in store.opened.values() if model.place == TRAINED]


def build_agent(
    name: str, store: FolderStore, horizon_bars: int, chronos: ChronosConfig | None = None
) -> Agent:
    """Build an agent from what ``store`` opens, and from nothing else.

    Raises
    ------
    UsageError : for a name nobody has.
    ModelError : if a model is missing, damaged, or trained for another horizon.
    """
    if name not in _BUILDERS:
        close = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(_BUILDERS)}."
        raise UsageError("agent", "must be one that exists", name, hint)
    recipe = Recipe(horizon_bars, replace(chronos or ChronosConfig(), horizon_bars=horizon_bars))
    try:
        return _BUILDERS[name](store, recipe)
    except ConclaveError:
        raise
    except Exception as error:  # whatever a library says to a file that it cannot read
        told = f"cannot be built from its model: {type(error).__name__}: {error}"
        raise ModelError(name, told, hint="See: conclave models list") from error


def _climatology(_: FolderStore, recipe: Recipe) -> Agent:
    from agents.climatology import Climatology, ClimatologyConfig

    return Climatology(ClimatologyConfig(horizon_bars=recipe.horizon_bars))


def _technical(_: FolderStore, recipe: Recipe) -> Agent:
    from agents.technical import Technical, TechnicalConfig

    return Technical(TechnicalConfig(horizon_bars=recipe.horizon_bars))


def _baseline(store: FolderStore, recipe: Recipe) -> Agent:
    from agents.baseline import Baseline

    agent = Baseline.from_store(store)
    _same_horizon(agent.name, agent.horizon_bars, recipe.horizon_bars)
    return agent


def _chronos(store: FolderStore, recipe: Recipe) -> Agent:
    from agents.chronos import Chronos

    return Chronos.from_store(store, recipe.chronos)


def _tft(store: FolderStore, recipe: Recipe) -> Agent:
    from agents.tft import Tft

    agent = Tft.from_store(store)
    _same_horizon(agent.name, agent.horizon_bars, recipe.horizon_bars)
    return agent


def _microstructure(_: FolderStore, recipe: Recipe) -> Agent:
    from agents.microstructure import Microstructure, MicrostructureConfig

    return Microstructure(MicrostructureConfig(horizon_bars=recipe.horizon_bars))


def _risk(store: FolderStore, recipe: Recipe) -> Agent:
    from agents.risk import NAME, RiskAgent

    agent = RiskAgent(store.open(NAME))
    _same_horizon(agent.name, agent.horizon_bars, recipe.horizon_bars)
    return agent


def _same_horizon(name: str, trained: int, wanted: int) -> None:
    if trained != wanted:
        raise ModelError(
            name, f"was trained for a horizon of {trained} bars", wanted,
            f"Set PRED_HORIZON_STEPS={trained}, or train and promote a model for {wanted}.",
        )  # fmt: skip


_BUILDERS: dict[str, Callable[[FolderStore, Recipe], Agent]] = {
    "climatology": _climatology,
    "technical": _technical,
    "baseline": _baseline,
    "chronos": _chronos,
    "tft": _tft,
    "microstructure": _microstructure,
    "risk": _risk,
}
