"""Bernstein online aggregation: convex weights that follow who has been right.

Gradient form with one learning rate an expert (Wintenberger, *Optimal Learning with Bernstein Online
Aggregation*, 2017) and forgetting (Berrisch and Ziel, *CRPS Learning*, 2023). With r_i = ∇ℓ(ŷ)·(ŷ − x_i),
what expert i would have saved to first order,

    V_i ← (1−φ)V_i + r_i²,  E_i ← max((1−φ)E_i, |r_i|),  η_i = min(1/(2E_i), √(ln K / V_i)),
    R_i ← (1−φ)R_i + ½(r_i(1 − η_i r_i) + E_i·1{−2η_i r_i > 1}),  w_i ∝ e^(η_i R_i).

A sleeper keeps all of it. Several problems with the same experts (a row of quantile levels) are
learned side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TINY = 1e-300


class Boa:
    """Experts by name, d problems side by side.

    Parameters
    ----------
    problems : d ≥ 1.
    forget : φ in [0, 1), share forgotten with each outcome.
    """

    def __init__(self, problems: int, forget: float) -> None:
        self._d, self._forget = problems, forget
        self._experts: dict[str, Floats] = {}  # name → (3, d): R, V, E

    def weights(self, awake: Sequence[str]) -> Floats:
        """Return (n, d) weights ≥ 0 of n awake experts, each column summing to 1.

        One that has never been scored weighs as the average of them.
        """
        n, d = len(awake), self._d
        known = [k for k, name in enumerate(awake) if name in self._experts]
        made = np.full((n, d), 1.0 / n)
        if not known:
            return made
        state = np.stack([self._experts[awake[k]] for k in known])  # (m, 3, d)
        logs = _rates(state[:, 1], state[:, 2], max(2, len(self._experts))) * state[:, 0]
        logs -= logs.max(axis=0)
        raw = np.exp(logs)
        made[known] = raw / raw.sum(axis=0) * (len(known) / n)
        return made

    def learn(self, saved: Mapping[str, Floats]) -> None:
        """Fold one outcome: r_i (d,) of every expert that was awake."""
        for name in sorted(saved):
            r = np.asarray(saved[name], dtype=np.float64)
            state = self._experts.setdefault(name, np.zeros((3, self._d)))
            keep = 1.0 - self._forget
            state[1] = keep * state[1] + r * r
            state[2] = np.maximum(keep * state[2], np.abs(r))
        experts = max(2, len(self._experts))
        for name in sorted(saved):
            r, state = np.asarray(saved[name], dtype=np.float64), self._experts[name]
            eta = _rates(state[1], state[2], experts)
            late = np.where(-2.0 * eta * r > 1.0, state[2], 0.0)
            state[0] = (1.0 - self._forget) * state[0] + 0.5 * (r * (1.0 - eta * r) + late)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, experts sorted."""
        return {name: state.tolist() for name, state in sorted(self._experts.items())}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], problems: int, forget: float) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        made = cls(problems, forget)
        made._experts = {str(k): np.array(v, dtype=np.float64) for k, v in body.items()}
        return made


def _rates(variance: Floats, reach: Floats, experts: int) -> Floats:
    """η of every expert and problem; 0 where nothing has been at stake yet."""
    bound = 1.0 / (2.0 * np.maximum(reach, _TINY))
    eta = np.minimum(bound, np.sqrt(math.log(experts) / np.maximum(variance, _TINY)))
    return np.where(reach > 0.0, eta, 0.0)
