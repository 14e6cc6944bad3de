"""Train the range; takes what ``conclave train return`` takes, e.g. --model tft --data FILE."""

from __future__ import annotations

import sys

from serving.cli import run

if __name__ == "__main__":
    sys.exit(run(["train", "return", *sys.argv[1:]]))
