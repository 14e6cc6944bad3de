"""Bars of a simulated market and those of a real one never lie in one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data.origin import FILES, SIMULATED, Origin, joined, note, origin_of, origin_of_file
from data.store import BarStore
from domain.errors import DataRefused
from sim.worlds import DEMO_START_MS, DemoMarket

MADE = Origin(SIMULATED, "http://127.0.0.1:8089", "demo-7")
REAL = Origin("binance", "binance")


def claim(store: BarStore, mine: Origin) -> None:
    note(store, joined(store, mine))


def filled(folder: Path, known: Origin | None = None) -> BarStore:
    store = BarStore(folder)
    if known is not None:
        claim(store, known)
    store.put_bars(DemoMarket(7).bars(DEMO_START_MS, 3))
    return store


@pytest.mark.parametrize(
    ("known", "others"),
    [
        (MADE, [Origin(), REAL, replace(MADE, market="demo-8")]),
        (REAL, [MADE, Origin("kraken", "kraken"), Origin(SIMULATED)]),
        (Origin(), [MADE]),
    ],
)
def test_bars_of_another_market_are_refused(
    tmp_path: Path, known: Origin, others: list[Origin]
) -> None:
    store = filled(tmp_path, known)
    for other in others:
        with pytest.raises(DataRefused, match=r"holds bars of .*, and these are of "):
            claim(store, other)
    assert origin_of(store) == known


@pytest.mark.parametrize("known", [MADE, REAL, Origin()])
def test_an_empty_folder_takes_any(tmp_path: Path, known: Origin) -> None:
    store = BarStore(tmp_path)
    for other in (MADE, REAL, known):
        claim(store, other)
        assert origin_of(store) == other


def test_who_knows_less_takes_nothing_away(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (tmp_path / "origin.json").write_text('{"origin":"simulated"}')  # of an earlier version
    claim(store, MADE)
    assert origin_of(store) == MADE
    claim(store, Origin(SIMULATED))  # a file that was fetched elsewhere
    assert origin_of(store) == MADE
    claim(store, replace(MADE, server="http://127.0.0.1:9000"))  # the same market at another port
    with pytest.raises(DataRefused):
        joined(store, replace(MADE, market="bars-1"))


def test_files_join_what_an_exchange_gave(tmp_path: Path) -> None:
    store = filled(tmp_path, REAL)
    claim(store, Origin(FILES))
    assert origin_of(store) == REAL


@pytest.mark.parametrize("text", ["", "[]", '{"origin": "simulated", "more": 1}'])
def test_a_damaged_note_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "origin.json").write_text(text)
    with pytest.raises(DataRefused, match="damaged"):
        origin_of(BarStore(tmp_path))


def test_a_file_tells_by_its_name() -> None:
    for name, simulated in (
        ("BTCUSDT-simulated-spot-5m-202501.parquet", True), ("BTCUSDT-demo-spot-5m.parquet", True),
        ("BTCUSDT-binance-spot-5m.parquet", False), ("BTCUSDT-spot-5m.csv", False),
        ("bars.csv", False),
    ):  # fmt: skip
        assert origin_of_file(Path(name)).simulated is simulated
