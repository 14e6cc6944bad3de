"""Train the small models that ship: risk and the three baseline targets, into agents/weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.artifacts import SHIPPED, Card, promote
from agents.training import baseline, risk
from agents.training.dataset import Source
from data.files import file_sha256, read_bars
from domain.times import iso, parse_iso

SEED = 7
END = "2025-01-01"  # 2025 stays out of sample for whoever repeats this


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="five-minute bars, e.g. BTCUSDT-binance-spot-5m-…")
    parser.add_argument("--commit", required=True, help="of this code: git rev-parse --short HEAD")
    parser.add_argument("--at", required=True, help="now, ISO-8601: date -u +%%FT%%TZ")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--targets", nargs="*", default=["risk", *(f"baseline/{t}" for t in _ALL)])
    args = parser.parse_args()
    command = f"python scripts/train_shipped.py {args.file.name} --commit … --at …"
    source = Source(
        parse_iso(END), SEED, parse_iso(args.at), args.commit, file_sha256(args.file),
        command=command,
    )  # fmt: skip
    bars = read_bars(args.file).between(None, source.end_ms)
    print(f"{bars.symbol} {bars.timeframe}: {len(bars)} bars before {iso(source.end_ms)}")
    for name in args.targets:
        if name == risk.NAME:
            card = risk.train(bars, args.out, source, progress=print)
        else:
            card = baseline.train(name.split("/")[1], bars, args.out, source, progress=print)
        promote(args.out, name, card.version)
        _show(name, card)


def _show(name: str, card: Card) -> None:
    scores = card.metrics["walk_forward"]
    print(name, card.version, {k: round(v, 5) for k, v in scores.items() if k != "folds"})


_ALL = baseline.TARGETS

if __name__ == "__main__":
    main()
