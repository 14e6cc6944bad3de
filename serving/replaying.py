"""A stored decision made again: from its opinions, and from all that the ledger held before it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from consensus.council import Council
from consensus.replay import ELSEWHERE, Differences, differences, unlearned
from domain.canonical import plain
from domain.decision import Decision
from domain.errors import CheckFailed
from domain.opinion import Opinion, Outcome
from domain.times import iso
from sim.progress import Progress
from storage.ledger import SqlLedger
from storage.queries import Reader


def replayed(
    ledger: SqlLedger, decision_id: str, platform: str, tick: Progress
) -> dict[str, Any] | None:
    """Return what ``conclave replay`` tells; None if this world does not hold the decision.

    Parameters
    ----------
    platform : of this process; where the decision was made on another one, numbers are compared
        within :data:`consensus.replay.ELSEWHERE` and ``exact`` says so.
    tick : called with rows folded and rows in all.

    Raises
    ------
    CheckFailed : if the decision is another strategy's, or does not carry its inputs.
    """
    found = council_decision(Reader(ledger.engine, ledger.world), decision_id)
    if found is None:
        return None
    decision, said = found
    made_on = str(decision.inputs.get("platform", ""))
    exact = made_on == platform
    tolerance = 0.0 if exact else ELSEWHERE
    decided = differences(decision, said, tolerance)
    learned = unlearned(decision, said, _rows(ledger, decision, tick), tolerance)
    return {
        "id": decision.id,
        "symbol": decision.symbol,
        "timeframe": decision.timeframe,
        "as_of": iso(decision.as_of),
        "same": not decided and not learned,
        "exact": exact,
        "tolerance": tolerance,
        "platform": {"decided": made_on, "here": platform},
        "opinions": len(said),
        "folded_to": decision.state_seq,
        "decision": _told(decided),
        "learned": _told(learned),
    }


def council_decision(reader: Reader, decision_id: str) -> tuple[Decision, list[Opinion]] | None:
    """Return a decision and what had been said of its instant; None if it is not in this world.

    Raises
    ------
    CheckFailed : if the decision is another strategy's.
    """
    found = reader.decision(decision_id)
    if found is None:
        return None
    seq, decision = found
    if decision.strategy != Council.name:
        raise CheckFailed(
            f"decision {decision.id}", "only the council's can be decided again",
            decision.strategy, f"conclave why {decision.id} explains it.",
        )  # fmt: skip
    said = reader.opinions_at(decision.symbol, decision.as_of, timeframe=decision.timeframe)
    # what was said later of the same instant was no part of it
    return decision, [opinion for at, opinion in said if at < seq]


def _rows(ledger: SqlLedger, decision: Decision, tick: Progress) -> Iterator[tuple[int, Any]]:
    """The rows of the decision's market that were there when it was made, in order."""
    streams = [
        ledger.records(kind, symbol=decision.symbol, timeframe=decision.timeframe)
        for kind in (Opinion, Outcome, Decision)
    ]
    for done, (seq, record) in enumerate(heapq.merge(*streams, key=lambda row: row[0])):
        if seq > decision.state_seq:
            break
        if not done % 1_000:
            tick(seq, decision.state_seq)
        yield seq, record


def _told(found: Differences) -> dict[str, Any]:
    return {
        name: {"stored": plain(stored), "again": plain(again)}
        for name, (stored, again) in found.items()
    }
