"""How soon the council learns whom to believe: ``python -m benchmarks.worlds``.

Worlds whose truth is known, played by the compiled consensus with the settings that ship. An
outcome spans five bars and overlaps its neighbours, as on a market: the chance of up at each bar is
planted, the sign of a sum of five steps is not drawn anew. Medians over seeds, quartiles in
brackets.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.scores import show
from consensus.kernel import Folded, Panel, fold
from consensus.kernel.state import POOLS
from consensus.rounds import WIDTH, P
from consensus.settings import CouncilSettings
from sim.scoring import Floats, Mask

HEADING, TOOL, OUT = "Worlds whose truth is known", "benchmarks.worlds", Path("docs/consensus.md")
H = 5
CROWD = ("a", "b", "c", "d", "e", "f", "g")
SETTINGS = CouncilSettings(members=CROWD)
NOISE = 0.02  # standard deviation of what those who know nothing say


def drawn(rng: np.random.Generator, n: int, edge: float) -> tuple[Floats, Mask]:
    """Return the chance of up that a perfect agent would name at each of n bars, and the outcomes.

    A signal of five steps moves the sum of the next five; gain of its owner is about ``edge``².
    """
    signal = rng.choice([-1.0, 1.0], n + H)
    drift = np.convolve(signal, np.ones(H), "full")[:n] / H  # what is known of a sum at its start
    step = rng.normal(size=n + H)
    total = np.convolve(step, np.ones(H), "valid")[:n] / math.sqrt(H)
    pull = edge * drift * math.sqrt(H)
    chance = np.array([0.5 * math.erfc(-x * math.sqrt(2 * math.pi) / math.sqrt(2)) for x in pull])
    return chance, total + pull * math.sqrt(2 * math.pi) > 0.0


def panel(agents: Sequence[str], p: Floats, up: Mask) -> Panel:
    """Return what agents (K,) say, (n, K), and what happens, (n,), without quantiles and risks."""
    n = len(up)
    said = np.full((n, len(agents), WIDTH), np.nan)
    said[:, :, P] = np.clip(p, *SETTINGS.clip)
    r = np.where(up, 1e-3, -1e-3)
    r[n - H :] = np.nan
    nothing = np.full(n, np.nan)
    return Panel(agents, said, r, np.zeros(n), np.zeros(n), np.arange(n) + H, np.arange(n) % H,
                 nothing, np.full((n, 4), np.nan))  # fmt: skip


def crowd(rng: np.random.Generator, n: int) -> Floats:
    """Return what seven agents say who know nothing, (n, 7)."""
    return np.asarray(0.5 + rng.normal(0.0, NOISE, (n, len(CROWD))))


def gain(folded: Folded, up: Mask) -> Floats:
    """Return each bar's Brier gain against ½, ×10⁴."""
    return np.asarray(1e4 * (0.25 - (folded.p_up - up) ** 2))


def first(where: Mask, after: int = 0) -> float:
    """Return how many bars after ``after`` something holds first; ∞ if never."""
    found = np.flatnonzero(where[after:])
    return float(found[0]) if len(found) else math.inf


def leads(edge: float, seed: int, n: int = 60_000) -> tuple[float, float]:
    """Outcomes until the one that knows has the largest weight for good; and until it lost it.

    In the second half it says the opposite of what it knows.
    """
    rng = np.random.default_rng(seed)
    chance, up = drawn(rng, n, edge)
    p, half = crowd(rng, n), n // 2
    p[:, 0] = np.where(np.arange(n) < half, chance, 1.0 - chance)
    weights = fold(panel(CROWD, p, up), SETTINGS).weights
    ahead = weights[:, 0] > weights[:, 1:].max(axis=1)
    behind = np.flatnonzero(~ahead[:half])
    led = float(behind[-1] + 1) if len(behind) else 0.0
    return (led if led < half else math.inf), first(~ahead, half)


def liar(seed: int, n: int = 20_000) -> tuple[float, float]:
    """Brier loss in all that a liar costs, who is certain and right half of the time, and bars
    until it was sent to probation."""
    rng = np.random.default_rng(seed)
    chance, up = drawn(rng, n, 0.03)
    p = crowd(rng, n)
    p[:, 1] = chance
    honest = fold(panel(CROWD, p, up), SETTINGS)
    p[:, 0] = rng.choice([0.02, 0.98], n)
    lied = fold(panel(CROWD, p, up), SETTINGS)
    cost = float(np.nansum(gain(honest, up)[: n - H] - gain(lied, up)[: n - H])) / 1e4
    return cost, first(lied.weights[:, 0] == 0.0)


def probation(edge: float, seed: int, n: int = 120_000) -> tuple[float, float]:
    """Outcomes until an agent outside the council has a seat, and until it has lost it again."""
    rng = np.random.default_rng(seed)
    chance, up = drawn(rng, n, edge)
    half = n // 2
    own = np.where(np.arange(n) < half, chance, 1.0 - chance)[:, None]
    everybody = [*CROWD, "stranger"]
    weights = fold(panel(everybody, np.hstack([crowd(rng, n), own]), up), SETTINGS).weights
    seated = weights[:, -1] > 0.0
    won = first(seated)
    return won, (first(~seated, half) if won < half else math.inf)


def told(values: Sequence[float], digits: int = 0) -> str:
    """Return the median and the quartiles; ∞ as a dash."""
    low, middle, high = np.quantile(np.array(values), (0.25, 0.5, 0.75), method="nearest")
    return f"{_number(middle, digits)} [{_number(low, digits)}, {_number(high, digits)}]"


def _number(x: float, digits: int) -> str:
    return "never" if math.isinf(x) else f"{x:,.{digits}f}"


def lines(seeds: range) -> list[str]:
    """Return the table."""
    made = [("world", "until", "bars")]

    def both(play: Callable[[float, int], tuple[float, float]], edge: float) -> tuple[str, str]:
        rows = [play(edge, seed) for seed in seeds]
        return told([row[0] for row in rows]), told([row[1] for row in rows])

    for edge in (0.02, 0.03, 0.05):
        who = f"one member of seven knows: Brier gain about {1e4 * edge**2:.0f} × 10⁻⁴"
        led, lost = both(leads, edge)
        made += [(who, "it leads for good", led), (who + ", then errs", "it leads no more", lost)]
    for edge in (0.03, 0.05):
        won, lost = both(probation, edge)
        who = f"an agent in probation knows: {1e4 * edge**2:.0f} × 10⁻⁴"
        made += [(who, "it has a seat", won), (who + ", then errs", "it has lost it", lost)]
    rows = [liar(seed) for seed in seeds]
    bound = H / 2 * math.log(POOLS + len(CROWD))
    made.append(("a member lies with certainty", "it is in probation", told([x[1] for x in rows])))
    cost = f"Brier loss in all {told([x[0] for x in rows], 2)}, bound {bound:.2f}"
    made.append(("the same", "what it cost", cost))
    return [f"| {' | '.join(row)} |" for row in (made[0], ("---",) * 3, *made[1:])]


def main() -> None:
    """Play, print and write."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    show(asked.out, HEADING, TOOL, lines(range(asked.seeds)))


if __name__ == "__main__":
    main()
