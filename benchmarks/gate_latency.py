"""How long the gate takes for a decision: ``python -m benchmarks.gate_latency``.

A policy as large as those that are trained, on states of a random walk; each is asked about once,
after a warm-up, in one thread. With council: the seven agents' voices in the observation as well.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.gate_canary import SYMBOL
from benchmarks.scores import show
from data.memory import MarketMemory
from domain.decision import Decision
from domain.market import MarketState
from domain.trading import ZERO, Portfolio
from execution.strategies import EmaCross
from rl.actions import CHOICES
from rl.gate import PolicyGate, Trained
from rl.observation import LARGEST, Schema
from rl.policy import Policy, Rows
from sim.worlds import RANDOM_WALK, GeneratedWorld

HEADING, TOOL, OUT = "How long it takes", "benchmarks.gate_latency", Path("docs/gate.md")
HEAD = ("observation", "columns", "decisions", "p50, ms", "p99, ms", "longest, ms")
AGENTS = ("baseline", "chronos", "climatology", "microstructure", "risk", "technical", "tft")
BARS, WARM_UP, HIDDEN = 6_000, 500, 64
NOBODY = Portfolio("paper", "USDT", 0, ZERO, ZERO, ZERO)


def main() -> None:
    """Measure with and without voices, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    rows = [HEAD, ("---",) * len(HEAD)]
    asked = decided()
    for name, schema in (("a strategy alone", Schema()), ("a council of seven", Schema(AGENTS))):
        took = 1e3 * np.array(seconds(schema, asked))
        rows.append((
            name, str(len(schema.names)), f"{len(took):,}", f"{np.median(took):.3f}",
            f"{np.quantile(took, 0.99):.3f}", f"{took.max():.3f}",
        ))  # fmt: skip
        print("  " + " | ".join(rows[-1]), flush=True)
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def decided() -> list[tuple[MarketState, Decision]]:
    """Return states with features and what is decided on them."""
    world = GeneratedWorld(RANDOM_WALK, 1, SYMBOL)
    frame, strategy = world.bars(world.start_ms, BARS), EmaCross()
    memory = MarketMemory(frame.symbol, frame.timeframe, keep=None)
    memory.append(frame)
    found = []
    for state in list(memory.states(None, None, 250))[288:]:
        decision = strategy.generate_signal(strategy.prepare_state(state, (), {}), state.as_of)
        found.append((state, replace(decision, contributions=dict.fromkeys(AGENTS, 0.01))))
    return found


def seconds(schema: Schema, asked: list[tuple[MarketState, Decision]]) -> list[float]:
    """Return what each question took."""
    model = Trained(policy(len(schema.names)), schema, "ema_cross", "benchmark")
    gate, took = PolicyGate(model, "5m", 0.0013), []
    for at, (state, decision) in enumerate(asked):
        began = time.perf_counter()
        verdict = gate.judge(decision, state, NOBODY)
        if at >= WARM_UP:
            took.append(time.perf_counter() - began)
        if not verdict.reason.startswith("policy"):
            raise SystemExit(f"it was not asked: {verdict.reason}")
        gate.observe([(2 * at, state.bars.bar(-1)), (2 * at + 1, replace(decision, gate=verdict))])
    return took


def policy(columns: int) -> Policy:
    """Return a policy with weights that are drawn."""
    rng, sizes = np.random.default_rng(1), (columns, HIDDEN, HIDDEN, CHOICES)
    weights: tuple[Rows, ...] = tuple(
        (rng.normal(size=(out, into)) / np.sqrt(into)).astype(np.float32)
        for into, out in pairwise(sizes)
    )
    far = np.full(columns, LARGEST, np.float32)
    biases = tuple(np.zeros(len(weight), np.float32) for weight in weights)
    return Policy(weights, biases, np.zeros(columns), np.ones(columns), -far, far, columns)


if __name__ == "__main__":
    main()
