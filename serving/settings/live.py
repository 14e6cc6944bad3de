"""Real orders: the account's key, what has to be shown before, and what an order may be at most."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, SecretStr

from domain.errors import SettingError
from serving.settings.group import Fraction, Group, NotNegative, Positive

KEYS_FROM = ("environment", ".env")
_KEYS = {
    "live.exchange_api_key": "EXCHANGE_API_KEY", "live.exchange_api_secret": "EXCHANGE_API_SECRET",
    "live.testnet_api_key": "TESTNET_API_KEY", "live.testnet_api_secret": "TESTNET_API_SECRET",
}  # fmt: skip


class LiveSettings(Group):
    """What going live takes, and the bounds of every live order (docs/live.md)."""

    exchange_api_key: SecretStr | None = Field(
        None, description="key of the exchange's account, without the right to withdraw; secret"
    )
    exchange_api_secret: SecretStr | None = Field(
        None, description="the key's secret; secret; both from the environment only"
    )
    testnet_api_key: SecretStr | None = Field(
        None, description="key of an account of the exchange's testnet; secret"
    )
    testnet_api_secret: SecretStr | None = Field(
        None, description="the key's secret; secret; both from the environment only"
    )
    testnet_url: str | None = Field(
        None, pattern=r"^https?://\S+$",
        description="address of the testnet; empty: the exchange's own (Binance: demo trading)",
    )  # fmt: skip
    testnet_orders: int = Field(
        20, ge=0, le=400,
        description="orders that a rehearsal at the testnet must have carried out; 0: none is "
        "asked for",
    )  # fmt: skip
    cool_down_hours: NotNegative = Field(
        24.0, le=720, description="between live enable and the first live run, h"
    )
    paper_days: int = Field(
        30, ge=1, description="days with decisions on paper that are needed, UTC days"
    )
    paper_trades: int = Field(50, ge=1, description="closed trades on paper that are needed")
    paper_drawdown: Fraction = Field(
        0.08, description="largest drawdown on paper that is let pass, fraction of the high water"
    )
    calibration_outcomes: int = Field(
        2_000, ge=100, le=100_000, description="newest outcomes that calibration is judged by"
    )
    clock_skew_ms: Positive = Field(
        1_000.0, le=5_000, description="largest difference to the exchange's clock, ms"
    )
    rehearsal_orders: int = Field(
        100, ge=1, le=10_000, description="orders that a rehearsal must have carried out"
    )
    rehearsal_hours: Positive = Field(
        168.0, le=8_760, description="age beyond which a rehearsal counts no more, h"
    )
    live_order_notional: Positive = Field(250.0, description="largest live order, USDT")
    live_symbol_notional: Positive = Field(
        250.0, description="largest live position of a symbol, USDT"
    )
    live_account_notional: Positive = Field(500.0, description="of all live positions, USDT")
    live_orders_per_minute: int = Field(
        10, ge=1, le=300, description="live entries in any 60 s, at most"
    )
    live_band_bps: Positive = Field(
        100.0, le=2_000,
        description="how far the market may be from the last bar, and a limit from the market, "
        "basis points",
    )  # fmt: skip
    answer_patience_s: NotNegative = Field(
        2.0, le=30, description="how long a live order whose answer was lost is asked after, s"
    )


def misplaced(sources: Mapping[str, str]) -> list[SettingError]:
    """Return keys of an account that are written where they would be kept or seen.

    Parameters
    ----------
    sources : setting → where its value came from.
    """
    return [
        SettingError(
            f"{shown} ({sources[name]})", "must come from the environment alone", None,
            "A file of settings is shared, and flags are seen by everybody on the machine.",
        )
        for name, shown in _KEYS.items()
        if name in sources and sources[name] not in KEYS_FROM
    ]  # fmt: skip
