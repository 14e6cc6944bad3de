"""A loop with the live broker as a process of its own, which can be killed anywhere.

``python -m tests.live_crash_driver URL FOLDER [before]``: bars come in as lines of JSON, each is
answered by one once it is decided on. With ``before`` it kills itself when an order is about to
leave.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog

from data.sources.exchange import connect
from data.sources.listing import instrument_of
from domain.market import Bar
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import LastGuard
from execution.adapters.waits import Waits
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.sizing import SizingSettings
from tests.execution_scenes import NO_LIMITS
from tests.live_scenes import CASH, PERP, WIDE, Turning, live_states, storage
from tests.venue_server import key_for

WINDOW_S = 0.4


class Doomed(Gateway):
    """Dies when an order is about to leave."""

    def place(self, *words: Any, **named: Any) -> Any:
        del words, named
        os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, folder: str, how: str = "") -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    client = connect("binance", "perp", url)
    client.apiKey, client.secret = key_for().key, key_for().secret
    client.enableRateLimit = False
    gateway = (Doomed if how == "before" else Gateway)(client, [PERP], "USDT")
    gateway.open()
    instrument = instrument_of(client.markets[PERP])
    guard = LastGuard(WIDE, str, time.monotonic)
    broker = CcxtBroker(gateway, {PERP: instrument}, guard, waits=Waits(0.1, WINDOW_S, 0.02))
    settings = LoopSettings({PERP: PERP}, account="live", initial_cash=Decimal(CASH))
    sizing = SizingSettings(mode="fixed", fixed_notional=1_000.0, max_notional=2_000.0)
    loop = TradingLoop(
        Turning(), broker, storage(Path(folder)), {PERP: instrument}, settings, limits=NO_LIMITS,
        sizing=sizing,
    )  # fmt: skip
    loop.resume()
    print(json.dumps({"ready": True}), flush=True)
    bars: list[Bar] = []
    for line in sys.stdin:
        bars = [*bars[-1:], Bar(*json.loads(line))]
        loop.absorb(bars[-1])
        decision = loop.decide(live_states(bars)[-1], [], {}, bars[-1].close_ms)
        print(json.dumps({"decided": decision.id}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
