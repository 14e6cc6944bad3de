"""What each metric of a backtest is called, how it is written, and by what convention.

The terminal, the tear sheet and ``docs/backtest.md`` all read this one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sim.metrics import Metric, Run, daily_returns

Over = Literal["bars", "days", "trades", "spells", "fills"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric.

    Attributes
    ----------
    key : its name in ``metrics``.
    form : Python's format; ``%`` at its end for fractions.
    unit : written behind the number.
    how : the convention, in a few words.
    over : what its n counts.
    """

    key: str
    title: str
    form: str
    unit: str
    how: str
    over: Over

    def counted(self, n: float) -> str:
        """Return what n counts, in the singular for one."""
        return self.over[:-1] if n == 1 else self.over

    def write(self, value: Metric) -> str:
        """Write a value with its unit and a true minus sign; a dash for None."""
        return "–" if value is None else self.bare(value) + (f" {self.unit}" if self.unit else "")

    def bare(self, value: float) -> str:
        """Write a value without its unit."""
        text = format(value, self.form).replace("-", "−")
        return text.replace("%", " %")


GROUPS: tuple[tuple[str, tuple[Measure, ...]], ...] = (
    ("What was earned", (
        Measure("duration_days", "duration", ",.1f", "days",
                "first open to last close, UTC", "bars"),
        Measure("equity_final", "equity at the end", ",.2f", "USDT",
                "open position marked to the last close", "bars"),
        Measure("equity_peak", "highest equity", ",.2f", "USDT", "of every bar's mark", "bars"),
        Measure("return_pct", "return", "+.2f", "%", "equity at the end / at the start", "days"),
        Measure("buy_hold_return_pct", "buy and hold", "+.2f", "%",
                "first to last close of the traded market, no costs", "bars"),
        Measure("cagr", "growth a year", "+.2%", "", "compound, 365 days", "days"),
        Measure("return_ann", "return a year", "+.2%", "", "mean daily return × 365, not compound",
                "days"),
        Measure("exposure", "time in the market", ".1%", "", "share of the time with a position",
                "bars"),
        Measure("turnover", "turnover", ",.1f", "×", "notional traded / mean equity", "fills"),
    )),
    ("At what risk", (
        Measure("volatility", "volatility a year", ".2%", "", "std of daily returns × √365",
                "days"),
        Measure("sharpe", "Sharpe", "+.2f", "", "mean / std of UTC days × √365, no interest",
                "days"),
        Measure("sharpe_252", "Sharpe, 252 days", "+.2f", "",
                "the same × √252, as one requirement counts", "days"),
        Measure("deflated_sharpe", "deflated Sharpe", ".1%", "",
                "confidence that it is no luck of the trials", "days"),
        Measure("sortino", "Sortino", "+.2f", "", "downside deviation below 0, every day counted",
                "days"),
        Measure("calmar", "Calmar", "+,.2f", "", "growth a year / largest drawdown", "days"),
        Measure("max_drawdown", "largest drawdown", ".2%", "", "from the highest mark, every bar",
                "bars"),
        Measure("avg_drawdown", "average drawdown", ".2%", "", "deepest point of each spell, "
                "UTC days", "spells"),
        Measure("max_drawdown_days", "longest drawdown", ",.0f", "days",
                "peak to recovery or the end, UTC days", "spells"),
        Measure("avg_drawdown_days", "average drawdown lasts", ",.1f", "days",
                "peak to recovery or the end, UTC days", "spells"),
        Measure("drawdowns", "drawdowns", ",d", "", "spells of UTC days below a peak", "days"),
    )),
    ("By its trades", (
        Measure("trades", "closed trades", ",d", "", "round trips; one still open is not counted",
                "trades"),
        Measure("win_rate", "won", ".1%", "", "after all costs", "trades"),
        Measure("best_trade_pct", "best trade", "+.2f", "%", "of its size, after all costs",
                "trades"),
        Measure("worst_trade_pct", "worst trade", "+.2f", "%", "of its size, after all costs",
                "trades"),
        Measure("avg_trade_pct", "average trade", "+.3f", "%", "of its size, after all costs",
                "trades"),
        Measure("max_trade_hours", "longest trade", ",.1f", "h", "entry to exit", "trades"),
        Measure("avg_trade_hours", "average trade lasts", ",.1f", "h", "entry to exit", "trades"),
        Measure("profit_factor", "profit factor", ".2f", "", "won / lost money", "trades"),
        Measure("expectancy", "a trade brings", "+.3f", "USDT", "mean, after all costs", "trades"),
        Measure("sqn", "SQN", "+.2f", "", "√n × mean / std of the profits", "trades"),
        Measure("kelly", "Kelly share", "+.1%", "",
                "p − (1 − p) / b, b = mean win / mean loss; below 0: do not bet", "trades"),
    )),
)  # fmt: skip
MEASURES: dict[str, Measure] = {one.key: one for _, group in GROUPS for one in group}


def observations(run: Run, spells: int) -> dict[str, int]:
    """Return how many observations stand behind each metric.

    Parameters
    ----------
    spells : of drawdown.
    """
    counts: dict[Over, int] = {
        "bars": len(run.at), "days": len(daily_returns(run)), "trades": len(run.trades),
        "spells": spells, "fills": len(run.fills),
    }  # fmt: skip
    return {key: counts[one.over] for key, one in MEASURES.items()}
