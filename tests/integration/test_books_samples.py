"""Recorded order books and trades of real markets through reader, views, states and agent."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from agents.checks import check_agent
from agents.contract import sleep_reason
from agents.microstructure import Microstructure
from data.books import read_books, read_trades, recording_of
from data.flow import recorded_market, views
from domain.market import BookView, MarketState

SAMPLES = os.environ.get("CONCLAVE_SAMPLES", "")
FOLDER = Path(SAMPLES) if SAMPLES else None
DEPTHS = sorted(FOLDER.glob("*-l2top20-*.parquet")) if FOLDER else []
TICKERS = sorted(FOLDER.glob("*-bookticker-*.parquet")) if FOLDER else []
STEP, WINDOW = 10_000, 10_000  # ms
AGENT = Microstructure()

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="CONCLAVE_SAMPLES is unset: no folder of real sample recordings"
)


class Recording(NamedTuple):
    """One market's files, read here with NumPy alone, and its states every ten seconds."""

    depth: dict[str, Any]
    trades: dict[str, Any]
    states: list[MarketState]


def trades_of(depth: Path) -> Path:
    return depth.with_name(depth.name.replace("l2top20", "trades"))


def columns(path: Path) -> dict[str, Any]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.fixture(scope="module", params=DEPTHS, ids=lambda path: path.name[:36])
def recording(request: pytest.FixtureRequest) -> Recording:
    path: Path = request.param
    memory = recorded_market(path, trades_of(path))
    states = []
    for as_of, view in views(read_books(path), read_trades(trades_of(path)), STEP, WINDOW):
        known = memory.state(as_of)
        if known is not None:
            states.append(seen(known, as_of, view))
    return Recording(columns(path), columns(trades_of(path)), states)


def seen(state: MarketState, as_of: int, view: BookView) -> MarketState:
    return replace(state, as_of=as_of, book=view.book, trades=view.trades, flow=view.flow)


def last_row(recording: Recording, as_of: int) -> int:
    return int(np.searchsorted(recording.depth["ts"], as_of)) - 1


def evidence(states: Sequence[MarketState]) -> list[dict[str, Any]]:
    return [dict(opinion.evidence) for opinion in AGENT.opine(states)]


@pytest.mark.long
def test_states_when_made_at_bar_closes_then_they_carry_bars_of_the_trades_and_the_book() -> None:
    for path in DEPTHS:
        memory, raw = recorded_market(path, trades_of(path)), columns(trades_of(path))
        assert len(memory) >= 7
        for state in memory.states():
            inside = (raw["ts"] >= state.as_of - 60_000) & (raw["ts"] < state.as_of)
            prices = raw["price"][inside]
            bar = state.bars.bar(-1)
            assert (bar.open, bar.close) == (prices[0], prices[-1])
            assert (bar.high, bar.low) == (prices.max(), prices.min())
            assert bar.volume == pytest.approx(raw["qty"][inside].sum())
            assert state.book is not None
            assert 0 < state.as_of - state.book.at < 2_200
            assert sleep_reason(AGENT.opine([state])[0]) is None


@pytest.mark.long
def test_agent_when_it_reads_real_books_then_it_is_awake_and_obeys_its_laws(
    recording: Recording,
) -> None:
    check_agent(AGENT, recording.states)
    opinions = AGENT.opine(recording.states)
    assert len(opinions) > 35
    for opinion in opinions:
        told = opinion.evidence
        assert opinion.p_up is not None
        assert abs(opinion.p_up - 0.5) <= 0.03
        assert 0.0 < told["spread_bps"] < 1.0
        assert told["pressure"] > 0.0
        assert told["liquidity"] > 20_000.0
        for name in ("imbalance", "microprice", "flow", "trades"):
            assert told[name] is None or -1.0 <= told[name] <= 1.0
    sides = [opinion.p_up > 0.5 for opinion in opinions if opinion.p_up is not None]
    assert 0.2 < np.mean(sides) < 0.8


def test_measures_when_computed_from_the_columns_then_they_are_the_same(
    recording: Recording,
) -> None:
    depth = recording.depth
    for state, told in zip(recording.states, evidence(recording.states), strict=True):
        row = last_row(recording, state.as_of)
        bid, ask = depth["bid_px_1"][row], depth["ask_px_1"][row]
        assert told["spread_bps"] == pytest.approx((ask - bid) / ((ask + bid) / 2) * 1e4)
        b, a = (
            np.array([depth[f"{side}_qty_{k}"][row] for k in range(1, 21)])
            for side in ("bid", "ask")
        )
        worth = [
            depth[f"{side}_px_{k}"][row] * depth[f"{side}_qty_{k}"][row]
            for side in ("bid", "ask")
            for k in range(1, 6)
        ]
        imbalance = (b[:5].sum() - a[:5].sum()) / (b[:5].sum() + a[:5].sum())
        assert told["imbalance"] == pytest.approx(imbalance)
        assert told["pressure"] == pytest.approx(b.sum() / a.sum())
        assert told["liquidity"] == pytest.approx(sum(worth))
        micro = (ask * b[0] + bid * a[0]) / (a[0] + b[0])
        mid = (ask + bid) / 2
        assert told["microprice_bps"] == pytest.approx((micro / mid - 1) * 1e4, abs=1e-9)


def test_order_flow_when_compared_with_a_naive_loop_then_it_is_the_same(
    recording: Recording,
) -> None:
    d = recording.depth
    for state, told in zip(recording.states, evidence(recording.states), strict=True):
        total = gross = 0.0
        for i in range(1, last_row(recording, state.as_of) + 1):
            if d["ts"][i] < state.as_of - WINDOW:
                continue
            e = 0.0
            if d["bid_px_1"][i] >= d["bid_px_1"][i - 1]:
                e += d["bid_qty_1"][i]
            if d["bid_px_1"][i] <= d["bid_px_1"][i - 1]:
                e -= d["bid_qty_1"][i - 1]
            if d["ask_px_1"][i] <= d["ask_px_1"][i - 1]:
                e -= d["ask_qty_1"][i]
            if d["ask_px_1"][i] >= d["ask_px_1"][i - 1]:
                e += d["ask_qty_1"][i - 1]
            total, gross = total + e, gross + abs(e)
        assert told["ofi"] == pytest.approx(total, rel=1e-9, abs=1e-6)
        assert told["flow"] == pytest.approx(total / gross if gross else 0.0, abs=1e-9)


def test_trade_flow_when_compared_with_the_columns_then_it_is_the_same(
    recording: Recording,
) -> None:
    raw = recording.trades
    for state, told in zip(recording.states, evidence(recording.states), strict=True):
        inside = (raw["ts"] >= state.as_of - WINDOW) & (raw["ts"] < state.as_of)
        worth = (raw["price"] * raw["qty"])[inside]
        signed = np.where(raw["buyer_is_maker"][inside].astype(bool), -worth, worth)
        assert len(state.trades) == np.count_nonzero(inside) > 0
        assert told["trades"] == pytest.approx(signed.sum() / worth.sum())


def test_imbalance_when_the_mid_moves_on_then_what_it_foretells_is_gone_within_a_minute() -> None:
    def foretold(depth: dict[str, Any], ahead: int) -> float:
        ts, mid = depth["ts"], (depth["bid_px_1"] + depth["ask_px_1"]) / 2
        b, a = (sum(depth[f"{s}_qty_{k}"] for k in range(1, 6)) for s in ("bid", "ask"))
        grid = np.arange(ts[0] + 1_000, ts[-1] - 60_000, 500)
        now, then = np.searchsorted(ts, grid) - 1, np.searchsorted(ts, grid + ahead) - 1
        lean = ((b - a) / (b + a))[now]
        return float(np.corrcoef(lean, np.log(mid[then] / mid[now]))[0, 1])

    recordings = [columns(path) for path in DEPTHS]
    one, ten, sixty = ([foretold(depth, 1_000 * s) for depth in recordings] for s in (1, 10, 60))
    print("correlation with the mid's move over 1, 10 and 60 s:", one, ten, sixty)
    assert min(one) > 0.25
    assert min(ten) > 0.1
    assert abs(np.mean(sixty)) < 0.1


@pytest.mark.long
@pytest.mark.parametrize("path", TICKERS, ids=lambda path: path.name[:40])
def test_best_quotes_when_read_then_every_row_is_a_book_in_order(path: Path) -> None:
    symbol, _ = recording_of(path)
    raw, last, rows = columns(path), 0, 0
    for book in read_books(path):
        assert book.symbol == symbol
        assert book.at >= last
        assert book.at > 1_600_000_000_000
        assert book.bids == ((raw["bid"][rows], raw["bid_qty"][rows]),)
        last, rows = book.at, rows + 1
    assert rows == len(raw["ts"])


@pytest.mark.long
def test_views_when_a_recording_is_twice_as_long_then_they_take_about_twice_as_long() -> None:
    path = max(DEPTHS, key=lambda depth: pq.read_metadata(depth).num_rows)
    books, trades = list(read_books(path)), list(read_trades(trades_of(path)))

    def seconds(share: float) -> float:
        some = int(share * len(books))
        until = books[some - 1].at
        prints = [trade for trade in trades if trade.at <= until]
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            found = list(views(islice(books, some), prints, STEP))
            AGENT.opine([seen(state, as_of, view) for as_of, view in found])
            taken.append(time.perf_counter() - began)
        return min(taken)

    state = recorded_market(path, trades_of(path)).states()[0]
    half, whole = seconds(0.5), seconds(1.0)
    print(f"{1e6 * whole / (len(books) + len(trades)):.2f} µs an event")
    assert whole < 3.5 * half
