"""Bernstein online aggregation: convex weights that follow who has been right.

Gradient form with one learning rate an expert (Wintenberger, *Optimal Learning with Bernstein
Online Aggregation*, 2017) and forgetting (Berrisch and Ziel, *CRPS Learning*, 2023). With
r_i = ∇ℓ(ŷ)·(ŷ − x_i), what expert i would have saved to first order,

    V_i ← (1−φ)V_i + r_i²,  E_i ← max((1−φ)E_i, |r_i|),  η_i = min(1/(2E_i), √(ln K / V_i)),
    R_i ← (1−φ)R_i + ½(r_i(1 − η_i r_i) + E_i·1{−2η_i r_i > 1}),  w_i ∝ e^(η_i R_i).

A sleeper keeps all of it. Several problems with the same experts (the levels of a distribution, the
risks) are learned side by side; an expert may be silent on some of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]
TINY, LOWEST = 1e-300, -1e300


class Boa:
    """Experts by name, d problems side by side.

    Parameters
    ----------
    problems : d ≥ 1.
    forget : φ in [0, 1), share forgotten with each outcome.
    experts : K of the learning rate; fixed, so that nobody's arrival moves the others.
    """

    def __init__(self, problems: int, forget: float, experts: int) -> None:
        self._d, self._keep = problems, 1.0 - forget
        self._breadth = math.log(max(2, experts))
        self._row: dict[str, int] = {}
        self._state = np.zeros((3, 0, problems))  # R, V, E of every expert
        self._tilt = np.zeros((0, problems))  # ηR of it, −∞ before it was ever scored

    def weights(self, awake: Sequence[str], said: Flags) -> Floats:
        """Return (n, d) weights ≥ 0 of n experts, each column summing to 1 over who spoke.

        One that was never scored on a problem weighs as the average of all who spoke.

        Parameters
        ----------
        said : (n, d), who has a say on what.
        """
        silent, speakers, evenly = _speaking(said.tobytes(), self._d)
        logs = self._tilts(awake)
        np.putmask(logs, silent, -np.inf)
        raw = np.exp(logs - np.maximum.reduce(logs, initial=LOWEST))
        known = logs > -np.inf
        share = np.add.reduce(known) / speakers / np.maximum(np.add.reduce(raw), TINY)
        return np.asarray(np.where(known, raw * share, evenly))

    def learn(self, names: Sequence[str], saved: Floats, said: Flags) -> None:
        """Fold one outcome: r (n, d) of the experts that were awake, and who spoke on what."""
        for name in names:
            if name not in self._row:
                self._row[name] = len(self._row)
                self._state = np.concatenate((self._state, np.zeros((3, 1, self._d))), axis=1)
                self._tilt = np.concatenate((self._tilt, np.full((1, self._d), -np.inf)))
        silent, rows = ~said, self._rows(names)
        saved, keep = saved.copy(), np.full(said.shape, self._keep)
        np.putmask(saved, silent, 0.0)
        np.putmask(keep, silent, 1.0)
        state = self._state[:, rows]
        state *= keep
        total, variance, reach = state
        variance += saved * saved
        np.maximum(reach, np.abs(saved), out=reach)
        rates = self._rates(variance, reach)
        scaled = rates * saved
        total += 0.5 * (saved * (1.0 - scaled) + reach * (scaled < -0.5))
        self._state[:, rows] = state
        self._tilt[rows] = np.where(reach > 0.0, rates * total, -np.inf)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types, in the order in which experts came."""
        return {name: self._state[:, row].tolist() for name, row in self._row.items()}

    def restore(self, body: Mapping[str, Any]) -> Self:
        """Read :meth:`as_dict` back, bit for bit."""
        self._row = {str(name): row for row, name in enumerate(body)}
        if body:
            self._state = np.stack([np.array(x, dtype=np.float64) for x in body.values()], axis=1)
            total, variance, reach = self._state
            tilt = self._rates(variance, reach) * total
            self._tilt = np.where(reach > 0.0, tilt, -np.inf)
        return self

    def _rows(self, names: Sequence[str]) -> slice | list[int]:
        """Where experts stand; all of them in order need no copy."""
        everybody = len(names) == len(self._row) and list(names) == list(self._row)
        return slice(None) if everybody else [self._row[name] for name in names]

    def _tilts(self, names: Sequence[str]) -> Floats:
        """ηR (n, d), −∞ for who was never scored; a copy."""
        if all(name in self._row for name in names):
            return np.array(self._tilt[self._rows(names)])
        never = np.full(self._d, -np.inf)
        return np.array([
            self._tilt[self._row[name]] if name in self._row else never for name in names
        ])  # fmt: skip

    def _rates(self, variance: Floats, reach: Floats) -> Floats:
        """η of every expert and problem; finite, and of no effect, where nothing was at stake."""
        ceiling = 0.5 / np.maximum(reach, TINY)
        return np.minimum(ceiling, np.sqrt(self._breadth / np.maximum(variance, TINY)))


@lru_cache(maxsize=256)
def _speaking(said: bytes, problems: int) -> tuple[Flags, Ints, Floats]:
    """Who is silent on what, how many speak (at least 1), and the weights if all weigh alike."""
    flags = np.frombuffer(said, dtype=np.bool_).reshape(-1, problems)
    speakers = np.maximum(flags.sum(axis=0), 1)
    return ~flags, speakers, flags / speakers
