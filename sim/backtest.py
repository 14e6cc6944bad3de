"""A strategy over stored bars, through the trading loop that paper and live use."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from data.memory import MarketMemory
from domain.canonical import canonical_json
from domain.decision import ExitReason
from domain.errors import DataRefused
from domain.market import Bar, BarFrame, FeatureFrame, Instrument, MarketState
from domain.opinion import Opinion
from domain.ports import Gate, Ledger, OpinionSource, Strategy
from domain.times import iso
from domain.trading import ZERO, ClosedTrade, EquityMark, Fill, Posting
from execution.fills import CostModel, Frictions
from execution.funding import FundingRate, base_rate
from execution.journal import JournalMode
from execution.levels import OFF, LevelSettings
from execution.limits import EXERCISE, RiskLimits
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker, Venue
from execution.sizing import SizingSettings
from sim.benchmarks import benchmarks
from sim.breakdowns import Period, breakdown
from sim.decided import Decided, Tally
from sim.intervals import deflated_sharpe, intervals
from sim.measures import observations
from sim.metrics import Metric, Run, measure
from sim.targets import Value, extremes, success
from storage.memory import MemoryLedger

_BARS = 250  # in a state, unless somebody reads more
_NO_FEATURES = FeatureFrame((), np.empty((1, 0)), "none")


@dataclass(frozen=True, slots=True)
class BacktestRules:
    """The rules of one run.

    Attributes
    ----------
    profile : its name, for the report.
    frictions : of the cost model; fees come from the instrument.
    venue : leverage, latency and the seed of what the fill engine draws.
    journal : whether entries wait for words about a trade; nobody is there to say them.
    seed : of the bootstrap.
    """

    profile: str = "strict"
    limits: RiskLimits = field(default_factory=RiskLimits)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    levels: LevelSettings = OFF
    journal: JournalMode = "off"
    horizon_bars: int = 5
    initial_cash: Decimal = Decimal(10_000)
    account: str = "paper"
    currency: str = "USDT"
    frictions: Frictions = field(default_factory=Frictions)
    venue: Venue = field(default_factory=Venue)
    source: str = "replay"
    git_commit: str = ""
    seed: int = 0


def exercise_rules() -> BacktestRules:
    """Return the rules of the ``exercise`` profile: a fixed 500 USDT, filters and breakers off."""
    return BacktestRules("exercise", EXERCISE, SizingSettings(mode="fixed", fixed_notional=500.0))


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """What a run did; :meth:`as_json` is the contract of ``backtest --json``.

    Attributes
    ----------
    decided : what was decided, bar by bar.
    benchmarks : what a strategy has to beat, name → figures.
    run : what was measured.
    """

    data: Mapping[str, Any]
    strategy: str
    profile: str
    metrics: Mapping[str, Metric]
    costs: Mapping[str, float]
    decisions: Mapping[str, Any]
    closed: tuple[ClosedTrade, ...]
    final_equity: Decimal
    intervals: Mapping[str, list[float | None]]
    benchmarks: Mapping[str, Any]
    seconds: float
    run: Run
    decided: Decided

    @property
    def trades_sha256(self) -> str:
        """Hash of the closed trades, one canonical line each."""
        return trades_sha256(self.closed)

    @property
    def n(self) -> dict[str, int]:
        """How many observations stand behind each metric."""
        return observations(self.run, int(self.metrics["drawdowns"] or 0))

    def success(self) -> list[dict[str, Any]]:
        """Return the targets of the requirement documents beside what was measured."""
        found: dict[str, Value] = {**extremes(self.run), **self.decided.extremes()}
        return success(self.metrics, self.n, found, self.intervals)

    def breakdown(self, period: Period) -> list[dict[str, Any]]:
        """Return equity, return and trades of each day, week or month."""
        return breakdown(self.run, period)

    def deflated(self, trials: int, sharpes: Sequence[float] = ()) -> BacktestResult:
        """Return the same result with its deflated Sharpe ratio.

        Parameters
        ----------
        trials : how many were ever made, this one included.
        sharpes : those known of them, annualised by √365.
        """
        value = deflated_sharpe(self.run, trials, sharpes)
        return replace(self, metrics={**self.metrics, "deflated_sharpe": value})

    def as_json(self) -> dict[str, Any]:
        """Return JSON's types only."""
        return {
            "data": dict(self.data),
            "strategy": self.strategy,
            "profile": self.profile,
            "metrics": dict(self.metrics),
            "costs": dict(self.costs),
            "decisions": dict(self.decisions),
            "trades": len(self.closed),
            "final_equity": _text(self.final_equity),
            "trades_sha256": self.trades_sha256,
            "intervals": dict(self.intervals),
            "n": self.n,
            "benchmarks": dict(self.benchmarks),
            "success": self.success(),
            "seconds": self.seconds,
        }


def _text(amount: Decimal) -> str:
    # 0.10 and 0.1 are the same money, and so the same text.
    plain = format(amount.normalize(), "f")
    return "0" if plain == "-0" else plain


def trade_line(trade: ClosedTrade) -> str:
    """Return a closed trade as one canonical JSON line: no ids, no wall time."""
    money = ("qty", "entry", "exit", "fee", "slippage", "spread", "funding", "pnl")
    amounts = {name: _text(getattr(trade, name)) for name in money}
    return canonical_json(
        {
            "symbol": trade.symbol,
            "side": trade.side,
            "opened_at": iso(trade.opened_at),
            "closed_at": iso(trade.closed_at),
            "reason": trade.reason,
            **amounts,
        }
    )


def trades_sha256(trades: Iterable[ClosedTrade]) -> str:
    """Return the SHA-256 of the trades' lines in closing order, each ended by a newline."""
    text = "".join(trade_line(trade) + "\n" for trade in trades)
    return hashlib.sha256(text.encode()).hexdigest()


def plain_states(
    frame: BarFrame, bars: int = _BARS, start_ms: int | None = None, end_ms: int | None = None
) -> Iterator[MarketState]:
    """Iterate over the states at the close of each bar in [start, end), without features.

    Parameters
    ----------
    bars : how many bars a state holds at most; none lies before a gap.
    """
    since = frame.bars_since_gap()
    first = 0 if start_ms is None else int(np.searchsorted(frame.ts, start_ms))
    last = len(frame) if end_ms is None else int(np.searchsorted(frame.ts, end_ms))
    for i in range(first, last):
        run = int(since[i])
        cut = frame.slice(i + 1 - min(bars, run), i + 1)
        as_of = int(frame.ts[i]) + frame.step_ms
        yield MarketState(frame.symbol, frame.timeframe, as_of, cut, _NO_FEATURES, run)


def unasked_states(
    frame: BarFrame, rules: BacktestRules, start_ms: int | None = None, end_ms: int | None = None,
    *, features: bool = False,
) -> Iterable[MarketState]:  # fmt: skip
    """Return the states in [start, end) of a strategy that asks nobody.

    Stops by ATR and regime need features, and so does a gate: then those that a replay of these
    bars would have.
    """
    if not (features or rules.levels.on):
        return plain_states(frame, start_ms=start_ms, end_ms=end_ms)
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    return memory.states(start_ms, end_ms, _BARS)


class NoOpinions:
    """An :class:`domain.ports.OpinionSource` for strategies that ask nobody."""

    def opinions(self, state: MarketState) -> tuple[list[Opinion], dict[str, str]]:
        """Return nothing."""
        del state
        return [], {}


def run_backtest(
    frame: BarFrame,
    strategy: Strategy,
    instrument: Instrument,
    *,
    rules: BacktestRules | None = None,
    states: Iterable[MarketState] | None = None,
    opinions: OpinionSource | None = None,
    exec_frame: BarFrame | None = None,
    funding: FundingRate = base_rate,
    gate: Gate | None = None,
    ledger: Ledger | None = None,
    sha256: str = "",
    timer: Callable[[], float] = time.perf_counter,
    progress: Callable[[int], None] | None = None,
) -> BacktestResult:
    """Run a strategy over bars.

    Parameters
    ----------
    frame : bars of the forecast symbol.
    instrument : what is traded; with another symbol than the frame's, ``exec_frame`` is needed.
    states : what the strategy sees, one state per bar traded, in order; default: bars of ``frame``
        without features. A narrower range than the frame's gives the strategy a past.
    opinions : asked at every state; default: nobody.
    exec_frame : bars of the execution symbol, where it is another.
    sha256 : of the file the bars came from.
    timer : seconds, for the report only.
    progress : called with the number of bars done, every 1 000.

    Raises
    ------
    DataRefused : if there is no bar to trade on, or the execution bars are missing.
    """
    rules = rules or BacktestRules()
    began = timer()
    executed = _exec_bars(frame, instrument, exec_frame)
    book: Ledger = MemoryLedger() if ledger is None else ledger
    loop = trading_loop(
        {frame.symbol: instrument.symbol}, strategy, {instrument.symbol: instrument}, rules, book,
        funding=funding, gate=gate,
    )  # fmt: skip
    source = opinions or NoOpinions()
    tally = Tally(rules.horizon_bars, frame.step_ms)
    for done, state in enumerate(plain_states(frame) if states is None else states, 1):
        bar = state.bars.bar(-1)
        said, absent = source.opinions(state)
        other = executed(bar)
        loop.absorb(bar, other)
        traded = bar if instrument.symbol == frame.symbol else other
        tally.add(loop.decide(state, said, absent, state.as_of), bar, traded)
        if progress is not None and done % 1_000 == 0:
            progress(done)
    if tally.first is None or tally.last is None:
        raise DataRefused("backtest", "needs at least one bar in its range", frame.symbol)
    decided = tally.decided()
    run = _run(loop, book, rules, tally, decided)
    return BacktestResult(
        data=_data(frame, tally, sha256),
        strategy=strategy.name,
        profile=rules.profile,
        metrics=measure(run),
        costs=_costs(run, book),
        decisions=decided.counts,
        closed=tuple(run.trades),
        final_equity=loop.portfolio(tally.last.close_ms).equity,
        intervals=intervals(run, np.random.default_rng(rules.seed)),
        benchmarks=benchmarks(run, rules.seed),
        seconds=timer() - began,
        run=run,
        decided=decided,
    )


def _exec_bars(
    frame: BarFrame, instrument: Instrument, exec_frame: BarFrame | None
) -> Callable[[Bar], Bar | None]:
    if instrument.symbol == frame.symbol:
        return lambda _: None
    if exec_frame is None or exec_frame.symbol != instrument.symbol:
        raise DataRefused(
            "exec_frame", f"must hold bars of {instrument.symbol}",
            None if exec_frame is None else exec_frame.symbol,
        )  # fmt: skip
    rows = {int(ts): i for i, ts in enumerate(exec_frame.ts)}
    return lambda bar: exec_frame.bar(rows[bar.open_ms]) if bar.open_ms in rows else None


def trading_loop(
    routes: Mapping[str, str],
    strategy: Strategy,
    instruments: Mapping[str, Instrument],
    rules: BacktestRules,
    ledger: Ledger,
    *,
    funding: FundingRate = base_rate,
    gate: Gate | None = None,
) -> TradingLoop:
    """Return the loop of a backtest: a fresh paper broker that fills as the rules say.

    Parameters
    ----------
    routes : forecast symbol → execution symbol.
    instruments : by execution symbol; fees are theirs.
    """
    costs = {symbol: CostModel.of(each, rules.frictions) for symbol, each in instruments.items()}
    broker = PaperBroker(
        instruments, costs, account=rules.account, currency=rules.currency, funding=funding,
        venue=rules.venue,
    )  # fmt: skip
    spreads = {symbol: cost.spread_bps for symbol, cost in costs.items()}
    settings = LoopSettings(
        routes, rules.horizon_bars, rules.account, rules.currency, rules.initial_cash, spreads,
        rules.source, rules.git_commit,
    )  # fmt: skip
    return TradingLoop(
        strategy, broker, ledger, instruments, settings, limits=rules.limits, sizing=rules.sizing,
        gate=gate, levels=rules.levels, journal=rules.journal,
    )  # fmt: skip


def _run(
    loop: TradingLoop, ledger: Ledger, rules: BacktestRules, tally: Tally, decided: Decided
) -> Run:
    assert tally.first is not None
    assert tally.last is not None
    marks = [mark for _, mark in ledger.records(EquityMark)]
    return Run(
        start=tally.first.open_ms,
        at=np.array([mark.at for mark in marks], dtype=np.int64),
        equity=np.array([float(mark.equity) for mark in marks], dtype=np.float64),
        price=decided.price,
        initial=float(rules.initial_cash),
        fills=[fill for _, fill in ledger.records(Fill)],
        trades=[trade for _, trade in ledger.records(ClosedTrade)],
        still_open=list(loop.portfolio(tally.last.close_ms).positions.values()),
    )


def _costs(run: Run, ledger: Ledger) -> dict[str, float]:
    fees = {True: ZERO, False: ZERO}  # by whether it was a liquidation
    for fill in run.fills:
        fees[fill.intent == ExitReason.LIQUIDATION] += fill.fee
    funding = sum((p.amount for _, p in ledger.records(Posting) if p.book == "funding"), ZERO)
    return {
        "fees": float(fees[False]),
        "slippage": float(sum((fill.slippage for fill in run.fills), ZERO)),
        "spread": float(sum((fill.spread for fill in run.fills), ZERO)),
        "funding": float(funding),
        "liquidation": float(fees[True]),
    }


def _data(frame: BarFrame, tally: Tally, sha256: str) -> dict[str, Any]:
    first, last = tally.first, tally.last
    return {
        "symbol": frame.symbol,
        "timeframe": frame.timeframe,
        "start": iso(first.open_ms) if first else None,
        "end": iso(last.close_ms) if last else None,
        "bars": len(tally),
        "sha256": sha256,
    }
