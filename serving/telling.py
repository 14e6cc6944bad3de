"""What people are told, and asked: projections of ledger rows, told again after a crash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from domain.canonical import plain
from domain.decision import Decision
from domain.operations import ExternalTrade, OperatorReport, Reflection, RiskEvent
from domain.times import iso
from domain.trading import ClosedTrade, Event, Fill, ModeChange, Refusal
from execution.dispatch import RECONCILIATION
from serving.schema import external_of, fill_of, signal_of, trade_of
from sim.assertions import ASSERTION
from storage.events import EventLog
from storage.proposals import Proposals


def event_of(record: Any) -> tuple[str, Event] | None:
    """Return (key, event) for a ledger row that people want to hear of, else None."""
    if isinstance(record, Decision):
        if record.origin != "bar":
            return None
        return f"decision {record.id}", Event(
            "decision", record.as_of, signal_of(record).model_dump()
        )
    if isinstance(record, Fill):
        return f"fill {record.id}", Event("fill", record.at, fill_of(record))
    if isinstance(record, ClosedTrade):
        return f"trade {record.id}", Event("trade", record.closed_at, trade_of(record))
    if isinstance(record, ExternalTrade):
        return f"external {record.id}", Event("external_trade", record.at, external_of(record))
    if isinstance(record, Reflection):
        return f"reflection {record.key}", Event("journal", record.at, plain(record))
    return _of_risk(record)


def _of_risk(record: Any) -> tuple[str, Event] | None:
    if isinstance(record, Refusal):
        return f"refusal {record.key}", Event("risk", record.at, plain(record), "warning")
    if isinstance(record, ModeChange):
        return f"mode {record.key}", Event("risk", record.at, plain(record), "warning")
    if isinstance(record, RiskEvent):
        why = record.body.get("text", record.subject)
        body = {**plain(record), "why": why}
        return f"risk_event {record.key}", Event("risk", record.at, body, record.level)
    if isinstance(record, OperatorReport):
        body = {**plain(record), "why": f"operator: {record.source} {record.value:g}"}
        return f"operator {record.key}", Event("risk", record.at, body)
    return None


def proposal_of(record: Any, world: str) -> dict[str, Any] | None:
    """Return the body of the proposal that a row opens: a difference, or a failed assertion."""
    if not isinstance(record, RiskEvent) or record.level == "info":
        return None
    if record.kind == ASSERTION:
        return _failed_assertion(record, world)
    if record.kind != RECONCILIATION or record.level != "error":
        return None
    return {
        "key": f"{RECONCILIATION} {record.key}",
        "world": world,
        "account": record.account,
        "at": iso(record.at),
        "what": f"broker and ledger differ: {record.subject}",
        "figures": plain(record.body),
        "action": "Look up the account's orders at the broker. What traded there outside this "
        "system, undo there; then allow trading again with conclave arm.",
    }


def _failed_assertion(record: RiskEvent, world: str) -> dict[str, Any]:
    body, advice = record.body, record.body["suggestion"]
    figures = {name: body[name] for name in ("value", "limit", "rule", "unit", "n", "evidence")}
    change = None if advice["setting"] is None else {k: advice[k] for k in ("setting", "now", "to")}
    return {
        "key": f"{ASSERTION} {record.key}",
        "topic": f"{world} {record.account} {record.subject}",
        "world": world,
        "account": record.account,
        "at": iso(record.at),
        "assertion": record.subject,
        "what": f"{record.subject} does not hold: {body['why']}",
        "figures": figures,
        "action": advice["action"],
        "change": change,
    }


@dataclass(slots=True)
class Teller:
    """Collects events of one step and writes them in one transaction.

    Keys are the rows' own, so telling a row again adds nothing: after a crash between the ledger's
    append and this one, the newest rows are simply told again.
    """

    log: EventLog
    proposals: Proposals
    _waiting: list[tuple[str, Event]] = field(default_factory=list)
    _asking: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)

    def hear(self, record: Any) -> None:
        """Take note of a row that was appended."""
        found = event_of(record)
        if found is not None:
            self._waiting.append(found)
        question = proposal_of(record, self.log.world)
        if question is not None:
            self._asking.append((record.kind, record.at, question))

    def hear_again(self, rows: Iterable[tuple[int, Any]]) -> None:
        """Take note of stored rows."""
        for _, record in rows:
            self.hear(record)

    def tell(self) -> None:
        """Write what was heard."""
        if self._waiting:
            keys, events = zip(*self._waiting, strict=True)
            self.log.extend(events, keys)
            self._waiting.clear()
        for kind, at, question in self._asking:
            self.proposals.put_once(kind, question, at)
        self._asking.clear()
