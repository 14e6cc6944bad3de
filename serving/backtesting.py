"""From settings and files to a backtest: the market, the rules, and who is asked along the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from domain.decision import Decision
from domain.errors import DataRefused, UsageError
from domain.market import Bar, BarFrame, Instrument, MarketState, market_of, symbol_on
from domain.opinion import Opinion, Outcome
from domain.ports import Agent, Clock, Gate, OpinionSource, Strategy
from domain.times import iso, timeframe_ms
from execution.fills import CostModel
from execution.funding import FundingRate
from serving.deciders import agents_named, build_strategy, question_hash, tapes_of, trained_until
from serving.market_files import BarsFile, funding_for, load_bars, require_bars
from serving.rules import Market, backtest_rules, market_for
from serving.settings import Settings
from serving.trials import NOT_LOGGED, Count, Look, count, record
from sim.backtest import BacktestResult, BacktestRules, run_backtest, unasked_states
from sim.progress import Progress, Steps, quiet
from storage.memory import MemoryLedger

if TYPE_CHECKING:
    from rl.gate import PolicyGate
    from sim.tapes import Tape, TapeStore

R = TypeVar("R")
_ASKS_AGENTS = "council"
_LET_GO = (Bar, Opinion, Outcome, Decision)


@dataclass(frozen=True, slots=True)
class Request:
    """What the flags of ``backtest`` ask for.

    Attributes
    ----------
    span : bars that open in it are traded, UTC ms.
    """

    data: Path
    exec_data: Path | None
    funding: Path | None
    span: tuple[int | None, int | None]
    profile: str
    commit: str


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A backtest that is ready to run.

    Attributes
    ----------
    traded : bars of the range; ``bars`` also holds those before it.
    agents : empty for a strategy that asks nobody.
    horizon_bars : bars ahead that they speak about.
    tapes : where it is kept.
    conventions : by what the figures were made, name → words.
    gate : None where there is none.
    """

    bars: BarsFile
    traded: BarFrame
    executed: BarsFile
    instrument: Instrument
    strategy: Strategy
    rules: BacktestRules
    agents: Mapping[str, Agent]
    horizon_bars: int
    tapes: TapeStore
    funding: FundingRate
    look: Look
    conventions: Mapping[str, str]
    gate: Gate | None = None


def set_up(settings: Settings, request: Request, clock: Clock) -> Setup:
    """Read the files, choose the market and wire the strategy.

    Raises
    ------
    DataRefused : if a file must not be used, or holds no bar of the range.
    UsageError : if files do not go together, or the strategy does not exist.
    """
    bars = load_bars(request.data, clock)
    traded = require_bars(bars, *request.span)
    executed = bars if request.exec_data is None else load_bars(request.exec_data, clock)
    market = _market(settings, bars, executed, float(traded.close[0]))
    symbol = executed.frame.symbol
    paid = funding_for(executed, symbol, request.funding, charged=settings.execution.funding)
    market = market.settled_every(symbol, paid.hours)
    costs = partial(
        market.round_trip, timeframe_ms(traded.timeframe), settings.data.pred_horizon_steps
    )
    strategy = build_strategy(settings, costs, "replay", request.commit)
    asked = settings.models.agents if strategy.name == _ASKS_AGENTS else ()
    agents = agents_named(asked, settings, traded.timeframe)
    gate = _gate(settings, market, traded.symbol)
    return Setup(
        bars, traded, executed, market.instruments[symbol], strategy,
        backtest_rules(settings, request.profile, request.commit), agents,
        settings.data.pred_horizon_steps, tapes_of(settings), paid.rate,
        _look(settings, request, traded, strategy, agents, gate),
        {
            **_conventions(settings, bars, executed, market, paid.told),
            **_gated(gate, settings, traded), **_in_sample(agents, traded),
        },
        gate,
    )  # fmt: skip


def run(setup: Setup, steps: Steps = quiet) -> BacktestResult:
    """Trade every bar of the range; memory does not grow with what was said, only with money.

    Agents know the bars before the range, and what they say is kept on tape. A strategy that asks
    nobody starts with the range, as it does in other engines and in a replay.
    """
    total = len(setup.traded)
    states = unasked_states(setup.traded, setup.rules, features=setup.gate is not None)
    opinions: OpinionSource | None = None
    if setup.agents:
        states, opinions = taped(setup, steps("bars asked about"))
    progress = steps("bars traded")
    return run_backtest(
        setup.traded, setup.strategy, setup.instrument, rules=setup.rules, states=states,
        opinions=opinions, exec_frame=setup.executed.frame, funding=setup.funding,
        gate=setup.gate, ledger=MoneyLedger(), sha256=setup.bars.sha256,
        progress=lambda done: progress(done, total),
    )  # fmt: skip


def taped(setup: Setup, progress: Progress) -> tuple[Sequence[MarketState], Tape]:
    """Ask the agents about every bar of the range; return its states and what was said of them.

    Features know all that follows the last gap before the range.
    """
    from sim.opinions import widest  # what only agents need
    from sim.panel import Range

    needs, horizon = widest(setup.agents), setup.horizon_bars
    start, end = int(setup.traded.ts[0]), int(setup.traded.ts[-1]) + 1
    memory = Range.of(setup.bars.frame, start, end, horizon).memory()
    tape = setup.tapes.record(
        setup.agents, memory, start, horizon=horizon,
        asleep_until=trained_until(setup.agents), progress=progress,
    )  # fmt: skip
    return memory.states(start, end, needs.bars, needs.feature_rows), tape


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A result among all trials.

    Attributes
    ----------
    result : with its deflated Sharpe ratio.
    trial : what became of the look in the trial log.
    trials : for how many trials it is deflated, in words.
    """

    result: BacktestResult
    trial: str
    trials: str


def judge(result: BacktestResult, look: Look, log: Path | None, now_ms: int) -> Judged:
    """Log a result, then deflate its Sharpe ratio for all trials that the log knows, it included.

    Parameters
    ----------
    log : ``TRIALS_LOG``; None = not logged.

    Raises
    ------
    SettingError : if the log cannot be read or written.
    """
    trial = record(log, look, figures(result), now_ms)
    known = count(log)
    logged = log is not None and look.counts
    sharpes, own = known.sharpes, result.metrics["sharpe"]
    if not logged and own is not None:
        sharpes = (*sharpes, own)
    made = known.counted + (not logged)
    deflated = result.deflated(made, sharpes)
    return Judged(deflated, trial, _trials(made, known, deflated.metrics["deflated_sharpe"]))


def figures(result: BacktestResult) -> str:
    """Say what came out, short, as the trial log keeps it."""
    told = f"{len(result.closed)} trades, equity {result.metrics['equity_final']:.2f}"
    sharpe = result.metrics["sharpe"]
    return told if sharpe is None else f"{told}, Sharpe {sharpe:.2f}"


def _trials(made: int, known: Count, deflated: float | None) -> str:
    if known.logged == NOT_LOGGED:
        many, source = "this one trial only", f"trial log: {NOT_LOGGED}; "
    else:
        many, source = f"{made:,} trial{'s' if made > 1 else ''} ({known.logged})", ""
    if deflated is None:
        return f"{source}{many}; nothing to deflate in less than 30 days or without a trade"
    return f"{source}deflated for {many}"


class MoneyLedger:
    """A :class:`domain.ports.Ledger` that numbers every row and keeps those about money.

    Bars, opinions, outcomes and decisions, nearly all of a year's rows, are counted and let go: no
    report reads them. The rest keeps the laws of :class:`storage.memory.MemoryLedger`. For one
    pass in one process: a row sent twice gets a new number.
    """

    def __init__(self) -> None:
        self._kept = MemoryLedger()
        self._head = 0

    def append(self, records: Sequence[Any]) -> list[int]:
        """Number the records."""
        self._kept.append([record for record in records if type(record) not in _LET_GO])
        first = self._head + 1
        self._head += len(records)
        return list(range(first, self._head + 1))

    def records(self, kind: type[R], after: int = 0, **where: Any) -> Iterator[tuple[int, R]]:
        """Iterate over (number among the kept rows, record) of one type, in order."""
        return self._kept.records(kind, after, **where)

    def head(self) -> tuple[int, str]:
        """Return the newest number and the hash of the keys kept."""
        return self._head, self._kept.head()[1]


def _gate(settings: Settings, market: Market, symbol: str) -> PolicyGate | None:
    if settings.decision.gate == "off":
        return None
    from serving.gate_models import gate_for  # what only a gate needs

    return gate_for(settings, market, symbol)


def _market(settings: Settings, bars: BarsFile, executed: BarsFile, price: float) -> Market:
    symbol, other = bars.frame.symbol, executed.frame.symbol
    if executed is not bars:
        pair = symbol_on(symbol, market_of(other))
        if other == symbol or other != pair or executed.frame.timeframe != bars.frame.timeframe:
            raise UsageError(
                "--exec-data", f"must hold {bars.frame.timeframe} bars of the same pair on the "
                "other market", f"{other} {executed.frame.timeframe}",
                f"--data holds {symbol}. For one market give --data alone.",
            )  # fmt: skip
        if not len(executed.frame.between(int(bars.frame.ts[0]), int(bars.frame.ts[-1]) + 1)):
            raise DataRefused(executed.path.name, "has no bar in common with --data")
    market = market_for(settings, [other], {other: price}, keep_market=True)
    return replace(market, routes={symbol: other})


def _look(
    settings: Settings,
    request: Request,
    traded: BarFrame,
    strategy: Strategy,
    agents: Mapping[str, Agent],
    gate: PolicyGate | None,
) -> Look:
    groups = ("consensus", "decision", "execution", "risk")
    told = question_hash(settings, agents, groups)
    also = "" if request.exec_data is None else " on the other market"
    gated = "" if gate is None else f" gated by {gate.model.version}"
    name = f"{request.profile} {strategy.name}{gated}"
    what = f"{traded.symbol} {traded.timeframe}{also}: {name} #{told}"
    return Look(
        "backtest", int(traded.ts[0]), int(traded.ts[-1]) + traded.step_ms, what, request.commit
    )


def _gated(gate: PolicyGate | None, settings: Settings, traded: BarFrame) -> dict[str, str]:
    if gate is None:
        return {}
    model = gate.model
    seen = "" if model.until <= int(traded.ts[0]) else ", these bars among them"
    until = f"trained on bars until {iso(model.until)[:10]}{seen}"
    return {"gate": f"{model.version}, {settings.decision.gate}; {until}"}


def _in_sample(agents: Mapping[str, Agent], traded: BarFrame) -> dict[str, str]:
    """Say which agents are silent because their models were trained on the bars that are traded."""
    start, end = int(traded.ts[0]), int(traded.ts[-1])
    silent = [
        f"{name} {'throughout' if until > end else f'until {iso(until)[:10]}'}"
        for name, until in trained_until(agents).items()
        if until > start
    ]
    if not silent:
        return {}
    return {"in sample": f"{', '.join(silent)}: trained on these bars, so silent about them"}


def _size_matters(costs: CostModel) -> str:
    more = []
    if costs.impact:
        more.append(f"impact {costs.impact:g} × the bar's range × √(share of its volume)")
    if costs.participation is not None:
        more.append(f"at most {costs.participation:.0%} of a bar's volume")
    return "".join(f", {words}" for words in more)


def _conventions(
    settings: Settings, bars: BarsFile, executed: BarsFile, market: Market, funding: str
) -> dict[str, str]:
    symbol = executed.frame.symbol
    costs, ignored = market.costs[symbol], ""
    if executed is bars:
        ignored = (
            f"; one file, so its name sets the market "
            f"(EXECUTION_MARKET={settings.execution.market} is ignored)"
        )
    return {
        "forecast": f"{bars.frame.symbol} {bars.frame.timeframe}",
        "execution": f"{symbol}{ignored}",
        "fees": f"taker {costs.taker_bps:g} bp a side",
        "fills": f"next open, half of {costs.spread_bps:g} bp spread and {costs.slippage_bps:g} bp "
        f"slippage a side worse{_size_matters(costs)}",
        "funding": funding,
        "before": "agents know the bars before the range; other strategies start with it",
        "start": f"flat with {settings.execution.initial_cash:,.0f} USDT",
    }
