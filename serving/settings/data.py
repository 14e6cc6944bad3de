"""Settings of market data, of its folders and of features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from domain.errors import UsageError
from domain.market import parse_symbol
from serving.settings.group import Folder, Group, Names, not_empty, one_of

TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")


class DataSettings(Group):
    """What is forecast, from where, and where files lie."""

    symbols: Annotated[Names, AfterValidator(not_empty)] = Field(
        ("BTC/USDT",), description="symbols to forecast, ccxt-unified (BTCUSDT is accepted)"
    )
    timeframe: str = Field("5m", description="length of a bar: " + " ".join(TIMEFRAMES))
    pred_horizon_steps: int = Field(5, ge=1, le=288, description="forecast horizon, bars")
    exchange: str = Field(
        "binance",
        pattern=r"^[a-z0-9]+$",
        description="exchange the stored bars are from, its ccxt id",
    )
    exchange_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+/?$",
        description="another server of the exchange's protocol, e.g. http://127.0.0.1:8089 of "
        "conclave venue",
    )
    source: Literal["auto", "live", "replay", "demo"] = Field(
        "auto", description="which market, where no flag says so: auto live replay demo"
    )
    var_dir: Folder = Field(Path("var"), description="folder of everything the system writes")
    raw_dir: Folder = Field(
        default_factory=lambda got: _under(got, "data/01_raw"),
        description="folder of bars as fetched; default VAR_DIR/data/01_raw",
    )
    processed_dir: Folder = Field(
        default_factory=lambda got: _under(got, "data/04_processed"),
        description="folder of training sets; default VAR_DIR/data/04_processed",
    )
    models_dir: Folder = Field(
        default_factory=lambda got: _under(got, "models"),
        description="folder of trained models; default VAR_DIR/models",
    )
    models_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[0-9A-Za-z._-]+)*/?$",
        description="object store that machines share models through, s3://BUCKET/PATH; "
        "MODELS_DIR is then this machine's copy of it",
    )
    models_endpoint: str | None = Field(
        None, pattern=r"^https?://[^\s@?#/]+/?$",
        description="address of an S3-compatible server, http(s)://HOST:PORT; unset: AWS",
    )  # fmt: skip
    models_region: str = Field(
        "us-east-1", pattern=r"^[a-z0-9-]+$", description="region of the bucket"
    )
    logs_dir: Folder = Field(
        default_factory=lambda got: _under(got, "logs"),
        description="folder of log files; default VAR_DIR/logs",
    )
    warm_up_days: int = Field(
        30, ge=1, le=365, description="history scored before the first live bar, days"
    )
    samples: Folder | None = Field(None, description="folder of sample bars for tests")
    backup_minutes: int = Field(
        60, ge=0, description="wall time between two backups of the database, minutes; 0 = none"
    )
    backup_hourly: int = Field(24, ge=1, description="newest backups that are kept")
    backup_daily: int = Field(7, ge=0, description="days whose last backup is kept as well")
    recover: bool = Field(
        True,
        description="whether a damaged ledger is replaced at start by the last state that verifies",
    )

    @field_validator("symbols")
    @classmethod
    def _unified(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            unified = tuple(parse_symbol(name) for name in names)
        except UsageError as error:
            raise ValueError(f"{error.value!r} {error.rule}. {error.hint}") from None
        if len(set(unified)) != len(unified):
            raise ValueError("must name each symbol once")
        return unified

    @field_validator("exchange_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        return None if value is None else value.rstrip("/")

    @field_validator("timeframe")
    @classmethod
    def _known_timeframe(cls, value: str) -> str:
        return one_of(value, TIMEFRAMES)


class FeatureSettings(Group):
    """What the agents see of the past."""

    encoder_length: int = Field(
        60, ge=1, le=4096, description="past bars in a training window of a sequence model"
    )


def _under(got: dict[str, Any], folder: str) -> Path:
    # Without a valid VAR_DIR validation fails anyway, and says why.
    return Path(got.get("var_dir", "var")) / folder
