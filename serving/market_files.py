"""Files of bars and funding as commands want them: judged, cleaned, and known by their hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.files import matching_funding, read_funding
from data.importing import check_file
from data.validation import cleanse
from domain.errors import DataRefused, UsageError
from domain.market import BarFrame, market_of
from domain.ports import Clock
from domain.times import iso, parse_timerange
from execution.funding import BASE_RATE, FundingRate, base_rate, no_funding, rates_of


@dataclass(frozen=True, slots=True, eq=False)
class BarsFile:
    """A file that passed validation.

    Attributes
    ----------
    frame : its bars after repairs.
    sha256 : of its bytes.
    """

    path: Path
    frame: BarFrame
    sha256: str


def load_bars(
    path: Path, clock: Clock, symbol: str | None = None, timeframe: str | None = None
) -> BarsFile:
    """Read a file of bars; symbol and timeframe come from the flags, else from its name.

    Raises
    ------
    DataRefused : if it is no bars, has defects that must not be used, or nobody says what it is.
    """
    frame, report = check_file(path, symbol=symbol, timeframe=timeframe, now_ms=clock.now())
    report.require_ok(path.name)
    return BarsFile(path, cleanse(frame, report), report.sha256 or "")


def span_of(timerange: str | None) -> tuple[int | None, int | None]:
    """Return the half-open range of bar opens (UTC ms) that a flag asks for; None = no limit."""
    return (None, None) if timerange is None else parse_timerange(timerange)


def require_bars(bars: BarsFile, start_ms: int | None, end_ms: int | None) -> BarFrame:
    """Return the bars that open in [start, end).

    Raises
    ------
    DataRefused : if there are none.
    """
    part = bars.frame.between(start_ms, end_ms)
    if not len(part):
        have = bars.frame
        raise DataRefused(
            bars.path.name, "has no bar in the range",
            f"{'…' if start_ms is None else iso(start_ms)} to "
            f"{'…' if end_ms is None else iso(end_ms)}",
            f"It holds {iso(int(have.ts[0]))} to {iso(int(have.ts[-1]) + have.step_ms)}.",
        )  # fmt: skip
    return part


@dataclass(frozen=True, slots=True)
class Charged:
    """What a market's funding stamps cost.

    Attributes
    ----------
    told : where the rates are from.
    hours : between two stamps.
    """

    rate: FundingRate
    told: str
    hours: int = 8


def funding_for(bars: BarsFile, symbol: str, given: Path | None, *, charged: bool) -> Charged:
    """Choose the funding rates of an execution market, and say where they are from.

    Parameters
    ----------
    bars : the execution market's; a funding file beside it is used if none is given.
    symbol : of the execution market.
    charged : False switches funding off.

    Raises
    ------
    UsageError : if a file is given for a spot market.
    DataRefused : if the file is of another symbol.
    """
    if market_of(symbol) == "spot":
        if given is not None:
            raise UsageError("--funding", "goes with a perpetual; spot pays none", symbol)
        return Charged(base_rate, "none (spot)")
    if not charged:
        return Charged(no_funding, "off (execution.funding)")
    path = given or matching_funding(bars.path)
    if path is None:
        return Charged(base_rate, f"{BASE_RATE:.2%} per 8 h (no funding file)")
    found = read_funding(path)
    if found.symbol != symbol:
        raise DataRefused(path.name, f"must hold funding of {symbol}", found.symbol)
    rate = rates_of(found.ts.tolist(), found.rate.tolist())
    return Charged(rate, path.name, found.hours)
