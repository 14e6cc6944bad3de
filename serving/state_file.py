"""``VAR_DIR/state.json``: the account at a glance, for people and for programs of others.

The ledger is the truth and this a view of it, in the format of the core's requirements with a few
keys more. It is replaced in one piece, kept for a day in dated copies, and checked when read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from domain.errors import LedgerError, UsageError
from domain.times import DAY_MS, iso, parse_iso
from domain.trading import ClosedTrade, Order, Portfolio
from serving.replies import Strict

STATE_FILE = "state.json"
TRADES = 100  # the newest that are listed
KEPT_MS = DAY_MS
_COPY = re.compile(r"state_backup_(\d{8})_(\d{6})\.json")


def _time(text: str) -> str:
    try:
        parse_iso(text)
    except UsageError as error:
        raise ValueError(error.rule) from None
    return text


Time = Annotated[str, AfterValidator(_time)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PositionState(Strict):
    """An open position; prices in quote currency, sizes in base units."""

    side: Literal["LONG", "SHORT"]
    size: Positive
    entry_price: Positive


class TradeState(Strict):
    """A closed trade: ``side`` and ``price`` are those of its opening."""

    timestamp: Time = Field(description="when it closed, market time")
    side: Literal["BUY", "SELL"]
    price: Positive
    size: Positive
    pnl: Finite = Field(description="net of fees and funding, quote currency")
    symbol: str
    exit_price: Positive
    reason: str


class RiskMetrics(Strict):
    """Fractions; ``win_rate`` is 0 while nothing has closed."""

    current_drawdown: Fraction
    win_rate: Fraction
    closed_trades: Annotated[int, Field(ge=0)]


class OrderState(Strict):
    """A working order."""

    id: str
    symbol: str
    side: Literal["BUY", "SELL"]
    size: Positive
    type: str
    intent: str


class State(Strict):
    """Everything in the file."""

    timestamp: Time = Field(description="when it was written, wall time")
    wallet_balance: Finite = Field(description="cash, quote currency")
    positions: dict[str, PositionState] = Field(description="by symbol without slash")
    total_pnl: Finite = Field(description="equity less the opening capital, quote currency")
    trades: list[TradeState] = Field(description=f"the last {TRADES}, oldest first")
    risk_metrics: RiskMetrics
    schema_version: Literal[1]
    world: str
    account: str
    currency: str
    as_of: Time = Field(description="market time")
    equity: Finite
    mode: Literal["ACTIVE", "REDUCING", "HALTED", "KILLED"]
    open_orders: list[OrderState]
    weights: dict[str, dict[str, float]] = Field(description="symbol → agent → weight")
    breakers: list[dict[str, Any]] = Field(description="limits with their values and margins")
    head_seq: Annotated[int, Field(ge=0)] = Field(description="newest row of the ledger in it")
    head_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def state_of(
    portfolio: Portfolio,
    trades: Sequence[ClosedTrade],
    orders: Sequence[Order],
    *,
    capital: float,
    wins: tuple[int, int],
    written_at: int,
    **more: Any,
) -> State:
    """Put a state together.

    Parameters
    ----------
    trades : the last :data:`TRADES`, oldest first.
    capital : what the account opened with, quote currency.
    wins : (closed trades, those with a profit).
    written_at : ms, wall time.
    more : world, mode, weights, breakers, head_seq, head_hash.
    """
    closed, won = wins
    return State(
        timestamp=iso(written_at),
        wallet_balance=float(portfolio.cash),
        positions={_short(symbol): _position(p) for symbol, p in portfolio.positions.items()},
        total_pnl=float(portfolio.equity) - capital,
        trades=[_trade(trade) for trade in trades],
        risk_metrics=RiskMetrics(
            current_drawdown=float(portfolio.drawdown),
            win_rate=won / closed if closed else 0.0,
            closed_trades=closed,
        ),
        schema_version=1,
        account=portfolio.account,
        currency=portfolio.currency,
        as_of=iso(portfolio.at),
        equity=float(portfolio.equity),
        open_orders=[_order(order) for order in orders],
        **more,
    )


def _short(symbol: str) -> str:
    return symbol.partition(":")[0].replace("/", "")


def _position(position: Any) -> PositionState:
    return PositionState(
        side="LONG" if position.qty > 0 else "SHORT",
        size=abs(float(position.qty)),
        entry_price=float(position.entry_price),
    )


def _trade(trade: ClosedTrade) -> TradeState:
    return TradeState(
        timestamp=iso(trade.closed_at),
        side="BUY" if trade.side == "LONG" else "SELL",
        price=float(trade.entry),
        size=float(trade.qty),
        pnl=float(trade.pnl),
        symbol=trade.symbol,
        exit_price=float(trade.exit),
        reason=trade.reason,
    )


def _order(order: Order) -> OrderState:
    return OrderState(
        id=order.id, symbol=order.symbol, side="BUY" if order.side.sign > 0 else "SELL",
        size=float(order.qty), type=order.type.value, intent=order.intent,
    )  # fmt: skip


def differences(told: State, now: State, hash_then: str | None) -> list[str]:
    """Say how a state that was read differs from what the ledger says.

    Parameters
    ----------
    hash_then : hash of the ledger's row ``told.head_seq``, None if the ledger has no such row.

    Returns
    -------
    Nothing for a state that is only older.
    """
    if (told.world, told.account) != (now.world, now.account):
        return [f"it is of {told.account} in {told.world}"]
    if told.head_seq and hash_then is None:
        return [f"it knows row {told.head_seq}, where the ledger ends at {now.head_seq}"]
    if told.head_seq and hash_then != told.head_hash:
        return [f"row {told.head_seq} of the ledger is another one"]
    if told.head_seq != now.head_seq:
        return []
    names = ("wallet_balance", "positions", "total_pnl", "mode", "trades")
    return [
        f"{name} is {getattr(told, name)} there and {getattr(now, name)} in the ledger"
        for name in names
        if getattr(told, name) != getattr(now, name)
    ]


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file and its dated copies.

    Attributes
    ----------
    copies : folder of ``state_backup_YYYYMMDD_HHMMSS.json``, UTC.
    """

    path: Path
    copies: Path

    def save(self, state: State, *, copy: bool) -> None:
        """Replace the file in one piece; with ``copy`` keep a dated one, and drop old ones.

        Raises
        ------
        OSError : if the disk does not take it; the old file stays.
        """
        text = state.model_dump_json(indent=2) + "\n"
        at = parse_iso(state.timestamp)
        if copy:
            self.copies.mkdir(parents=True, exist_ok=True)
            name = datetime.fromtimestamp(at / 1000, UTC).strftime(
                "state_backup_%Y%m%d_%H%M%S.json"
            )
            _replace(self.copies / name, text)
            for path, then in self._dated():
                if then < at - KEPT_MS:
                    path.unlink(missing_ok=True)
        _replace(self.path, text)

    def load(self) -> State | None:
        """Read the file; None if there is none.

        Raises
        ------
        LedgerError : if it is not a state, or one of another version.
        """
        return read_state(self.path) if self.path.exists() else None

    def newest_copy(self) -> State | None:
        """Return the newest dated copy that is a state, None if none is."""
        for path, _ in sorted(self._dated(), key=lambda item: item[1], reverse=True):
            try:
                return read_state(path)
            except LedgerError:
                continue
        return None

    def _dated(self) -> list[tuple[Path, int]]:
        found = ((path, _COPY.fullmatch(path.name)) for path in self.copies.glob("state_backup_*"))
        return [(path, parse_iso(f"{name[1]}T{name[2]}")) for path, name in found if name]


def read_state(path: Path) -> State:
    """Read a state.

    Raises
    ------
    LedgerError : naming the first thing in it that is not as it must be.
    """
    hint = "It is made anew from the ledger; nothing depends on it."
    try:
        return State.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LedgerError(
            path.name, f"cannot be read ({error.strerror})", str(path), hint
        ) from error
    except ValidationError as error:
        raise LedgerError(
            path.name, f"is not a state: {_first(error.errors())}", str(path), hint
        ) from None


def _first(errors: Sequence[Mapping[str, Any]]) -> str:
    where = ".".join(map(str, errors[0]["loc"]))
    return f"{where + ': ' if where else ''}{errors[0]['msg']}"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
