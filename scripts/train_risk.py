"""Train the adverse moves; takes what ``conclave train risk`` takes, e.g. --data FILE."""

from __future__ import annotations

import sys

from serving.cli import run

if __name__ == "__main__":
    sys.exit(run(["train", "risk", *sys.argv[1:]]))
