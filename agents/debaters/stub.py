"""A provider without a model: the same question gets the same answer, anywhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from agents.debaters.provider import Reply


@dataclass(frozen=True, slots=True)
class StubProvider:
    """Answers by the hash of the question; for tests and trials without a key."""

    name: str = "stub"
    model: str = "hash"

    async def complete(self, system: str, user: str, timeout_s: float) -> Reply:  # noqa: ARG002
        """Return a move in [−1, 1] that follows from the question alone."""
        drawn = hashlib.sha256(f"{system}\n{user}".encode()).digest()
        move = int.from_bytes(drawn[:2], "big") / 65_535 * 2.0 - 1.0
        return Reply(json.dumps({"move": round(move, 3), "argument": "A hash has no reasons."}))
