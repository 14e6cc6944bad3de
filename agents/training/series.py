"""What Chronos learns from: windows of real returns at mixed frequencies, and synthetic series.

A sample is a context of log returns and the *cumulative* log return after each of the next steps:
quantiles of a sum are not sums of quantiles. Batch k is a pure function of (seed, k).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data.resample import resample
from domain.errors import DataRefused
from domain.market import BarFrame
from domain.times import timeframe_ms

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MixConfig:
    """What a batch is made of.

    Attributes
    ----------
    context, horizon : points of a sample's past and future.
    frequencies : timeframe → how often, relative to one another; what cannot be made of the bars
        there are is left out.
    synthetic : share of each batch that is generated.
    sparse : share of samples whose oldest points are missing, as right after a start.
    """

    context: int = 200
    horizon: int = 16
    frequencies: Mapping[str, float] = field(
        default_factory=lambda: {"1m": 0.1, "5m": 0.7, "15m": 0.15, "30m": 0.08, "1h": 0.07}
    )
    synthetic: float = 0.05
    sparse: float = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Returns of one symbol and timeframe, and where whole windows are.

    Attributes
    ----------
    returns : (n,) log returns, NaN across a gap. ``sums`` : (n + 1,) of them, NaN as 0.
    ends : (m,) index of the newest return of each whole window.
    opens : (m,) open of that bar, UTC ms.
    """

    symbol: str
    timeframe: str
    returns: Singles
    sums: Floats
    ends: Ints
    opens: Ints

    def windows(self, rows: Ints, context: int, horizon: int) -> tuple[Singles, Singles]:
        """Return contexts (len(rows), context) and cumulative returns (len(rows), horizon)."""
        ends = self.ends[rows]
        past = self.returns[ends[:, None] + np.arange(1 - context, 1)]
        ahead = self.sums[ends[:, None] + np.arange(2, 2 + horizon)] - self.sums[ends + 1][:, None]
        return past, ahead.astype(np.float32)


def stretches(
    frames: Sequence[BarFrame], config: MixConfig, start_ms: int, end_ms: int
) -> list[Stretch]:
    """Return every symbol and frequency that has windows decided in [start, end).

    A window counts if its future is known at ``end_ms``; its past may reach before ``start_ms``.

    Raises
    ------
    DataRefused : if there is none.
    """
    found: list[Stretch] = []
    for frame in frames:
        for timeframe in config.frequencies:
            step = timeframe_ms(timeframe)
            if step < frame.step_ms or step % frame.step_ms:
                continue
            made = _stretch(resample(frame, timeframe), config, start_ms, end_ms)
            if len(made.ends):
                found.append(made)
    if not found:
        raise DataRefused(
            "bars", f"must hold windows of {config.context + 1} + {config.horizon} bars without a "
            "gap in the range", None, "Fetch more history, or move the end.",
        )  # fmt: skip
    return found


def _stretch(bars: BarFrame, config: MixConfig, start_ms: int, end_ms: int) -> Stretch:
    returns = np.full(len(bars), np.nan)
    if len(bars) > 1:
        joined = np.diff(bars.ts) == bars.step_ms
        returns[1:] = np.where(joined, np.diff(np.log(bars.close)), np.nan)
    sums = np.concatenate(([0.0], np.cumsum(np.nan_to_num(returns))))
    since = bars.bars_since_gap()
    last = np.arange(len(bars))
    later = np.minimum(last + config.horizon, len(bars) - 1)
    whole = (since > config.context) & (later - last == config.horizon)
    whole &= since[later] - since == config.horizon
    whole &= (bars.ts >= start_ms) & (bars.ts + (config.horizon + 1) * bars.step_ms <= end_ms)
    ends = np.flatnonzero(whole)
    return Stretch(
        bars.symbol, bars.timeframe, returns.astype(np.float32), sums, ends, bars.ts[ends]
    )


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Batches of real and synthetic samples."""

    parts: Sequence[Stretch]
    config: MixConfig
    seed: int

    def batch(self, number: int, size: int) -> tuple[Singles, Singles]:
        """Return contexts (size, context) and cumulative returns (size, horizon) of a batch.

        Missing points are NaN.
        """
        rng = np.random.default_rng([self.seed, number])
        made = round(size * self.config.synthetic)
        past, ahead = self._real(rng, size - made)
        if made:
            more = synthetic(rng, made, self.config)
            past, ahead = np.concatenate((past, more[0])), np.concatenate((ahead, more[1]))
        sign = rng.choice(np.array([-1.0, 1.0], np.float32), size)[:, None]
        past, ahead = past * sign, ahead * sign
        short = np.flatnonzero(rng.random(size) < self.config.sparse)
        for row in short:
            past[row, : rng.integers(1, 3 * self.config.context // 4)] = np.nan
        return past, ahead

    def _real(self, rng: np.random.Generator, size: int) -> tuple[Singles, Singles]:
        share = np.array([self.config.frequencies[part.timeframe] for part in self.parts])
        counts = rng.multinomial(size, share / share.sum())
        rows = [
            part.windows(
                rng.integers(0, len(part.ends), n), self.config.context, self.config.horizon
            )
            for part, n in zip(self.parts, counts, strict=True)
        ]
        return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])


def synthetic(rng: np.random.Generator, n: int, config: MixConfig) -> tuple[Singles, Singles]:
    """Return n generated samples: half stochastic volatility, half sums of random kernels."""
    half = n // 2
    total = config.context + config.horizon
    returns = np.concatenate((_volatile(rng, half, total), _kernels(rng, n - half, total)))
    past, future = returns[:, : config.context], returns[:, config.context :]
    return past.astype(np.float32), np.cumsum(future, axis=1).astype(np.float32)


def _volatile(rng: np.random.Generator, n: int, total: int) -> Floats:
    """Log volatility as an AR(1), a daily wave, Student-t shocks and a little reversion."""
    persistence = rng.uniform(0.9, 0.999, (n, 1))
    size = rng.uniform(0.02, 0.3, (n, 1))
    shocks = rng.normal(size=(n, total)) * size
    level = np.empty((n, total))
    level[:, :1] = shocks[:, :1] / np.sqrt(1.0 - persistence**2)
    for k in range(1, total):
        level[:, k : k + 1] = persistence * level[:, k - 1 : k] + shocks[:, k : k + 1]
    wave = rng.uniform(0.0, 0.5, (n, 1)) * np.sin(
        2 * np.pi * (np.arange(total) / rng.choice([24, 96, 288], (n, 1)) + rng.random((n, 1)))
    )
    noise = rng.standard_t(rng.uniform(3.0, 10.0, (n, 1)), (n, total))
    returns = np.exp(np.clip(level, -3, 3) + wave) * noise
    returns[:, 1:] -= rng.uniform(-0.05, 0.15, (n, 1)) * returns[:, :-1]
    return np.asarray(returns * 1e-3)


def _kernels(rng: np.random.Generator, n: int, total: int) -> Floats:
    """Differences of random periodic, smooth and linear levels plus noise (after KernelSynth)."""
    at = np.arange(total) / total
    level = np.zeros((n, total))
    for _ in range(int(rng.integers(1, 4))):
        waves = rng.integers(1, 24, (n, 1)) * at + rng.random((n, 1))
        level += rng.exponential(0.5, (n, 1)) * np.sin(2 * np.pi * waves)
    smooth = np.cumsum(rng.normal(size=(n, total)), axis=1) / np.sqrt(total)
    level += rng.exponential(1.0, (n, 1)) * smooth + rng.normal(size=(n, 1)) * at
    noise = rng.exponential(0.05, (n, 1)) * rng.normal(size=(n, total))
    return np.diff(level, axis=1, prepend=level[:, :1]) * 0.05 + noise * 1e-2


def spread_rows(parts: Sequence[Stretch], most: int) -> Iterator[tuple[Stretch, Ints]]:
    """Iterate over rows of each part at even distances, about ``most`` in all, for validation."""
    stride = max(1, sum(len(part.ends) for part in parts) // most)
    for part in parts:
        yield part, np.arange(0, len(part.ends), stride)
