"""Figures for Prometheus, read from the ledger when asked, so that every replica tells the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from domain.trading import RiskMode
from serving.monitoring import scored_days
from sim.drift import coverage

if TYPE_CHECKING:
    from serving.service import CouncilService

_MODES = {mode.value: number for number, mode in enumerate(RiskMode)}


def exposition(service: CouncilService) -> bytes:
    """Return the metrics in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ledger(service))
    return bytes(generate_latest(registry)) + service.counters().encode()


class _Ledger:
    def __init__(self, service: CouncilService) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        rows = CounterMetricFamily("conclave_ledger_rows", "Rows by table", labels=["table"])
        for table, count in self._service.reader.counts().items():
            rows.add_metric([table], count)
        yield rows

        weight = GaugeMetricFamily(
            "conclave_weight", "Published weight", labels=["symbol", "agent"]
        )
        score = GaugeMetricFamily(
            "conclave_brier", "Decayed Brier score", labels=["symbol", "agent"]
        )
        for row in self._service.weights():
            labels = [row["symbol"], row["agent"]]
            for family, value in ((weight, row["weight"]), (score, row["decayed_brier"])):
                if value is not None:
                    family.add_metric(labels, value)
        yield weight
        yield score
        yield self._coverage()

        portfolio = self._service.portfolio()
        if portfolio is not None:
            for name in ("equity", "cash", "drawdown"):
                gauge = GaugeMetricFamily(f"conclave_{name}", f"Paper account: {name}")
                gauge.add_metric([], float(portfolio[name]))
                yield gauge

        health = self._service.health()
        mode = GaugeMetricFamily("conclave_risk_mode", "0 ACTIVE, 1 REDUCING, 2 HALTED, 3 KILLED")
        mode.add_metric([], _MODES[self._service.risk()["mode"]])
        yield mode
        up = GaugeMetricFamily("conclave_healthy", "1 if nothing is degraded")
        up.add_metric([], float(health["status"] == "ok"))
        yield up
        running = GaugeMetricFamily("conclave_desk_running", "1 while a desk holds the lease")
        running.add_metric([], float(self._service.desk.holder() is not None))
        yield running
        decided = GaugeMetricFamily("conclave_desk_decided", "Decisions since the desk started")
        decided.add_metric([], float(health["desk"].get("decided") or 0))
        yield decided

    def _coverage(self) -> Metric:
        held = GaugeMetricFamily(
            "conclave_coverage", "How often p10–p90 held over 30 days of market time",
            labels=["symbol", "level"],
        )  # fmt: skip
        for symbol in self._service.memories:
            found = coverage(scored_days(self._service.snapshots, symbol))
            if found is not None:
                held.add_metric([symbol, "0.8"], found.value)
        return held
