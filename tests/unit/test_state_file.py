"""state.json: the format others rely on, whole or not there, and checked when it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.errors import LedgerError
from domain.trading import ClosedTrade, Order, OrderType, Portfolio, Position, Side
from serving.state_file import KEPT_MS, State, StateFile, differences, read_state, state_of

NOW = 1_704_110_400_000  # 2024-01-01T12:00:00Z
PERP = "BTC/USDT:USDT"
TRADE = ClosedTrade(
    PERP, "LONG", Decimal("0.023"), NOW - 2, NOW - 1, Decimal(43180), Decimal(43250), Decimal(0),
    Decimal(0), Decimal(0), Decimal(0), Decimal("1.56"), "target",
)  # fmt: skip
HELD = Position("paper", PERP, Decimal("0.023"), Decimal("43180.0"), NOW, "d", NOW + 5)
BOOKS = Portfolio(
    "paper", "USDT", NOW, Decimal("10126.34"), Decimal("10127.34"), Decimal("10334.02"),
    {PERP: HELD},
)  # fmt: skip
ORDER = Order("cv1", "paper", PERP, Side.SELL, Decimal("0.023"), OrderType.STOP, NOW, "d", "stop")


def made(at: int = NOW, **changes: Any) -> State:
    more: dict[str, Any] = {
        "world": "w", "mode": "ACTIVE", "weights": {"BTC/USDT": {"technical": 0.5}},
        "breakers": [{"name": "total_stop", "margin": 0.06}], "head_seq": 7, "head_hash": "a" * 64,
    }  # fmt: skip
    state = state_of(BOOKS, [TRADE], [ORDER], capital=10_000.0, wins=(3, 2), written_at=at, **more)
    return state.model_copy(update=changes)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state.json", tmp_path / "backups")


def test_state_when_written_then_it_has_the_keys_and_types_of_the_requirements(
    file: StateFile,
) -> None:
    file.save(made(), copy=False)
    body = json.loads(file.path.read_text())
    assert body["timestamp"] == "2024-01-01T12:00:00Z"
    assert body["wallet_balance"] == 10126.34
    assert body["positions"] == {
        "BTCUSDT": {"side": "LONG", "size": 0.023, "entry_price": 43180.0}
    }  # fmt: skip
    assert body["total_pnl"] == pytest.approx(127.34)
    wanted = {
        "timestamp": "2024-01-01T11:59:59.999Z", "side": "BUY", "price": 43180.0, "size": 0.023,
        "pnl": 1.56,
    }  # fmt: skip
    assert body["trades"][0].items() >= wanted.items()
    assert body["risk_metrics"]["current_drawdown"] == pytest.approx(0.02, abs=1e-6)
    assert body["risk_metrics"]["win_rate"] == pytest.approx(2 / 3)
    assert body["open_orders"][0]["id"] == "cv1"
    assert file.load() == made()
    assert not list(file.path.parent.glob("*.tmp"))
    assert not file.copies.exists()


def test_state_when_nothing_has_closed_then_the_win_rate_is_a_number_and_says_of_how_many() -> None:
    books = replace(BOOKS, positions={})
    state = state_of(
        books, [], [], capital=10_000.0, wins=(0, 0), written_at=NOW, world="w", mode="HALTED",
        weights={}, breakers=[], head_seq=0, head_hash="0" * 64,
    )  # fmt: skip
    assert (state.risk_metrics.win_rate, state.risk_metrics.closed_trades) == (0.0, 0)
    assert state.positions == {}


def test_copies_when_a_day_has_passed_then_the_old_ones_go_and_the_file_stays(
    file: StateFile,
) -> None:
    for at in (NOW, NOW + 300_000, NOW + KEPT_MS, NOW + KEPT_MS + 1000):
        file.save(made(at), copy=True)
    assert sorted(path.name for path in file.copies.iterdir()) == [
        "state_backup_20240101_120500.json", "state_backup_20240102_120000.json",
        "state_backup_20240102_120001.json",
    ]  # fmt: skip
    assert file.load() == made(NOW + KEPT_MS + 1000)


BROKEN: dict[str, tuple[str, str]] = {
    "cut": ('{"timestamp": "2024-01-01T12:0', "Invalid JSON"),
    "empty": ("", "Invalid JSON"),
    "another program's": ('{"balance": 3}', "timestamp: Field required"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_state_when_it_is_not_one_then_it_is_refused_in_words(file: StateFile, name: str) -> None:
    text, says = BROKEN[name]
    file.path.write_text(text)
    with pytest.raises(LedgerError, match=f"state.json: is not a state: {says}") as caught:
        file.load()
    assert "made anew from the ledger" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("wallet_balance", "much", "wallet_balance"),
        ("wallet_balance", None, "wallet_balance"),
        ("positions", {"BTCUSDT": {"side": "UP", "size": 1, "entry_price": 1}}, "BTCUSDT.side"),
        ("positions", {"BTCUSDT": {"side": "LONG", "size": -1, "entry_price": 1}}, "BTCUSDT.size"),
        ("risk_metrics", {"current_drawdown": 2, "win_rate": 0, "closed_trades": 0}, "drawdown"),
        ("timestamp", "yesterday", "timestamp"),
        ("schema_version", 2, "schema_version"),
        ("surprise", 1, "surprise"),
    ],
)
def test_state_when_a_value_is_wrong_then_it_is_named(
    file: StateFile, key: str, value: Any, says: str
) -> None:
    body = json.loads(made().model_dump_json())
    file.path.write_text(json.dumps({**body, key: value}))
    with pytest.raises(LedgerError, match=says):
        file.load()


def test_newest_copy_when_the_last_one_is_broken_then_the_one_before_is_read(
    file: StateFile,
) -> None:
    assert file.load() is None
    assert file.newest_copy() is None
    file.save(made(), copy=True)
    file.save(made(NOW + 60_000), copy=True)
    (file.copies / "state_backup_20240101_120100.json").write_text("{")
    (file.copies / "state_backup_of_mine.json").write_text("{}")
    assert file.newest_copy() == made()


def test_state_when_it_cannot_be_read_then_it_says_why(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        read_state(tmp_path)


def test_differences_when_the_ledger_says_otherwise_then_each_is_told() -> None:
    now = made()
    assert differences(made(), now, "a" * 64) == []
    assert differences(made(head_seq=5, wallet_balance=1.0), now, "a" * 64) == []  # only older
    (ahead,) = differences(made(head_seq=9), now, None)
    assert ahead == "it knows row 9, where the ledger ends at 7"
    (other,) = differences(made(head_hash="b" * 64), now, "a" * 64)
    assert other == "row 7 of the ledger is another one"
    (foreign,) = differences(made(world="v"), now, "a" * 64)
    assert foreign == "it is of paper in v"
    cash, mode = differences(made(wallet_balance=1.0, mode="KILLED"), now, "a" * 64)
    assert cash == "wallet_balance is 1.0 there and 10126.34 in the ledger"
    assert mode == "mode is KILLED there and ACTIVE in the ledger"
