"""docs/backtest.md against the code that it describes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from data.files import read_bars
from data.instruments import instrument_for
from domain.times import parse_iso
from execution.funding import no_funding
from execution.strategies import EmaCross
from sim.backtest import exercise_rules, run_backtest
from sim.measures import MEASURES

TEXT = (Path(__file__).parents[2] / "docs" / "backtest.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    table = re.search(r"^\|.*?(?=^[^|])", TEXT.split(f"\n## {heading}\n")[1], re.M | re.S)
    assert table is not None
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[0].splitlines()[2:]]


def test_document_when_it_explains_figures_then_they_are_the_codes_own() -> None:
    expected = [[m.title, f"`{m.key}`", m.how, m.over] for m in MEASURES.values()]
    assert rows("Figures") == expected


def test_document_when_it_gives_an_example_then_figures_carry_their_own_names() -> None:
    assert {name for name, *_ in rows("An honest example")} <= {m.title for m in MEASURES.values()}


@pytest.mark.slow
def test_document_when_its_example_is_run_then_every_figure_is_what_it_says() -> None:
    samples = os.environ.get("CONCLAVE_SAMPLES")
    if not samples:
        pytest.skip("CONCLAVE_SAMPLES is not set: no folder of sample bars")
    frame = read_bars(Path(samples, "BTCUSDT-binance-spot-5m-20220801-20251231.parquet"))
    year = frame.between(parse_iso("2024-01-01"), parse_iso("2025-01-01"))
    result = run_backtest(
        year, EmaCross(), instrument_for(year.symbol), rules=exercise_rules(), funding=no_funding
    ).deflated(1)
    by_title = {m.title: m for m in MEASURES.values()}
    for title, value, interval in rows("An honest example"):
        one = by_title[title]
        assert one.write(result.metrics[one.key]) == value
        if interval:
            ends = [one.bare(end) for end in result.intervals[one.key] if end is not None]
            assert " to ".join(ends) == interval
