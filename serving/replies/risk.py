"""What risk answers with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serving.replies.base import Instant, Level, Mode, Reply


class CheckView(Reply):
    """One limit, its value now and how far it is; a margin of at least 0 passes."""

    name: str
    code: str
    value: float | str | None = Field(description="now, in the unit of `limit`")
    limit: float | str | None = Field(description="fraction, unless the name says otherwise")
    margin: float | None = Field(description="distance to the limit; negative stops")
    stops: str
    passed: bool


class StakeView(Reply):
    """What Kelly's rule would risk now."""

    fraction: float = Field(description="of equity, lost at the stop")
    smallest: bool
    trades: int
    p: float | None = Field(description="share of trades that won; null: too few yet")
    b: float | None = Field(description="mean win over mean loss")
    f: float | None = Field(description="Kelly's fraction, (b·p − q)/b")
    vol: float | None = Field(description="realised daily volatility, log return")
    vol_factor: float = Field(description="min(1, target / vol)")


class ReadingView(Reply):
    """The operator's newest report of one source."""

    source: str
    value: float = Field(description="ms (RMSSD), or 0–10")
    limit: float = Field(description="least value that does not pause")
    at: Instant
    until: Instant
    by: str
    note: str


class RiskView(Reply):
    """The risk mode, every limit, and what follows from them."""

    mode: Mode
    since: Instant | None
    by: str | None
    why: str | None
    checks: list[CheckView]
    size_factor: float | None = Field(description="share of a size that the drawdown leaves")
    risk_cap: float | None = Field(
        description="largest loss at the stop, share of equity; null: any"
    )
    stakes: dict[str, StakeView]
    operator: list[ReadingView]


class _RiskRow(Reply):
    account: str
    at: Instant
    seq: int = Field(description="number in the ledger")


class ModeChangeRow(_RiskRow):
    """A change of mode."""

    type: Literal["mode_change"]
    mode: Mode
    by: str
    why: str


class RiskEventRow(_RiskRow):
    """Something that bears on risk."""

    type: Literal["risk_event"]
    kind: str
    subject: str
    level: Level
    by: str
    body: dict[str, Any]


class OperatorRow(_RiskRow):
    """A report of the operator."""

    type: Literal["operator_report"]
    source: Literal["hrv", "self_report"]
    value: float = Field(description="ms (RMSSD), or 0–10")
    by: str
    note: str


class RefusalRow(_RiskRow):
    """An order or intent that was not carried out."""

    type: Literal["refusal"]
    symbol: str
    code: str
    rule: str
    value: str
    intent: str
    decision_id: str


RiskRow = Annotated[
    ModeChangeRow | RiskEventRow | OperatorRow | RefusalRow, Field(discriminator="type")
]


class KillTold(Reply):
    """What a kill came to."""

    mode: Mode
    changed: bool
    file: str | None = Field(None, description="kill file, where the database took no request")


class ArmTold(Reply):
    """What arming came to; the first step has the code for the second."""

    mode: Mode
    changed: bool
    confirm: str | None = None
    message: str | None = None


class OperatorTold(Reply):
    """A report as it was taken down."""

    source: Literal["hrv", "self_report"]
    value: float = Field(description="ms (RMSSD), or 0–10")
    at: Instant
    paused: bool = Field(description="whether entries wait because of it")


class EventTold(Reply):
    """An event as it was taken down."""

    id: str
    at: Instant
    new: bool
