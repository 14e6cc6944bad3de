"""Settings of the council, its debate and its decisions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from serving.settings.group import Fraction, Group, Names, NotNegative, Positive, one_of
from serving.settings.trading import _off

DEBATERS = ("grok", "claude", "stub")
INTERVALS = (0.8, 0.9, 0.95)


class ConsensusSettings(Group):
    """How the council learns whom to believe."""

    sole: str | None = Field(
        None, description="the one agent whose forecast is published as it is; none = the council's"
    )
    min_forecasters: int = Field(2, ge=1, description="least awake agents with a direction")
    half_life: float = Field(10_000.0, gt=0, description="memory of the scores, outcomes")
    eta: NotNegative = Field(1.0, description="learning rate on the decayed Brier loss")
    floor: Fraction = Field(1e-3, description="share of the prior in the weights, fraction")
    grace: int = Field(50, ge=0, description="outcomes during which a member cannot lose weight")


class DebateSettings(Group):
    """Language models that may answer the council; each is in probation until it earned a seat."""

    providers: Names = Field(
        (),
        description="language models that are asked at every bar: grok, claude, stub; none = off",
    )
    step: float = Field(0.05, gt=0, le=1, description="furthest one moves from the pool, logits")
    timeout_s: Positive = Field(1.5, description="patience with them after the agents, seconds")
    budget_tokens: int = Field(
        2_000, ge=500, description="tokens of one decision and model, question and answer"
    )
    answer_tokens: int = Field(150, ge=50, description="of these, the most it may answer with")
    grok_url: str | None = Field(None, description="another address that speaks as OpenAI's does")
    grok_model: str | None = Field(None, description="another model there")
    claude_url: str | None = Field(None, description="another address that speaks as Anthropic's")
    claude_model: str | None = Field(None, description="another model there")
    xai_api_key: SecretStr | None = Field(None, description="key of grok; secret")
    anthropic_api_key: SecretStr | None = Field(None, description="key of claude; secret")

    @field_validator("providers")
    @classmethod
    def _known_providers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            one_of(name, DEBATERS)
        if len(set(value)) != len(value):
            raise ValueError("must name each once")
        return value


class DecisionSettings(Group):
    """When a side is taken."""

    prob_min: float = Field(0.60, ge=0.5, le=1, description="least probability of the side taken")
    min_expected_return: float = Field(
        0.002, ge=0, lt=1, description="least expected log return of the side taken, fraction"
    )
    risk_max: Fraction = Field(0.30, description="largest probability of the adverse move")
    delta: float = Field(
        0.0, ge=0, le=0.5, description="margin on the break-even probability, fraction"
    )
    interval_rule: float | None = Field(
        None, description="0.8, 0.9 or 0.95: that interval must lie beyond the cost; none = off"
    )
    gate: Annotated[Literal["off", "earned", "always"], BeforeValidator(_off)] = Field(
        "off",
        description="earned: a trained gate judges every side, and is applied while it has proved "
        "to gain; always: applied from the start; off: none",
    )
    gate_override_above: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="confidence above which the gate may turn a side; none = never",
    )

    @field_validator("interval_rule")
    @classmethod
    def _known_interval(cls, value: float | None) -> float | None:
        return value if value is None else one_of(value, INTERVALS)
