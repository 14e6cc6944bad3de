from collections import Counter
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from domain.decision import Decision, GateVerdict, Reason
from domain.trading import ClosedTrade, Fill, Refusal
from serving.counters import Counters, TimedLedger
from storage.engine import open_database, sqlite_url
from storage.memory import MemoryLedger
from storage.migrate import upgrade
from storage.snapshots import SqlSnapshots
from tests.execution_scenes import SPOT, Script, flat, loop_over, play


@pytest.fixture
def engine(tmp_path):
    made = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(made)
    yield made
    made.dispose()


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found, name, *labels):
    """Values of a metric by the named labels, as what they add up to."""
    sums = Counter()
    for (sample, given), value in found.items():
        if sample == name:
            sums[tuple(dict(given)[label] for label in labels)] += value
    return dict(sums)


def test_counters_when_a_loop_trades_then_they_say_what_the_ledger_holds(engine):
    counters = Counters()
    ledger = TimedLedger(engine, "demo", counters)
    says = {2: "LONG", 6: "SHORT", 9: "SHORT"}
    loop = loop_over(ledger, Script(says), SPOT)
    loop.witness = counters.hear
    play(loop, [flat(i, symbol=SPOT.symbol) for i in range(20)])
    found = samples(counters.text())

    def stored(kind):
        return [record for _, record in ledger.records(kind)]

    assert {kind: len(stored(kind)) for kind in (Fill, ClosedTrade, Refusal)} == {
        Fill: 2, ClosedTrade: 1, Refusal: 1,
    }  # fmt: skip
    assert of(found, "conclave_decision_total", "action") == {
        (action.value,): n for action, n in Counter(d.action for d in stored(Decision)).items()
    }
    assert of(found, "conclave_fills_total", "side") == {("buy",): 1, ("sell",): 1}
    assert of(found, "conclave_trades_total", "reason") == {(stored(ClosedTrade)[0].reason,): 1}
    assert of(found, "conclave_refusals_total", "reason") == {("short_not_possible",): 1}
    appends = of(found, "conclave_ledger_append_seconds_count")[()]
    assert appends >= 20
    assert 0 < of(found, "conclave_ledger_append_seconds_sum")[()] < 60


def test_counters_when_agents_are_absent_then_the_reason_is_counted():
    counters = Counters()
    for decision in undecided():
        counters.hear(decision)
    found = samples(counters.text())
    assert of(found, "conclave_opinions_total", "agent", "result") == {
        ("chronos", "deadline"): 2, ("tft", "unreachable"): 1,
    }  # fmt: skip
    assert of(found, "conclave_quorum_missing_total", "agent", "reason") == {
        ("chronos", "deadline"): 1
    }
    assert of(found, "conclave_decision_degraded_total") == {(): 2}
    assert of(found, "conclave_gate_veto_total", "action") == {("veto",): 1}


def undecided():
    """One decision without quorum, one with, one that the gate stopped."""
    [plain] = play(loop_over(MemoryLedger(), Script({}), SPOT), [flat(0, symbol=SPOT.symbol)])
    yield replace(plain, absent={"chronos": "deadline"},
                  reasons=(Reason.LOW_QUORUM,))  # fmt: skip
    yield replace(plain, absent={"chronos": "deadline", "tft": "unreachable"})
    yield replace(plain, gate=GateVerdict("veto", 0.0, 0.8, "no"))


def test_counters_when_told_then_the_snapshot_holds_the_text(engine):
    counters, snapshots = Counters(), SqlSnapshots(engine, "demo")
    counters.aged("BTC/USDT", 12.5)
    counters.decided_after(0.2)
    counters.tell(snapshots)
    found = samples(snapshots.latest("view", "counters")[1]["text"])
    assert of(found, "conclave_data_age_seconds", "symbol") == {("BTC/USDT",): 12.5}
    assert of(found, "conclave_decision_seconds_count") == {(): 1}
