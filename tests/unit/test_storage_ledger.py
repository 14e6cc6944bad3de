"""What goes into the ledger comes out of it, to the last digit, and only in its world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from domain.decision import Action, Decision, GateVerdict
from domain.errors import DuplicateRecord, LedgerError, UsageError
from domain.market import Bar
from domain.opinion import Opinion
from domain.quantiles import Quantiles
from domain.trading import EquityMark, Fill, Posting, Side
from storage.checks import examples
from storage.engine import open_database, read, sqlite_url
from storage.ledger import SqlLedger
from storage.memory import MemoryLedger
from storage.migrate import upgrade


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = open_database(sqlite_url(tmp_path_factory.mktemp("ledger") / "ledger.db"))
    upgrade(engine)
    return engine


_names: Iterator[int] = iter(range(1_000_000))


@pytest.fixture
def ledger(database: Engine) -> SqlLedger:
    return fresh(database)


def fresh(database: Engine) -> SqlLedger:
    return SqlLedger(database, f"world-{next(_names)}")


reals = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
times = st.integers(0, 2**53)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=18) | st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30
)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | reals | texts
bodies = st.dictionaries(
    texts,
    st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5
    ),
    max_size=3,
)  # fmt: skip
quantiles = st.builds(
    lambda pairs: Quantiles(tuple(sorted(p[0] for p in pairs)), tuple(p[1] for p in pairs)),
    st.lists(st.tuples(st.floats(0.001, 0.999), reals), min_size=3, max_size=9),
)
bars = st.builds(Bar, texts, texts, times, reals, reals, reals, reals, reals)
opinions = st.builds(
    Opinion, texts, texts, texts, texts, times, st.integers(1, 99), st.none() | reals,
    st.none() | quantiles, st.none() | reals, st.none() | reals, st.none() | reals, texts, bodies,
)  # fmt: skip
gates = st.builds(
    GateVerdict, st.sampled_from(["allow", "veto"]), reals, reals, texts,
    st.none() | st.sampled_from(Action),
)  # fmt: skip
decisions = st.builds(
    Decision, texts, texts, times, times, st.integers(1, 99), texts, st.sampled_from(Action),
    st.sampled_from(Action), st.lists(texts).map(tuple), texts, st.none() | reals,
    st.none() | reals, st.none() | quantiles, st.none() | reals, st.none() | reals,
    st.none() | reals, st.none() | reals, st.none() | reals, st.none() | reals,
    weights=st.dictionaries(texts, reals, max_size=3), inputs=bodies, gate=gates,
    margins=st.dictionaries(texts, st.none() | reals, max_size=3), state_seq=times,
)  # fmt: skip
fills = st.builds(
    Fill, texts, texts, texts, texts, st.sampled_from(Side), decimals, decimals, times, decimals,
    decimals, decimals, decimals, st.booleans(), texts, decimals,
)  # fmt: skip
marks = st.builds(EquityMark, texts, times, decimals, decimals, decimals)


@pytest.mark.long
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(record=bars | opinions | decisions | fills | marks)
def test_ledger_when_any_record_is_appended_then_it_comes_back_bit_for_bit(
    database: Engine, record: Any
) -> None:
    ledger = fresh(database)
    (seq,) = ledger.append([record])
    ((number, back),) = ledger.records(type(record))
    assert number == seq
    assert back == record
    for name in record.__slots__:
        before, after = getattr(record, name), getattr(back, name)
        assert type(before) is type(after)
        if isinstance(before, float) and before:
            assert before.hex() == after.hex()
        if isinstance(before, Decimal) and before:
            assert format(before, "f") == format(after, "f")
    assert ledger.append([back]) == [seq]


def test_ledger_when_everything_of_this_module_is_stored_then_it_verifies(
    database: Engine,
) -> None:
    fresh(database).append(examples())
    assert SqlLedger(database, "any").verify().ok


def test_worlds_when_they_share_a_database_then_neither_sees_the_other(database: Engine) -> None:
    live, demo = fresh(database), fresh(database)
    first = live.append(examples(0))
    second = demo.append(examples(0))
    assert not set(first) & set(second)
    assert [n for n, _ in live.records_since()] == first
    assert [n for n, _ in demo.records(Opinion)] == second[1:3]
    assert live.find(Opinion, examples(0)[1].key) == (first[1], examples(0)[1])
    assert live.head() == demo.head()
    other = replace(examples(0)[0], close=1.0)
    demo_only = SqlLedger(database, "demo-only")
    assert demo_only.append([other])  # the same key with other content, in a world of its own


def test_records_since_when_kinds_alternate_then_all_come_in_the_order_of_appends(
    ledger: SqlLedger,
) -> None:
    records = [record for step in range(120) for record in examples(step)]  # more than one chunk
    numbers = ledger.append(records)
    assert list(ledger.records_since(0)) == list(zip(numbers, records, strict=True))
    assert list(ledger.records_since(numbers[1100])) == list(
        zip(numbers[1101:], records[1101:], strict=True)
    )
    assert list(ledger.records_since(numbers[-1])) == []


def test_records_when_more_than_a_chunk_matches_then_none_is_lost_or_doubled(
    ledger: SqlLedger,
) -> None:
    bars = [examples(step)[0] for step in range(2100)]
    numbers = ledger.append(bars)
    assert list(ledger.records(Bar, symbol="BTC/USDT")) == list(zip(numbers, bars, strict=True))


def test_records_when_rows_are_appended_while_reading_then_the_reader_may_go_on(
    ledger: SqlLedger,
) -> None:
    ledger.append([examples(step)[0] for step in range(3)])
    seen = 0
    for _, bar in ledger.records(Bar):
        seen += 1
        ledger.append([replace(bar, symbol="ETH/USDT")])
    assert seen == 3
    assert len(list(ledger.records(Bar))) == 6


def test_append_when_one_record_of_many_is_refused_then_nothing_of_it_is_stored(
    ledger: SqlLedger,
) -> None:
    ledger.append(examples(0))
    before = ledger.head()
    bad = replace(examples(0)[1], p_up=0.9)
    with pytest.raises(DuplicateRecord, match="p_up") as caught:
        ledger.append([*examples(1), bad])
    assert "opinion" in caught.value.message
    assert ledger.head() == before


def test_append_when_the_commit_never_comes_then_the_rows_are_not_there(database: Engine) -> None:
    ledger = fresh(database)
    head = ledger.head()
    # text that no encoding can write stops the append after others were prepared
    with pytest.raises(LedgerError, match="Unicode"):
        ledger.append([*examples(0), replace(examples(1)[1], rationale="\ud800")])
    assert ledger.head() == head


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rationale": "a\x00b"}, "opinion.rationale"),
        ({"rationale": 7}, "opinion.rationale"),
        ({"as_of": 1.5}, "opinion.as_of"),
        ({"p_up": math.nan}, "opinion.p_up"),
        ({"p_up": "high"}, "opinion.p_up"),
        ({"evidence": {"x": object()}}, "opinion.evidence"),
        ({"quantiles": Quantiles((0.1, 0.5, 0.9), (0.0, math.inf, 0.0))}, "opinion.quantiles"),
    ],
)
def test_append_when_a_field_has_no_place_in_the_database_then_the_error_names_it(
    ledger: SqlLedger, change: dict[str, Any], what: str
) -> None:
    with pytest.raises(LedgerError, match=what):
        ledger.append([replace(examples(0)[1], **change)])


def test_append_when_money_is_not_a_finite_decimal_then_it_is_refused(ledger: SqlLedger) -> None:
    mark = next(record for record in examples(0) if isinstance(record, EquityMark))
    for bad in (Decimal("NaN"), Decimal("Infinity"), 1.5):
        with pytest.raises(LedgerError, match=r"equity_mark\.equity"):
            ledger.append([replace(mark, equity=bad)])


@pytest.mark.parametrize("make", ["sql", "memory"])
def test_append_when_an_entry_is_split_over_two_accounts_then_the_sum_decides(
    ledger: SqlLedger, make: str
) -> None:
    store = ledger if make == "sql" else MemoryLedger()
    a = Posting("move", "paper", "cash", "USDT", Decimal("-1.5"), 1)
    b = Posting("move", "other", "cash", "USDT", Decimal("1.5"), 1)
    with pytest.raises(LedgerError, match="sum to zero"):
        store.append([a, replace(b, amount=Decimal("1.5000000000000000000000000000001"))])
    with pytest.raises(LedgerError, match="BTC"):
        store.append([a, b, replace(b, asset="BTC")])
    assert len(store.append([a, b])) == 2


def test_records_when_a_filter_is_no_plain_field_then_the_error_lists_those_that_are(
    ledger: SqlLedger,
) -> None:
    with pytest.raises(UsageError, match="Searchable: agent, as_of"):
        list(ledger.records(Opinion, p_up=0.5))
    with pytest.raises(LedgerError, match="Bar"):
        list(ledger.records(dict))


def test_ledger_when_its_world_has_no_name_then_it_is_refused(database: Engine) -> None:
    with pytest.raises(UsageError, match="world"):
        SqlLedger(database, "")


def test_tables_when_queried_by_hand_then_columns_are_typed(
    ledger: SqlLedger, database: Engine
) -> None:
    ledger.append(examples(0))
    with read(database) as connection:
        row = connection.exec_driver_sql(
            "SELECT typeof(p_up), typeof(as_of), typeof(seq),"
            " json_extract(quantiles, '$.levels[1]') FROM opinions WHERE world = ? LIMIT 1",
            (ledger.world,),
        ).one()
    assert tuple(row) == ("real", "integer", "integer", 0.5)
