"""Who may answer the council after the agents have spoken, and within what time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import httpx

from agents.debaters import PRESETS, HttpProvider, LanguageDebater, Provider, StubProvider
from domain.decision import Consensus
from domain.errors import SettingError
from domain.market import MarketState
from domain.opinion import Opinion
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Debating:
    """All debaters; they are asked at once and nobody waits for them past ``timeout_s``."""

    debaters: tuple[LanguageDebater, ...] = ()
    timeout_s: float = 1.0

    async def answer(
        self, states: Sequence[MarketState], views: Sequence[Consensus | None]
    ) -> list[list[Opinion]]:
        """Return what they say of each state; none of it where the council has no view."""
        known = [k for k, view in enumerate(views) if view is not None]
        said: list[list[Opinion]] = [[] for _ in states]
        if not known or not self.debaters:
            return said
        asked, told = [states[k] for k in known], [v for v in views if v is not None]
        for answers in await asyncio.gather(
            *(debater.answer(asked, told, self.timeout_s) for debater in self.debaters)
        ):
            for k, opinion in zip(known, answers, strict=True):
                if opinion is not None:
                    said[k].append(opinion)
        return said


def debating(settings: Settings) -> Debating:
    """Build what is configured.

    Raises
    ------
    SettingError : if a provider has no key.
    """
    ours = settings.debate
    found = tuple(
        LanguageDebater(
            _provider(name, settings), settings.data.pred_horizon_steps, step=ours.step,
            budget_tokens=ours.budget_tokens, answer_tokens=ours.answer_tokens, clock=monotonic,
        )
        for name in ours.providers
    )  # fmt: skip
    return Debating(found, ours.timeout_s)


def _provider(name: str, settings: Settings) -> Provider:
    if name == "stub":
        return StubProvider()
    ours, preset = settings.debate, PRESETS[name]
    url, model, key = {
        "grok": (ours.grok_url, ours.grok_model, ours.xai_api_key),
        "claude": (ours.claude_url, ours.claude_model, ours.anthropic_api_key),
    }[name]
    if key is None:
        raise SettingError(
            preset.key, f"must be set where {name} debates", None,
            f"Set {preset.key} in the environment, or take {name} out of debate.providers.",
        )  # fmt: skip
    preset = replace(preset, url=(url or preset.url).rstrip("/"), model=model or preset.model)
    return HttpProvider(preset, key.get_secret_value(), httpx.AsyncClient(), ours.answer_tokens)
