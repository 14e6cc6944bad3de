"""Stages 3 to 5 as a fold: what resolved rounds have taught about how to combine.

What a round is scored on is what was published then (:class:`consensus.rounds.Published`), never
what would be published now: a late outcome changes decisions to come and no decision made. Agents
outside the council teach nothing to anybody but themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from consensus.boa import Boa
from consensus.conformal import Tracker
from consensus.learnt import IDENTITY, SIDES, Learnt
from consensus.noharm import NoHarm
from consensus.pooling import BRIER_POOL, agents_of, logit, risk_logit
from consensus.recalibration import OnlineLine, OnlineLogistic
from consensus.rounds import WIDTH, Published, Round, Said, stacked
from consensus.settings import CouncilSettings
from domain.quantiles import CANONICAL_LEVELS


class Learning:
    """The fold of one symbol, timeframe and horizon."""

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        self._noharm = NoHarm(settings.horizon_bars)
        self._boa = Boa(WIDTH, settings.boa_forget, len(settings.members))
        self._stacked = sorted(settings.members)
        k = len(self._stacked)
        memory = settings.half_life, 1.0 / settings.horizon_bars
        self._stack = OnlineLogistic([1.0 / k] * k, [settings.stack_spread] * k, *memory)
        self._platt = OnlineLine(IDENTITY, settings.platt_spread, *memory)
        self._curves = {side: OnlineLine(IDENTITY, settings.risk_spread, *memory) for side in SIDES}
        self._tracker = Tracker(settings.conformal_rate)
        self._ups, self._weight = 0.0, 0.0

    @property
    def base(self) -> float:
        """P(up) of whoever knows nothing else: the decayed base rate, shrunk to ½."""
        prior = self._settings.base_weight
        return (self._ups + 0.5 * prior) / (self._weight + prior)

    def view(
        self, copy: int, losses: Mapping[str, float], priors: Mapping[str, float],
        said: Mapping[str, Said],
    ) -> Learnt:  # fmt: skip
        """Return what the pools of one instant read.

        Parameters
        ----------
        copy : of the no-harm layer that plays this round.
        losses, priors : agent with a seat → L and π.
        said : what those of them say who are awake, sorted by agent.
        """
        spoke = ~np.isnan(stacked(said.values()))
        weights = self._boa.weights(list(said), spoke).tolist()
        return Learnt(
            losses=losses,
            priors=priors,
            mixture=dict(sorted(self._noharm.at(copy).ln_weights.items())),
            bernstein={agent: tuple(row) for agent, row in zip(said, weights, strict=True)},
            stack=dict(zip(self._stacked, self._stack.beta.tolist(), strict=True)),
            platt=self._platt.beta,
            base=self.base,
            theta=self._tracker.theta,
            curves={side: curve.beta for side, curve in self._curves.items()},
        )

    def add(self, played: Round) -> None:
        """Fold one resolved round."""
        y = 1.0 if played.log_return > 0.0 else 0.0
        decay = self._settings.decay
        self._ups, self._weight = decay * self._ups + y, decay * self._weight + 1.0
        shown = played.published
        if shown is None:
            return
        if shown.candidates:
            self._noharm.at(played.copy).learn(shown.candidates, y)
            self._add_direction(shown.candidates, y)
        self._add_pools(played, shown, y)
        for side, risk, event in (
            ("down", shown.pooled.risk_down, played.fell),
            ("up", shown.pooled.risk_up, played.rose),
        ):
            if risk is not None:
                self._curves[side].learn(risk_logit(risk), float(event))
        pooled, issued = shown.pooled.levels, shown.theta
        if shown.sigma is not None and pooled is not None and issued is not None:
            self._tracker.learn(pooled, shown.sigma, issued, played.log_return)

    def _add_direction(self, candidates: Mapping[str, float], y: float) -> None:
        p = agents_of(candidates)
        for agent in sorted(p.keys() - set(self._stacked)):
            self._stacked.append(agent)  # it won a seat: nothing until it has shown more
            self._stack.grow(0.0, self._settings.stack_spread)
        said = [logit(p[agent]) if agent in p else 0.0 for agent in self._stacked]
        self._stack.learn(said, y)
        if BRIER_POOL in candidates:
            self._platt.learn(logit(candidates[BRIER_POOL]), y)

    def _add_pools(self, played: Round, shown: Published, y: float) -> None:
        said = dict(sorted(played.opinions.items()))
        if not said:
            return
        pooled, r, sigma = shown.pooled.row, played.log_return, shown.sigma or math.nan
        p, *levels, down, up = pooled.tolist()
        beyond = [(r <= q) - at for q, at in zip(levels, CANONICAL_LEVELS, strict=True)]
        slope = np.array([
            2.0 * (p - y), *[one / sigma for one in beyond],
            2.0 * (down - played.fell), 2.0 * (up - played.rose),
        ])  # fmt: skip
        saved = slope * (pooled - stacked(said.values()))
        self._boa.learn(list(said), saved, ~np.isnan(saved))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "noharm": self._noharm.as_dict(), "boa": self._boa.as_dict(),
            "stacked": list(self._stacked), "stack": self._stack.as_dict(),
            "platt": self._platt.as_dict(),
            "curves": {side: curve.as_dict() for side, curve in self._curves.items()},
            "theta": list(self._tracker.theta), "base": [self._ups, self._weight],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(settings)
        made._noharm = NoHarm.from_dict(body["noharm"])
        made._boa.restore(body["boa"])
        for agent in body["stacked"][len(made._stacked) :]:
            made._stacked.append(agent)
            made._stack.grow(0.0, settings.stack_spread)
        made._stack.restore(body["stack"])
        made._platt.restore(body["platt"])
        for side in SIDES:
            made._curves[side].restore(body["curves"][side])
        made._tracker = Tracker(settings.conformal_rate, body["theta"])
        made._ups, made._weight = map(float, body["base"])
        return made
