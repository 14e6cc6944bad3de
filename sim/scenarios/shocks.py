"""What can happen to a market; each is a pure function of a stage, so that they compose.

Prices are bent by factors on each bar's open and close: highs and lows follow, volumes stay unless
said otherwise, and every later bar goes on from where the shock has left the price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from domain.errors import UsageError
from domain.market import BarFrame
from domain.times import timeframe_ms
from sim.scenarios.stage import NEVER, Scene, Stage

Floats = NDArray[np.float64]


SPAN_RULE = "must be like 90m, 6h or 1d6h"
_PART = re.compile(r"[0-9]+[mhd]")
_SPAN = re.compile(r"0|([0-9]+[mhd])+")


def span_ms(text: object) -> object:
    """Read ``90m``, ``6h``, ``2d`` or sums of them, ``1d6h``, as ms; other types pass.

    Raises
    ------
    ValueError : if the text is none of these, as pydantic wants it.
    """
    if not isinstance(text, str):
        return text
    if not _SPAN.fullmatch(text.strip()):
        raise ValueError(SPAN_RULE)
    return sum(timeframe_ms(part) for part in _PART.findall(text))


LONGEST_MS = 366 * 86_400_000
Span = Annotated[int, BeforeValidator(span_ms), Field(ge=0, le=LONGEST_MS)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Gap:
    """The price opens elsewhere: nothing trades on the way.

    Attributes
    ----------
    at : after trading began. ``size`` : fraction, −0.1 = 10 % lower.
    only : symbols; empty = all.
    """

    at: Span
    size: Annotated[float, Field(gt=-1.0)]
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        row, factor = stage.row(self.at), np.ones(len(stage.ts))
        factor[row:] = 1.0 + self.size
        return _each(stage, self.only, lambda scene: _priced(scene, factor, factor))


@dataclass(frozen=True, slots=True, config=_STRICT)
class FlashCrash:
    """Down in minutes, back over the next hours, on many times the volume.

    Attributes
    ----------
    fall : of the price, fraction; negative for a spike upwards.
    down, back : how long each way takes. ``recovers`` : share of the fall.
    volume : times the usual, while it lasts.
    """

    at: Span
    fall: Annotated[float, Field(gt=-1.0, lt=1.0)]
    down: Span = 15 * 60_000
    back: Span = 60 * 60_000
    recovers: Annotated[float, Field(ge=0.0, le=1.5)] = 0.8
    volume: Annotated[float, Field(gt=0.0)] = 5.0
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        first, n = stage.row(self.at), len(stage.ts)
        down, back = (max(span // stage.step_ms, 1) for span in (self.down, self.back))
        bottom, end = 1.0 - self.fall, 1.0 - self.fall * (1.0 - self.recovers)
        knots = (first, first + down, first + down + back)
        edge = np.exp(np.interp(np.arange(n + 1), knots, np.log((1.0, bottom, end))))
        shocked = slice(first, min(first + down + back, n))

        def crash(scene: Scene) -> Scene:
            traded = scene.bars.volume.copy()
            traded[shocked] *= self.volume
            bars = replace(scene.bars, volume=traded)
            return _priced(replace(scene, bars=bars), edge[:-1], edge[1:])

        return _each(stage, self.only, crash)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Drought:
    """Nobody trades: little volume in the bars, little in the book.

    Attributes
    ----------
    volume, depth : share of the usual that is left.
    """

    at: Span
    lasts: Span
    volume: Share = 0.02
    depth: Share = 0.02
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)

        def dry(scene: Scene) -> Scene:
            traded = scene.bars.volume.copy()
            traded[rows] *= self.volume
            left = scene.depth[rows] * self.depth
            return replace(scene.having(rows, depth=left), bars=replace(scene.bars, volume=traded))

        return _each(stage, self.only, dry)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Spread:
    """Bid and ask move apart.

    Attributes
    ----------
    bps : of the price.
    """

    at: Span
    lasts: Span
    bps: Annotated[float, Field(gt=0.0, lt=20_000.0)]
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)
        return _each(stage, self.only, lambda scene: scene.having(rows, spread_bps=self.bps))


@dataclass(frozen=True, slots=True, config=_STRICT)
class Funding:
    """Perpetuals pay a rate that is not the usual one.

    Attributes
    ----------
    rate : of a stamp, fraction; positive: longs pay.
    """

    at: Span
    lasts: Span
    rate: Annotated[float, Field(gt=-0.1, lt=0.1)]
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)
        return _each(stage, self.only, lambda scene: scene.having(rows, funding=self.rate))


@dataclass(frozen=True, slots=True, config=_STRICT)
class Basis:
    """The market where orders are executed leaves the one that is forecast.

    Attributes
    ----------
    size : fraction, −0.03 = 3 % below.
    """

    at: Span
    lasts: Span
    size: Annotated[float, Field(gt=-1.0)]
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)
        return _each(stage, self.only, lambda scene: scene.having(rows, basis=1.0 + self.size))


@dataclass(frozen=True, slots=True, config=_STRICT)
class Freeze:
    """The feed falls silent.

    Attributes
    ----------
    late : whether its bars come all at once when it speaks again, or never; those of the market
        of execution alone never do: a forecast bar is taken in once.
    market : which feed: of what is forecast, of what is executed, or both.
    """

    at: Span
    lasts: Span
    late: bool | None = None
    market: Literal["both", "forecast", "execution"] = "both"
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.late and self.market == "execution":
            raise ValueError("late bars need the forecast market to be silent as well")

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)
        late = self.late is not False and self.market != "execution"
        again = rows.stop < len(stage.ts)
        then = int(stage.ts[rows.stop]) + stage.step_ms if late and again else NEVER
        columns = {"both": ("heard", "traded_heard"), "forecast": ("heard",),
                   "execution": ("traded_heard",)}[self.market]  # fmt: skip

        def silent(scene: Scene) -> Scene:
            # one silence in another does not make it shorter
            later = {name: np.maximum(getattr(scene, name)[rows], then) for name in columns}
            return scene.having(rows, **later)

        return _each(stage, self.only, silent)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Volatility:
    """Every move is larger, or smaller.

    Attributes
    ----------
    times : log returns times this. ``at`` : None = from the first bar, warm-up included.
    lasts : None = to the end.
    """

    times: Annotated[float, Field(gt=0.0, le=50.0)]
    at: Span | None = None
    lasts: Span | None = None
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows = stage.rows(self.at, self.lasts)

        def wild(scene: Scene) -> Scene:
            times = np.ones(len(stage.ts))
            times[rows] = self.times
            return replace(scene, bars=_scaled(scene.bars, times))

        return _each(stage, self.only, wild)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Trend:
    """A steady drift on top of what happens anyway.

    Attributes
    ----------
    per_day : log return a day, −0.2 = about 18 % lower each day.
    """

    per_day: Annotated[float, Field(ge=-5.0, le=5.0)]
    at: Span | None = None
    lasts: Span | None = None
    only: tuple[str, ...] = ()

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        rows, moves = stage.rows(self.at, self.lasts), np.zeros(len(stage.ts) + 1)
        moves[rows.start + 1 : rows.stop + 1] = self.per_day * stage.step_ms / 86_400_000
        edge = np.exp(np.cumsum(moves))
        return _each(stage, self.only, lambda scene: _priced(scene, edge[:-1], edge[1:]))


@dataclass(frozen=True, slots=True, config=_STRICT)
class Together:
    """Every symbol moves with the first: what was diversified is not any more.

    Attributes
    ----------
    share : of the first symbol's log return that takes the place of the own.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    at: Span | None = None
    lasts: Span | None = None

    def on(self, stage: Stage) -> Stage:
        """Return the stage after it."""
        first, *others = stage.scenes
        rows, lead = stage.rows(self.at, self.lasts), stage.scenes[first].bars
        share = np.zeros(len(stage.ts))
        share[rows] = self.share

        def follow(scene: Scene) -> Scene:
            kept = _scaled(scene.bars, 1.0 - share)
            before = np.concatenate((lead.close[:1], lead.close[:-1]))
            ends = np.exp(np.cumsum(share * np.log(lead.close / before)))
            starts = np.concatenate(([1.0], ends[:-1])) * (lead.open / before) ** share
            return _priced(replace(scene, bars=kept), starts, ends)

        return stage.having({name: follow(stage.scenes[name]) for name in others})


Shock = (
    Gap | FlashCrash | Drought | Spread | Funding | Basis | Freeze | Volatility | Trend | Together
)

SHOCKS: dict[str, type[Shock]] = {
    "gap": Gap, "flash_crash": FlashCrash, "drought": Drought, "spread": Spread,
    "funding": Funding, "basis": Basis, "freeze": Freeze, "volatility": Volatility,
    "trend": Trend, "together": Together,
}  # fmt: skip


def _each(stage: Stage, only: tuple[str, ...], shocked: Callable[[Scene], Scene]) -> Stage:
    return stage.having({name: shocked(stage.scenes[name]) for name in _named(stage, only)})


def _named(stage: Stage, only: tuple[str, ...]) -> Iterator[str]:
    for name in only:
        if name not in stage.scenes:
            hint = f"It has {', '.join(stage.scenes)}."
            raise UsageError("only", "must name symbols of the scenario", name, hint)
    return (name for name in stage.scenes if not only or name in only)


def _priced(scene: Scene, opens: Floats, closes: Floats) -> Scene:
    """Multiply opens and closes by factors (n,); what lies between them follows."""
    bars = scene.bars
    start, end = bars.open * opens, bars.close * closes
    least, most = np.minimum(opens, closes), np.maximum(opens, closes)
    high = np.maximum(np.maximum(start, end), bars.high * most)
    low = np.minimum(np.minimum(start, end), bars.low * least)
    return replace(scene, bars=replace(bars, open=start, high=high, low=low, close=end))


def _scaled(bars: BarFrame, times: Floats) -> BarFrame:
    """Multiply the log moves of each bar, from the close before it, by factors (n,)."""
    before = np.concatenate((bars.open[:1], bars.close[:-1]))
    moves = np.log(np.stack((bars.open, bars.high, bars.low, bars.close)) / before) * times
    made = np.exp(np.log(bars.open[0]) + np.cumsum(moves[3]) - moves[3] + moves)
    start, _, _, end = made
    high, low = made.max(axis=0), made.min(axis=0)
    return replace(bars, open=start, high=high, low=low, close=end)
