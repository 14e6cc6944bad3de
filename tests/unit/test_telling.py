"""What people are told of a row, and what they are asked."""

from __future__ import annotations

from pathlib import Path

from domain.operations import RiskEvent
from serving.telling import Teller
from storage.engine import open_database, sqlite_url
from storage.events import EventLog
from storage.migrate import upgrade
from storage.proposals import Proposals

APART = {"BTC/USDT:USDT": {"ledger": "0.010", "broker": "0.011"}}


def event(level: str = "error", at: int = 300_000) -> RiskEvent:
    return RiskEvent("paper", at, "reconciliation", "0.010 ≠ 0.011", level, "loop", APART)  # type: ignore[arg-type]


def test_teller_when_broker_and_ledger_differ_then_one_proposal_is_opened_however_often_told(
    tmp_path: Path,
) -> None:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    proposals, log = Proposals(engine), EventLog(engine, "demo")
    for _ in range(2):  # the second time after a crash
        teller = Teller(log, proposals)
        teller.hear_again([(1, event()), (2, event("info", 600_000))])
        teller.tell()
    (proposal,) = proposals.list()
    assert (proposal.kind, proposal.state, proposal.created_at) == (
        "reconciliation", "open", 300_000,
    )  # fmt: skip
    assert proposal.body["figures"] == APART
    assert proposal.body["world"] == "demo"
    assert "conclave arm" in proposal.body["action"]
    told = [told.level for _, told in log.after()]
    assert told == ["error", "info"]


def test_teller_when_another_difference_follows_then_it_is_another_proposal(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"))
    upgrade(engine)
    teller = Teller(EventLog(engine, "demo"), Proposals(engine))
    for at in (300_000, 600_000):
        teller.hear(event(at=at))
        teller.tell()
    assert len(Proposals(engine).list()) == 2
