"""Opinion tapes: what every agent says about every bar, asked once and kept."""

from sim.tapes.store import PART_BARS, Tape, TapeStore

__all__ = ["PART_BARS", "Tape", "TapeStore"]
