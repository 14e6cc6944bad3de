"""The parameters that ship, and the table of baselines for one stretch of bars.

What ships was fitted on BTC/USDT spot, five-minute bars before 2025, five bars ahead, and holds
for nothing else. ``scripts/ship_baselines.py`` makes it again, byte for byte.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.artifacts import columns_hash
from data.features import REFERENCE_54
from domain.canonical import canonical_json
from domain.errors import ModelError
from domain.market import BarFrame
from sim.baselines.blend import Blend, remembered
from sim.baselines.contract import Inputs, Known, Rows
from sim.baselines.fitting import ALL, NAMES, forecast_all, taken
from sim.baselines.logistic import RSI_REFERENCE
from sim.scoring import Floats, Forecasts

FOLDER = Path(__file__).parent / "weights"
PARAMETERS = "parameters.json"
SHIPPED_NAMES = tuple(baseline.name for baseline in ALL if baseline.learns)
REFERENCE_LEVELS = tuple(round(0.05 * k, 2) for k in range(21))
TREES = "trees"  # key of an ensemble's bytes, which are a file of their own
_SUFFIX = ".onnx.gz"
_DIGITS = 8  # significant, of the feature quantiles


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What baselines learned, and from what.

    Attributes
    ----------
    symbol, timeframe, horizon_bars : what it holds for.
    end_ms : nothing from this instant on was seen (UTC ms).
    fits : baseline → its parameters; one that learns and is not here is silent.
    """

    symbol: str
    timeframe: str
    horizon_bars: int
    end_ms: int
    fits: Mapping[str, Any]

    def suits(self, frame: BarFrame, horizon_bars: int) -> bool:
        """Whether the parameters hold for these bars and this horizon."""
        told = (self.symbol, self.timeframe, self.horizon_bars)
        return told == (frame.symbol, frame.timeframe, horizon_bars)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureReference:
    """How the feature columns were distributed over the training rows.

    Attributes
    ----------
    symbol, timeframe : of the bars.
    levels : (21,) 0, .05 … 1.
    quantiles : column → (21,).
    n : training rows. start_ms, end_ms : bars that open in [start, end) are among them, UTC ms.
    """

    symbol: str
    timeframe: str
    levels: Floats
    quantiles: Mapping[str, Floats]
    n: int
    start_ms: int
    end_ms: int


def shipped(folder: Path = FOLDER) -> Fitted:
    """Return what ships, or what another folder holds.

    Raises
    ------
    ModelError : if a file is missing or damaged, or if features mean something else by now.
    """
    body = _read(folder)
    for name, graph in _trees(folder).items():
        if name not in body["fits"]:
            raise _damaged(folder / (name + _SUFFIX))
        body["fits"][name][TREES] = graph
    fits = {b.name: b.from_json(body["fits"][b.name]) for b in ALL if b.name in body["fits"]}
    return Fitted(
        body["symbol"], body["timeframe"], int(body["horizon_bars"]), int(body["end_ms"]), fits
    )


def feature_reference(folder: Path = FOLDER) -> FeatureReference:
    """Return the training distribution of the 54 columns that ships.

    Raises
    ------
    ModelError : if the file is missing or damaged, or if features mean something else by now.
    """
    whole = _read(folder)
    body = whole["features"]
    columns = {name: np.asarray(row, dtype=np.float64) for name, row in body["quantiles"].items()}
    return FeatureReference(
        whole["symbol"], whole["timeframe"], np.asarray(body["levels"]), columns, int(body["n"]),
        int(body["start_ms"]), int(body["end_ms"]),
    )  # fmt: skip


def baselines(
    frame: BarFrame, rows: Rows, horizon_bars: int, fitted: Fitted | None
) -> dict[str, Forecasts]:
    """Forecast ``rows`` by every baseline.

    Parameters
    ----------
    frame : all bars there are, also those before the rows.
    rows : (n,) indices of the deciding bars in ``frame``, rising.
    fitted : parameters, used only if they suit the bars; rows that open before their end are
        marked ``in_sample``. ``blend_rescaled`` remembers the bars before the rows too, those
        out of sample, so that a bar is forecast the same wherever the rows begin.

    Returns
    -------
    name → n forecasts, in the order of :data:`NAMES`; silent where parameters are missing.
    """
    inputs = Inputs(frame, horizon_bars)
    if fitted is None or not fitted.suits(frame, horizon_bars):
        return forecast_all({}, inputs, rows)
    if Blend.name not in fitted.fits:
        return forecast_all(fitted.fits, inputs, rows, end_ms=fitted.end_ms)
    every = remembered(inputs, rows, fitted.end_ms)
    found = forecast_all(fitted.fits, inputs, every, end_ms=fitted.end_ms)
    at = np.searchsorted(every, rows)
    return {name: taken(columns, at) for name, columns in found.items()}


def to_files(known: Known, fits: Mapping[str, Any], names: Sequence[str]) -> dict[str, bytes]:
    """Return the files that ship: parameters of the named baselines, and their trees.

    The RSI logistic ships with the coefficients of the reference table.
    """
    fits = {**fits, "rsi_logistic": RSI_REFERENCE}
    bars, data = known.data.bars, known.data
    body = {
        "symbol": bars.symbol,
        "timeframe": bars.timeframe,
        "horizon_bars": data.horizon_bars,
        "end_ms": known.end_ms,
        "seed": known.seed,
        "feature_schema": columns_hash(REFERENCE_54),
        "features": _feature_quantiles(known),
    }
    saved = {b.name: b.to_json(fits[b.name]) for b in ALL if b.learns and b.name in names}
    trees = {name: part.pop(TREES) for name, part in saved.items() if TREES in part}
    text = canonical_json({**body, "fits": saved}) + "\n"
    packed = {name + _SUFFIX: gzip.compress(graph, mtime=0) for name, graph in trees.items()}
    return {PARAMETERS: text.encode()} | packed


def _feature_quantiles(known: Known) -> dict[str, Any]:
    rows = np.flatnonzero(known.volume_rows)
    table = np.quantile(known.inputs.features[rows], REFERENCE_LEVELS, axis=0)
    rounded = [[float(f"{value:.{_DIGITS}g}") for value in column] for column in table.T]
    ts, step = known.data.bars.ts, known.data.bars.step_ms
    return {
        "levels": list(REFERENCE_LEVELS),
        "n": len(rows),
        "start_ms": int(ts[rows[0]]),
        "end_ms": int(ts[rows[-1]]) + step,
        "quantiles": dict(zip(REFERENCE_54, rounded, strict=True)),
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / PARAMETERS
    try:
        body: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    schema, told = columns_hash(REFERENCE_54), body.get("feature_schema")
    if told != schema:
        hint = "Features changed since they were fitted: run scripts/ship_baselines.py."
        raise ModelError(path.name, f"its feature schema must be {schema}", told, hint)
    return body


def _trees(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob("*" + _SUFFIX):
        try:
            found[path.name.removesuffix(_SUFFIX)] = gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            raise _damaged(path) from error
    return found


def _damaged(path: Path) -> ModelError:
    hint = "Restore it, or run scripts/ship_baselines.py."
    return ModelError(path.name, "must be a file of the baselines, whole", None, hint)


__all__ = [
    "NAMES", "FeatureReference", "Fitted", "baselines", "feature_reference", "shipped",
    "to_files",
]  # fmt: skip
