"""Stages 3 to 5 as a fold: what resolved rounds have taught about how to combine.

What a round is scored on is what was published then (:class:`consensus.rounds.Published`), never
what would be published now: a late outcome changes decisions to come and no decision made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from consensus.boa import Boa
from consensus.conformal import LEVELS, Tracker
from consensus.learnt import Learnt
from consensus.noharm import NoHarm
from consensus.pooling import BOA_POOL, BRIER_POOL, agents_of, logit
from consensus.recalibration import OnlineLogistic
from consensus.rounds import Published, Round
from consensus.settings import CouncilSettings

Floats = NDArray[np.float64]


class Learning:
    """The fold. Agents that are in no pool are not learned about."""

    def __init__(self, settings: CouncilSettings) -> None:
        self._settings = settings
        self._members = sorted(settings.members)
        self._noharm = NoHarm(settings.horizon_bars)
        forget, share = settings.boa_forget, 1.0 / settings.horizon_bars
        self._boa, self._levels = Boa(1, forget), Boa(len(LEVELS), forget)
        self._risks = {"down": Boa(1, forget), "up": Boa(1, forget)}
        k = len(self._members)
        self._stack = OnlineLogistic(
            [1.0 / k] * k, [settings.stack_spread] * k, settings.half_life, share
        )
        self._platt = OnlineLogistic([0.0, 1.0], settings.platt_spread, settings.half_life, share)
        self._tracker = Tracker(settings.conformal_rate)
        self._ups, self._weight = 0.0, 0.0

    def view(
        self, copy: int, losses: Mapping[str, float], p: Iterable[str], levels: Iterable[str],
        down: Iterable[str], up: Iterable[str],
    ) -> Learnt:  # fmt: skip
        """Return what the pools of one instant read.

        Parameters
        ----------
        copy : of the no-harm layer that plays this round.
        losses : member → L. The others : who says p, quantiles, and the risk of each side.
        """
        said, rows = sorted(p), sorted(levels)
        table = self._levels.weights(rows) if rows else np.empty((0, len(LEVELS)))
        prior = self._settings.base_weight
        return Learnt(
            losses=losses,
            mixture=dict(sorted(self._noharm.at(copy).ln_weights.items())),
            boa=_column(self._boa, said),
            stack=dict(zip(self._members, self._stack.beta.tolist(), strict=True)),
            platt=(float(self._platt.beta[0]), float(self._platt.beta[1])),
            base=(self._ups + 0.5 * prior) / (self._weight + prior),
            levels={agent: tuple(row) for agent, row in zip(rows, table.tolist(), strict=True)},
            theta=tuple(self._tracker.theta.tolist()),
            down=_column(self._risks["down"], sorted(down)),
            up=_column(self._risks["up"], sorted(up)),
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
        for side, event in (("down", played.fell), ("up", played.rose)):
            self._add_risk(side, played, getattr(shown, f"risk_{side}"), event)

    def _add_direction(self, candidates: Mapping[str, float], y: float) -> None:
        p = agents_of(candidates)
        names = sorted(p)
        pooled = candidates[BOA_POOL]
        saved = [2.0 * (pooled - y) * (pooled - p[name]) for name in names]
        self._boa.learn(names, np.array(saved)[:, None])
        self._stack.learn(self._inputs(p), y)
        self._platt.learn(np.array([1.0, logit(candidates[BRIER_POOL])]), y)

    def _inputs(self, p: Mapping[str, float]) -> Floats:
        return np.array([logit(p[name]) if name in p else 0.0 for name in self._members])

    def _add_levels(self, played: Round, shown: Published) -> None:
        if shown.levels is None or shown.sigma is None:
            return
        q, sigma = np.array(shown.levels), shown.sigma
        said = {
            agent: one.levels
            for agent, one in sorted(played.opinions.items())
            if agent in self._settings.members and one.levels is not None
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
            agent: value
            for agent, one in sorted(played.opinions.items())
            if agent in self._settings.members
            and (value := getattr(one, f"risk_{side}")) is not None
        }
        if said:
            gradient = 2.0 * (pooled - float(event))
            saved = np.array([gradient * (pooled - value) for value in said.values()])
            self._risks[side].learn(list(said), saved[:, None])

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return {
            "noharm": self._noharm.as_dict(), "boa": self._boa.as_dict(),
            "levels": self._levels.as_dict(),
            "risks": {side: boa.as_dict() for side, boa in self._risks.items()},
            "stack": self._stack.as_dict(), "platt": self._platt.as_dict(),
            "theta": self._tracker.theta.tolist(), "base": [self._ups, self._weight],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], settings: CouncilSettings) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made, forget = cls(settings), settings.boa_forget
        made._noharm = NoHarm.from_dict(body["noharm"])
        made._boa = Boa.from_dict(body["boa"], 1, forget)
        made._levels = Boa.from_dict(body["levels"], len(LEVELS), forget)
        made._risks = {side: Boa.from_dict(x, 1, forget) for side, x in body["risks"].items()}
        made._stack.restore(body["stack"])
        made._platt.restore(body["platt"])
        made._tracker = Tracker(settings.conformal_rate, np.array(body["theta"]))
        made._ups, made._weight = map(float, body["base"])
        return made


def _column(boa: Boa, names: list[str]) -> dict[str, float]:
    if not names:
        return {}
    share = boa.weights(names)[:, 0].tolist()
    total = math.fsum(share)
    return {name: value / total for name, value in zip(names, share, strict=True)}
