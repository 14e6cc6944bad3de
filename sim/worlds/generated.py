"""Generated markets: the demo market with its planted edge, a random walk, a weak edge.

Every world is made in blocks of 288 bars. Block b draws from ``default_rng([seed, pair, b])`` and
carries a small state (price, volatility, regime) over from block b − 1, so the bars depend on
nothing but (seed, pair, index): asked for once or piecewise, from the start or after a restart,
they are the same bits. Reaching bar k costs about 1 µs for each bar before it, once.

What the numbers mean (one bar, whatever its length, so every timeframe shows the same market)::

    r_t = v_t · (μ_t + σ·ε_t) + J_t          v_t = exp(x_t) · season(t)
    x   Ornstein-Uhlenbeck log-volatility    season   a daily wave, highest at 15:00 UTC
    J   rare jumps, symmetric                μ   the planted edge; 0 in the random walk

**The demo market's edge.** μ_t = ±``drift_bps`` or 0: a hidden regime (down, flat, up) that lasts
between ``regime_bars`` bars, uniformly; a trend is followed by a flat spell or by the opposite
trend, a flat spell by either trend. The drift is nearly twice the noise of a bar, so two or three
bars give a regime away and the rest of it can be traded at a cost of 13 bps. No real market is
like that; it is there so that LONG, SHORT and NO_TRADE, fills, exits and P&L all show within
minutes.

**The weak edge** (:class:`PlantedEdge`) is short-term mean reversion as on real bars:
μ_t = −``reversion``·σ·z, with z the normalised return of the last 12 bars clipped to ±2.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataRefused, UsageError
from domain.market import Bar, BarFrame, BookSnapshot, BookView, parse_symbol, symbol_on
from domain.times import DAY_MS, iso, timeframe_ms

Floats = NDArray[np.float64]

BLOCK = 288  # bars per generated block
DEMO_START_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z, the first warm-up bar
DEMO_SEED = 7
_SUBSTEPS = 12  # moves inside a bar from which high and low are taken
_KEPT_BLOCKS = 64
_REVERSION_BARS = 12
_LEVELS = {"BTC/USDT": 95_000.0, "ETH/USDT": 3_400.0, "SOL/USDT": 190.0, "BNB/USDT": 700.0}


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """The numbers of a generated market; moves are per bar.

    Attributes
    ----------
    noise_bps : σ, standard deviation of a bar's unpredictable move at v = 1.
    drift_bps : size of the regime's drift at v = 1; 0 for no regimes.
    regime_bars : shortest and longest regime, in bars.
    flat_after_trend : probability that a trend is followed by a flat spell.
    reversion : strength of the weak edge (see the module); 0 for none.
    vol_sd, vol_half_life : of x, in log units and bars.
    season : amplitude of the daily wave in v.
    jump_prob, jump_bps : chance of a jump in a bar, and its scale.
    spread_bps : usual spread.
    """

    noise_bps: float = 5.0
    drift_bps: float = 0.0
    regime_bars: tuple[int, int] = (8, 14)
    flat_after_trend: float = 0.5
    reversion: float = 0.0
    vol_sd: float = 0.15
    vol_half_life: float = 72.0
    season: float = 0.12
    jump_prob: float = 1 / 400
    jump_bps: float = 15.0
    spread_bps: float = 1.0


DEMO = WorldConfig(drift_bps=9.0)
RANDOM_WALK = WorldConfig(noise_bps=9.0, vol_sd=0.35, season=0.25)


class World(Protocol):
    """A market that can be asked for any stretch of itself."""

    @property
    def symbol(self) -> str: ...
    @property
    def timeframe(self) -> str: ...

    def bars(self, first_open_ms: int, n: int) -> BarFrame:
        """Return n bars, the first of which opens at ``first_open_ms``."""
        ...


@dataclass(frozen=True, slots=True)
class _Carry:
    """What one block hands to the next."""

    log_price: float
    log_vol: float = 0.0
    regime: int = 0  # −1, 0, +1
    left: int = 0  # bars left in the regime
    past: tuple[float, ...] = ()  # the newest normalised moves, for the reversion


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """BLOCK bars; rows of ``ohlcv`` are open, high, low, close, volume."""

    ohlcv: Floats  # (5, BLOCK)
    spread_bps: Floats  # (BLOCK,)
    drift: Floats  # (BLOCK,) log return planted in the bar


class GeneratedWorld:
    """A seeded market of one pair.

    Parameters
    ----------
    config : its numbers.
    seed : same seed, same bits.
    symbol : a perpetual shows the prices of its spot pair.
    start_ms : open of bar 0 (UTC ms), on the timeframe's grid.

    Raises
    ------
    UsageError : if ``start_ms`` is off the grid.
    """

    def __init__(
        self,
        config: WorldConfig,
        seed: int = DEMO_SEED,
        symbol: str = "BTC/USDT",
        timeframe: str = "5m",
        start_ms: int = DEMO_START_MS,
    ) -> None:
        self.config, self.seed = config, seed
        self.symbol, self.timeframe = parse_symbol(symbol), timeframe
        self.start_ms, self._step = start_ms, timeframe_ms(timeframe)
        if start_ms % self._step:
            raise UsageError("start_ms", f"must be a multiple of {timeframe}", iso(start_ms))
        pair = symbol_on(self.symbol, "spot")
        self._pair = zlib.crc32(pair.encode())
        self._level = _LEVELS.get(pair, 100.0)
        self._carries = [_Carry(math.log(self._level))]  # at the start of block b
        self._blocks: OrderedDict[int, _Block] = OrderedDict()

    @property
    def tick(self) -> float:
        """Price step in quote units: 0.1 for BTC/USDT."""
        return float(10.0 ** (math.floor(math.log10(self._level)) - 5))

    def bars(self, first_open_ms: int, n: int) -> BarFrame:
        """Return n bars, the first of which opens at ``first_open_ms``; volume in base units.

        Raises
        ------
        DataRefused : if the stretch begins before the world or off its grid.
        """
        first = self._index(first_open_ms)
        parts = [part.ohlcv[:, cut] for part, cut in self._stretch(first, n)]
        columns = np.concatenate([np.empty((5, 0)), *parts], axis=1)
        ts = first_open_ms + self._step * np.arange(n, dtype=np.int64)
        return BarFrame(self.symbol, self.timeframe, ts, *np.ascontiguousarray(columns))

    def spread_bps(self, first_open_ms: int, n: int) -> Floats:
        """Return the spread at the close of each bar, (n,), in bps of the price."""
        cuts = self._stretch(self._index(first_open_ms), n)
        return np.concatenate([np.empty(0), *(part.spread_bps[cut] for part, cut in cuts)])

    def planted_drift(self, first_open_ms: int, n: int) -> Floats:
        """Return the log return that was planted in each bar, (n,): what an oracle would know."""
        cuts = self._stretch(self._index(first_open_ms), n)
        return np.concatenate([np.empty(0), *(part.drift[cut] for part, cut in cuts)])

    def book(self, as_of: int, levels: int = 10) -> BookSnapshot:
        """Return the order book at the close of the bar known at ``as_of`` (ms), best first."""
        index = self._index(as_of - self._step)
        part, cut = next(self._stretch(index, 1))
        close = float(part.ohlcv[3, cut.start])
        half = max(close * float(part.spread_bps[cut.start]) / 2e4, self.tick / 2)
        rng = np.random.default_rng([self.seed, self._pair, index, 1])
        gap = max(self.tick, close * 0.5e-4)
        depth = np.cumsum(gap * rng.uniform(0.5, 1.5, (2, levels)), axis=1) - gap * 0.5
        worth = rng.lognormal(11.0, 0.6, (2, levels))  # quote units, median 60 000 a level
        bids, asks = close - half - depth[0] + depth[0, 0], close + half + depth[1] - depth[1, 0]
        return BookSnapshot(
            self.symbol,
            as_of,
            tuple(zip(bids.tolist(), (worth[0] / bids).tolist(), strict=True)),
            tuple(zip(asks.tolist(), (worth[1] / asks).tolist(), strict=True)),
        )

    def _index(self, open_ms: int) -> int:
        bars, off = divmod(open_ms - self.start_ms, self._step)
        if bars < 0 or off:
            raise DataRefused(
                f"{self.symbol} (generated)",
                f"has {self.timeframe} bars from {iso(self.start_ms)} on only",
                iso(open_ms),
            )
        return bars

    def _stretch(self, first: int, n: int) -> Iterator[tuple[_Block, slice]]:
        for number in range(first // BLOCK, (first + n - 1) // BLOCK + 1 if n > 0 else 0):
            low, high = first - number * BLOCK, first + n - number * BLOCK
            yield self._block(number), slice(max(low, 0), min(high, BLOCK))

    def _block(self, number: int) -> _Block:
        while number not in self._blocks:
            at = min(number, len(self._carries) - 1)
            block, carry = self._generate(at, self._carries[at])
            if at + 1 == len(self._carries):
                self._carries.append(carry)
            self._blocks[at] = block
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    def _generate(self, number: int, carry: _Carry) -> tuple[_Block, _Carry]:
        config, rng = self.config, np.random.default_rng([self.seed, self._pair, number])
        log_vol = _ornstein_uhlenbeck(rng, config, carry.log_vol)
        at = self.start_ms + self._step * (number * BLOCK + np.arange(BLOCK))
        season = 1.0 + config.season * np.cos(2 * np.pi * (at / DAY_MS - 15 / 24))
        vol = np.exp(log_vol) * season
        sigma = vol * config.noise_bps * 1e-4
        regime, left, last = _regimes(rng, config, carry)
        noise = rng.standard_normal((BLOCK, _SUBSTEPS)) / math.sqrt(_SUBSTEPS)
        jumps, jumped = _jumps(rng, config)
        drift = vol * config.drift_bps * 1e-4 * regime
        pull, past = _reversion(config, noise.sum(axis=1), carry.past)
        drift = drift + pull * sigma
        moves = sigma[:, None] * noise + jumps + drift[:, None] / _SUBSTEPS
        path = carry.log_price + np.cumsum(moves).reshape(BLOCK, _SUBSTEPS)
        ohlc = self._ohlc(carry.log_price, path)
        surprise = np.abs(moves.sum(axis=1)) / sigma
        volume = self._volume(rng, vol, surprise) / ohlc[3]
        calm = np.exp(rng.normal(0.0, 0.15, BLOCK))
        spread = config.spread_bps * vol * calm * np.where(jumped, 6.0, 1.0)
        after = _Carry(float(path[-1, -1]), float(log_vol[-1]), last, left, past)
        return _Block(np.vstack([ohlc, volume]), spread, drift), after

    def _ohlc(self, before: float, path: Floats) -> Floats:
        opens = np.concatenate(([before], path[:-1, -1]))
        high = np.maximum(opens, path.max(axis=1))
        low = np.minimum(opens, path.min(axis=1))
        rows = np.exp(np.vstack([opens, high, low, path[:, -1]]))
        decimals = max(0, round(-math.log10(self.tick)))
        return np.asarray(np.maximum(np.round(rows, decimals), self.tick))

    def _volume(self, rng: np.random.Generator, vol: Floats, surprise: Floats) -> Floats:
        usual = 5e6 * vol**1.5 * (0.6 + 0.3 * surprise)  # quote units a bar
        return np.asarray(usual * np.exp(rng.normal(0.0, 0.35, BLOCK)))


class DemoMarket(GeneratedWorld):
    """The market of ``make run``: see the module for its documented edge."""

    def __init__(
        self,
        seed: int = DEMO_SEED,
        symbol: str = "BTC/USDT",
        timeframe: str = "5m",
        start_ms: int = DEMO_START_MS,
    ) -> None:
        super().__init__(DEMO, seed, symbol, timeframe, start_ms)


class RandomWalk(GeneratedWorld):
    """Stochastic volatility, season and jumps, but the next move is a fair coin."""

    def __init__(
        self,
        seed: int,
        symbol: str = "BTC/USDT",
        timeframe: str = "5m",
        start_ms: int = DEMO_START_MS,
    ) -> None:
        super().__init__(RANDOM_WALK, seed, symbol, timeframe, start_ms)


class PlantedEdge(GeneratedWorld):
    """A random walk with mean reversion as weak as on real bars.

    ``strength`` 1 gives the best 5-bar forecast an AUC of about .535; 0 is :class:`RandomWalk`.
    """

    def __init__(
        self,
        seed: int,
        strength: float = 1.0,
        symbol: str = "BTC/USDT",
        timeframe: str = "5m",
        start_ms: int = DEMO_START_MS,
    ) -> None:
        config = replace(RANDOM_WALK, reversion=0.05 * strength)
        super().__init__(config, seed, symbol, timeframe, start_ms)


class DemoSource:
    """The demo market as the desk's feed and its books; never ends.

    A :class:`domain.ports.MarketSource` and a :class:`domain.ports.BookSource`.

    Parameters
    ----------
    symbols : unified names; every pair is its own world of the same seed.
    warm_up_days : length of :meth:`history`, after which the live bars begin.
    """

    label = "demo"

    def __init__(
        self,
        symbols: Sequence[str] = ("BTC/USDT",),
        timeframe: str = "5m",
        seed: int = DEMO_SEED,
        start_ms: int = DEMO_START_MS,
        warm_up_days: int = 30,
    ) -> None:
        self.timeframe, self.start_ms, self.warm_up_days = timeframe, start_ms, warm_up_days
        self._step = timeframe_ms(timeframe)
        self.worlds = {
            world.symbol: world
            for world in (DemoMarket(seed, symbol, timeframe, start_ms) for symbol in symbols)
        }

    @property
    def live_ms(self) -> int:
        """Open of the first live bar, UTC ms."""
        days = self.warm_up_days * DAY_MS
        return self.start_ms + -(-days // self._step) * self._step

    def history(self, days: int | None = None) -> dict[str, BarFrame]:
        """Return the last ``days`` (default: all) before the first live bar, by symbol."""
        whole = (self.live_ms - self.start_ms) // self._step
        n = whole if days is None else min(whole, -(-days * DAY_MS // self._step))
        first = self.live_ms - n * self._step
        return {symbol: world.bars(first, n) for symbol, world in self.worlds.items()}

    def stream(self, after_ms: Mapping[str, int]) -> Iterator[Bar]:
        """Iterate over closed bars for ever, by time, then in the order of the symbols.

        A symbol that ``after_ms`` does not name starts at its first live bar. Pacing is up to the
        reader.
        """
        return (
            bar
            for _, _, bar in heapq.merge(
                *(
                    self._numbered(place, world, after_ms.get(symbol, self.live_ms - self._step))
                    for place, (symbol, world) in enumerate(self.worlds.items())
                )
            )
        )

    def look(self, symbol: str, as_of: int) -> BookView:
        """Return the book at the close of the bar known at ``as_of``; prints are not generated."""
        return BookView(self.worlds[symbol].book(as_of))

    def _numbered(
        self, place: int, world: GeneratedWorld, after: int
    ) -> Iterator[tuple[int, int, Bar]]:
        first = max(after + self._step, self.start_ms)
        while True:
            for bar in world.bars(first, BLOCK).bars():
                yield bar.open_ms, place, bar
            first += BLOCK * self._step


def _ornstein_uhlenbeck(rng: np.random.Generator, config: WorldConfig, x: float) -> Floats:
    keep = 0.5 ** (1.0 / config.vol_half_life)
    shocks = config.vol_sd * math.sqrt(1.0 - keep * keep) * rng.standard_normal(BLOCK)
    out = np.empty(BLOCK)
    for i, shock in enumerate(shocks.tolist()):
        x = keep * x + shock
        out[i] = x
    return out


def _regimes(
    rng: np.random.Generator, config: WorldConfig, carry: _Carry
) -> tuple[NDArray[np.int64], int, int]:
    regime, left = carry.regime, carry.left
    shortest, longest = config.regime_bars
    lengths = rng.integers(shortest, longest + 1, BLOCK)
    turns, sides = rng.random(BLOCK), rng.random(BLOCK)
    out = np.empty(BLOCK, dtype=np.int64)
    for i in range(BLOCK):
        if left == 0:
            left = int(lengths[i])
            if regime == 0:
                regime = 1 if sides[i] < 0.5 else -1
            else:
                regime = 0 if turns[i] < config.flat_after_trend else -regime
        out[i] = regime
        left -= 1
    return out, left, regime


def _jumps(rng: np.random.Generator, config: WorldConfig) -> tuple[Floats, NDArray[np.bool_]]:
    jumped = rng.random(BLOCK) < config.jump_prob
    size = config.jump_bps * 1e-4 * rng.standard_normal(BLOCK)
    where = rng.integers(0, _SUBSTEPS, BLOCK)
    out = np.zeros((BLOCK, _SUBSTEPS))
    out[np.arange(BLOCK), where] = np.where(jumped, size, 0.0)
    return out, jumped


def _reversion(
    config: WorldConfig, noise: Floats, past: tuple[float, ...]
) -> tuple[Floats, tuple[float, ...]]:
    pull = np.zeros(BLOCK)
    if config.reversion == 0.0:
        return pull, ()
    window = deque(past, maxlen=_REVERSION_BARS)
    for i, shock in enumerate(noise.tolist()):
        z = sum(window) / math.sqrt(_REVERSION_BARS)
        pull[i] = -config.reversion * max(-2.0, min(2.0, z))
        window.append(float(pull[i]) + shock)
    return pull, tuple(window)
