"""Which models the agents of these settings may speak with, and how they follow what is promoted.

One set of rules for ``models promote``, AUTO_PROMOTE, every start and every reload, so that what
was refused in one place is not used in another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import sqrt
from typing import Protocol, Self, runtime_checkable

from agents.artifacts import Card, FolderStore, load, pointers_stamp
from agents.chronos import ChronosConfig
from agents.inspection import require_fit, require_sense, require_skill
from agents.mirror import Mirror
from agents.registry import Loaded, build_agent, load_agent
from agents.reloading import Reloading
from data.memory import MarketMemory
from domain.errors import ModelError
from domain.market import BarFrame, MarketState
from domain.ports import Agent, Needs
from domain.times import timeframe_ms
from serving.model_store import mirror_of
from serving.settings import Settings
from sim.worlds import RANDOM_WALK, GeneratedWorld

RELOAD_SECONDS = 2.0  # between two looks at what is promoted
SMOKE_STATES, SMOKE_STEP = 24, 12  # of a generated market, and bars from one to the next
_SMOKE_SEED = 7
_LONGEST_FEATURE = 2_016  # bars behind a feature row


def smoke_states(symbol: str, timeframe: str, needs: Needs) -> Sequence[MarketState]:
    """Return states of a generated market, each with as much of a past as ``needs`` says.

    A random walk with changing volatility, its moves scaled to the bar: 9 bp in five minutes.
    """
    scale = sqrt(timeframe_ms(timeframe) / timeframe_ms("5m"))
    config = replace(
        RANDOM_WALK,
        noise_bps=RANDOM_WALK.noise_bps * scale,
        jump_bps=RANDOM_WALK.jump_bps * scale,
    )
    n = max(needs.bars, needs.feature_rows + _LONGEST_FEATURE) + SMOKE_STATES * SMOKE_STEP
    memory = MarketMemory(symbol, timeframe, keep=None)
    world = GeneratedWorld(config, _SMOKE_SEED, symbol, timeframe)
    memory.append(world.bars(world.start_ms, n))
    ends = range(n - SMOKE_STATES * SMOKE_STEP, n, SMOKE_STEP)
    whole = memory.states(bars=needs.bars, feature_rows=needs.feature_rows)
    return [whole[end] for end in ends]


def admission(settings: Settings, timeframe: str | None = None) -> Callable[[str, Card], None]:
    """Return what refuses the card of a model (name, card) that does not go with the settings.

    Parameters
    ----------
    timeframe : of the bars it is asked about; None = the one of the settings.
    """

    def admit(name: str, card: Card) -> None:
        require_fit(card, settings.data.pred_horizon_steps, timeframe or settings.data.timeframe)
        require_skill(name, card)

    return admit


Past = Callable[[], Sequence[BarFrame]]  # the newest bars of every symbol there are


def load_named(
    name: str, settings: Settings, timeframe: str | None = None, past: Past | None = None,
    mirror: Mirror | None = None,
) -> Loaded:  # fmt: skip
    """Build an agent with the promoted models, or the best that can stand in for them.

    Parameters
    ----------
    timeframe : of the bars it is asked about; None = the one of the settings.
    past : bars that an agent which examines itself is examined on.
    mirror : of the store that was looked at; None = look there now, if there is one.

    Raises
    ------
    ModelError : if not even what ships can be used.
    """
    timeframe = timeframe or settings.data.timeframe
    if mirror is None and (mirror := mirror_of(settings)) is not None:
        mirror.follow(name)
    store = FolderStore(
        settings.data.models_dir,
        admits=admission(settings, timeframe),
        fetch=None if mirror is None else mirror.fetch,
    )
    check = partial(_require_sense, settings, timeframe)
    horizon, chronos = settings.data.pred_horizon_steps, chronos_config(settings, timeframe)
    found = load_agent(name, store, horizon, check, chronos)
    if past is None or not isinstance(found.agent, Examinee):
        return found
    return replace(found, agent=found.agent.examined(past()))


@runtime_checkable
class Examinee(Protocol):
    """An agent that leaves out what its forecasts of known bars show to be no good."""

    def examined(self, frames: Sequence[BarFrame]) -> Agent:
        """Return the agent as it may speak."""
        ...


def chronos_config(settings: Settings, timeframe: str | None = None) -> ChronosConfig:
    """Translate settings into those of the Chronos agent."""
    models = settings.models
    return ChronosConfig(
        model=models.chronos_model,
        int8=models.chronos_int8,
        timeframe=timeframe or settings.data.timeframe,
        horizon_bars=settings.data.pred_horizon_steps,
        timeframes=models.chronos_timeframes,
        fusion=models.chronos_fusion,
        min_confidence=models.chronos_min_confidence,
    )


def following(
    names: Iterable[str], settings: Settings, past: Past | None = None
) -> dict[str, Reloading]:
    """Build agents that can move to what is promoted later; one without a model keeps silent."""
    mirror = mirror_of(settings)
    return {name: _following(name, settings, past, mirror) for name in names}


def _following(
    name: str, settings: Settings, past: Past | None, mirror: Mirror | None
) -> Reloading:
    horizon, root = settings.data.pred_horizon_steps, settings.data.models_dir
    build = partial(load_named, name, settings, past=past, mirror=mirror)
    if mirror is None:
        return Reloading(name, horizon, build, partial(pointers_stamp, root, name))

    def stamp() -> Hashable:
        mirror.follow(name)
        return pointers_stamp(root, name)

    return Reloading(name, horizon, build, stamp, partial(mirror.problem, name))


def require_sound(settings: Settings, name: str, version: str) -> str:
    """Refuse a version that must not be promoted.

    Its bytes are those of its card, its horizon, bars and features those of the settings, its
    validation score no worse than climatology's, and its agent gives sane forecasts with it.
    Where the agent's other models in use do not go with it, the newest ones that do stand in.

    Returns
    -------
    How its score compares with climatology's, or why that is not known.

    Raises
    ------
    ModelError : naming the rule it breaks.
    """
    from serving.gate_models import is_gate, require_gate  # an agent starts without

    if is_gate(name):
        return require_gate(settings, name, version)
    root, timeframe = settings.data.models_dir, settings.data.timeframe
    horizon = settings.data.pred_horizon_steps
    card = load(root / name / version).card
    require_fit(card, horizon, timeframe)
    told = require_skill(name, card)
    store = FolderStore(root, admits=admission(settings), only={name: version}, spares=True)
    try:
        chronos = chronos_config(settings, timeframe)
        agent = build_agent(name.partition("/")[0], store, horizon, chronos)
        _require_sense(settings, timeframe, agent)
    except ModelError as error:
        raise ModelError(f"{name} {version}", error.message, hint=error.hint) from error
    return told


def _require_sense(settings: Settings, timeframe: str, agent: Agent) -> None:
    require_sense(agent, smoke_states(settings.data.symbols[0], timeframe, agent.needs))


class Follower(Protocol):
    """Somebody who follows what is promoted."""

    def refresh(self) -> object:
        """Look, and move on."""
        ...


class Refresher:
    """Lets followers look every few seconds whether another version was promoted.

    A thread of its own: building a model takes longer than an event loop may be kept waiting.
    """

    def __init__(self, followers: Iterable[Follower], seconds: float = RELOAD_SECONDS) -> None:
        self._followers, self.seconds = list(followers), seconds
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> Self:
        """Begin to look; ends with the process, or with :meth:`stop`."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more; what is being built is finished first, within reason."""
        self._leave.set()
        self._thread.join(timeout=10.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._leave.wait(self.seconds):
            for follower in self._followers:
                follower.refresh()
