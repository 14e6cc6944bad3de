"""What the API takes: every body is strict, every text and number bounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from domain.times import LAST_MS
from serving.replies import Strict

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
_WORD = r"^[A-Za-z0-9_.:-]+$"
Symbol = Annotated[
    str,
    Field(max_length=40, examples=["BTC/USDT"], description="BTC/USDT, BTC-USDT or BTCUSDT"),
]
Time = Annotated[
    str,
    Field(max_length=40, examples=["2025-01-31T00:05:00Z"], description="ISO-8601; no zone = UTC"),
]
Positive = Annotated[
    Decimal, Field(gt=0, max_digits=30, decimal_places=18, allow_inf_nan=False, examples=["0.010"])
]
Signed = Annotated[
    Decimal, Field(max_digits=30, decimal_places=18, allow_inf_nan=False, examples=["0.42"])
]
Scalar = str | int | float | bool | None


class SignalRequest(Strict):
    """Ask the council about the last closed bar, or (replay and demo only) an earlier one."""

    symbol: str = Field(max_length=40, examples=["BTC/USDT"])
    timeframe: str | None = Field(default=None, max_length=8, examples=["5m"])
    strategy: str | None = Field(default=None, max_length=40, examples=["council"])
    as_of: str | None = Field(default=None, max_length=40, examples=["2025-06-01T12:00:00Z"])


class KillRequest(Strict):
    """Why somebody stops the system, and whether open positions are closed or left alone."""

    why: str = Field(default="", max_length=400, pattern=_ONE_LINE)
    flatten: bool = Field(default=True, description="false freezes: stops and targets stay")


class ArmRequest(Strict):
    """Why somebody allows trading again."""

    why: str = Field(default="", max_length=400, pattern=_ONE_LINE)
    confirm: str | None = Field(default=None, max_length=64, description="code of the first step")


class OperatorRequest(Strict):
    """How the person at the desk is."""

    source: Literal["hrv", "self_report"] = Field(
        default="hrv", description="hrv: RMSSD in ms; self_report: 0 (unfit) to 10 (at their best)"
    )
    value: float = Field(
        ge=0, le=1000, allow_inf_nan=False, examples=[42.0], description="ms, or 0–10"
    )
    note: str = Field(default="", max_length=400, pattern=_ONE_LINE)

    @model_validator(mode="after")
    def _within_its_scale(self) -> OperatorRequest:
        if self.source == "self_report" and self.value > 10:
            raise ValueError("a self_report must lie between 0 and 10")
        return self


class RiskEventRequest(Strict):
    """Something that bears on risk, told from outside; the same id again is the same event."""

    id: str = Field(min_length=1, max_length=64, pattern=_WORD, examples=["fomc-2025-06"])
    level: Literal["info", "warning", "error"] = "info"
    text: str = Field(max_length=400, pattern=_ONE_LINE)
    data: dict[str, str | int | float | bool | None] = Field(default={}, max_length=50)


class ProposalRequest(Strict):
    """What a person decides about a proposal."""

    decision: Literal["accept", "reject"]
    why: str = Field(default="", max_length=400, pattern=_ONE_LINE)


class JournalRequest(Strict):
    """What a person says of a closed trade, or of the position that this closes."""

    action: Literal["reflect", "close"] = "reflect"
    trade_id: str | None = Field(default=None, max_length=64, description="reflect: which trade")
    symbol: str | None = Field(default=None, max_length=40, description="close: which position")
    text: str = Field(max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")
    tags: list[str] = Field(default=[], max_length=10, examples=[["late", "news"]])
    followed_plan: bool | None = None
    author: str = Field(default="operator", max_length=40, pattern=r"^[A-Za-z0-9_ .-]+$")

    @model_validator(mode="after")
    def _names_its_subject(self) -> JournalRequest:
        if self.action == "reflect" and self.trade_id is None:
            raise ValueError("reflect needs a trade_id")
        if self.action == "close" and self.symbol is None:
            raise ValueError("close needs a symbol")
        return self


class StateRequest(Strict):
    """A followed symbol's state at the close of a bar."""

    symbol: str = Field(max_length=40)
    as_of: int = Field(ge=0, le=LAST_MS, description="UTC ms")


class OpinionsRequest(Strict):
    """States that the desk wants opinions about."""

    items: list[StateRequest] = Field(max_length=1000)


class TradeRequest(Strict):
    """A round trip made elsewhere; the same id again is the same trade.

    It is kept for the journal and moves no account here. ``pnl`` is worked out: ±(exit − entry) ·
    qty − fee − funding.
    """

    id: str = Field(
        min_length=1, max_length=64, pattern=_WORD, examples=["sheet-2025-0042"],
        description="its id where it comes from",
    )  # fmt: skip
    symbol: Symbol
    side: Literal["LONG", "SHORT"]
    qty: Positive = Field(description="base units")
    entry: Positive = Field(description="average price of the opening, quote currency")
    exit: Positive = Field(description="average price of the closing, quote currency")
    opened_at: Time
    closed_at: Time
    fee: Signed = Field(Decimal(0), description="quote currency; positive is paid")
    funding: Signed = Field(Decimal(0), description="quote currency; positive is paid")
    source: str = Field("import", min_length=1, max_length=40, pattern=_WORD)
    note: str = Field("", max_length=400, pattern=_ONE_LINE)


class SymbolRequest(Strict):
    """A symbol to watch from the next start on."""

    symbol: Symbol
    timeframe: str | None = Field(
        None, max_length=8, examples=["5m"], description="null: the one decided on"
    )
    active: bool = Field(True, description="whether the next start follows it")
    meta: dict[str, Scalar] = Field(default={}, max_length=20, description="notes of yours")


class SymbolChange(Strict):
    """What of a watched symbol changes; what is left out stays."""

    timeframe: str | None = Field(None, max_length=8, examples=["5m"])
    active: bool | None = None
    meta: dict[str, Scalar] | None = Field(None, max_length=20, description="notes of yours")


class JobCancel(Strict):
    """A job that is to stop."""

    state: Literal["cancelled"]
