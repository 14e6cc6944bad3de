"""The gate's market beside others': ``python -m benchmarks.gate_speed``.

    python -m benchmarks.gate_speed --anytrading VENV --trading-env VENV

A random walk of which every environment shows the same columns, one of them the return of the
next five bars. Steps a CPU-second with random actions, and of PPO (Stable-Baselines3, one thread);
then what the policy earns on bars that it did not learn from. Ours plays with the full cost model
(fees, spread, slippage, impact, funding, margin), whole lots, orders at the next open; the others
charge a fee: gym-trading-env as much as ours costs a side, gym-anytrading its own. Each peer runs
in an environment of its own (``pip install gym-anytrading stable-baselines3``, …
``gym-trading-env``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.training.watch import Watch
from benchmarks.gate_canary import Parts, market
from benchmarks.scores import show
from rl.actions import COUNTS
from rl.batch import BatchedTradingEnv
from rl.course import Course
from rl.env import Style, TradingEnv
from rl.learning import GateConfig, Schedule, choosing, learn
from rl.playing import play_all

HEADING, TOOL, OUT = "Beside other environments", "benchmarks.gate_speed", Path("docs/gate.md")
HEAD = (
    "environment",
    "how",
    "steps/s, random",
    "steps/s, PPO",
    "steps learned",
    "earned, bp a bar",
)
COPIES = (64, 256, 1_024)
PEER, STYLE = Path(__file__).parent / "peers" / "gym_envs.py", Style(guard=False)
FREE_STEPS, OUR_STEPS, PEER_STEPS = 2_000_000, 800_000, 100_000


def main() -> None:
    """Measure ours, then each peer, print and write the table."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--anytrading", type=Path, help="environment with gym-anytrading")
    parser.add_argument("--trading-env", type=Path, help="environment with gym-trading-env")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    parts = market("leaked", 1)
    rows = [HEAD, ("---",) * len(HEAD), *ours(parts)]
    for name, kind, venv in (
        ("gym-anytrading", "anytrading", told.anytrading),
        ("gym-trading-env", "trading_env", told.trading_env),
    ):
        if venv is not None:
            rows += theirs(name, played_by(kind, venv, parts))
    show(told.out, HEADING, TOOL, [f"| {' | '.join(row)} |" for row in rows])


def ours(parts: Parts) -> list[tuple[str, ...]]:
    """Return our rows."""
    rows: list[tuple[str, ...]] = [
        ("ours", "one account, Python", f"{one_by_one(parts.fit):,.0f}", "", "", "")
    ]
    for copies in COPIES:
        speed = at_random(parts.fit, copies)
        if copies != Schedule().copies:
            rows.append(("ours", f"{copies:,} accounts", f"{speed:,.0f}", "", "", ""))
            continue
        config = GateConfig(Schedule(steps=OUR_STEPS, patience=1_000), mode="free")
        began = time.process_time()
        found = learn(parts.fit, config, 1, watch=Watch())
        learning = found.steps / (time.process_time() - began)
        earned = play_all(parts.test, choosing(found.policy), STYLE).per_bar
        rows.append(("ours", f"{copies:,} accounts", f"{speed:,.0f}", f"{learning:,.0f}",
                     f"{found.steps:,}", f"{earned:+.2f}"))  # fmt: skip
    return rows


def at_random(course: Course, copies: int) -> float:
    """Return steps a CPU-second of the batched environment."""
    env, rng = BatchedTradingEnv(course, copies, STYLE, 1), np.random.default_rng(1)
    drawn = [np.stack([rng.integers(0, c, copies) for c in COUNTS], axis=1) for _ in range(64)]
    env.reset()
    for chosen in drawn:  # compiled, warm
        env.step(chosen)
    rounds = FREE_STEPS // copies
    began = time.process_time()
    for t in range(rounds):
        env.step(drawn[t % len(drawn)])
    return rounds * copies / (time.process_time() - began)


def one_by_one(course: Course, steps: int = 20_000) -> float:
    """Return steps a CPU-second of the single environment."""
    env, rng = TradingEnv(course, STYLE, 1), np.random.default_rng(1)
    drawn = np.stack([rng.integers(0, c, steps) for c in COUNTS], axis=1)
    env.reset()
    began = time.process_time()
    for chosen in drawn:
        *_, lost, over, _ = env.step(chosen)
        if lost or over:
            env.reset()
    return steps / (time.process_time() - began)


def played_by(kind: str, venv: Path, parts: Parts) -> Mapping[str, float]:
    """Run a peer where it is installed, on the same bars and columns."""
    with tempfile.TemporaryDirectory() as folder:
        bars, out = Path(folder) / "bars.npz", Path(folder) / "told.json"
        columns: dict[str, Any] = {"fee": np.array(0.5 * parts.fit.terms.round_trip)}
        for name, course in (("fit", parts.fit), ("test", parts.test)):
            first, last = course.runs[0].tolist()
            columns[f"{name}_ts"] = course.bars.open_ms[first:last]
            columns[f"{name}_seen"] = course.market[first:last]
            for column in ("open", "high", "low", "close", "volume"):
                columns[f"{name}_{column}"] = getattr(course.bars, column)[first:last]
        np.savez(bars, **columns)
        python = venv / "bin" / "python"
        subprocess.run([python, PEER, kind, bars, out, str(PEER_STEPS)], check=True)
        told: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    return told


def theirs(name: str, told: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return a peer's rows."""
    rows: list[tuple[str, ...]] = [(name, "one account", f"{told['one']:,.0f}", "", "", "")]
    for batch, random in (("usual", f"{told['many']:,.0f}"), ("large", "")):
        earned = told.get(f"earned_{batch}")
        how = "8 accounts, batch 64" if batch == "usual" else "8 accounts, batch 2,048"
        rows.append((name, how, random, f"{told[f'learn_{batch}']:,.0f}", f"{PEER_STEPS:,}",
                     "" if earned is None else f"{earned:+.2f}"))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
