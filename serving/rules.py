"""From settings to the rules of trading: markets and costs, limits, sizes, levels, decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from consensus.settings import CouncilSettings, DecisionRules
from data.instruments import instrument_for
from domain.decision import Costs
from domain.market import Instrument, MarketState, symbol_on
from domain.times import MINUTE_MS
from execution.draws import Latency
from execution.fills import CostModel, Frictions
from execution.funding import usual_rate
from execution.kelly import KellySettings
from execution.levels import LevelSettings
from execution.limits import RiskLimits
from execution.paper import Venue
from execution.sizing import SizingSettings
from serving.settings import Settings
from sim.backtest import BacktestRules

ACCOUNT, CURRENCY = "paper", "USDT"
NO_SPREAD_LIMIT = 1e6  # bps; finite, so that a stored decision can be repeated from JSON
WITHOUT_EXCHANGE = ("demo", "replay")  # sources that are not watched as they trade


@dataclass(frozen=True, slots=True)
class Market:
    """Forecast symbols, where each is executed, and what trading there costs."""

    routes: Mapping[str, str]
    instruments: Mapping[str, Instrument]
    costs: Mapping[str, CostModel]
    charges_funding: bool = True

    def settled_every(self, symbol: str, hours: int) -> Market:
        """Return the same with so many hours between two fundings of an execution symbol."""
        one = replace(self.instruments[symbol], funding_hours=hours)
        return replace(self, instruments={**self.instruments, symbol: one})

    def round_trip(self, bar_ms: int, horizon_bars: int, state: MarketState) -> Costs:
        """Return what a round trip would cost in a market state."""
        symbol = self.routes[state.symbol]
        funding = 0.0
        instrument = self.instruments[symbol]
        if self.charges_funding and instrument.market == "perp":
            told, every_ms = state.funding_rate, instrument.funding_ms
            rate = usual_rate(every_ms) if told is None else abs(told)
            funding = rate * 1e4 * horizon_bars * bar_ms / every_ms
        costs = self.costs[symbol].round_trip(funding)
        if state.book is None or not state.book.two_sided:
            return costs
        return Costs(costs.fee_bps, state.book.spread_bps, costs.slippage_bps, funding)


def market_for(
    settings: Settings, symbols: list[str], price: Mapping[str, float], *, keep_market: bool,
    listed: Mapping[str, Instrument] | None = None,
) -> Market:  # fmt: skip
    """Route forecast symbols to where they are executed.

    Parameters
    ----------
    price : a recent price of each symbol, quote units; scales default filters.
    keep_market : execute where the bars come from (a single file); else ``EXECUTION_MARKET``.
    listed : filters and fees as the exchange tells them, by execution symbol; else default ones.
    """
    routes = {
        symbol: symbol if keep_market else symbol_on(symbol, settings.execution.market)
        for symbol in symbols
    }
    instruments = {
        route: _with_fees(settings, (listed or {}).get(route)
                          or instrument_for(route, price.get(symbol)))
        for symbol, route in routes.items()
    }  # fmt: skip
    costs = {route: CostModel.of(each, frictions(settings)) for route, each in instruments.items()}
    return Market(routes, instruments, costs, settings.execution.funding)


def _with_fees(settings: Settings, instrument: Instrument) -> Instrument:
    fees, liquidation = settings.execution.fees_bps, settings.execution.liquidation_bps
    if fees is not None:
        instrument = replace(instrument, taker_bps=fees, maker_bps=fees)
    if liquidation is not None:
        instrument = replace(instrument, liquidation_bps=liquidation)
    return instrument


def frictions(settings: Settings) -> Frictions:
    """Translate settings into what trading costs beside fees."""
    execution = settings.execution
    return Frictions(
        spread_bps=execution.spread_bps,
        slippage_bps=execution.slippage_bps,
        impact=execution.impact,
        participation=execution.participation,
        queue_share=execution.queue_share,
    )


def venue(settings: Settings) -> Venue:
    """Translate settings into the exchange that the paper broker stands for."""
    execution = settings.execution
    return Venue(
        leverage=Decimal(str(execution.leverage)),
        latency=Latency(
            execution.latency, execution.latency_median_ms, execution.latency_p99_ms,
            execution.latency_busy,
        ),
        seed=execution.fill_seed,
    )  # fmt: skip


def council_settings(settings: Settings) -> CouncilSettings:
    """Translate settings into the council's own."""
    council = settings.consensus
    return CouncilSettings(
        members=tuple(settings.models.agents),
        sole=council.sole or "",
        horizon_bars=settings.data.pred_horizon_steps,
        half_life=council.half_life,
        eta=council.eta,
        floor=council.floor,
        grace=council.grace,
    )


def decision_rules(settings: Settings) -> DecisionRules:
    """Translate settings into the rules of a decision."""
    rules = settings.decision
    filters = settings.risk.spread_liquidity_filter
    return DecisionRules(
        prob_min=rules.prob_min,
        min_expected_return=rules.min_expected_return,
        risk_max=rules.risk_max,
        delta=rules.delta,
        min_forecasters=settings.consensus.min_forecasters,
        interval_rule=rules.interval_rule,
        max_spread_bps=settings.risk.max_spread_bps if filters else NO_SPREAD_LIMIT,
        min_liquidity=settings.risk.min_liquidity if filters else 0.0,
    )


def risk_limits(settings: Settings, source: str = "replay") -> RiskLimits:
    """Translate settings into limits; a switch that is off turns its limit off.

    Parameters
    ----------
    source : label of the feed; an exchange that is watched live has to show its book.
    """
    risk = settings.risk
    filters = risk.spread_liquidity_filter
    return RiskLimits(
        max_symbol_exposure=risk.max_exposure_symbol,
        max_total_exposure=risk.max_exposure_total,
        max_correlation=risk.max_correlation,
        correlation_bars=risk.correlation_bars,
        correlation_least=risk.correlation_least,
        daily_loss=risk.daily_loss_max if risk.daily_breaker else None,
        total_stop=risk.total_stop_drawdown if risk.total_stop else None,
        max_spread_bps=risk.max_spread_bps if filters else None,
        min_liquidity=risk.min_liquidity if filters else None,
        drawdown_start=risk.drawdown_start if risk.drawdown_reduction else None,
        recovery_risk=risk.recovery_risk_per_trade,
        book_age_ms=risk.book_age_max_ms,
        needs_book=filters and risk.needs_book and source not in WITHOUT_EXCHANGE,
        exit_patience=risk.exit_patience,
        hrv_min=risk.hrv_min,
        self_report_min=risk.self_report_min,
        operator_hold_ms=risk.operator_pause_minutes * MINUTE_MS,
    )


def sizing(settings: Settings) -> SizingSettings:
    """Translate settings into how much is traded."""
    risk, execution = settings.risk, settings.execution
    mode: Literal["kelly", "risk", "fixed", "quantity"] = "kelly" if risk.kelly else "risk"
    if execution.fixed_notional is not None:
        mode = "fixed"
    elif execution.fixed_quantity is not None:
        mode = "quantity"
    return SizingSettings(
        mode=mode,
        risk_fraction=risk.risk_per_trade,
        fixed_notional=execution.fixed_notional or 500.0,
        fixed_quantity=execution.fixed_quantity or 1.0,
        min_notional=risk.min_order_notional,
        max_notional=risk.max_order_notional,
        kelly=KellySettings(
            window=risk.kelly_trades,
            share=risk.kelly_share,
            max_risk=risk.max_risk_per_trade,
            target_vol=risk.kelly_target_vol,
            vol_days=risk.kelly_vol_days,
        ),
    )


def levels(settings: Settings) -> LevelSettings:
    """Translate settings into stops and targets of decisions that come without."""
    execution = settings.execution
    return LevelSettings(
        execution.stop_atr, execution.target_atr, execution.levels_calm, execution.levels_wild
    )


def backtest_rules(settings: Settings, profile: str, commit: str) -> BacktestRules:
    """Translate settings into the rules of a backtest: those of paper trading."""
    execution = settings.execution
    return BacktestRules(
        profile=profile,
        limits=risk_limits(settings),
        sizing=sizing(settings),
        levels=levels(settings),
        horizon_bars=settings.data.pred_horizon_steps,
        initial_cash=Decimal(str(execution.initial_cash)),
        account=ACCOUNT,
        currency=CURRENCY,
        frictions=frictions(settings),
        venue=venue(settings),
        git_commit=commit,
    )
