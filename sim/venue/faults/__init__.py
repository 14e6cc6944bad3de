"""Faults of the venue on demand: what can go wrong, when it does, and what it did."""
