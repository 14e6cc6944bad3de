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

from data.features import REFERENCE_54
from domain.canonical import canonical_json
from domain.errors import ModelError
from domain.market import BarFrame
from sim.baselines.contract import Inputs, Known, Rows
from sim.baselines.fitting import ALL, NAMES, forecast_all
from sim.baselines.logistic import RSI_REFERENCE
from sim.baselines.naive import Rates
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
    levels : (21,) 0, .05 … 1.
    quantiles : column → (21,).
    n : training rows. start_ms, end_ms : bars that open in [start, end) are among them, UTC ms.
    """

    levels: Floats
    quantiles: Mapping[str, Floats]
    n: int
    start_ms: int
    end_ms: int


# shares of 2022-09-01 … 2024-12-31, labels known by the end: what needs no file
SHIPPED = Fitted(
    "BTC/USDT", "5m", 5, 1_735_689_600_000,
    {
        "base_rate": Rates(
            up=0.504337924, down=0.093828597, up_risk=0.091125075, one_sigma=0.239732761
        )
    },
)  # fmt: skip


def shipped() -> Fitted:
    """Return what ships.

    Raises
    ------
    ModelError : if a file is missing or damaged.
    """
    body = _read()
    fits = {b.name: b.from_json(body["fits"][b.name]) for b in ALL if b.name in body["fits"]}
    return Fitted(
        body["symbol"], body["timeframe"], int(body["horizon_bars"]), int(body["end_ms"]), fits
    )


def feature_reference() -> FeatureReference:
    """Return the training distribution of the 54 columns that ships.

    Raises
    ------
    ModelError : if the file is missing or damaged.
    """
    body = _read()["features"]
    columns = {name: np.asarray(row, dtype=np.float64) for name, row in body["quantiles"].items()}
    return FeatureReference(
        np.asarray(body["levels"]), columns, int(body["n"]), int(body["start_ms"]),
        int(body["end_ms"]),
    )  # fmt: skip


def baselines(
    frame: BarFrame, rows: Rows, horizon_bars: int, fitted: Fitted | None
) -> dict[str, Forecasts]:
    """Forecast ``rows`` by every baseline.

    Parameters
    ----------
    frame : all bars there are, also those before the rows.
    rows : (n,) indices of the deciding bars in ``frame``.
    fitted : parameters, used only if they suit the bars; rows that open before their end are
        marked ``in_sample``.

    Returns
    -------
    name → n forecasts, in the order of :data:`NAMES`; silent where parameters are missing.
    """
    suits = fitted is not None and fitted.suits(frame, horizon_bars)
    fits = fitted.fits if fitted is not None and suits else {}
    out = forecast_all(fits, Inputs(frame, horizon_bars), rows)
    if fitted is not None and suits:
        for baseline in ALL:
            if baseline.learns or baseline.parts:
                out[baseline.name].in_sample[:] = frame.ts[rows] < fitted.end_ms
    return out


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


def _read() -> dict[str, Any]:
    path = FOLDER / PARAMETERS
    try:
        body: dict[str, Any] = json.loads(path.read_text())
        for file in FOLDER.glob("*" + _SUFFIX):
            packed = file.read_bytes()
            body["fits"][file.name.removesuffix(_SUFFIX)][TREES] = gzip.decompress(packed)
    except (OSError, EOFError, ValueError, KeyError) as error:
        hint = "Restore it, or run scripts/ship_baselines.py."
        raise ModelError(path.name, "must be a JSON file of baselines", None, hint) from error
    return body


__all__ = [
    "NAMES", "SHIPPED", "FeatureReference", "Fitted", "baselines", "feature_reference", "shipped",
    "to_files",
]  # fmt: skip
