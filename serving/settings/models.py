"""Settings of agents and their models."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from agents.chronos_models import require_known
from agents.chronos_views import TIMEFRAMES as CHRONOS_TIMEFRAMES
from domain.errors import UsageError
from serving.settings.group import Folder, Fraction, Group, Names, not_empty, one_of

AGENTS = ("climatology", "technical", "baseline", "chronos", "tft", "microstructure", "risk")
LIGHT_AGENTS = ("climatology", "technical")  # always in process; the rest may be deployments


def _agents(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in AGENTS:
            close = difflib.get_close_matches(name, AGENTS, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(AGENTS)}"
            raise ValueError(f"{name!r} is no agent; {hint}")
    if len(set(names)) != len(names):
        raise ValueError("must name each agent once")
    return names


AgentNames = Annotated[Names, AfterValidator(_agents)]


class ModelSettings(Group):
    """Which agents sit in the council and where they run."""

    agents: Annotated[AgentNames, AfterValidator(not_empty)] = Field(
        AGENTS, description="agents of the council"
    )
    in_process: AgentNames = Field(
        LIGHT_AGENTS,
        description="agents that think inside the council's process; "
        "the others are Ray Serve deployments",
    )
    chronos_model: str = Field(
        "shipped",
        description="Chronos model: shipped (what was promoted here, else what ships), a folder, "
        "or a hub id such as amazon/chronos-bolt-tiny",
    )
    chronos_timeframes: Annotated[Names, AfterValidator(not_empty)] = Field(
        CHRONOS_TIMEFRAMES,
        description="timeframes Chronos is asked about, as far as the bars can be joined to them",
    )
    chronos_fusion: Literal["learned", "fixed"] = Field(
        "learned", description="how they go together; learned needs the model it was learned for"
    )
    chronos_min_confidence: Fraction = Field(
        0.0,
        description="|2p − 1| below which a timeframe has no say in the direction; fixed fusion",
    )
    chronos_int8: bool = Field(False, description="whether Chronos is quantised to int8")
    auto_promote: bool = Field(
        False, description="whether training promotes a better model by itself"
    )
    trials_log: Folder | None = Field(
        None, description="file to which every look at the test year is added; none = not logged"
    )

    @field_validator("chronos_model")
    @classmethod
    def _known_chronos(cls, value: str) -> str:
        try:
            return require_known(value)
        except UsageError as error:
            raise ValueError(f"{error.rule}. {error.hint}") from None

    @field_validator("chronos_timeframes")
    @classmethod
    def _known_timeframes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one_of(name, CHRONOS_TIMEFRAMES) for name in names)

    @property
    def remote(self) -> tuple[str, ...]:
        """The agents with a deployment of their own, in the council's order."""
        return tuple(name for name in self.agents if name not in self.in_process)
