"""Which market a plan's desk trades on, with what is needed around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.files import read_funding
from data.instruments import instrument_for
from data.sources.live_ingest import LiveIngest
from data.sources.replay import ReplaySource
from domain.market import BarFrame, Instrument
from domain.ports import BookSource, Clock, LiveSource, MarketSource
from execution.funding import FundingRate, base_rate, rates_of
from serving.market_files import load_bars
from serving.plan import RunPlan
from serving.settings import Settings
from serving.system import SystemClock
from sim.worlds import DemoSource


@dataclass(frozen=True, slots=True)
class Feed:
    """A source with what is needed around it.

    Attributes
    ----------
    history : bars from before the first live one, to be opined on and scored, never traded.
    price : a recent one of every symbol, quote units; scales default filters.
    keep_market : whether orders go to the market of the bars.
    wall : the market's time where it runs by itself, so that old bars are stale; else None.
    books : what agents are shown; files of bars have none, and a live market's are on the ledger.
    span : first open, last close (ms) of a feed that ends.
    listed : filters and hours of funding as the exchange, or a file, tells them, by execution
        symbol; defaults for others.
    ingest : of a live market: all timeframes of it, and how the feed does.
    let_go : ends what the source holds on to.
    """

    source: MarketSource | LiveSource
    symbols: list[str]
    history: list[BarFrame]
    price: Mapping[str, float]
    funding: FundingRate
    keep_market: bool
    wall: Clock | None = None
    books: BookSource | None = None
    span: tuple[int, int] | None = None
    listed: Mapping[str, Instrument] | None = None
    ingest: LiveIngest | None = None
    let_go: Callable[[], None] = lambda: None


def feed_of(plan: RunPlan, settings: Settings) -> Feed:
    """Return the feed of a plan's desk; asks the exchange where there is one.

    Raises
    ------
    ServiceUnreachable : if the exchange does not answer.
    """
    if plan.live:
        from serving.live_feed import live_feed

        return live_feed(plan, settings)
    if plan.source == "demo":
        demo = _demo(plan, settings)
        history = demo.history()
        price = {symbol: float(frame.close[-1]) for symbol, frame in history.items()}
        return Feed(
            demo, list(history), list(history.values()), price, base_rate,
            keep_market=False, books=demo,
        )  # fmt: skip
    frames = _replayed(plan)
    rate: FundingRate = base_rate
    price = {frame.symbol: float(frame.close[-1]) for frame in frames}
    symbols = [frame.symbol for frame in frames]
    listed: dict[str, Instrument] | None = None
    if plan.funding is not None:
        found = read_funding(Path(plan.funding))
        rate = rates_of(found.ts.tolist(), found.rate.tolist())
        usual = instrument_for(found.symbol, price[found.symbol])
        if found.hours != usual.funding_hours:
            listed = {found.symbol: replace(usual, funding_hours=found.hours)}
    return Feed(
        ReplaySource(frames), symbols, [], price, rate, True, span=_span(frames), listed=listed
    )


def symbols_of(plan: RunPlan, settings: Settings) -> list[str]:
    """Return the symbols that a plan's desk forecasts; asks nobody."""
    if plan.source == "replay":
        return [frame.symbol for frame in _replayed(plan)]
    return list(settings.data.symbols)


def generated_books(plan: RunPlan, settings: Settings) -> BookSource | None:
    """Return the books of a market that is made in this process; None for any other."""
    return _demo(plan, settings) if plan.source == "demo" and not plan.live else None


def _demo(plan: RunPlan, settings: Settings) -> DemoSource:
    data = settings.data
    return DemoSource(data.symbols, data.timeframe, plan.seed, warm_up_days=plan.warm_up_days)


def _replayed(plan: RunPlan) -> list[BarFrame]:
    return [
        load_bars(Path(name), SystemClock()).frame.between(plan.start_ms, plan.end_ms)
        for name in plan.data
    ]


def _span(frames: Sequence[BarFrame]) -> tuple[int, int] | None:
    opens = [int(frame.ts[0]) for frame in frames]
    closes = [int(frame.ts[-1]) + frame.step_ms for frame in frames]
    return (min(opens), max(closes)) if frames else None
