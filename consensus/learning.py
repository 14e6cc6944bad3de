"""Stages 3 to 5 as a fold: what resolved rounds have taught about how to combine.

What a round is scored on is what was published then (:class:`consensus.rounds.Published`), never
what would be published now: a late outcome changes decisions to come and no decision made. Agents
outside the council teach nothing to anybody but themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from consensus.boa import Boa
from consensus.conformal import LEVELS, Tracker
from consensus.learnt import IDENTITY, SIDES, Learnt, Line
from consensus.noharm import NoHarm
from consensus.pooling import BOA_POOL, BRIER_POOL, agents_of, logit, risk_logit
from consensus.recalibration import OnlineLogistic
from consensus.rounds import Published, Round
from consensus.settings import CouncilSettings

Floats = NDArray[np.float64]


class Learning:
    """The fold of one symbol, timeframe and horizon."""

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        self._noharm = NoHarm(settings.horizon_bars)
        self._boa, self._levels = self._aggregate(1), self._aggregate(len(LEVELS))
        self._risks = {side: self._aggregate(1) for side in SIDES}
        self._stacked = sorted(settings.members)
        k = len(self._stacked)
        self._stack = self._logistic([1.0 / k] * k, [settings.stack_spread] * k)
        self._platt = self._logistic(IDENTITY, settings.platt_spread)
        self._curves = {side: self._logistic(IDENTITY, settings.risk_spread) for side in SIDES}
        self._tracker = Tracker(settings.conformal_rate)
        self._ups, self._weight = 0.0, 0.0

    def _aggregate(self, problems: int) -> Boa:
        return Boa(problems, self._settings.boa_forget, len(self._settings.members))

    def _logistic(self, prior: Sequence[float], spread: Sequence[float]) -> OnlineLogistic:
        settings = self._settings
        return OnlineLogistic(prior, spread, settings.half_life, 1.0 / settings.horizon_bars)

    @property
    def base(self) -> float:
        """P(up) of whoever knows nothing else: the decayed base rate, shrunk to ½."""
        prior = self._settings.base_weight
        return (self._ups + 0.5 * prior) / (self._weight + prior)

    def view(
        self, copy: int, losses: Mapping[str, float], priors: Mapping[str, float],
        p: Iterable[str], levels: Iterable[str], down: Iterable[str], up: Iterable[str],
    ) -> Learnt:  # fmt: skip
        """Return what the pools of one instant read.

        Parameters
        ----------
        copy : of the no-harm layer that plays this round.
        losses, priors : agent with a seat → L and π.
        p, levels, down, up : who of them says p, quantiles, and the risk of each side.
        """
        rows = sorted(levels)
        table = self._levels.weights(rows) if rows else np.empty((0, len(LEVELS)))
        return Learnt(
            losses=losses,
            priors=priors,
            mixture=dict(sorted(self._noharm.at(copy).ln_weights.items())),
            boa=_column(self._boa, p),
            stack=dict(zip(self._stacked, self._stack.beta.tolist(), strict=True)),
            platt=_line(self._platt),
            base=self.base,
            levels={agent: tuple(row) for agent, row in zip(rows, table.tolist(), strict=True)},
            theta=tuple(self._tracker.theta.tolist()),
            down=_column(self._risks["down"], down),
            up=_column(self._risks["up"], up),
            curves={side: _line(curve) for side, curve in self._curves.items()},
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
        self._add_levels(played, shown)
        self._add_risk("down", played, shown.risk_down, played.fell)
        self._add_risk("up", played, shown.risk_up, played.rose)

    def _add_direction(self, candidates: Mapping[str, float], y: float) -> None:
        p = agents_of(candidates)
        pooled = candidates[BOA_POOL]
        saved = [2.0 * (pooled - y) * (pooled - chance) for chance in p.values()]
        self._boa.learn(list(p), np.array(saved)[:, None])
        for agent in p:
            if agent not in self._stacked:  # it won a seat: nothing until it has shown more
                self._stacked.append(agent)
                self._stack.grow(0.0, self._settings.stack_spread)
        said = [logit(p[agent]) if agent in p else 0.0 for agent in self._stacked]
        self._stack.learn(np.array(said), y)
        self._platt.learn(np.array([1.0, logit(candidates[BRIER_POOL])]), y)

    def _add_levels(self, played: Round, shown: Published) -> None:
        if shown.levels is None or shown.sigma is None:
            return
        q, sigma = np.array(shown.levels), shown.sigma
        said = {
            agent: one.levels
            for agent, one in sorted(played.opinions.items())
            if one.levels is not None
        }
        if said:
            rows = np.array(list(said.values()))
            gradient = ((played.log_return <= q) - LEVELS) / sigma
            self._levels.learn(list(said), gradient * (q - rows))
        self._tracker.learn(q, sigma, np.array(shown.theta), played.log_return)

    def _add_risk(self, side: str, played: Round, pooled: float | None, event: bool) -> None:
        if pooled is None:
            return
        said = {
            agent: risk
            for agent, one in sorted(played.opinions.items())
            if (risk := one.risk(side)) is not None
        }
        if said:
            gradient = 2.0 * (pooled - float(event))
            saved = np.array([gradient * (pooled - risk) for risk in said.values()])
            self._risks[side].learn(list(said), saved[:, None])
        self._curves[side].learn(np.array([1.0, risk_logit(pooled)]), float(event))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "noharm": self._noharm.as_dict(), "boa": self._boa.as_dict(),
            "levels": self._levels.as_dict(),
            "risks": {side: boa.as_dict() for side, boa in self._risks.items()},
            "stacked": list(self._stacked), "stack": self._stack.as_dict(),
            "platt": self._platt.as_dict(),
            "curves": {side: curve.as_dict() for side, curve in self._curves.items()},
            "theta": self._tracker.theta.tolist(), "base": [self._ups, self._weight],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(settings)
        made._noharm = NoHarm.from_dict(body["noharm"])
        made._boa.restore(body["boa"])
        made._levels.restore(body["levels"])
        for agent in body["stacked"][len(made._stacked) :]:
            made._stacked.append(agent)
            made._stack.grow(0.0, settings.stack_spread)
        made._stack.restore(body["stack"])
        made._platt.restore(body["platt"])
        for side in SIDES:
            made._risks[side].restore(body["risks"][side])
            made._curves[side].restore(body["curves"][side])
        made._tracker = Tracker(settings.conformal_rate, np.array(body["theta"]))
        made._ups, made._weight = map(float, body["base"])
        return made


def _line(curve: OnlineLogistic) -> Line:
    intercept, slope = curve.beta.tolist()
    return intercept, slope


def _column(boa: Boa, names: Iterable[str]) -> dict[str, float]:
    said = sorted(names)
    if not said:
        return {}
    share = boa.weights(said)[:, 0].tolist()
    total = math.fsum(share)
    return {name: value / total for name, value in zip(said, share, strict=True)}
