"""An agent that follows its models: when another version is promoted, it moves on by itself.

The next agent is built and checked beside the one that serves, and takes its place between two
questions. What may not be used changes nothing: the old one goes on, and its card says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from agents.contract import NO_MODEL, asleep, card_of
from agents.registry import Loaded
from domain.cards import AgentCard, ModelInUse
from domain.errors import ModelError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent, Needs

log = logging.getLogger(__name__)


class Missing:
    """The seat of an agent without a model: it keeps silent and says why."""

    version = "none"
    needs = Needs()

    def __init__(self, name: str, horizon_bars: int) -> None:
        self.name, self.horizon_bars = name, horizon_bars

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return silence about every state."""
        return [
            asleep(self.name, self.version, state, self.horizon_bars, NO_MODEL) for state in states
        ]


@dataclass(frozen=True, slots=True)
class _Serving:
    """Who answers now; replaced as a whole, so that nobody sees half of it."""

    agent: Agent
    models: tuple[ModelInUse, ...] = ()
    problem: str = ""


class Reloading:
    """Whatever agent its models make today (:class:`domain.ports.Agent`).

    It starts without a model if there is none that can be used. Whoever owns it calls
    :meth:`refresh` every few seconds, from any one thread.

    Parameters
    ----------
    load : builds and checks the agent from what is promoted now; ModelError if nothing will do.
    stamp : what changes when another version is promoted; cheap.
    notice : what people should know of where models come from; empty if all is well.
    """

    def __init__(
        self,
        name: str,
        horizon_bars: int,
        load: Callable[[], Loaded],
        stamp: Callable[[], Hashable],
        notice: Callable[[], str] = str,
    ) -> None:
        self.name = name
        self._load, self._stamp, self._notice = load, stamp, notice
        self._seen = stamp()  # before loading: what changes meanwhile is looked at again
        try:
            found = load()
        except ModelError as error:
            problem = self._told(error)
            log.warning("%s has no model: %s", name, problem)
            self._now = _Serving(Missing(name, horizon_bars), problem=problem)
        else:
            self._now = _Serving(found.agent, found.models)

    @property
    def version(self) -> str:
        """The version that answers now."""
        return self._now.agent.version

    @property
    def needs(self) -> Needs:
        """What it reads."""
        return self._now.agent.needs

    @property
    def trained_until(self) -> int | None:
        """Bars that open before it, UTC ms, were seen in training."""
        until: int | None = getattr(self._now.agent, "trained_until", None)
        return until

    @property
    def card(self) -> AgentCard:
        """What it says of itself."""
        now = self._now
        own = card_of(now.agent)
        problem = now.problem or own.problem or self._notice()
        return replace(own, models=now.models or own.models, problem=problem)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state, all from one version."""
        return self._now.agent.opine(states)

    def warm_up(self) -> None:
        """Let an agent that loads late load now, before the first question."""
        _warm(self._now.agent)

    def refresh(self) -> bool:
        """Move on if another version was promoted and can be used; return whether it did."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        before = self._now
        try:
            found = self._load()
        except ModelError as error:
            problem = self._told(error)
            log.warning("%s stays at %s: %s", self.name, before.agent.version, problem)
            self._now = replace(before, problem=problem)
            return False
        if refused := _refused(before.models, found.models):
            log.warning("%s stays at %s: %s", self.name, before.agent.version, refused[0].problem)
            self._now = replace(before, models=_kept(before.models, found.models), problem="")
            return False
        _warm(found.agent)  # here, not with the next question
        self._now = _Serving(found.agent, found.models)
        if found.agent.version == before.agent.version:
            return False
        log.info("%s moves from %s to %s", self.name, before.agent.version, found.agent.version)
        return True

    def _told(self, error: ModelError) -> str:
        return str(error).removeprefix(f"{self.name}: ")


def _warm(agent: Agent) -> None:
    warm_up = getattr(agent, "warm_up", None)
    if warm_up is not None:
        warm_up()


def _refused(before: Sequence[ModelInUse], found: Sequence[ModelInUse]) -> list[ModelInUse]:
    """The models that would move onto something that only stands in; what sits there may stay."""
    using = {model.name: model.version for model in before}
    return [
        model
        for model in found
        if model.problem and using.get(model.name, model.version) != model.version
    ]


def _kept(before: Sequence[ModelInUse], found: Sequence[ModelInUse]) -> tuple[ModelInUse, ...]:
    """The models in use, with what was wanted and why it was not taken."""
    told = {model.name: model for model in found}
    kept = []
    for model in before:
        new = told.get(model.name, model)
        waits = "" if new.version == model.version else "another model of its agent was refused"
        kept.append(replace(model, wanted=new.wanted, problem=new.problem or waits))
    return tuple(kept)
