"""What was put aside while the ledger was away comes into it, once and whole."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.errors import LedgerError, ServiceUnreachable
from domain.trading import ModeChange, Order, OrderType, RiskMode, Side
from storage.aside import FileAside
from storage.memory import MemoryLedger

KILL = ModeChange("live", 1_000, RiskMode.KILLED, "Ada", "a feeling — 感")
EXIT = Order(
    "cv1", "live", "BTC/USDT:USDT", Side.SELL, Decimal("0.010"), OrderType.MARKET, 1_000, "d1",
    "kill", reduce_only=True,
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "unwritten.jsonl"


def stored(ledger: MemoryLedger) -> list[Any]:
    return [record for _, record in ledger.records_since()]


def test_settle_when_records_were_put_twice_then_all_are_appended_in_order_once(
    file: Path,
) -> None:
    ledger = MemoryLedger()
    FileAside(file).put([KILL])
    FileAside(file).put([EXIT])
    FileAside(file).settle(ledger)
    assert stored(ledger) == [KILL, EXIT]
    FileAside(file).settle(ledger)
    assert stored(ledger) == [KILL, EXIT]
    assert list(file.parent.iterdir()) == []


def test_settle_when_a_crash_came_before_it_was_forgotten_then_nothing_is_doubled(
    file: Path,
) -> None:
    ledger = MemoryLedger()
    ledger.append([KILL, EXIT])
    FileAside(file).put([KILL, EXIT])
    FileAside(file).settle(ledger)
    assert stored(ledger) == [KILL, EXIT]


def test_settle_when_the_ledger_is_still_away_then_it_is_kept(file: Path) -> None:
    class Away(MemoryLedger):
        def append(self, records: Any) -> list[int]:
            raise ServiceUnreachable("database", "does not answer")

    FileAside(file).put([KILL])
    with pytest.raises(ServiceUnreachable):
        FileAside(file).settle(Away())
    ledger = MemoryLedger()
    FileAside(file).settle(ledger)
    assert stored(ledger) == [KILL]


@pytest.mark.parametrize("line", ["{", "1", "[]", '["order", {}]', '["nothing", {}]'])
def test_settle_when_the_file_is_damaged_then_it_names_the_line_and_appends_nothing(
    file: Path, line: str
) -> None:
    FileAside(file).put([KILL])
    file.write_text(f"{file.read_text()}{line}\n")
    ledger = MemoryLedger()
    with pytest.raises(LedgerError, match="line 2 cannot be read"):
        FileAside(file).settle(ledger)
    assert stored(ledger) == []
    assert file.exists()
