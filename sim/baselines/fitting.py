"""Fit baselines once or every quarter, and ask them about rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from agents.training.dataset import Dataset, build_dataset
from domain.errors import UsageError
from domain.market import BarFrame
from sim.baselines.blend import Blend, BlendRescaled
from sim.baselines.boosting import Boosted, BoostedQuantiles
from sim.baselines.contract import Asked, Baseline, Inputs, Known, Rows
from sim.baselines.garch import GarchT
from sim.baselines.logistic import Logistic54, RsiLogistic
from sim.baselines.naive import BaseRate, Half, Trailing
from sim.baselines.volatility import Ewma, Har
from sim.scoring import Forecasts

SEED = 7

# parts stand before what is made of them
ALL: tuple[Baseline[Any], ...] = (
    Half(), BaseRate(), RsiLogistic(), Logistic54(), Trailing(), Ewma(), GarchT(),
    Har("har", ranges=False), Har("har_ranges", ranges=True), Boosted(), BoostedQuantiles(),
    Blend(), BlendRescaled(),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(baseline.name for baseline in ALL)

Fits = Mapping[str, Any]
Progress = Callable[[str], None]


class Span(Protocol):
    """One step of a walk forward."""

    @property
    def start_ms(self) -> int:
        """Bars that open from here on are forecast, UTC ms."""

    @property
    def end_ms(self) -> int:
        """Bars that open before it are forecast."""

    @property
    def fit_ms(self) -> int:
        """Nothing from this instant on is seen; an embargo before ``start_ms``."""


def chosen(names: Sequence[str]) -> list[Baseline[Any]]:
    """Return the named baselines and their parts, parts first.

    Raises
    ------
    UsageError : for an unknown name.
    """
    by_name = {baseline.name: baseline for baseline in ALL}
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name not in by_name:
            raise UsageError("baseline", f"must be one of {', '.join(NAMES)}", name)
        wanted.add(name)
        queue += [part for part in by_name[name].parts if part not in wanted]
    return [baseline for baseline in ALL if baseline.name in wanted]


def fit_all(
    data: Dataset,
    end_ms: int,
    names: Sequence[str] = NAMES,
    seed: int = SEED,
    progress: Progress | None = None,
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Fit baselines and their parts on what was known at ``end_ms``.

    Parameters
    ----------
    data : with features; it may run past ``end_ms``, which changes nothing.
    progress : told each name before its fit.
    inputs : of ``data``, where the caller has some already.

    Returns
    -------
    name → parameters; None for a baseline that learns nothing.

    Raises
    ------
    UsageError : for an unknown name.
    """
    from threadpoolctl import threadpool_limits

    fits: dict[str, Any] = {}
    known = Known(data, inputs or Inputs.of(data), end_ms, seed, fits)
    for baseline in chosen(names):
        if progress is not None and baseline.learns:
            progress(baseline.name)
        with threadpool_limits(1, user_api="blas"):  # sums in one order, whatever the machine
            fits[baseline.name] = baseline.fit(known)
    return fits


def forecast_all(
    fits: Fits,
    inputs: Inputs,
    rows: Rows,
    names: Sequence[str] = NAMES,
    end_ms: int | None = None,
) -> dict[str, Forecasts]:
    """Forecast ``rows`` (n,) by baselines; silent where one, or a part of it, has no parameters.

    Parameters
    ----------
    end_ms : rows that open before it (UTC ms) are marked ``in_sample`` where anything was learnt.
    """
    seen = np.zeros(len(rows), dtype=np.bool_)
    if end_ms is not None:
        seen = inputs.bars.ts[rows] < end_ms
    said: dict[str, Forecasts] = {}
    for baseline in chosen(names):
        ready = not baseline.learns or baseline.name in fits
        if ready and all(said[part].awake.any() or not len(rows) for part in baseline.parts):
            fit = fits.get(baseline.name)
            said[baseline.name] = baseline.forecast(fit, Asked(inputs, rows, said))
        else:
            said[baseline.name] = Forecasts.silent(len(rows))
        if baseline.learns or baseline.parts:
            said[baseline.name].in_sample[:] = seen
    return {name: said[name] for name in NAMES if name in set(names)}


def refit_forward(
    frame: BarFrame,
    spans: Sequence[Span],
    horizon_bars: int,
    names: Sequence[str] = NAMES,
    seed: int = SEED,
    progress: Progress | None = None,
) -> dict[str, Forecasts]:
    """Fit anew for every span on what was known before it, and forecast the span.

    Parameters
    ----------
    frame : all bars, those before the first span included.
    spans : in time order, e.g. calendar quarters; each fit sees bars that opened, and labels that
        were known, before ``fit_ms``.

    Returns
    -------
    name → forecasts of every bar of the frame, (n,); NaN outside the spans. No row is in sample.

    Raises
    ------
    DataRefused : if the frame has fewer than 5 000 valid rows.
    """
    data = build_dataset(frame, int(frame.ts[-1]) + frame.step_ms, horizon_bars, features=True)
    inputs = Inputs.of(data)
    every = chosen(names)
    derived = {baseline.name for baseline in every if not baseline.learns}
    learned = [baseline.name for baseline in every if baseline.learns]
    out = {name: Forecasts.silent(len(frame)) for name in learned}
    covered = [np.empty(0, dtype=np.int64)]
    for k, span in enumerate(spans):
        told = None if progress is None else _numbered(progress, k, len(spans))
        rows = np.flatnonzero((frame.ts >= span.start_ms) & (frame.ts < span.end_ms))
        fits = fit_all(data, span.fit_ms, learned, seed, told, inputs)
        for name, columns in forecast_all(fits, inputs, rows, learned).items():
            place(columns, rows, out[name])
        covered.append(rows)
    rows = np.concatenate(covered)
    # what learns nothing goes through all spans at once: its memory reaches back over their edges
    return _with_derived(out, inputs, rows, [b for b in every if b.name in derived], names)


def _with_derived(
    out: dict[str, Forecasts],
    inputs: Inputs,
    rows: Rows,
    derived: Sequence[Baseline[Any]],
    names: Sequence[str],
) -> dict[str, Forecasts]:
    for baseline in derived:
        said = {part: taken(out[part], rows) for part in baseline.parts}
        out[baseline.name] = Forecasts.silent(len(inputs.bars))
        place(baseline.forecast(None, Asked(inputs, rows, said)), rows, out[baseline.name])
    return {name: out[name] for name in NAMES if name in set(names)}


def place(columns: Forecasts, rows: Rows, into: Forecasts) -> None:
    """Write n forecasts to the ``rows`` (n,) of others."""
    for field in fields(Forecasts):
        getattr(into, field.name)[rows] = getattr(columns, field.name)


def taken(columns: Forecasts, rows: Rows) -> Forecasts:
    """Return the forecasts of ``rows`` (n,)."""
    return Forecasts(*(getattr(columns, field.name)[rows] for field in fields(Forecasts)))


def _numbered(progress: Progress, k: int, count: int) -> Progress:
    return lambda name: progress(f"span {k + 1} of {count}: {name}")
