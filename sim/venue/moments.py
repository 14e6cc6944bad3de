"""Whose time a question is answered in, where that is not the exchange's now.

Both are 0 but for the questions that a fault strikes.
"""

from __future__ import annotations

from contextvars import ContextVar

LAG_MS: ContextVar[int] = ContextVar("lag_ms", default=0)  # market time; what is told is so old
SKEW_MS: ContextVar[int] = ContextVar("skew_ms", default=0)  # the exchange's clock is ahead by it
