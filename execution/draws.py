"""Chance of the fill engine: functions of what is drawn for, never of the order of calls.

A draw mixes (run seed, symbol, as_of, intent, index) by SplitMix64's finaliser (Steele, Lea and
Flood, *Fast Splittable Pseudorandom Number Generators*, 2014), so that a restart, another account
or another order beside it changes no draw.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

from domain.errors import SettingError

_MASK = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT = 2.0**-53
_P99 = NormalDist().inv_cdf(0.99)


@lru_cache(maxsize=4096)
def key_of(*names: str) -> int:
    """Return 64 bits that stand for names, the same on every machine."""
    text = "\\n".join(names).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def mixed(bits: int) -> int:
    """Return SplitMix64's output for a state of 64 bits."""
    z = (bits + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)


def uniform(seed: int, key: int, as_of: int, index: int) -> float:
    """Return a draw in (0, 1).

    Parameters
    ----------
    key : :func:`key_of` symbol and intent.
    as_of : instant of the order, ms. ``index`` : of the draw, ≥ 0.
    """
    bits = mixed(seed & _MASK) ^ key
    bits = mixed(bits) ^ (as_of & _MASK)
    bits = mixed(bits) ^ index
    return ((mixed(bits) >> 11) + 0.5) * _UNIT


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an order is on its way.

    Attributes
    ----------
    model : ``lognormal`` by median and 99 % quantile, ``uniform`` between 50 and 200 ms, ``none``.
    median_ms, p99_ms : of the log-normal.
    busy_factor : longer by this while the market is busy.
    """

    model: Literal["lognormal", "uniform", "none"] = "lognormal"
    median_ms: float = 120.0
    p99_ms: float = 800.0
    busy_factor: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.median_ms <= self.p99_ms:
            raise SettingError(
                "latency_p99_ms", "must be at least latency_median_ms", self.p99_ms
            )  # fmt: skip

    def ms(self, u: float, *, busy: bool = False) -> int:
        """Return the latency in ms at a draw in (0, 1)."""
        if self.model == "none":
            return 0
        if self.model == "uniform":
            waited = _SIMPLE[0] + u * (_SIMPLE[1] - _SIMPLE[0])
        else:
            sigma = math.log(self.p99_ms / self.median_ms) / _P99
            waited = self.median_ms * math.exp(sigma * NormalDist().inv_cdf(u))
        return round(waited * (self.busy_factor if busy else 1.0))


_SIMPLE = (50.0, 200.0)  # ms
