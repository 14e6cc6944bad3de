"""Which columns there are, in which order, and the hash a model checks before it reads them."""

from __future__ import annotations

from functools import lru_cache

from domain.canonical import short_hash
from domain.times import timeframe_ms

DEFINITION = 1  # raise it whenever a column's meaning changes and its name does not

MIN_BARS = 288  # contiguous bars, the row's own included, before it counts

RETURN_LAGS = tuple(range(6))
CUMULATIVE = (3, 6, 12, 36, 96, 288, 2016)
EMA_GAPS = (12, 48, 288, 2016)
VOLATILITIES = (3, 12, 48, 288, 2016)
RANGES = (12, 48, 288)
HAR = (12, 48, 288, 2016)
HAR_RANGE = (1, 3, 12, 48, 288, 2016)

REFERENCE_54: tuple[str, ...] = (
    *(f"ret_{k}" for k in RETURN_LAGS),
    *(f"cum_{w}" for w in CUMULATIVE),
    "rsi_14", "macd", "macd_hist",
    *(f"ema_gap_{w}" for w in EMA_GAPS),
    "atr", "range_hl", "log_s",
    *(f"rv_{w}" for w in VOLATILITIES),
    *(f"pk_{w}" for w in VOLATILITIES),
    "vol_z", "vol_12", "vol_level", "vol_signed", "signed_vol_12", "signed_vol_48",
    "close_loc",
    *(f"range_pos_{w}" for w in RANGES),
    *(f"tod_{wave}_{k}" for k in (1, 2, 3) for wave in ("sin", "cos")),
    "slot_hour", "slot_utc", "slot_ny", "weekday", "weekend",
)  # fmt: skip

SCALES: tuple[str, ...] = ("s", "ewma94_var", "sigma25", "atr_14")

EXTRAS: tuple[str, ...] = (
    "ema_1_18", "rsi_div", "ewma_94", "vol_25", "vol_rank", "season", "season_next",
    *(f"har_{w}" for w in HAR),
    *(f"har_pk_{w}" for w in HAR_RANGE),
    "session_asia", "session_europe", "session_us", "regime",
)  # fmt: skip

HIGHER_COLUMNS = ("rsi_14", "ret_1", "ret_4", "ema_gap_12", "vol")


def higher_timeframes(timeframe: str) -> tuple[str, ...]:
    """Return the timeframes made from this one: 15m, 30m and 1h, and 3m where the base is 1m."""
    step = timeframe_ms(timeframe)
    wanted = ("3m", "15m", "30m", "1h") if timeframe == "1m" else ("15m", "30m", "1h")
    longer = (name for name in wanted if timeframe_ms(name) > step)
    return tuple(name for name in longer if timeframe_ms(name) % step == 0)


@lru_cache(maxsize=16)
def feature_names(timeframe: str = "5m") -> tuple[str, ...]:
    """Return the column names for a base timeframe: 54 of reference, scales, extras, higher bars.

    Names of columns from higher bars start with their timeframe, e.g. ``1h_rsi_14``.
    """
    higher = (f"{tf}_{c}" for tf in higher_timeframes(timeframe) for c in HIGHER_COLUMNS)
    return (*REFERENCE_54, *SCALES, *EXTRAS, *higher)


@lru_cache(maxsize=16)
def schema_hash(timeframe: str = "5m") -> str:
    """Return the hash of the names and of the version of their definitions."""
    return short_hash([DEFINITION, list(feature_names(timeframe))])
