"""Pictures: drawn from any account and market, in both themes, by threads at once."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from domain.errors import UsageError
from notifications.charts import THEMES, draw
from serving.bot import examples

DATA = {
    "price": examples.price_data(), "equity": examples.equity_data(),
    "calibration": examples.calibration_data(),
}  # fmt: skip


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])  # type: ignore[return-value]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("chart", DATA)
def test_chart_when_drawn_then_it_is_a_png_of_a_phones_width(chart: str, theme: str) -> None:
    png = draw(chart, {**DATA[chart], "theme": theme})
    assert size(png) == (1080, 1080)
    assert len(png) < 1_000_000


@pytest.mark.long
def test_charts_when_drawn_twice_or_by_threads_then_they_are_the_same() -> None:
    alone = {name: draw(name, data) for name, data in DATA.items()}
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda name: draw(name, DATA[name]), [*DATA] * 3))
    assert together == [*alone.values()] * 3


EDGES: list[tuple[str, dict[str, Any]]] = [
    ("price", {"bars": DATA["price"]["bars"][:1], "decisions": [], "trades": []}),
    ("price", {"bars": [[n * 300_000, 5.0, 5.0, 5.0, 5.0] for n in range(9)], "trades": []}),
    ("price", {"stop": 1.0, "target": 9e9}),
    ("price", {"trades": [[DATA["price"]["bars"][3][0], 104_600.0, None, None, "SHORT"]]}),
    ("price", {"decisions": [[DATA["price"]["bars"][3][0], "LONG", None]]}),
    ("equity", {"marks": [[0, "10000", "10000"], [1, "10000", "10000"]]}),
    ("equity", {"marks": [[0, "0.00", "0.00"], [300_000, "-5", "0"]]}),
    ("calibration", {"bins": [[0.5, 0.52, 0.45, 0.55, 300]]}),
    ("calibration", {"bins": [[0.0, 0.0, 0.0, 0.0, 9], [1.0, 1.0, 1.0, 1.0, 9]]}),
]


@pytest.mark.long
@pytest.mark.parametrize(("chart", "more"), EDGES)
def test_chart_when_there_is_little_or_odd_data_then_it_is_drawn_all_the_same(
    chart: str, more: dict[str, Any]
) -> None:
    assert size(draw(chart, {**DATA[chart], **more})) == (1080, 1080)


def test_chart_when_nobody_knows_it_then_it_is_refused() -> None:
    with pytest.raises(UsageError, match="price, equity, calibration"):
        draw("pie", {})
    with pytest.raises(UsageError, match="theme"):
        draw("price", {**DATA["price"], "theme": "pink"})
