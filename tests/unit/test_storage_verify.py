"""Whatever is done to the stored rows behind the triggers' back, verify names the first bad row."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from domain.canonical import canonical_json
from storage.backup import export_lines
from storage.chaining import GENESIS, link
from storage.checks import examples
from storage.engine import open_database, sqlite_url
from storage.ledger import SqlLedger
from storage.migrate import upgrade
from storage.schema import INSERT_ONLY
from storage.snapshots import SqlSnapshots

PER_STEP = len(examples(0))  # bar 1, opinions 2-3, outcome 4, decision 5, order 6, fill 7, …
SECOND, DECIDED = PER_STEP + 1, PER_STEP + 5  # bar and decision of the second step


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    ledger = SqlLedger(engine, "binance")
    for step in range(3):
        ledger.append(examples(step))
    return engine


def tamper(engine: Engine, *statements: str) -> None:
    """Change rows as somebody with the file and a SQLite shell would."""
    with sqlite3.connect(str(engine.url.database)) as raw:
        for table in INSERT_ONLY:
            for name in ("no_update", "no_delete", "no_replace"):
                raw.execute(f"DROP TRIGGER IF EXISTS {table.name}_{name}")
        for statement in statements:
            assert raw.execute(statement).rowcount > 0, statement
    raw.close()


def test_verify_when_nothing_was_touched_then_it_reports_rows_head_and_balanced_books(
    engine: Engine,
) -> None:
    ledger = SqlLedger(engine, "binance")
    report = ledger.verify()
    assert report.ok
    assert report.first_bad_seq is None
    assert report.rows == 3 * PER_STEP
    assert (report.head_seq, report.head_hash) == ledger.head()
    assert report.totals == {
        "binance paper cash USDT": "-0.141000150",
        "binance paper fee USDT": "0.141000150",
    }


def test_verify_when_the_ledger_is_empty_then_it_is_fine(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "empty.db"))
    upgrade(engine)
    report = SqlLedger(engine, "binance").verify()
    assert (report.ok, report.rows, report.head_hash) == (True, 0, GENESIS)


CASES: dict[str, tuple[int, str, list[str]]] = {
    "a price altered": (
        SECOND, "hash", [f"UPDATE bars SET close = close + 1e-9 WHERE seq = {SECOND}"],
    ),
    "a probability altered": (2, "hash", ["UPDATE opinions SET p_up = 0.9 WHERE seq = 2"]),
    "a null filled": (3, "hash", ["UPDATE opinions SET p_up = 0.5 WHERE seq = 3"]),
    "a value made null": (2, "hash", ["UPDATE opinions SET p_up = NULL WHERE seq = 2"]),
    "digits of money altered": (7, "hash", ["UPDATE fills SET fee = '0.047' WHERE seq = 7"]),
    "a word for a number": (7, "hash", ["UPDATE fills SET fee = 'nothing' WHERE seq = 7"]),
    "bytes for a text": (5, "never appended", ["UPDATE decisions SET reason = x'ff' WHERE seq=5"]),
    "undecodable text": (
        5, "cannot be read", ["UPDATE decisions SET reason = CAST(x'ff' AS TEXT) WHERE seq = 5"],
    ),
    "a key altered": (6, "hash", ["UPDATE chain SET record_key = 'cv9' WHERE seq = 6"]),
    "a hash altered": (6, "hash", [f"UPDATE chain SET hash = '{'a' * 64}' WHERE seq = 6"]),
    "a kind altered": (6, "missing from", ["UPDATE chain SET kind = 'fill' WHERE seq = 6"]),
    "an unknown kind": (6, "unknown kind", ["UPDATE chain SET kind = 'wish' WHERE seq = 6"]),
    "a typed row gone": (
        DECIDED, "missing from decisions", [f"DELETE FROM decisions WHERE seq = {DECIDED}"],
    ),
    "a link gone": (
        DECIDED, "missing from the chain", [f"DELETE FROM chain WHERE seq = {DECIDED}"],
    ),
    "a record gone": (
        DECIDED, "missing from the chain",
        [f"DELETE FROM {table} WHERE seq = {DECIDED}" for table in ("chain", "decisions")],
    ),
    "the first record gone": (
        1, "missing from the chain",
        ["DELETE FROM chain WHERE seq = 1", "DELETE FROM bars WHERE seq = 1"],
    ),
    "the end of the chain gone": (
        3 * PER_STEP, "goes on to", [f"DELETE FROM chain WHERE seq = {3 * PER_STEP}"],
    ),
    "two records swapped": (
        1, "hash",
        [
            "UPDATE bars SET seq = 1000 WHERE seq = 1",
            f"UPDATE bars SET seq = 1 WHERE seq = {SECOND}",
            f"UPDATE bars SET seq = {SECOND} WHERE seq = 1000",
        ],
    ),
    "two numbers swapped throughout": (
        2, "hash",
        [
            f"UPDATE {table} SET seq = {to} WHERE seq = {of}"
            for of, to in ((2, 1000), (3, 2), (1000, 3))
            for table in ("chain", "opinions")
        ],
    ),
    "a row of another kind slipped in": (
        4, "not in the chain",
        ["INSERT INTO mode_changes VALUES (4, 'binance', 'paper', 1, 'ACTIVE', 'me', 'so')"],
    ),
    "a typed row moved to another world": (
        1, "another world", ["UPDATE bars SET world = 'demo-7' WHERE seq = 1"],
    ),
    "a record moved to another world": (
        1, "hash",
        [f"UPDATE {table} SET world = 'demo-7' WHERE seq = 1" for table in ("bars", "chain")],
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_verify_when_a_row_was_tampered_with_then_it_names_the_first_bad_one(
    engine: Engine, case: str
) -> None:
    seq, word, statements = CASES[case]
    tamper(engine, *statements)
    report = SqlLedger(engine, "binance").verify()
    assert not report.ok
    assert report.first_bad_seq == seq
    assert word in report.problem
    assert f"row {seq} " in report.problem


def test_verify_when_the_end_is_cut_off_cleanly_then_a_snapshot_of_it_tells(
    engine: Engine,
) -> None:
    SqlSnapshots(engine, "binance").save("council", "BTC/USDT", 3 * PER_STEP, {})
    last = 3 * PER_STEP
    tamper(
        engine, f"DELETE FROM external_trades WHERE seq = {last}",
        f"DELETE FROM chain WHERE seq = {last}",
    )  # fmt: skip
    assert SqlLedger(engine, "binance").verify().first_bad_seq == last


def test_verify_when_a_whole_forged_entry_does_not_balance_then_the_books_tell(
    engine: Engine,
) -> None:
    """A forger who recomputes every later hash still has to keep the books."""
    ledger = SqlLedger(engine, "binance")
    seq, previous = ledger.head()
    row = {
        "entry": "forged", "account": "paper", "book": "cash", "asset": "USDT",
        "amount": "1000000", "at": 1, "memo": "",
    }  # fmt: skip
    digest = link(previous, "posting", "binance", canonical_json({**row, "key": "forged"}))
    with sqlite3.connect(str(engine.url.database)) as raw:
        place = (seq + 1, "binance")
        raw.execute("INSERT INTO chain VALUES (?, ?, 'posting', 'forged', ?)", (*place, digest))
        raw.execute(
            "INSERT INTO postings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*place, *row.values())
        )
    raw.close()
    report = ledger.verify()
    assert report.first_bad_seq == seq + 1
    assert "postings sum to 1000000" in report.problem


@pytest.mark.long
@pytest.mark.parametrize("chunk_edge", [1998, 2000, 2001])
def test_verify_when_the_bad_row_lies_at_the_edge_of_a_chunk_then_it_is_found(
    tmp_path: Path, chunk_edge: int
) -> None:
    engine = open_database(sqlite_url(tmp_path / "long.db"))
    upgrade(engine)
    ledger = SqlLedger(engine, "binance")
    ledger.append([examples(step)[0] for step in range(2005)])
    assert ledger.verify().rows == 2005
    tamper(engine, f"UPDATE bars SET volume = 0 WHERE seq = {chunk_edge}")
    assert ledger.verify().first_bad_seq == chunk_edge


def test_export_when_its_lines_are_hashed_again_then_the_head_is_the_same(engine: Engine) -> None:
    digest = GENESIS
    for line in export_lines(engine):
        entry = json.loads(line)
        body = canonical_json({**entry["row"], "key": entry["key"]})
        digest = link(digest, entry["kind"], entry["world"], body)
        assert digest == entry["hash"]
    assert digest == SqlLedger(engine, "binance").head()[1]


def test_records_when_a_row_can_no_longer_be_read_then_the_error_names_it(engine: Engine) -> None:
    from domain.decision import Decision
    from domain.errors import ChainBroken

    tamper(engine, f"UPDATE decisions SET action = 'MAYBE' WHERE seq = {DECIDED}")
    read: Callable[[], object] = lambda: list(SqlLedger(engine, "binance").records(Decision))  # noqa: E731
    with pytest.raises(ChainBroken, match=f"row {DECIDED}"):
        read()
