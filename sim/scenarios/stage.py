"""What a scenario plays on: bars of several symbols, and everything around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataRefused
from domain.market import Bar, BarFrame, BookSnapshot, BookView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
_LEVELS = 10
_TOP = 5  # levels whose worth is the depth


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One symbol's n bars.

    Attributes
    ----------
    bars : as forecast and decided on.
    basis : (n,) price where it is executed ÷ price of the bars.
    spread_bps : (n,) of the book at each close.
    depth : (n,) worth of the top five levels of both sides, quote units.
    funding : (n,) rate of a stamp in the bar, fraction.
    heard, traded_heard : (n,) ms at which the bar is known, of the forecast and of the execution
        market; :data:`NEVER` for one that is lost.
    """

    bars: BarFrame
    basis: Floats
    spread_bps: Floats
    depth: Floats
    funding: Floats
    heard: Ints
    traded_heard: Ints

    @classmethod
    def calm(
        cls, bars: BarFrame, spread_bps: float = 1.0, depth: float = 1e6, funding: float = 1e-4
    ) -> Self:
        """Return bars with nothing strange around them."""
        n, closes = len(bars), bars.ts + bars.step_ms
        full = np.full(n, 1.0)
        return cls(
            bars, full, spread_bps * full, depth * full, funding * full, closes, closes.copy()
        )

    def having(self, rows: slice, **values: float | Ints | Floats) -> Self:
        """Return the same with columns set in some rows."""
        columns = {}
        for name, value in values.items():
            columns[name] = getattr(self, name).copy()
            columns[name][rows] = value
        return replace(self, **columns)

    def traded(self, row: int, route: str) -> Bar:
        """Return a bar of the market where it is executed."""
        bars, basis = self.bars, float(self.basis[row])
        return Bar(
            route, bars.timeframe, int(bars.ts[row]), float(bars.open[row]) * basis,
            float(bars.high[row]) * basis, float(bars.low[row]) * basis,
            float(bars.close[row]) * basis, float(bars.volume[row]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """All symbols on the same instants.

    Attributes
    ----------
    first : row of the first bar that is traded; those before it are known, and traded by nobody.
    """

    scenes: Mapping[str, Scene]
    first: int

    def __post_init__(self) -> None:
        every = list(self.scenes.values())
        if any(not np.array_equal(each.bars.ts, every[0].bars.ts) for each in every):
            raise DataRefused("scenario", "needs all symbols on the same instants")

    @property
    def ts(self) -> Ints:
        """Opens of the bars, UTC ms (n,)."""
        return next(iter(self.scenes.values())).bars.ts

    @property
    def step_ms(self) -> int:
        """Length of a bar, ms."""
        return next(iter(self.scenes.values())).bars.step_ms

    def row(self, after_ms: int) -> int:
        """Return the row whose bar opens ``after_ms`` after trading began.

        Raises
        ------
        DataRefused : if the scenario is over by then.
        """
        row = self.first + after_ms // self.step_ms
        if row >= len(self.ts):
            hours = (len(self.ts) - self.first) * self.step_ms / 3_600_000
            raise DataRefused(
                "scenario", "what happens must begin before its end",
                f"after {after_ms / 3_600_000:g} h of {hours:g} h",
            )  # fmt: skip
        return row

    def rows(self, after_ms: int | None, lasts_ms: int | None) -> slice:
        """Return the rows of a stretch that begins ``after_ms`` after trading began.

        It has a bar at least. None = from the first bar of all; to the last one.
        """
        first = 0 if after_ms is None else self.row(after_ms)
        if lasts_ms is None:
            return slice(first, len(self.ts))
        return slice(first, min(first + max(lasts_ms // self.step_ms, 1), len(self.ts)))

    def having(self, scenes: Mapping[str, Scene]) -> Stage:
        """Return the same with some symbols replaced."""
        return replace(self, scenes={**self.scenes, **scenes})


class StageBooks:
    """The books of a stage as a :class:`domain.ports.BookSource`.

    At a bar's close its spread and depth around the close; from then on, until the next close, the
    same around the price at which the next bar opens.

    Parameters
    ----------
    routes : forecast symbol → execution symbol; books are asked for under both names.
    heard : whether nothing is to be seen while a feed is silent, as for a desk; a venue knows its
        own books.
    """

    def __init__(self, stage: Stage, routes: Mapping[str, str], *, heard: bool = True) -> None:
        self._stage, self._heard = stage, heard
        self._of = {route: (symbol, True) for symbol, route in routes.items()}
        self._of |= {symbol: (symbol, False) for symbol in routes}

    def look(self, symbol: str, as_of: int) -> BookView:
        """Return the book at ``as_of`` (ms)."""
        name, executed = self._of[symbol]
        scene, stage = self._stage.scenes[name], self._stage
        row = int(np.searchsorted(stage.ts, as_of - stage.step_ms, side="right")) - 1
        heard = scene.traded_heard if executed else scene.heard
        if row < 0 or (self._heard and heard[row] > as_of):
            return BookView()
        at, price = int(stage.ts[row]) + stage.step_ms, float(scene.bars.close[row])
        basis = scene.basis[row]
        if as_of > at and row + 1 < len(stage.ts):
            at, price, basis = at + 1, float(scene.bars.open[row + 1]), scene.basis[row + 1]
        price *= float(basis) if executed else 1.0
        return BookView(_book(symbol, at, price, scene, row))


def _book(symbol: str, at: int, price: float, scene: Scene, row: int) -> BookSnapshot:
    half = price * float(scene.spread_bps[row]) / 2e4
    away = half * (1.0 + np.arange(_LEVELS))
    each = float(scene.depth[row]) / (2 * _TOP)
    bids, asks = np.maximum(price - away, price * 1e-3), price + away
    return BookSnapshot(
        symbol, at,
        tuple((p, each / p) for p in bids.tolist()), tuple((p, each / p) for p in asks.tolist()),
    )  # fmt: skip
