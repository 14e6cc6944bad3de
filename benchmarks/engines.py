"""Our engines beside others', on one rule: ``python -m benchmarks.engines``.

    python -m benchmarks.engines --data FOLDER_OF_BARS --backtesting VENV --vectorbt VENV \
        --nautilus VENV

EMA 10/20 on BTC/USDT:USDT of 2025, always long or short one coin from the twentieth bar on, turned
at the next open for 5 bp a side and nothing else (``configs/oracle.yaml``). Each peer runs in an
environment of its own (``pip install backtesting``, … ``vectorbt``, … ``nautilus_trader``), in a
process of its own, measured by its own CPU clock: medians over repeats after a warm-up. Trades are
held against ours bar by bar and price by price (the peers' forced last close aside), equity at
every close; nautilus_trader fills at other prices by design: only its speed is compared.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.crossing import sides
from benchmarks.ledgers import BatchedLedger
from benchmarks.scores import show
from data.files import matching_funding, read_bars, read_funding
from data.instruments import instrument_for
from domain.market import BarFrame, Instrument
from domain.ports import Ledger
from domain.times import parse_iso
from domain.trading import ClosedTrade, EquityMark
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.funding import FundingRate, no_funding, rates_of
from execution.kernel import Wishes, bars_of, play, rules_of, tiers_of
from execution.limits import RiskLimits
from execution.paper import Venue
from execution.sizing import SizingSettings
from execution.strategies import EmaCross
from serving.backtesting import MoneyLedger
from sim.backtest import BacktestRules, run_backtest
from sim.scoring import Floats
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade

HEADING, TOOL, OUT = "Against other engines", "benchmarks.engines", Path("docs/execution.md")
FILE = "BTCUSDT-binance-perp-5m-20241231-20251231.parquet"
START, STOP = parse_iso("2025-01-01"), parse_iso("2026-01-01")
CASH, HORIZON, FAST, SLOW = 1_000_000, 5, 10, 20
FREE = Frictions(spread_bps=0.0, slippage_bps=0.0, impact=0.0, participation=None)
PEERS = Path(__file__).parent / "peers"
SCRIPTS = {"backtesting": "backtesting_py.py", "vectorbt": "vectorbt_py.py"}


class Result(NamedTuple):
    """One engine's run: equity at each close (n,), closed trades by column, CPU seconds."""

    equity: Floats
    entry: Floats
    exit: Floats
    size: Floats
    seconds: float


def by_loop(frame: BarFrame, instrument: Instrument, ledger: Ledger) -> Result:
    """Run the whole loop: every check's margin recorded, every row given to a ledger."""
    rules = BacktestRules(
        "oracle", RiskLimits(None, None, None, None, None, None, None),
        SizingSettings("quantity", fixed_quantity=1.0, max_notional=1e9), horizon_bars=HORIZON,
        initial_cash=Decimal(CASH), frictions=FREE, venue=Venue(latency=Latency("none")),
    )  # fmt: skip
    began = time.process_time()
    run_backtest(frame, EmaCross(FAST, SLOW), instrument, rules=rules, ledger=ledger,
                 funding=no_funding)  # fmt: skip
    seconds = time.process_time() - began
    trades = [trade for _, trade in ledger.records(ClosedTrade)]
    sign = {"LONG": 1.0, "SHORT": -1.0}
    return Result(
        np.array([float(mark.equity) for _, mark in ledger.records(EquityMark)]),
        np.array([float(trade.entry) for trade in trades]),
        np.array([float(trade.exit) for trade in trades]),
        np.array([sign[trade.side] * float(trade.qty) for trade in trades]), seconds,
    )  # fmt: skip


def by_kernel(
    frame: BarFrame, instrument: Instrument, costs: CostModel, rate: FundingRate, repeats: int
) -> tuple[Floats, float]:
    """Run the compiled engine, averages and funding included; return equity and CPU seconds."""
    rules = rules_of(instrument, costs, Venue(), "5m", HORIZON)
    lots, tiers = float(1 / instrument.step), tiers_of(instrument)
    n = len(frame)

    def once() -> Floats:
        bars = bars_of(frame, rate)
        side, none = sides(frame.close, FAST, SLOW), np.full(n, np.nan)
        return play(bars, Wishes(side, np.full(n, lots), none, none), rules, tiers, CASH).equity

    return timed(once, repeats)


def on_sqlite(frame: BarFrame, instrument: Instrument) -> float:
    """Run the loop with everything in a database file; return CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(sqlite_url(Path(folder, "ledger.db")))
        try:
            upgrade(engine)
            ledger = BatchedLedger(SqlLedger(engine, "benchmark"))
            return by_loop(frame, instrument, ledger).seconds
        finally:
            engine.dispose()


def timed(once: Callable[[], Floats], repeats: int) -> tuple[Floats, float]:
    """Return the last result and the median of CPU seconds, after one warm-up.

    Milliseconds are repeated ten times as often as the seconds of the others.
    """
    made, seconds = once(), []
    for _ in range(10 * repeats):
        began = time.process_time()
        made = once()
        seconds.append(time.process_time() - began)
    return made, float(np.median(seconds))


def told_by(script: str, venv: Path, bars: Path, repeats: int) -> Path:
    """Run a peer in its own environment; return the file of its results."""
    out = bars.with_name(f"{script}.npz")
    command = [venv / "bin" / "python", PEERS / script, bars, out, str(repeats)]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return out


def by_peer(script: str, venv: Path, bars: Path, repeats: int) -> Result:
    """Run a peer that fills as we do."""
    with np.load(told_by(script, venv, bars, repeats)) as body:
        return Result(
            body["equity"], body["entry"], body["exit"], body["size"],
            float(np.median(body["seconds"])),
        )  # fmt: skip


def agreement(ours: Result, theirs: Result) -> tuple[str, float]:
    """Say whether closed trades agree, and how far equity is apart at most, as a fraction."""
    n = min(len(ours.entry), len(theirs.entry))
    same = len(theirs.entry) - len(ours.entry) in (0, 1) and all(
        np.allclose(getattr(ours, name)[:n], getattr(theirs, name)[:n], rtol=0.0, atol=1e-6)
        for name in ("entry", "exit", "size")
    )
    length = len(ours.equity) - 1  # a peer may close its last position at the last bar
    apart = np.abs(ours.equity[:length] / theirs.equity[:length] - 1.0).max()
    return f"{n:,} {'the same' if same else 'DIFFERENT'}", float(apart)


def main() -> None:
    """Run everybody, compare, print and write."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of bars")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    for name in (*SCRIPTS, "nautilus"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="its environment")
    told = parser.parse_args()
    frame = read_bars(told.data / FILE).between(START, STOP)
    instrument = replace(instrument_for(frame.symbol), taker_bps=5.0)
    free = CostModel.of(instrument, FREE)
    equity, seconds = by_kernel(frame, instrument, free, no_funding, told.repeats)
    beside = matching_funding(told.data / FILE)
    assert beside is not None
    paid = read_funding(beside)
    rate, dear = rates_of(paid.ts, paid.rate), CostModel.of(instrument)
    _, all_on = by_kernel(frame, instrument, dear, rate, told.repeats)
    loop = by_loop(frame, instrument, MoneyLedger())
    database = on_sqlite(frame, instrument)
    apart = float(np.abs(equity / loop.equity - 1.0).max())
    rows = [
        ("engine", "closed trades", "equity apart", "CPU, s"),
        ("---",) * 4,
        ("loop and paper broker", f"{len(loop.entry):,}", "", f"{loop.seconds:.2f}"),
        ("the same, every row in SQLite", "", "", f"{database:.2f}"),
        ("compiled, the rule alone", "", f"{apart:.1e}", f"{seconds:.4f}"),
        ("compiled, every cost on", "", "", f"{all_on:.4f}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        bars = Path(folder, "bars.npz")
        names = ("ts", "open", "high", "low", "close", "volume")
        np.savez(bars, **{name: getattr(frame, name) for name in names})
        for name in SCRIPTS:
            peer = by_peer(SCRIPTS[name], getattr(told, name), bars, told.repeats)
            trades, apart = agreement(loop, peer)
            rows.append((name, trades, f"{apart:.1e}", f"{peer.seconds:.4f}"))
            print(f"  {name}: {trades}, {apart:.1e}, {peer.seconds:.4f} s; compiled is "
                  f"{peer.seconds / all_on:.1f} times as fast, the loop "
                  f"{peer.seconds / loop.seconds:.3f} times")  # fmt: skip
        with np.load(told_by("nautilus.py", told.nautilus, bars, told.repeats)) as body:
            filled, its = int(body["filled"]), float(np.median(body["seconds"]))
        rows.append(("nautilus_trader", f"{filled:,} orders, its own prices", "", f"{its:.4f}"))
        print(f"  nautilus: {filled:,} orders, {its:.4f} s; the loop is {its / loop.seconds:.3f} "
              f"times as fast, with SQLite {its / database:.3f} times")  # fmt: skip
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


if __name__ == "__main__":
    main()
