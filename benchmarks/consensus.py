"""What the consensus costs: ``python -m benchmarks.consensus``.

A year of five-minute bars, eight agents that forecast direction, thirteen quantiles and both risks.
``reference`` is what the council itself runs: fuse, and fold each outcome five bars later, without
decisions and explanations. ``live`` is a whole step: opinions admitted, fused, decided, explained,
and rows observed. ``kernel`` is the compiled fold, at growing lengths. One core; CPU time beside
wall time; medians over repeats after one warm-up.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.scores import show
from consensus.admission import Admission, Admitted
from consensus.council import Council
from consensus.fusion import fuse, learnt_for
from consensus.kernel import Panel, fold
from consensus.rounds import DOWN, LEVELS, UP, WIDTH, P, Published, Round, Said
from consensus.scoring import Fold
from consensus.settings import AGENTS, CouncilSettings, DecisionRules
from consensus.weights import standing
from domain.decision import Costs
from domain.market import BarFrame, FeatureFrame, MarketState
from domain.opinion import Opinion, Outcome
from domain.quantiles import CANONICAL_LEVELS, Quantiles
from sim.opinions import CouncilRun
from sim.scoring import Floats

HEADING, TOOL, OUT = "What it costs", "benchmarks.consensus", Path("docs/consensus.md")
EVERYBODY = tuple(sorted((*AGENTS, "guest")))
SETTINGS = CouncilSettings()
H, STEP, YEAR = SETTINGS.horizon_bars, 300_000, 105_120
SHAPE = np.array([-4, -3, -2.2, -1.4, -0.8, -0.4, 0, 0.4, 0.8, 1.4, 2.2, 3, 4]) * 1e-3
SYMBOL, TIMEFRAME, T0 = "BTC/USDT", "5m", 1_735_689_600_000
HISTORY = 300  # bars that a state carries


def drawn(bars: int, seed: int = 7) -> tuple[Panel, Floats]:
    """Return a panel of n bars and the closes behind it, (HISTORY + n,)."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(4, HISTORY + bars + H) * 7e-4
    close = 100.0 * np.exp(np.cumsum(moves))
    r = np.log(close[HISTORY + H :] / close[HISTORY:-H])
    said = np.empty((bars, len(EVERYBODY), WIDTH))
    said[:, :, P] = np.clip(0.5 + rng.normal(0, 0.02, said.shape[:2]), 0.02, 0.98)
    said[:, :, LEVELS] = SHAPE * rng.uniform(0.5, 2.0, (*said.shape[:2], 1))
    said[:, :, DOWN], said[:, :, UP] = rng.uniform(0.0, 0.3, (2, *said.shape[:2]))
    last = moves[HISTORY : HISTORY + bars] / moves.std()
    case = np.column_stack((last, last, -last, np.full(bars, np.nan)))
    drop, rise = np.abs(rng.normal(0, 4e-3, (2, bars)))
    panel = Panel(EVERYBODY, said, r[:bars], drop, rise, np.arange(bars) + H, np.arange(bars) % H,
                  np.full(bars, moves.std() * H**0.5), case)  # fmt: skip
    return panel, close[: HISTORY + bars]


def opinions_of(panel: Panel, row: int) -> list[Opinion]:
    """Return what the agents say of a row."""
    at = T0 + (HISTORY + row) * STEP
    return [
        Opinion(
            agent, "1", SYMBOL, TIMEFRAME, at, H, float(x[P]),
            Quantiles(CANONICAL_LEVELS, tuple(x[LEVELS].tolist())), 0.0, float(x[DOWN]),
            float(x[UP]),
        )
        for agent, x in zip(EVERYBODY, panel.said[row], strict=True)
    ]  # fmt: skip


def reference(panel: Panel) -> Callable[[], None]:
    """Return fuse and fold over a panel, opinions made ready beforehand."""
    ready = []
    for row in range(len(panel.said)):
        awake = []
        for opinion in opinions_of(panel, row):
            assert opinion.quantiles is not None
            own = Said(opinion.p_up, opinion.quantiles.values, opinion.risk_down, opinion.risk_up)
            awake.append(Admitted(opinion, opinion.p_up, own))
        ready.append(Admission(tuple(awake), {}, {}, {}))

    def play() -> None:
        state, rounds = Fold(SETTINGS), deque[Round]()
        for row, admission in enumerate(ready):
            if row >= H:
                state.add(rounds.popleft())
            copy, sigma = int(panel.copy[row]), float(panel.sigma[row])
            learnt = learnt_for(admission, standing(state, SETTINGS), state, copy)
            made = fuse(SYMBOL, TIMEFRAME, row, admission, learnt, SETTINGS, sigma)
            assert made is not None
            shown = Published(
                made.p_up, made.mean_abs_return, None, None, made.candidates,
                Said.from_list(list(made.pooled)), learnt.theta, sigma,
            )  # fmt: skip
            said = {x.opinion.agent: x.said for x in admission.awake}
            r, drop, rise = (float(x[row]) for x in (panel.log_return, panel.drop, panel.rise))
            rounds.append(Round(row, copy, said, shown, r, drop, rise))

    return play


def flat(close: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return open, high, low, close and volume of bars that never leave their close."""
    return close, close, close, close, np.ones(len(close))


def live(panel: Panel, close: Floats) -> Callable[[], None]:
    """Return whole steps of the council over a panel."""
    ts = T0 + np.arange(len(close)) * STEP
    states, said, due = [], [], []
    for row in range(len(panel.said)):
        cut = slice(row, row + HISTORY)
        bars = BarFrame(SYMBOL, TIMEFRAME, ts[cut], *flat(close[cut]))
        frame = FeatureFrame(("atr_14",), np.array([[0.5]]), "bench")
        as_of = T0 + (HISTORY + row) * STEP
        states.append(MarketState(SYMBOL, TIMEFRAME, as_of, bars, frame, HISTORY))
        said.append(opinions_of(panel, row))
        numbers = (float(x[row]) for x in (panel.log_return, panel.drop, panel.rise))
        due.append(Outcome(SYMBOL, TIMEFRAME, as_of, H, as_of + H * STEP, *numbers))

    def play() -> None:
        costs = Costs(fee_bps=10.0, spread_bps=1.0, slippage_bps=2.0)
        run = CouncilRun(Council(SETTINGS, DecisionRules(), lambda _: costs), len(states), ())
        for row, state in enumerate(states):
            run.sit(row, state, said[row], {}, due[row - H] if row >= H else None)

    return play


def timed(play: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median wall and CPU seconds, after one warm-up."""
    play()
    gc.freeze()  # inputs made ready beforehand are not for the collector to walk through
    rows = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        play()
        rows.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(np.array(rows), axis=0).tolist()
    return wall, cpu


def lines(repeats: int, short: int) -> list[str]:
    """Return the table."""
    made = [("what", "bars", "wall, s", "CPU, s", "µs of CPU a bar", "a year of CPU, s")]

    def add(what: str, bars: int, play: Callable[[], object]) -> None:
        wall, cpu = timed(play, repeats)
        each = cpu / bars
        made.append((what, f"{bars:,}", f"{wall:.2f}", f"{cpu:.2f}", f"{1e6 * each:.1f}",
                     f"{each * YEAR:.1f}"))  # fmt: skip
        print("  " + " | ".join(made[-1]), flush=True)

    for bars in (YEAR // 4, YEAR // 2, YEAR):
        panel, _ = drawn(bars)
        add("kernel", bars, partial(fold, panel, SETTINGS))
    for bars in (short, 2 * short):
        panel, close = drawn(bars)
        add("reference", bars, reference(panel))
        add("live step", bars, live(panel, close))
    return [f"| {' | '.join(row)} |" for row in (made[0], ("---",) * 6, *made[1:])]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", type=int, default=5_000, help="bars of what is not compiled")
    parser.add_argument("--out", type=Path, default=OUT)
    told = parser.parse_args()
    show(told.out, HEADING, TOOL, lines(told.repeats, told.short))


if __name__ == "__main__":
    main()
