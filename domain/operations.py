"""What people add to the ledger: risk events, the operator's state, reflections, own trades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from domain.canonical import short_hash

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class RiskEvent:
    """Something that bears on risk and is neither an order nor a change of mode.

    Attributes
    ----------
    kind : ``reconciliation``, ``assertion``, ``external``, …
    subject : what it is about: a symbol, an assertion's name, an event's id elsewhere.
    body : the evidence, JSON's types.
    """

    account: str
    at: int  # ms, market time
    kind: str
    subject: str
    level: Level
    by: str
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One event per account, instant, kind and subject."""
        return self.account, self.at, self.kind, self.subject

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class OperatorReport:
    """How the person at the desk is: a heart-rate variability reading or a word of their own.

    Attributes
    ----------
    source : ``hrv`` (RMSSD in ms) or ``self_report`` (0 unfit … 10 at their best).
    """

    account: str
    at: int  # ms, market time
    source: Literal["hrv", "self_report"]
    value: float
    by: str
    note: str = ""

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One report per account, instant and source."""
        return self.account, self.at, self.source

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class Reflection:
    """What somebody makes of a trade; the newest of a trade holds, earlier ones stay.

    Attributes
    ----------
    symbol, decision_id : execution symbol and the decision that opened the trade: they name it
        while it is still open, too.
    draft : written from the ledger, waiting for a person's words.
    followed_plan : whether the trade was carried out as planned; None where nobody said.
    """

    account: str
    symbol: str
    decision_id: str
    at: int  # ms, market time
    author: str
    text: str
    tags: tuple[str, ...] = ()
    draft: bool = False
    followed_plan: bool | None = None

    @property
    def identity(self) -> tuple[str | int, ...]:
        """One reflection per trade, instant and author."""
        return self.account, self.symbol, self.decision_id, self.at, self.author

    @property
    def key(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)


@dataclass(frozen=True, slots=True)
class ExternalTrade:
    """A round trip that was made elsewhere and is kept for the journal; it moves no account here.

    Attributes
    ----------
    account : ``external``.
    ref : its id where it comes from; the same one again is the same trade.
    at : when it was told, ms, market time.
    entry, exit, fee, funding, pnl : quote units; pnl is net of fee and funding.
    by : who told it.
    source : which program or venue it comes from.
    """

    account: str
    ref: str
    at: int
    symbol: str
    side: Literal["LONG", "SHORT"]
    qty: Decimal
    opened_at: int  # ms, as told
    closed_at: int
    entry: Decimal
    exit: Decimal
    fee: Decimal
    funding: Decimal
    pnl: Decimal
    by: str
    source: str
    note: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """One trade per account and id elsewhere."""
        return self.account, self.ref

    @property
    def id(self) -> str:
        """Its identity, hashed."""
        return short_hash(self.identity)
