"""How soon an exchange has what was decided: ``python -m benchmarks.order_latency``, a minute.

``conclave venue`` in a process of its own, whose account the live broker trades over HTTP, signed;
in this process a loop that turns its side at every bar of every symbol, with its ledger on the
disk. Measured is the time from a decision's row on the ledger until the exchange has answered each
of its orders: what closes, then what opens, with all that is looked at before an entry leaves.

The exchange weighs questions, and an account is asked about after every bar: as many bars are
traded as fit into a minute's weight.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from data.sources.exchange import connect
from data.sources.listing import instrument_of
from domain.decision import Action, Decision
from domain.market import Bar, BarFrame, symbol_on
from domain.trading import Order, Refusal
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import Bounds, LastGuard
from execution.limits import RiskLimits
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.sizing import SizingSettings
from execution.strategies.ema_cross import Crossing, EmaCross
from serving.processes import choose_port
from serving.rules import CURRENCY
from serving.venue_account import NAME
from sim.backtest import plain_states
from sim.venue.signing import Key
from storage.engine import open_database
from storage.ledger import SqlLedger
from storage.migrate import upgrade

HEAD = ("symbols", "bars", "decision to acknowledged: n, p50, p99, ms")
BASES = ("BTC", "ETH", *(f"C{i:02d}" for i in range(48)))
SEED, CASH, WORTH = 7, 100_000, 500.0  # quote units
SECONDS = 25.0  # of a row
WEIGHT = 2_000  # of the 2 400 of a minute
_LOOKS = 10  # at the clock of the exchange, a bar
_NO_LIMITS = RiskLimits(None, None, None, None, None, None, None)
_WIDE = Bounds(Decimal(10_000), Decimal(10_000), Decimal(1_000_000), 10_000, Decimal(1_000))


def main() -> None:
    """Measure at 1 and 5 symbols and print the figures."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.order_latency", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--symbols", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of wall time, each")
    told = parser.parse_args()
    print("\n".join(rows(told.symbols, told.seconds)))


def rows(counts: Sequence[int], seconds: float = SECONDS) -> list[str]:
    """Return a table with a row for each number of symbols."""
    made = [HEAD, ("---",) * len(HEAD)]
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            bars, late = acknowledged(Path(folder), count, seconds)
        half, most = np.percentile(late, (50, 99))
        made.append((str(count), str(bars), f"{len(late):,}, {half:.1f}, {most:.1f}"))
    return [f"| {' | '.join(row)} |" for row in made]


def acknowledged(folder: Path, count: int, seconds: float) -> tuple[int, list[float]]:
    """Trade so many symbols; return bars, and ms from a decision to the answer to each order."""
    bars = max(2, min(60, WEIGHT // (count * (10 * count + 35))))
    pairs = [f"{base}/USDT" for base in BASES[:count]]
    with venue_of(pairs, speed=60.0 * bars / seconds) as url:
        client = connected(url)
        symbols = [symbol_on(pair, "perp") for pair in pairs]
        gateway = Gateway(client, symbols, CURRENCY)
        gateway.open()
        gateway.settle_on_one()
        instruments = {symbol: instrument_of(client.markets[symbol]) for symbol in symbols}
        guard = LastGuard(_WIDE, str, time.monotonic)
        noted = Acknowledging(CcxtBroker(gateway, instruments, guard))
        engine = open_database(f"sqlite:///{folder / 'ledger.db'}")
        upgrade(engine)
        loop = TradingLoop(
            Turning(), noted, SqlLedger(engine, "benchmark"), instruments,
            LoopSettings({name: name for name in symbols}, account="live",
                         initial_cash=gateway.holdings()[0]),
            limits=_NO_LIMITS, sizing=SizingSettings(mode="fixed", fixed_notional=WORTH),
        )  # fmt: skip
        loop.witness = noted.hear
        closes = Closes(client, symbols, seconds / bars / _LOOKS)
        for _ in range(bars):
            closed = closes.next()
            for bar in closed:
                loop.absorb(bar)
            for bar in closed:
                [state] = plain_states(BarFrame.of([bar]))
                loop.decide(state, [], {}, bar.close_ms)
        engine.dispose()
    return bars, noted.late


class Turning(EmaCross):
    """The other side at every bar."""

    name = "turning"

    def generate_signal(self, prepared: Crossing, now: int) -> Decision:
        """Take the side of the bar's number."""
        state = prepared.state
        action = Action.LONG if state.as_of // state.bars.step_ms % 2 else Action.SHORT
        said = super().generate_signal(prepared, now)
        return replace(said, intent=action, action=action, reasons=())


class Acknowledging:
    """A broker that notes how long after its decision an order was answered."""

    def __init__(self, broker: CcxtBroker) -> None:
        self._broker, self._decided = broker, 0.0
        self.late: list[float] = []

    def hear(self, record: Any) -> None:
        """Take note of a row that was appended."""
        if isinstance(record, Decision):
            self._decided = time.perf_counter()

    def submit(self, order: Order) -> Refusal | None:
        """Send an order."""
        refusal = self._broker.submit(order)
        if refusal is None:
            self.late.append(1e3 * (time.perf_counter() - self._decided))
        return refusal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


class Closes:
    """Waits for the exchange's bars.

    Parameters
    ----------
    pause : between two looks, seconds.
    """

    def __init__(self, client: Any, symbols: Sequence[str], pause: float) -> None:
        self._client, self._symbols, self._pause = client, symbols, pause
        self._last = 0

    def next(self) -> list[Bar]:
        """Return the newest bar of every symbol that is over, once there is another."""
        while (bar := self._bar(self._symbols[0], None)).open_ms <= self._last:
            time.sleep(self._pause)
        self._last = bar.open_ms
        return [bar, *(self._bar(name, bar.open_ms) for name in self._symbols[1:])]

    def _bar(self, symbol: str, since: int | None) -> Bar:
        row = self._client.fetch_ohlcv(symbol, "1m", since, 2)[0]
        return Bar(symbol, "1m", *row)


def connected(url: str) -> Any:
    """Return a client with the key of the account."""
    key = Key.made(SEED, NAME)
    client = connect("binance", "perp", url)
    client.apiKey, client.secret, client.enableRateLimit = key.key, key.secret, False
    return client


@contextmanager
def venue_of(pairs: Sequence[str], speed: float) -> Iterator[str]:
    """Run ``conclave venue`` while the block lasts; yields its address."""
    words = [sys.executable, "-m", "serving.cli", "venue", "--speed", str(speed), "--seed",
             str(SEED), "--port", str(choose_port("127.0.0.1", 0, "port")),
             "--balance", f"{CURRENCY}={CASH}",
             *(word for pair in pairs for word in ("--symbol", pair))]  # fmt: skip
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
