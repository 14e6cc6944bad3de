"""Recorded books beside the best quotes of the same minutes, which are a stream of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

SAMPLES = os.environ.get("CONCLAVE_SAMPLES", "")
FOLDER = Path(SAMPLES) if SAMPLES else None
DEPTHS = sorted(FOLDER.glob("*-l2top20-*.parquet")) if FOLDER else []
LATE_NS = 10_000_000  # by which a book may come after the quote that it holds


@dataclass(frozen=True)
class Agreement:
    """Shares of books, [0, 1].

    Attributes
    ----------
    matched : that have a quote before them. ``prices`` : whose best prices are the last quote's.
    whole : and its quantities. ``held`` : that equal a quote which held in their moment.
    stale : that equal the quote of a second before, for comparison.
    """

    books: int
    matched: float
    prices: float
    whole: float
    held: float
    stale: float


def agreement(path: Path, rows: NDArray[np.int64], best: NDArray[np.float64]) -> Agreement:
    """Match books with quotes of the other stream, whose numbers the books do not tell.

    Of perpetuals both are stamped by the exchange. A book was made between its transaction time T
    and its event time E: its prices are compared with the last quote at or before E, and all of
    price and quantity with the quotes that held at some instant of [T, E]. Spot's quotes have no
    stamp of the exchange: both are matched by the time of receipt on one machine, its prices with
    the last quote received by then, price and quantity with those of the 10 ms before.

    Parameters
    ----------
    rows : (n,) of the recording, of each book.
    best : (n, 4) bid, its quantity, ask, its quantity.
    """
    depth = pq.read_table(path, columns=["ts", "T", "local_ns"]).to_pydict()
    ticker = pq.read_table(path.with_name(path.name.replace("l2top20", "bookticker"))).to_pydict()
    quotes = np.array([ticker[name] for name in ("bid", "bid_qty", "ask", "ask_qty")]).T
    if any(ticker["ts"]):
        stamps, since, until = (
            np.array(x) for x in (ticker["ts"], depth["T"], depth["ts"])
        )  # fmt: skip
    else:
        stamps, until = np.array(ticker["local_ns"]), np.array(depth["local_ns"])
        since = until - LATE_NS
    since, until = since[rows], until[rows]
    last = np.searchsorted(stamps, until, side="right") - 1
    first = np.searchsorted(stamps, since, side="left") - 1  # held until the first of them
    both = first >= 0
    same = quotes[last] == best
    second = 1_000 if any(ticker["ts"]) else 1_000_000_000
    before = np.searchsorted(stamps, until - second, side="right") - 1
    return Agreement(
        int(both.sum()), float(both.mean()),
        float(same[both][:, [0, 2]].all(axis=1).mean()), float(same[both].all(axis=1).mean()),
        float(np.mean([
            (quotes[a : b + 1] == row).all(axis=1).any()
            for a, b, row in zip(first[both], last[both], best[both], strict=True)
        ])),
        float((quotes[before] == best)[before >= 0].all(axis=1).mean()),
    )  # fmt: skip
