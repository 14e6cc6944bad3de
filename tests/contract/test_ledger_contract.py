"""The laws of storage.checks, on both ledgers; and that the checker notices when one is broken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.errors import CheckFailed
from domain.ports import Ledger
from storage.checks import LAWS, check_ledger
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.memory import MemoryLedger
from storage.migrate import upgrade


def test_ledger_when_in_memory_then_it_keeps_every_law() -> None:
    check_ledger(MemoryLedger)


@pytest.mark.long
def test_ledger_when_on_sqlite_then_it_keeps_every_law(tmp_path: Path) -> None:
    files = itertools.count()

    def make() -> Ledger:
        engine = open_database(sqlite_url(tmp_path / f"{next(files)}.db"))
        upgrade(engine)
        return SqlLedger(engine, "binance")

    check_ledger(make)


def test_ledger_when_it_shares_a_database_with_other_worlds_then_it_keeps_every_law(
    tmp_path: Path,
) -> None:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    worlds = itertools.count()
    check_ledger(lambda: SqlLedger(engine, f"demo-{next(worlds)}"))
    assert SqlLedger(engine, "demo-0").verify().ok


class Forgetful(MemoryLedger):
    """Loses the digits of a price."""

    def records(self, kind: type[Any], after: int = 0, **where: Any) -> Iterator[tuple[int, Any]]:
        for seq, record in super().records(kind, after, **where):
            if hasattr(record, "open"):
                record = type(record)(**{**_fields(record), "open": round(record.open, 6)})
            yield seq, record


class Careless(MemoryLedger):
    """Numbers a repeat anew."""

    def append(self, records: Sequence[Any]) -> list[int]:
        return [number + self._calls() for number in super().append(records)]

    def _calls(self) -> int:
        self.calls = getattr(self, "calls", -1) + 1
        return self.calls


class Deaf(MemoryLedger):
    """Ignores what it is asked for."""

    def records(self, kind: type[Any], after: int = 0, **where: Any) -> Iterator[tuple[int, Any]]:
        return super().records(kind, after)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


@pytest.mark.parametrize("broken", [Forgetful, Careless, Deaf])
def test_check_ledger_when_a_ledger_breaks_a_law_then_it_says_so(
    broken: type[MemoryLedger],
) -> None:
    with pytest.raises(CheckFailed):
        check_ledger(broken)


def test_check_ledger_when_run_then_every_law_is_a_function_of_its_own() -> None:
    assert len(LAWS) == len(set(LAWS)) >= 8
