"""The limits of trading, with unit, default and rule."""

from __future__ import annotations

from pydantic import Field

from serving.settings.group import Fraction, Group, NotNegative, Positive


class RiskSettings(Group):
    """What may be risked. Limits are on mark-to-market equity."""

    risk_per_trade: float = Field(
        0.0025,
        gt=0,
        le=0.015,
        description="loss at the stop, fraction of equity, at most 0.015; with kelly only until "
        "there are kelly_trades",
    )
    max_risk_per_trade: float = Field(
        0.015, gt=0, le=0.015, description="largest loss at the stop, fraction of equity"
    )
    kelly: bool = Field(
        True, description="whether the last trades and the volatility set the risk of the next"
    )
    kelly_trades: int = Field(50, ge=2, le=10_000, description="closed trades that are looked at")
    kelly_share: Fraction = Field(0.25, description="share of Kelly's f* that is risked, fraction")
    kelly_target_vol: Positive = Field(
        0.02, le=1, description="daily volatility beyond which less is risked, log return"
    )
    kelly_vol_days: int = Field(20, ge=2, le=365, description="days in the realised volatility")
    min_order_notional: Positive = Field(10.0, description="smallest order, USDT")
    max_order_notional: Positive = Field(1_000.0, description="largest order, USDT")
    max_exposure_symbol: Positive | None = Field(
        0.5, description="largest exposure of a symbol, fraction of equity; none = off"
    )
    max_exposure_total: Positive | None = Field(
        1.0, description="largest exposure of all, fraction of equity; none = off"
    )
    max_correlation: Fraction | None = Field(
        0.7,
        description="correlation, of either sign, above which symbols share one symbol's exposure; "
        "none = off",
    )
    correlation_bars: int = Field(
        288, ge=10, le=10_000, description="returns that correlations are measured on, bars"
    )
    correlation_least: int = Field(
        60, ge=3, le=10_000, description="common returns below which none is measured"
    )
    drawdown_reduction: bool = Field(
        True, description="whether sizes shrink in a drawdown and stay small until it is made good"
    )
    drawdown_start: float = Field(
        0.05,
        gt=0,
        le=1,
        description="fall from the high-water mark at which sizes lose a quarter, "
        "and one more for each further 0.01, fraction",
    )
    recovery_risk_per_trade: float = Field(
        0.005,
        gt=0,
        le=0.015,
        description="largest loss at the stop from then until a new high-water mark, "
        "fraction of equity, at most 0.015",
    )
    total_stop: bool = Field(True, description="whether a deep drawdown halts the account")
    total_stop_drawdown: float = Field(
        0.08, gt=0, le=1, description="fall from the high-water mark that halts, fraction"
    )
    daily_breaker: bool = Field(True, description="whether a bad day stops entries")
    daily_loss_max: float = Field(
        0.03, gt=0, le=1, description="loss since 00:00 UTC that stops entries, fraction"
    )
    spread_liquidity_filter: bool = Field(
        True, description="whether wide spreads and thin books stop entries, and make exits wait"
    )
    max_spread_bps: Positive = Field(10.0, description="widest spread to trade at, basis points")
    min_liquidity: NotNegative = Field(
        50_000.0, description="least value in the book's top five levels, USDT"
    )
    book_age_max_ms: int = Field(5_000, ge=0, description="age up to which a book is fresh, ms")
    needs_book: bool = Field(
        True, description="whether nothing is entered on a live exchange without a fresh book"
    )
    exit_patience: int = Field(
        2,
        ge=0,
        le=100,
        description="bars that an exit by horizon or opposite decision waits at most for a better "
        "book; stops, targets, risk and kill never do",
    )
    hrv_min: Positive | None = Field(
        20.0,
        description="least heart-rate variability of the operator (RMSSD, ms) to enter; "
        "none = not looked at",
    )
    self_report_min: Positive | None = Field(
        4.0, le=10, description="least word of the operator's own, 0 to 10; none = not looked at"
    )
    operator_pause_minutes: int = Field(
        240, ge=1, le=10_080, description="how long such a report counts, minutes of market time"
    )
