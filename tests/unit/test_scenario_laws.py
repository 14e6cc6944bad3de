"""The auditor believes rows only, and finds what is wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from domain.canonical import plain
from domain.decision import Decision
from domain.market import Bar
from domain.records import changed
from domain.trading import EquityMark, Fill, ModeChange, Order, Posting, RiskMode
from execution.limits import RiskLimits
from serving.commands.common import settings_from
from serving.rules import backtest_rules
from serving.scenarios import played, scenario_for, shipped, with_its_settings
from sim.scenarios.judge import audited, report
from sim.scenarios.laws import Auditor
from sim.scenarios.play import Played
from sim.scenarios.spec import Scenario, composed, read

LIMITS = RiskLimits()
QUICK = ("gap-down", "kill-in-crash", "kill-while-silent", "halt-in-drought")


def a_scenario(name: str, body: dict[str, Any]) -> Scenario:
    written = read(name, body)
    return composed([written], name, written.about, written.expect)


PAIR = a_scenario(
    "pair",
    {
        "symbols": ["BTC/USDT", "ETH/USDT"], "lasts": "12h",
        "shocks": [{"together": {"share": 0.95}}],
        "settings": {"execution.fixed_notional": 2400, "risk.max_order_notional": 5000},
    },
)  # fmt: skip


@cache
def a_run(name: str) -> Played:
    scenario = PAIR if name == PAIR.name else scenario_for([name])
    return played(scenario, with_its_settings(scenario, settings_from), "")


def the_rows(name: str) -> list[Any]:
    return [row for _, row in a_run(name).ledger.records_since()]


def reading(name: str, rows: Iterable[Any], limits: RiskLimits = LIMITS) -> Auditor:
    run = a_run(name)
    auditor = Auditor(limits, run.books, run.cast.routes, run.kills)
    auditor.read(rows)
    return auditor


def broken(auditor: Auditor) -> set[str]:
    return {name for name, law in auditor.laws.items() if law.broken}


@pytest.mark.long
@pytest.mark.parametrize("name", QUICK)
def test_a_bad_day_breaks_no_law_and_shows_what_it_should(name: str) -> None:
    scenario, run = scenario_for([name]), a_run(name)
    settings = with_its_settings(scenario, settings_from)
    found = report(scenario, run, audited(run, backtest_rules(settings, "", "").limits))
    assert [law for law in found["laws"] if law["broken"]] == []
    assert [each for each in found["expected"] if not each["met"]] == []
    assert found["held"]
    assert found["shown"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in shipped() if name not in QUICK])
def test_every_scenario_holds(name: str) -> None:
    test_a_bad_day_breaks_no_law_and_shows_what_it_should(name)


@pytest.mark.slow
def test_the_council_goes_through_a_crash_and_trades() -> None:
    scenario = a_scenario("council", {
        "world": "demo", "warm_up": "9d", "lasts": "12h", "strategy": "council",
        "shocks": [{"flash_crash": {"at": "8h", "fall": 0.1}}],
    })  # fmt: skip
    settings = with_its_settings(scenario, settings_from, "demo")
    run = played(scenario, settings, "")
    auditor = audited(run, backtest_rules(settings, "", "").limits)
    assert broken(auditor) == set()
    assert auditor.entries > 5
    assert auditor.aside["below_cost"] > 50


@pytest.mark.long
def test_every_law_is_put_to_the_test_by_some_scenario() -> None:
    tested: set[str] = set()
    for name in (*QUICK, PAIR.name):
        auditor = audited(a_run(name), LIMITS)
        tested |= {law for law, found in auditor.laws.items() if found.checked}
    assert tested == {*audited(a_run(QUICK[0]), LIMITS).laws}


@pytest.mark.parametrize(
    ("limits", "law"),
    [
        ({"max_symbol_exposure": 0.3}, "exposure"),
        ({"max_total_exposure": 0.5}, "exposure"),
        ({"daily_loss": 0.001}, "daily loss"),
        ({"total_stop": 0.005}, "total stop"),
        ({"drawdown_start": -0.03}, "drawdown"),
        ({"max_spread_bps": 0.5}, "book"),
        ({"min_liquidity": 2e6}, "book"),
    ],
)
def test_tighter_limits_than_the_desk_had_are_found_broken(
    limits: dict[str, float], law: str
) -> None:
    assert broken(reading("gap-down", the_rows("gap-down"))) == set()
    found = reading("gap-down", the_rows("gap-down"), replace(LIMITS, **limits))
    assert law in broken(found)


def test_symbols_that_move_together_are_found_where_nobody_counted_them() -> None:
    tight = replace(LIMITS, max_symbol_exposure=0.26)
    assert "correlation" in broken(reading(PAIR.name, the_rows(PAIR.name), tight))


def _without(kind: type, number: int) -> Callable[[list[Any]], Iterator[Any]]:
    def drop(rows: list[Any]) -> Iterator[Any]:
        left = number
        for row in rows:
            left -= type(row) is kind
            if left != -1 or type(row) is not kind:
                yield row

    return drop


def _first(kind: type, change: Callable[[Any], Any]) -> Callable[[list[Any]], Iterator[Any]]:
    def alter(rows: list[Any]) -> Iterator[Any]:
        done = False
        for row in rows:
            if not done and type(row) is kind:
                done = True
                yield change(row)
            else:
                yield row

    return alter


def _after_kill(rows: list[Any]) -> Iterator[Any]:
    entry = next(row for row in rows if isinstance(row, Order) and row.intent == "entry")
    for row in rows:
        yield row
        if isinstance(row, ModeChange) and row.mode is RiskMode.KILLED:
            yield changed(entry, id="late", created_at=row.at)


def _on_a_missing_bar(rows: list[Any]) -> Iterator[Any]:
    order = next(row for row in rows if isinstance(row, Order) and row.intent == "entry")
    for row in rows:
        if isinstance(row, Bar) and row.symbol == order.symbol and row.close_ms == order.created_at:
            continue
        yield row


def _nothing_closes(rows: list[Any]) -> Iterator[Any]:
    for row in rows:
        if not (isinstance(row, Order) and row.intent == "kill"):
            yield row


def _added_to(rows: list[Any]) -> Iterator[Any]:
    # what is held already is entered once more, while nothing closes it
    entry = None
    for row in rows:
        yield row
        if isinstance(row, Order) and row.intent == "entry":
            entry = row
        elif isinstance(row, EquityMark) and entry is not None and row.at > entry.created_at:
            yield changed(entry, id="again", created_at=row.at)
            entry = None


def _exit_too_large(rows: list[Any]) -> Iterator[Any]:
    done = False
    for row in rows:
        if not done and isinstance(row, Fill) and row.intent != "entry":
            done = True
            yield changed(row, qty=row.qty * 3)
        else:
            yield row


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (_without(Posting, 3), "balance"),
        (_first(Posting, lambda line: changed(line, amount=line.amount + 1)), "balance"),
        (_first(Fill, lambda fill: changed(fill, price=fill.price + 1)), "equity"),
        (_first(EquityMark, lambda mark: changed(mark, equity=mark.equity + Decimal("0.01"))),
         "equity"),
        (_after_kill, "mode"),
        (_on_a_missing_bar, "feed"),
        (_nothing_closes, "closing"),
        (_exit_too_large, "reduce only"),
        (_added_to, "exposure"),
    ],
)  # fmt: skip
def test_a_ledger_that_was_tampered_with_is_found_out(
    spoil: Callable[[list[Any]], Iterator[Any]], law: str
) -> None:
    rows = the_rows("kill-in-crash")
    assert law not in broken(reading("kill-in-crash", rows))
    assert law in broken(reading("kill-in-crash", spoil(rows)))


@pytest.mark.parametrize("name", ["kill-in-crash", "halt-in-drought"])
def test_a_stop_that_closes_nothing_is_found_out_once_anybody_trades(name: str) -> None:
    # orders to close are there, and fill never
    rows = [r for r in the_rows(name) if not (isinstance(r, Fill) and r.intent in ("kill", "risk"))]
    auditor = reading(name, rows)
    assert "closing" in broken(auditor)
    assert auditor.flat_after == [None]


@pytest.mark.long
def test_a_second_kill_that_closes_nothing_is_found_out() -> None:
    scenario = a_scenario("twice", {
        "lasts": "12h", "settings": {"execution.stop_atr": None, "execution.target_atr": None},
        "acts": [{"kill": {"at": "9h", "flatten": False}}, {"kill": {"at": "9h30m"}}],
        "expect": {"exits": ["kill"], "flat_within": 2},
    })  # fmt: skip
    settings = with_its_settings(scenario, settings_from)
    run = played(scenario, settings, "")
    auditor = audited(run, backtest_rules(settings, "", "").limits)
    assert broken(auditor) == set()
    assert auditor.flat_after == [1]
    rows = [row for _, row in run.ledger.records_since()]
    again = Auditor(LIMITS, run.books, run.cast.routes, run.kills)
    again.read(r for r in rows if not (isinstance(r, Order | Fill) and r.intent == "kill"))
    assert "closing" in broken(again)


def test_a_bar_that_was_not_decided_on_is_found_out() -> None:
    run = a_run("kill-while-silent")
    auditor = Auditor(LIMITS, run.books, run.cast.routes, run.kills)
    rows = the_rows("kill-while-silent")
    auditor.read(rows)
    decided = [r for r in rows if isinstance(r, Decision) and r.origin == "bar"]
    heard = [(each.symbol, each.as_of) for each in decided]
    auditor.expect_decisions(heard)
    assert broken(auditor) == set()
    auditor.expect_decisions([("BTC/USDT", heard[-1][1] + 300_000)])
    assert broken(auditor) == {"decided"}


@pytest.mark.long
def test_a_desk_that_restarts_after_every_bar_writes_the_same_ledger() -> None:
    def rows(acts: list[dict[str, Any]]) -> list[Any]:
        scenario = a_scenario("restarts", {
            "lasts": "12h", "settings": {"execution.fixed_notional": 4800,
                                         "risk.max_order_notional": 5000},
            "shocks": [{"gap": {"at": "8h40m", "size": -0.06}}], "acts": acts,
        })  # fmt: skip
        run = played(scenario, with_its_settings(scenario, settings_from), "")
        assert run.restarts == []
        assert any(isinstance(row, ModeChange) for _, row in run.ledger.records_since())
        return [plain(row) for _, row in run.ledger.records_since()]

    often = [{"restart": {"at": f"{8 * 60 + 5 * n}m"}} for n in range(24)]
    assert rows(often) == rows([])


def test_a_halt_that_never_came_is_found_out() -> None:
    rows = the_rows("gap-down")
    never = (row for row in rows if not isinstance(row, ModeChange))
    assert "total stop" in broken(reading("gap-down", never))


def test_a_desk_that_comes_back_otherwise_is_told() -> None:
    run = a_run("gap-down")
    other = replace(run, restarts=["mode: ACTIVE instead of HALTED"])
    assert broken(audited(other, LIMITS)) == {"restart"}


@pytest.mark.long
def test_the_same_scenario_gives_the_same_rows() -> None:
    scenario = scenario_for(["kill-while-silent"])
    again = played(scenario, with_its_settings(scenario, settings_from), "")
    mine = [plain(row) for row in the_rows("kill-while-silent")]
    assert [plain(row) for _, row in again.ledger.records_since()] == mine
