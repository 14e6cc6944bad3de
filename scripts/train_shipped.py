"""Train what ships, by the commands of the command line, into agents/weights or another folder.

    python scripts/train_shipped.py BARS [--names tft/trend chronos …] [--out FOLDER] [--seed N]

Everything learns from BTC/USDT, the neural agents from six more symbols, whose bars also say how
wide their intervals must be; nothing sees 2025. With ``--end 2024-01-01`` they leave out 2024, the
year on which the council's settings are chosen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agents.artifacts import SHIPPED, promote, versions
from agents.training.kinds import TRAININGS, ModelSpec
from serving.cli import run

FILE = "{}USDT-binance-spot-5m-20220801-20251231.parquet"
FIRST, OTHERS = "BTC", ("ETH", "SOL", "XRP", "DOGE", "LTC", "ADA")
GATE, NAMES = "gate", (*TRAININGS, "gate/ema_cross")
END, SEED = "2025-01-01", 7  # 2025 stays out of sample for whoever repeats this


def words(name: str, folder: Path, out: Path, seed: int = SEED, end: str = END) -> list[str]:
    """Return the command that trains a model."""
    kind, _, target = name.partition("/")
    several = kind != GATE and ModelSpec(name).several
    also = OTHERS if several else ()
    return [
        "train", *_what(kind, target), "--data", str(folder / FILE.format(FIRST)),
        *(word for other in also for word in ("--also", str(folder / FILE.format(other)))),
        "--end", end, "--seed", str(seed), "--set", f"MODELS_DIR={out}",
    ]  # fmt: skip


def _what(kind: str, target: str) -> list[str]:
    if kind == GATE:
        return [GATE, "--strategy", target, "--profile", "exercise"]
    return [target, "--model", kind] if target else ["volatility" if kind == "risk" else kind]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the files of bars")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--names", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of another training than what ships"
    )
    parser.add_argument("--end", default=END, help="bars that open from here on are left out")
    args = parser.parse_args()
    for name in args.names:
        code = run(words(name, args.folder, args.out, args.seed, args.end))
        if code:
            return code
        promote(args.out, name, versions(args.out, name)[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
