"""What episodes play on: bars, what the strategy wanted at each close, and what was to be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.decision import Decision
from domain.errors import DataRefused
from domain.market import BarFrame, Instrument, MarketState
from execution.fills import CostModel
from execution.funding import FundingRate, base_rate
from execution.kernel import Bars, Rules, bars_of, rules_of, tiers_of
from execution.kernel.state import Floats, Ints
from execution.paper import Venue
from rl.observation import Schema, market_row, sigma_of

Rows = NDArray[np.float32]
LEAST_BARS = 32  # contiguous rows below which nothing is played


@dataclass(frozen=True, slots=True)
class Terms:
    """What trading costs, and how much is traded.

    Attributes
    ----------
    stake : quote units of an order of full size. ``cash`` : opening capital.
    """

    instrument: Instrument
    costs: CostModel
    venue: Venue = field(default_factory=Venue)
    stake: float = 500.0
    cash: float = 10_000.0

    @property
    def round_trip(self) -> float:
        """What entering and leaving costs apart from impact and funding, fraction."""
        return self.costs.round_trip(0.0).round_trip


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """n closes in order.

    Attributes
    ----------
    market : (n, columns − 4) float32, see :mod:`rl.observation`; NaN where not known.
    intent : (n,) int8, the side the strategy wants.
    sigma : (n,) of the horizon, log return.
    runs : (m, 2) rows [first, last) without a gap and with everything known.
    symbol : of the bars. ``tiers`` : of margin.
    """

    schema: Schema
    terms: Terms
    symbol: str
    timeframe: str
    bars: Bars
    market: Rows
    intent: NDArray[np.int8]
    sigma: Floats
    runs: Ints
    rules: Rules
    tiers: Floats

    def __len__(self) -> int:
        return len(self.intent)

    def starts(self, length: int) -> Ints:
        """Return the rows on which an episode of ``length`` steps can begin, (k,).

        Raises
        ------
        DataRefused : if no run is long enough.
        """
        found = [np.arange(first, last - length) for first, last in self.runs.tolist()]
        rows = np.concatenate([part for part in found if len(part)] or [np.empty(0, np.int64)])
        if not len(rows):
            longest = max((last - first for first, last in self.runs.tolist()), default=0)
            raise DataRefused(
                "episodes", f"need more than {length} bars without a gap", longest,
                "Give more bars, or make episodes shorter.",
            )  # fmt: skip
        return rows.astype(np.int64)

    def between(self, start_ms: int, end_ms: int) -> Course:
        """Return the part whose bars open in [start, end)."""
        first, last = np.searchsorted(self.bars.open_ms, (start_ms, end_ms)).tolist()
        parts: list[Any] = [column[first:last] for column in self.bars]
        bars = Bars(*parts)
        market, intent = self.market[first:last], self.intent[first:last]
        sigma = self.sigma[first:last]
        runs = runs_of(bars.open_ms, self.rules.bar_ms, known(market, sigma))
        return replace(self, bars=bars, market=market, intent=intent, sigma=sigma, runs=runs)

    def having(self, market: Rows) -> Course:
        """Return the same course with something else to be seen."""
        return replace(self, market=market)


def known(market: Rows, sigma: Floats) -> NDArray[np.bool_]:
    """Return the rows on which everything is known, (n,)."""
    return np.asarray(np.isfinite(market).all(axis=1) & np.isfinite(sigma) & (sigma > 0.0))


def runs_of(open_ms: Ints, step_ms: int, usable: NDArray[np.bool_]) -> Ints:
    """Return the maximal runs [first, last) of usable rows without a gap, (m, 2)."""
    edges = np.flatnonzero(np.diff(open_ms) != step_ms) + 1
    cut = np.zeros(len(usable) + 1, dtype=bool)
    cut[[0, len(usable), *edges.tolist()]] = True
    change = np.flatnonzero(np.diff(usable.astype(np.int8)))
    cut[change + 1] = True
    where = np.flatnonzero(cut)
    pairs = np.stack((where[:-1], where[1:]), axis=1)
    kept = usable[pairs[:, 0]] & (pairs[:, 1] - pairs[:, 0] >= LEAST_BARS)
    return pairs[kept].astype(np.int64).reshape(-1, 2)


Decided = tuple[MarketState, Decision]


def course_of(
    frame: BarFrame,
    decided: Iterable[Decided],
    schema: Schema,
    terms: Terms,
    *,
    funding: FundingRate = base_rate,
    tick: Callable[[int], None] | None = None,
) -> Course:
    """Put what was decided at each close beside the bars.

    Parameters
    ----------
    frame : the bars that are traded on.
    decided : one state and the strategy's decision for each bar of ``frame``, in order; bars that
        are left out cannot be played on.
    tick : called with the number of closes done, every 1 000.

    Raises
    ------
    DataRefused : if they do not belong to the bars.
    """
    n, columns = len(frame), len(schema.names) - 4
    market = np.full((n, columns), np.nan, dtype=np.float32)
    intent, sigma = np.zeros(n, dtype=np.int8), np.full(n, np.nan)
    for done, (row, state, decision) in enumerate(_placed(frame, decided), 1):
        intent[row] = decision.intent.sign
        sigma[row] = sigma_of(state, schema.horizon_bars)
        if sigma[row] > 0.0:
            market[row] = market_row(schema, decision, state, terms.round_trip)
        if tick is not None and done % 1_000 == 0:
            tick(done)
    instrument = terms.instrument
    rules = rules_of(instrument, terms.costs, terms.venue, frame.timeframe, schema.horizon_bars)
    bars = bars_of(frame, funding, funded=not rules.spot, every_ms=instrument.funding_ms)
    runs = runs_of(bars.open_ms, rules.bar_ms, known(market, sigma))
    return Course(
        schema, terms, frame.symbol, frame.timeframe, bars, market, intent, sigma, runs, rules,
        tiers_of(instrument),
    )  # fmt: skip


def _placed(
    frame: BarFrame, decided: Iterable[Decided]
) -> Iterator[tuple[int, MarketState, Decision]]:
    step, opens = frame.step_ms, frame.ts
    for state, decision in decided:
        opened = state.as_of - step
        at = int(np.searchsorted(opens, opened))
        if at == len(opens) or int(opens[at]) != opened:
            raise DataRefused("decisions", "must be about bars of the frame", state.as_of)
        yield at, state, decision
