"""``make bench``: what the rooms of the house cost here, in CPU and wall time.

Each figure is the median of several repeats after a warm-up. Machines differ and are shared:
compare figures of one run with each other, not with another machine's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from agents.contract import trim
from agents.registry import build_agents
from consensus.council import Council
from consensus.settings import CouncilSettings, DecisionRules
from data.features import build_features
from data.instruments import instrument_for
from data.memory import MarketMemory
from domain.decision import Costs
from execution.loop import TradingLoop
from execution.messages import LoopSettings
from execution.paper import PaperBroker
from execution.strategies import EmaCross
from sim.backtest import exercise_rules, run_backtest
from sim.opinions import widest
from sim.worlds import DEMO_START_MS, DemoMarket
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade

AGENTS = ("climatology", "technical", "baseline", "risk")


@dataclass(frozen=True)
class Figure:
    """Cost of one unit of work."""

    what: str
    unit: str
    n: int
    wall_us: float
    cpu_us: float


def measure(what: str, unit: str, n: int, work: Callable[[], object], repeats: int) -> Figure:
    """Time ``work``, which does ``n`` units, after one warm-up."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    wall_us, cpu_us = (statistics.median(xs) / n * 1e6 for xs in (walls, cpus))
    return Figure(what, unit, n, wall_us, cpu_us)


def figures(repeats: int) -> Iterator[Figure]:
    """Measure room by room."""
    frame = DemoMarket(seed=3).bars(DEMO_START_MS, 12_000)
    yield measure("features, batch", "bar", 12_000, lambda: build_features(frame), repeats)

    memory = MarketMemory(frame.symbol, frame.timeframe)
    memory.append(frame.slice(0, 11_000))
    fresh = iter(range(11_000, 12_000))

    def live() -> None:
        for _ in range(100):
            memory.append(frame.bar(next(fresh)))

    yield measure("features, live", "bar", 100, live, min(repeats, 9))

    agents = build_agents(AGENTS)
    needs = widest(agents)
    states = list(memory.states(None, None, needs.bars, needs.feature_rows)[-512:])
    for name, agent in agents.items():
        sent = [trim(state, agent.needs) for state in states]
        yield measure(f"{name}, batch of 512", "opinion", 512, lambda: agent.opine(sent), repeats)  # noqa: B023
        one = sent[-1:]
        yield measure(f"{name}, one", "opinion", 1, lambda: agent.opine(one), 10 * repeats)  # noqa: B023

    said = [agent.opine([trim(s, agent.needs) for s in states]) for agent in agents.values()]

    def council() -> None:
        sitting = Council(
            CouncilSettings(members=AGENTS), DecisionRules(), lambda _: Costs(10, 1, 2)
        )
        for i, state in enumerate(states):
            opinions = [column[i] for column in said]
            prepared = sitting.prepare_state(state, opinions, {})
            decision = sitting.generate_signal(prepared, state.as_of)
            sitting.observe([(10 * i + k, r) for k, r in enumerate([*opinions, decision], 1)])

    yield measure("council, admit to decide", "decision", 512, council, repeats)

    bars = frame.slice(0, 4_000)
    instrument = instrument_for("BTC/USDT", float(bars.close[-1]))
    yield measure(
        "loop with ema_cross, ledger in memory", "bar", 4_000,
        lambda: run_backtest(bars, EmaCross(), instrument, rules=exercise_rules()), repeats,
    )  # fmt: skip
    yield measure("loop with ema_cross, SQLite", "bar", 500, lambda: _on_disk(bars), repeats)


def _on_disk(bars: object) -> None:
    from sim.backtest import plain_states

    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(sqlite_url(Path(folder) / "ledger.db"))
        upgrade(engine)
        instrument = instrument_for("BTC/USDT", 100_000.0)
        loop = TradingLoop(
            EmaCross(),
            PaperBroker({"BTC/USDT": instrument}),
            SqlLedger(engine, "bench"),
            {"BTC/USDT": instrument},
            LoopSettings(routes={"BTC/USDT": "BTC/USDT"}, initial_cash=Decimal(10_000)),
        )
        for i, state in enumerate(plain_states(bars)):  # type: ignore[arg-type]
            if i == 500:
                break
            loop.step(state, [], {}, state.as_of)
        engine.dispose()


def main() -> None:
    """Print the figures as a table, or as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found = []
    for figure in figures(arguments.repeats):
        found.append(asdict(figure))
        if not arguments.json:
            print(
                f"{figure.what:<40} {figure.cpu_us:>12,.1f} µs CPU "
                f"{figure.wall_us:>12,.1f} µs wall  a {figure.unit}",
                flush=True,
            )
    if arguments.json:
        print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()
