"""The explanation of a stored decision: the same JSON for the command line and HTTP."""

from __future__ import annotations

from typing import Any

from serving.schema import why_of
from storage.queries import Reader


def explanation(reader: Reader, decision_id: str) -> dict[str, Any] | None:
    """Return votes, weights, exact contributions, costs, margins and outcome; None if unknown."""
    found = reader.decision(decision_id)
    if found is None:
        return None
    decision = found[1]
    opinions = [
        opinion
        for _, opinion in reader.opinions_at(
            decision.symbol, decision.as_of, timeframe=decision.timeframe
        )
    ]
    outcome = reader.outcome_at(
        decision.symbol, decision.as_of, decision.horizon_bars, decision.timeframe
    )
    return why_of(decision, opinions, outcome)
