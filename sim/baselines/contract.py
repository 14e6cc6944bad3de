"""What a baseline is: fitted on what was known at an instant, then asked about rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.training.dataset import VOLATILITY_FROM, VOLUME_FROM, Dataset, first_row_ms
from agents.training.volatility import all_regressors, per_run
from agents.volatility import Regressors, day_sigma, ewma_sigma
from data.features import REFERENCE_54, build_features
from domain.market import BarFrame
from sim.scoring import Floats, Forecasts, Mask

Rows = NDArray[np.int64]
P = TypeVar("P")


class Inputs:
    """Bars, and the series that several baselines read of them, each computed when first asked for.

    Row i of every series is bar i and knows that bar and earlier ones only.

    Parameters
    ----------
    bars : all bars there are, those before the rows to forecast included.
    horizon_bars : bars ahead.
    """

    def __init__(self, bars: BarFrame, horizon_bars: int) -> None:
        self.bars, self.horizon_bars = bars, horizon_bars
        self._season: tuple[bytes, Regressors] | None = None

    @classmethod
    def of(cls, data: Dataset) -> Inputs:
        """Return the inputs of a data set, sharing what it computed already."""
        inputs = cls(data.bars, data.horizon_bars)
        inputs.__dict__.update(ewma=data.ewma, day=data.day)
        if data.features.shape[1]:
            inputs.__dict__["features"] = data.features
        return inputs

    @cached_property
    def ewma(self) -> Floats:
        """(n,) σ of the horizon's log return by EWMA, λ = .94."""
        return per_run(self.bars, lambda run: ewma_sigma(run, self.horizon_bars))

    @cached_property
    def day(self) -> Floats:
        """(n,) σ25: root mean square of the last day's horizon returns."""
        return per_run(self.bars, lambda run: day_sigma(run, self.horizon_bars))

    @cached_property
    def features(self) -> Floats:
        """(n, 54) the columns of the reference; NaN in the first 287 bars after a gap."""
        frame = build_features(self.bars)
        pick = [frame.names.index(name) for name in REFERENCE_54]
        return np.ascontiguousarray(frame.values[:, pick])

    def regressors(self, season: Floats) -> Regressors:
        """Return every bar's HAR regressors for one season (2, 288); the newest are kept."""
        key = season.tobytes()
        if self._season is None or self._season[0] != key:
            self._season = key, all_regressors(self.bars, season, self.horizon_bars)
        return self._season[1]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a fit may see: rows whose labels were known at ``end_ms``, and nothing later.

    Attributes
    ----------
    data : may run past ``end_ms``; only the rows of the two masks are read.
    inputs : of the same bars.
    end_ms : the fit's instant, UTC ms.
    seed : of whatever is drawn.
    fits : parameters of the baselines that were fitted before.
    """

    data: Dataset
    inputs: Inputs
    end_ms: int
    seed: int = 7
    fits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def volatility_rows(self) -> Mask:
        """(n,) training rows of what reads prices only: from 2022-09-01 where there is enough."""
        return self._rows(VOLATILITY_FROM)

    @property
    def volume_rows(self) -> Mask:
        """(n,) training rows of what reads volume too: from 2023-04-01 where there is enough."""
        return self._rows(VOLUME_FROM)

    def _rows(self, usual: int) -> Mask:
        start = first_row_ms(self.data.bars, usual, self.end_ms)
        return self.data.known_by(start, self.end_ms)


def one_sigma_event(data: Dataset) -> Mask:
    """Return whether the price fell by more than σ25 within the horizon, (n,)."""
    return np.asarray(data.labels.drop > data.day)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a baseline forecasts from.

    Attributes
    ----------
    inputs : the bars and their series.
    rows : (n,) indices of the deciding bars.
    said : n forecasts of each of its parts.
    """

    inputs: Inputs
    rows: Rows
    said: Mapping[str, Forecasts]


class Baseline(Protocol[P]):
    """A forecaster that stands beside the agents.

    Attributes
    ----------
    name : its row in the table.
    learns : whether it has parameters; one that has none may be asked at once.
    parts : other baselines whose parameters its fit, and whose forecasts its forecast, reads.
    """

    name: str
    learns: bool
    parts: tuple[str, ...]

    def fit(self, known: Known, /) -> P:
        """Return the parameters; ``known.fits`` holds those of its parts."""
        ...

    def forecast(self, fit: P, asked: Asked, /) -> Forecasts:
        """Return n forecasts, NaN where the past is too short; the caller marks in-sample rows."""
        ...

    def to_json(self, fit: P, /) -> dict[str, Any]:
        """Return plain lists and numbers, and trees as bytes."""
        ...

    def from_json(self, body: Mapping[str, Any], /) -> P:
        """Read what :meth:`to_json` wrote."""
        ...
