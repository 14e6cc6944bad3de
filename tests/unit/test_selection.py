"""The choice of the best direction: who is a candidate, and how it is told."""

from __future__ import annotations

import numpy as np
import pytest

from domain.times import DAY_MS
from sim.scoring import Floats, Forecasts, Truth
from sim.selection import choice
from sim.statistics.overfitting import pbo

DAYS, ROWS = 128, 24  # bars a day


def market(seed: int = 1) -> tuple[Truth, Floats]:
    """What happened, and a signal of it, (n,)."""
    rng, n = np.random.default_rng(seed), DAYS * ROWS
    move = rng.standard_normal(n)
    ts = DAY_MS // ROWS * np.arange(n)
    still = np.zeros(n)
    return Truth(0.002 * move, still, still, ts, still, np.full(n, 0.002)), move


def saying(p: Floats) -> Forecasts:
    out = Forecasts.silent(len(p))
    out.p_up[:] = p
    return out


def noisy(n: int, seed: int) -> Forecasts:
    return saying(0.5 + 0.05 * np.random.default_rng([2, seed]).standard_normal(n))


def flat(n: int) -> dict[str, Forecasts]:
    """Forecasters that say the same or nearly the same all the time."""
    month = 0.5 + 0.01 * np.sin(np.arange(n) / 300)
    return {
        "half": saying(np.full(n, 0.5)), "base_rate": saying(np.full(n, 0.505)),
        "trailing": saying(month), "ewma": saying(np.full(n, 0.499)),
    }  # fmt: skip


def test_choice_when_some_have_no_direction_then_they_do_not_make_it_look_safe() -> None:
    truth, _ = market()
    valid = np.ones(len(truth), dtype=np.bool_)
    guesses = {f"agent_{k}": noisy(len(truth), k) for k in range(6)}
    alone = choice(guesses, truth, valid)
    beside = choice({**guesses, **flat(len(truth))}, truth, valid)
    assert beside == alone
    assert 0.2 < alone["pbo"] < 1.0
    assert beside["candidates"] == list(guesses)


def test_choice_when_one_is_told_twice_or_afterwards_then_it_is_one_candidate() -> None:
    truth, _ = market()
    first, second = noisy(len(truth), 1), noisy(len(truth), 2)
    everybody = {"a": first, "b": second, "blend": saying(first.p_up), "best_agent": second}
    told = choice(everybody, truth, np.ones(len(truth), dtype=np.bool_))
    assert told["candidates"] == ["a", "b"]


def test_choice_when_one_is_really_better_then_it_keeps_winning() -> None:
    truth, move = market()
    everybody = {f"agent_{k}": noisy(len(truth), k) for k in range(5)}
    everybody["good"] = saying(0.5 + 0.02 * np.clip(move, -2.0, 2.0))
    told = choice(everybody, truth, np.ones(len(truth), dtype=np.bool_))
    assert told["pbo"] == 0.0
    assert sum(told["logits"]["counts"][:10]) == 0


def test_choice_when_it_is_made_then_the_histogram_is_that_of_the_logits() -> None:
    truth, _ = market()
    everybody = {f"agent_{k}": noisy(len(truth), k) for k in range(5)}
    told = choice(everybody, truth, np.ones(len(truth), dtype=np.bool_))
    daily = np.column_stack([
        (0.25 - (c.p_up - truth.up) ** 2).reshape(DAYS, ROWS).mean(axis=1)
        for c in everybody.values()
    ])  # fmt: skip
    found = pbo(daily, 16)
    counts, edges = told["logits"]["counts"], told["logits"]["edges"]
    assert told["pbo"] == pytest.approx(found.probability)
    assert sum(counts) == found.n_combinations == 12_870
    assert (len(counts), len(edges), edges[10]) == (20, 21, 0.0)
    assert sum(counts[:10]) == int((found.logits < 0.0).sum())
    assert edges[0] < found.logits.min() <= found.logits.max() < edges[-1]


def test_choice_when_days_or_candidates_are_too_few_then_there_is_none() -> None:
    truth, _ = market()
    valid = np.ones(len(truth), dtype=np.bool_)
    everybody = {"a": noisy(len(truth), 1), "b": noisy(len(truth), 2)}
    short = choice(everybody, truth, np.arange(len(truth)) < 63 * ROWS)
    alone = choice({"a": everybody["a"], **flat(len(truth))}, truth, valid)
    nobody = choice({}, truth, valid)
    assert [told["pbo"] for told in (short, alone, nobody)] == [None] * 3
    assert [told["logits"] for told in (short, alone, nobody)] == [None] * 3
    assert [len(told["candidates"]) for told in (short, alone, nobody)] == [2, 1, 0]
