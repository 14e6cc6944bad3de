"""Bernstein online aggregation: convex weights that follow who has been right.

Gradient form with one learning rate an expert (Wintenberger, *Optimal Learning with Bernstein
Online Aggregation*, 2017) and forgetting (Berrisch and Ziel, *CRPS Learning*, 2023). With
r_i = ∇ℓ(ŷ)·(ŷ − x_i), what expert i would have saved to first order,

    V_i ← (1−φ)V_i + r_i²,  E_i ← max((1−φ)E_i, |r_i|),  η_i = min(1/(2E_i), √(ln K / V_i)),
    R_i ← (1−φ)R_i + ½(r_i(1 − η_i r_i) + E_i·1{−2η_i r_i > 1}),  w_i ∝ e^(η_i R_i).

A sleeper keeps all of it. Several problems with the same experts (the levels of a distribution)
are learned side by side.
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
    experts : K of the learning rate; fixed, so that nobody's arrival moves the others.
    """

    def __init__(self, problems: int, forget: float, experts: int) -> None:
        self._d, self._forget, self._experts = problems, forget, experts
        self._row: dict[str, int] = {}
        self._state = np.zeros((3, 0, problems))  # R, V, E of every expert

    def weights(self, awake: Sequence[str]) -> Floats:
        """Return (n, d) weights ≥ 0 of n awake experts, each column summing to 1.

        One that was never scored weighs as the average of all awake.
        """
        n = len(awake)
        known = [k for k, name in enumerate(awake) if name in self._row]
        made = np.full((n, self._d), 1.0 / n)
        if known:
            total, variance, reach = self._state[:, [self._row[awake[k]] for k in known]]
            logs = self._rates(variance, reach) * total
            raw = np.exp(logs - logs.max(axis=0))
            made[known] = raw * (len(known) / n / raw.sum(axis=0))
        return made

    def learn(self, names: Sequence[str], saved: Floats) -> None:
        """Fold one outcome: r (n, d) of the experts that were awake, in sorted order."""
        for name in names:
            if name not in self._row:
                self._row[name] = len(self._row)
                self._state = np.concatenate((self._state, np.zeros((3, 1, self._d))), axis=1)
        rows, keep = [self._row[name] for name in names], 1.0 - self._forget
        total, variance, reach = self._state[:, rows]
        variance = keep * variance + saved * saved
        reach = np.maximum(keep * reach, np.abs(saved))
        scaled = self._rates(variance, reach) * saved
        late = np.where(-2.0 * scaled > 1.0, reach, 0.0)
        total = keep * total + 0.5 * (saved * (1.0 - scaled) + late)
        self._state[:, rows] = total, variance, reach

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, in the order in which experts came."""
        return {name: self._state[:, row].tolist() for name, row in self._row.items()}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        self._row = {str(name): row for row, name in enumerate(body)}
        if body:
            self._state = np.stack([np.array(x, dtype=np.float64) for x in body.values()], axis=1)
        return self

    def _rates(self, variance: Floats, reach: Floats) -> Floats:
        """η of every expert and problem; 0 where nothing has been at stake yet."""
        ceiling = 1.0 / (2.0 * np.maximum(reach, _TINY))
        breadth = math.log(max(2, self._experts))
        eta = np.minimum(ceiling, np.sqrt(breadth / np.maximum(variance, _TINY)))
        return np.where(reach > 0.0, eta, 0.0)
