"""What one desk has counted and timed since it started, in Prometheus's terms.

The desk leaves it in the database, so that the API tells it too; a restart begins at zero, as a
counter of Prometheus may.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import Engine

from domain.decision import Decision, Reason
from domain.opinion import Opinion
from domain.trading import ClosedTrade, Fill, Refusal
from serving.desk_notes import COUNTERS_KEY, VIEW
from storage.ledger import SqlLedger
from storage.snapshots import SqlSnapshots

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_VETOES = ("veto", "shrink", "override")


class Counters:
    """Counts what a desk writes, and times how long it takes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"conclave_{name}", words, labels, registry=self.registry)

        def histogram(name: str, words: str) -> Histogram:
            return Histogram(f"conclave_{name}", words, registry=self.registry, buckets=_SECONDS)

        self._opinions = counter("opinions", "Opinions asked for, by what came", "agent", "result")
        self._missing = counter(
            "quorum_missing", "Agents absent from decisions without quorum", "agent", "reason"
        )
        self._decisions = counter("decision", "Decisions by outcome", "symbol", "action", "origin")
        self._reasons = counter("decision_reasons", "Reasons given in decisions", "reason")
        self._vetoes = counter("gate_veto", "Decisions that the gate changed", "action")
        self._degraded = counter("decision_degraded", "Decisions with an agent absent", "symbol")
        self._fills = counter("fills", "Fills", "symbol", "side")
        self._trades = counter("trades", "Closed trades by what closed them", "symbol", "reason")
        self._refusals = counter("refusals", "Orders refused, by reason", "reason")
        self._append = histogram("ledger_append_seconds", "Time of one append to the ledger")
        self._decide = histogram("decision_seconds", "From a closed bar to the decision stored")
        self._age = Gauge(
            "conclave_data_age_seconds", "Market time since the last close, seconds",
            ["symbol"], registry=self.registry,
        )  # fmt: skip

    def hear(self, record: Any) -> None:
        """Count a record that is new on the ledger."""
        match record:
            case Opinion():
                self._opinions.labels(record.agent, "heard").inc()
            case Decision():
                self._decided(record)
            case Fill():
                self._fills.labels(record.symbol, record.side.value).inc()
            case ClosedTrade():
                self._trades.labels(record.symbol, record.reason).inc()
            case Refusal():
                self._refusals.labels(record.code).inc()

    def _decided(self, decision: Decision) -> None:
        self._decisions.labels(decision.symbol, decision.action.value, decision.origin).inc()
        for reason in decision.reasons:
            self._reasons.labels(reason).inc()
        for agent, why in decision.absent.items():
            self._opinions.labels(agent, why).inc()
            if Reason.LOW_QUORUM in decision.reasons:
                self._missing.labels(agent, why).inc()
        if decision.degraded:
            self._degraded.labels(decision.symbol).inc()
        if decision.gate.action in _VETOES:
            self._vetoes.labels(decision.gate.action).inc()

    def appended(self, seconds: float) -> None:
        """Note how long an append took."""
        self._append.observe(seconds)

    def decided_after(self, seconds: float) -> None:
        """Note how long a bar waited for its decision."""
        self._decide.observe(seconds)

    def aged(self, symbol: str, seconds: float) -> None:
        """Note how old a symbol's last bar is, in market time."""
        self._age.labels(symbol).set(seconds)

    def text(self) -> str:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry).decode()

    def tell(self, snapshots: SqlSnapshots) -> None:
        """Leave it where the API finds it."""
        snapshots.save(VIEW, COUNTERS_KEY, 0, {"text": self.text()})


class TimedLedger(SqlLedger):
    """A ledger whose appends are timed."""

    def __init__(self, engine: Engine, world: str, counters: Counters) -> None:
        super().__init__(engine, world)
        self._counters = counters

    def append(self, records: Sequence[Any]) -> list[int]:
        """Store records; see :meth:`SqlLedger.append`."""
        began = time.perf_counter()
        numbers = super().append(records)
        self._counters.appended(time.perf_counter() - began)
        return numbers
