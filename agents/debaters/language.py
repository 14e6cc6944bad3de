"""A debater that asks a language model; it is late, silent or wrong without harm to the others."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from agents.contract import speak
from agents.debaters.prompt import SYSTEM, VERSION, question, read
from agents.debaters.provider import Provider, ProviderError
from domain.canonical import short_hash
from domain.decision import Consensus
from domain.market import MarketState
from domain.opinion import Opinion

log = logging.getLogger(__name__)

CHARACTERS_A_TOKEN = 3  # of JSON with many digits; an estimate on the safe side


class LanguageDebater:
    """Moves the pool's logit by at most Δ, as a language model argues.

    Parameters
    ----------
    provider : the model. Its name is the agent's.
    horizon_bars : H. ``step`` : Δ > 0, logits.
    budget_tokens : of one decision, question and answer; what would cost more is not asked.
    answer_tokens : share of it that the answer may take.
    clock : seconds of a monotonic clock, for cool-downs that a provider asks for.

    Attributes
    ----------
    silent : why the last state was not answered; empty if it was.
    """

    def __init__(
        self, provider: Provider, horizon_bars: int, *, step: float, budget_tokens: int,
        answer_tokens: int, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._provider, self._horizon, self._step = provider, horizon_bars, step
        self._most = budget_tokens - answer_tokens
        self._clock, self._quiet_until = clock, -math.inf
        self.name = provider.name
        self.version = short_hash([provider.name, provider.model, VERSION, step], 12)
        self.silent = ""

    async def answer(
        self, states: Sequence[MarketState], views: Sequence[Consensus], deadline_s: float
    ) -> list[Opinion | None]:
        """Return an opinion on each state, None where there is none in time; never raises for it.

        Parameters
        ----------
        views : what the council makes of each state without debaters.
        deadline_s : seconds from now for all of them.
        """
        asked = [self._one(*pair, deadline_s) for pair in zip(states, views, strict=True)]
        return list(await asyncio.gather(*asked))

    async def _one(self, state: MarketState, view: Consensus, deadline_s: float) -> Opinion | None:
        try:
            return await asyncio.wait_for(self._ask(state, view, deadline_s), deadline_s)
        except ProviderError as error:
            self.silent = error.why
            self._quiet_until = max(self._quiet_until, self._clock() + error.wait_s)
            log.warning("debater %s did not answer: %s", self.name, error)
        except TimeoutError:
            self.silent = "deadline"
            log.warning("debater %s missed the deadline", self.name)
        return None

    async def _ask(self, state: MarketState, view: Consensus, deadline_s: float) -> Opinion:
        if self._clock() < self._quiet_until:
            raise ProviderError("rate_limited", "it asked for a pause")
        asked = question(state, view)
        if (len(SYSTEM) + len(asked)) / CHARACTERS_A_TOKEN > self._most:
            raise ProviderError("refused", "the question alone exceeds the budget of a decision")
        reply = await self._provider.complete(SYSTEM, asked, deadline_s)
        argument = read(reply.text)
        self.silent = ""
        logit = math.log(view.p_up / (1.0 - view.p_up)) + argument.move * self._step
        evidence: dict[str, Any] = {"move": argument.move, "tokens": reply.tokens}
        return speak(
            self.name, self.version, state, self._horizon,
            p_up=1.0 / (1.0 + math.exp(-logit)), rationale=argument.text, evidence=evidence,
        )  # fmt: skip
