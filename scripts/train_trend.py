"""Train the direction; takes what ``conclave train trend`` takes, e.g. --model tft --data FILE."""

from __future__ import annotations

import sys

from serving.cli import run

if __name__ == "__main__":
    sys.exit(run(["train", "trend", *sys.argv[1:]]))
