"""What a reader must know before the figures: few rows, one outcome, models out of place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from domain.errors import DataRefused
from domain.market import BarFrame
from domain.opinion import ADVERSE_MOVE
from domain.ports import Agent
from domain.times import DAY_MS, iso
from sim.scoring import Forecasts, Mask, Truth
from sim.statistics.comparing import day_bars

STALE_DAYS = 92  # a model older than a quarter is told apart
FEW_DAYS, FEW_ROWS = 10, 240  # below that many days of bars, or rows, hardly anything can be told


def require_scorable(past: BarFrame, first: int, valid: Mask, horizon: int, needed: int) -> None:
    """Refuse bars none of which can be scored.

    Parameters
    ----------
    past : all bars up to the end of the range, which begins at ``first``.
    valid : (n,) rows of the range with a past of ``needed`` bars and a known outcome.

    Raises
    ------
    DataRefused : saying how long the longest stretch without a gap is.
    """
    if valid.any():
        return
    longest = int(past.bars_since_gap()[first:].max(initial=0))
    raise DataRefused(
        f"{past.symbol} {past.timeframe}",
        f"needs {needed + horizon} bars without a gap, the last {horizon} of them in the range, to "
        "score one forecast",
        f"{len(past) - first} bars, at most {longest} without a gap before them",
        "Give a longer file, or one with fewer holes: `conclave data check` lists them.",
    )


def notes_of(
    bars: BarFrame,
    agents: Mapping[str, Agent],
    heard: Mapping[str, Forecasts],
    council: Forecasts | None,
    truth: Truth,
    valid: Mask,
) -> list[str]:
    """Return the warnings about an evaluation, in plain words, worst first.

    Parameters
    ----------
    bars : the n bars that decide. ``valid`` (n,) says which of them are scored.
    heard : what each agent said about them.
    """
    return [
        *_about_outcomes(truth, valid, bars.step_ms),
        *_about_silence(heard, council, valid),
        *_about_models(bars, agents),
    ]


def _about_outcomes(truth: Truth, valid: Mask, step_ms: int) -> Iterator[str]:
    n, up = int(valid.sum()), truth.up[valid]
    if not np.any(truth.log_return[valid]):
        yield "The price never moved: nothing about a market can be learned from these bars."
    elif up.all() or not up.any():
        side = "up" if up.all() else "not up"
        yield f"Every one of {n:,} outcomes is “{side}”: direction cannot be judged on one class."
    if n < max(FEW_DAYS * day_bars(step_ms), FEW_ROWS):
        yield f"Only {n:,} rows are scored: differences here are noise unless they are enormous."
    if not np.any(truth.drop[valid] > ADVERSE_MOVE):
        yield "No fall beyond 0.5 % happened: the risk forecast cannot be ranked here."


def _about_silence(
    heard: Mapping[str, Forecasts], council: Forecasts | None, valid: Mask
) -> Iterator[str]:
    n = int(valid.sum())
    if council is not None and not (council.awake & valid).any():
        yield "The council said nothing about any of these bars: none of its agents had a view."
    for name, columns in heard.items():
        awake = int((columns.awake & valid).sum())
        trained_on = int((columns.in_sample & valid).sum())
        if trained_on == n:
            yield f"{name}: its model was trained on every one of these bars, so it has no score."
        elif not awake:
            yield f"{name}: said nothing about any of these bars."
        elif trained_on:
            yield f"{name}: {trained_on:,} rows left out, its model was trained on them."
        elif awake < n // 2:
            yield f"{name}: spoke on {awake:,} of {n:,} rows only."


def _about_models(bars: BarFrame, agents: Mapping[str, Agent]) -> Iterator[str]:
    start, end = int(bars.ts[0]), int(bars.ts[-1])
    for name, agent in agents.items():
        place = getattr(agent, "trained_on", None)
        if place is not None and place != (bars.symbol, bars.timeframe):
            symbol, timeframe = place
            yield (
                f"{name}: its model was trained on {symbol} {timeframe}; on {bars.symbol} "
                f"{bars.timeframe} it is a guess. --refit trains it on these bars."
            )
        fitted = getattr(agent, "first_ms", start)
        if fitted > start:
            yield f"{name}: no model before {iso(fitted)[:10]}, too little came before to train on."
        until = getattr(agent, "trained_until", None)
        if until is None:
            continue
        if start - until > STALE_DAYS * DAY_MS:
            yield (
                f"{name}: stale. Its model saw nothing after {iso(until)[:10]}, "
                f"{(start - until) // DAY_MS} days before these bars begin."
            )
        elif end - until > STALE_DAYS * DAY_MS:
            yield (
                f"{name}: one model, trained up to {iso(until)[:10]}, for all "
                f"{(end - max(start, until)) // DAY_MS} days. --refit trains it anew every quarter."
            )
