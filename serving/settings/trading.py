"""Settings of execution, of the journal and of what must hold of the ledger."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from domain.errors import UsageError
from execution.journal import tags_of
from serving.settings.group import Fraction, Group, Names, NotNegative, Positive


def _tags(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tags_of(names)
    except UsageError as error:
        raise ValueError(f"{error.value!r} {error.rule}") from None


def _off(value: Any) -> Any:
    return "off" if value is False else value  # what YAML makes of a bare off


class ExecutionSettings(Group):
    """How decisions become trades, and what they cost."""

    paper_mode: bool = Field(
        True, description="whether orders are simulated; false only where LIVE_MODE is true"
    )
    live_mode: bool = Field(
        False,
        description="whether orders may go to the exchange, once live trading is enabled as well: "
        "conclave live",
    )
    market: Literal["perp", "spot"] = Field("perp", description="where orders go: perp or spot")
    strategy: Literal["council", "ema_cross", "mean_reversion"] = Field(
        "council", description="who decides: council, ema_cross or mean_reversion"
    )
    fees_bps: NotNegative | None = Field(
        None, le=1000, description="taker fee a side, basis points; none = the market's own"
    )
    liquidation_bps: NotNegative | None = Field(
        None, le=10_000,
        description="fee of a liquidation, basis points of its notional, at most what is left of "
        "the margin; none = the market's own, 120",
    )  # fmt: skip
    spread_bps: float = Field(1.0, ge=0, le=1000, description="modelled full spread, basis points")
    slippage_bps: float = Field(1.0, ge=0, le=1000, description="slippage a side, basis points")
    impact: float = Field(
        0.5, ge=0, le=10,
        description="how far an order moves the price: times the bar's range and the root of its "
        "share of the volume; 0 = not at all",
    )  # fmt: skip
    participation: Positive | None = Field(
        0.1, le=1, description="largest share of a bar's volume that an order may take; none = any"
    )
    queue_share: float = Field(
        0.25, ge=0, le=1, description="chance that a limit is filled which the market only touches"
    )
    latency: Literal["lognormal", "uniform", "none"] = Field(
        "lognormal", description="how long orders are on their way: lognormal, uniform (50-200 ms) "
        "or none",
    )  # fmt: skip
    latency_median_ms: Positive = Field(120.0, description="median of the lognormal, ms")
    latency_p99_ms: Positive = Field(800.0, description="its 99 % quantile, ms")
    latency_busy: float = Field(3.0, ge=1, description="longer by this in the busiest 5 % of bars")
    leverage: float = Field(1.0, ge=1, le=150, description="leverage of isolated positions")
    fill_seed: int = Field(0, ge=0, description="seed of all that the fill engine draws")
    initial_cash: Positive = Field(10_000.0, description="paper account at its start, USDT")
    on_shutdown: Literal["keep", "flatten"] = Field(
        "keep", description="what happens to positions when the system stops: keep or flatten"
    )
    fixed_notional: Positive | None = Field(
        None, description="size of every order, USDT; none = sized by risk"
    )
    fixed_quantity: Positive | None = Field(
        None, description="size of every order, base units; none = sized by risk"
    )
    stop_atr: Positive | None = Field(
        2.0, description="distance of the stop where the strategy has none, ATRs; none = off"
    )
    target_atr: Positive | None = Field(
        3.0, description="distance of the target where the strategy has none, ATRs; none = off"
    )
    levels_calm: Positive = Field(
        1.1, le=10, description="both distances are times this in the week's calmest third"
    )
    levels_wild: Positive = Field(0.9, le=10, description="and times this in its wildest third")
    funding: bool = Field(True, description="whether perpetual positions pay funding")


class JournalSettings(Group):
    """What is written about trades."""

    reflections: Annotated[Literal["strict", "draft", "off"], BeforeValidator(_off)] = Field(
        "strict",
        description="strict: after an automatic close the next entry of that symbol and side waits "
        "for a reflection; draft: nothing waits; off: no drafts either",
    )
    min_characters: int = Field(20, ge=1, le=1000, description="least length of a reflection")
    tags: Annotated[Names, AfterValidator(_tags)] = Field(
        (), description="tags that may be used; none = any"
    )


class AssertionSettings(Group):
    """What must hold of the ledger, looked at once a day of market time."""

    sharpe_gap_max: Positive = Field(
        0.5, description="largest difference of the Sharpe ratios of paper and backtest, 30 days"
    )
    slippage_gap_max_bps: Positive = Field(
        2.0, description="largest excess of spread and slippage over the model, basis points a side"
    )
    win_rate_error: float = Field(
        0.01, gt=0, lt=0.5,
        description="chance of a false alarm about the win rate of the last 50 trades, fraction",
    )  # fmt: skip
    drawdown_max: float = Field(
        0.08, gt=0, le=1, description="deepest fall from the high-water mark, fraction"
    )
    data_age_max_bars: int = Field(3, ge=1, description="oldest that the newest bar may be, bars")
    adherence_min: Fraction = Field(
        0.9, description="least share of the week's trades with a person's reflection"
    )
    adherence_grace_hours: NotNegative = Field(
        24.0, description="how long a reflection may take before it counts as missing, hours"
    )
