"""What may be risked, and how a limit is told: its value now, where it lies, how far that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from domain.decision import Reason
from domain.times import MINUTE_MS

NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """The limits; None turns one off.

    Attributes
    ----------
    max_symbol_exposure, max_total_exposure : fraction of equity.
    max_correlation : above it (in absolute value) other symbols count as the one that is entered;
        the sides are not looked at, so that a hedge counts as well.
    correlation_bars, correlation_least : close-to-close returns it is measured on, and how many
        must be common to both symbols.
    daily_loss : fraction of the equity at the start of the UTC day; stops entries until the next.
    total_stop : fall from the high-water mark (fraction) that halts the account.
    max_spread_bps : basis points, to enter.
    min_liquidity : quote units in the book's top five levels, where a book is present.
    drawdown_start : fall from the high-water mark (fraction) at which sizes lose a quarter; each
        further 1 % takes another, so that nothing is entered 3 % below it.
    recovery_risk : largest loss at the stop (fraction of equity) from such a fall until equity is
        above every mark before it, arming notwithstanding; goes with ``drawdown_start``.
    book_age_ms : age up to which a book is fresh.
    needs_book : whether nothing is entered without a fresh book of two sides.
    exit_patience : bars that an exit of choice waits at most for a better book; 0 = none.
    hrv_min : least RMSSD of the operator, ms. ``self_report_min`` : least word of their own, 0–10.
    operator_hold_ms : how long a report counts, market time.
    """

    max_symbol_exposure: float | None = 0.5
    max_total_exposure: float | None = 1.0
    daily_loss: float | None = 0.03
    total_stop: float | None = 0.08
    max_spread_bps: float | None = 10.0
    min_liquidity: float | None = 50_000.0
    drawdown_start: float | None = 0.05
    recovery_risk: float = 0.005
    max_correlation: float | None = 0.7
    correlation_bars: int = 288
    correlation_least: int = 60
    book_age_ms: int = 5_000
    needs_book: bool = False
    exit_patience: int = 2
    hrv_min: float | None = 20.0
    self_report_min: float | None = 4.0
    operator_hold_ms: int = 240 * MINUTE_MS

    @property
    def operator(self) -> dict[str, float]:
        """The least value of each kind of report that is looked at."""
        both = {"hrv": self.hrv_min, "self_report": self.self_report_min}
        return {source: least for source, least in both.items() if least is not None}


EXERCISE = RiskLimits(
    daily_loss=None, total_stop=None, max_spread_bps=None, min_liquidity=None, drawdown_start=None
)
"""Filters, breaker, total stop and drawdown reduction off; exposure stays on."""


@dataclass(frozen=True, slots=True)
class Check:
    """One limit at one moment; ``margin`` ≥ 0 passes, None where it was not measured."""

    name: str
    code: Reason
    value: float | str | None
    limit: float | str | None
    margin: float | None
    stops: str = "entries"

    @property
    def passed(self) -> bool:
        """Whether it stops nothing."""
        return self.margin is None or self.margin >= 0


def failed(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that stop the entry."""
    return [check for check in checks if not check.passed]
