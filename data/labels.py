"""What came after each bar, which rows may be scored, and which a model may be fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from data.features import MIN_BARS
from domain.errors import SettingError
from domain.market import BarFrame, Floats
from domain.opinion import ADVERSE_MOVE

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Outcomes of H bars, one row a bar; meaningless, and NaN or False, where not ``valid``.

    Attributes
    ----------
    ts : (n,) bar open, UTC ms.
    y : (n,) ln(c_{i+H}/c_i).
    up : (n,) c_{i+H} > c_i; a tie is not up.
    drop : (n,) max(0, 1 − min(l_{i+1…i+H})/c_i), a fraction.
    rise : (n,) max(0, max(h_{i+1…i+H})/c_i − 1), a fraction.
    valid : (n,) bars i…i+H are contiguous and 288 or more, i included, lie since the last gap.
    """

    horizon: int
    ts: NDArray[np.int64]
    y: Floats
    up: Flags
    drop: Floats
    rise: Floats
    valid: Flags

    def __len__(self) -> int:
        return len(self.ts)


def make_labels(bars: BarFrame, horizon: int) -> Labels:
    """Return the outcomes of every bar (see :class:`Labels`); the last ``horizon`` have none.

    Raises
    ------
    SettingError : if the horizon is below 1.
    """
    if horizon < 1:
        raise SettingError("horizon", "must be at least 1 bar", horizon)
    n, known = len(bars), max(0, len(bars) - horizon)
    y, drop, rise = (np.full(n, np.nan) for _ in range(3))
    up, valid = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    if known:
        now, later = bars.close[:known], bars.close[horizon:]
        lowest = sliding_window_view(bars.low[1:], horizon).min(axis=1)
        highest = sliding_window_view(bars.high[1:], horizon).max(axis=1)
        contiguous = bars.ts[horizon:] - bars.ts[:known] == horizon * bars.step_ms
        ok = contiguous & (bars.bars_since_gap()[:known] >= MIN_BARS)
        valid[:known] = ok
        up[:known] = (later > now) & ok
        y[:known] = np.where(ok, np.log(later / now), np.nan)
        drop[:known] = np.where(ok, np.maximum(0.0, 1.0 - lowest / now), np.nan)
        rise[:known] = np.where(ok, np.maximum(0.0, highest / now - 1.0), np.nan)
    return Labels(horizon, bars.ts, y, up, drop, rise, valid)


def adverse(labels: Labels, move: float = ADVERSE_MOVE) -> tuple[Flags, Flags]:
    """Return (drop > move, rise > move), (n,) each; ``move`` is a fraction of the close."""
    return labels.drop > move, labels.rise > move


def training_rows(ts: NDArray[np.int64], fit_ms: int, horizon: int, step: int) -> Flags:
    """Return which rows a fit at ``fit_ms`` may use: ts + (H + 1)·step ≤ fit_ms.

    Row i's label is known when bar i + H closes; any later row would tell the fit about the time
    after it (purge, López de Prado 2018, ch. 7).

    Parameters
    ----------
    ts : (n,) bar open, UTC ms; ``step`` in ms.
    """
    return np.asarray(ts + (horizon + 1) * step <= fit_ms)
