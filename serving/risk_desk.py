"""What the desk takes down about risk, and what it tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.canonical import plain
from domain.errors import DuplicateRecord
from domain.operations import OperatorReport, RiskEvent
from domain.ports import Ledger
from execution.loop import TradingLoop

EXTERNAL = "external"  # the kind of events that come from outside


def told_of(loop: TradingLoop) -> dict[str, Any]:
    """Return every limit, what is risked and how the operator is, in JSON's types."""
    risk = loop.risk
    return {
        "risk_checks": [{**plain(check), "passed": check.passed} for check in loop.risk_checks()],
        "risk": {
            "size_factor": risk.size_factor,
            "risk_cap": risk.risk_cap,
            "stakes": {symbol: stake.as_dict() for symbol, stake in loop.stakes().items()},
            "operator": [plain(reading) for reading in risk.readings()],
        },
    }


def reported(loop: TradingLoop, body: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Append the operator's report of ``now`` (ms, market time) and say what follows from it."""
    source, by, note = (str(body[name]) for name in ("source", "by", "note"))
    # The ledger tells a source's reports apart by their instant.
    known = [reading.at for reading in loop.risk.readings() if reading.source == source]
    report = OperatorReport(
        loop.settings.account, max([now, *(at + 1 for at in known)]),
        "hrv" if source == "hrv" else "self_report", float(body["value"]), by, note,
    )  # fmt: skip
    loop.note(report)
    check = next((check for check in loop.risk_checks() if check.name == "operator"), None)
    return {
        "source": report.source,
        "value": report.value,
        "at": report.at,
        "paused": check is not None and not check.passed,
    }


def happened(
    loop: TradingLoop, ledger: Ledger, body: Mapping[str, Any], now: int
) -> dict[str, Any]:
    """Append an event from outside; the same id again is the same event.

    Raises
    ------
    DuplicateRecord : if the id was used for another event.
    """
    account, subject = loop.settings.account, str(body["id"])
    said = {"text": str(body["text"]), "data": plain(body["data"])}
    level, by = body["level"], str(body["by"])
    for _, event in ledger.records(RiskEvent, account=account, subject=subject):
        if event.kind != EXTERNAL:
            continue
        if (event.level, event.by, plain(event.body)) != (level, by, said):
            raise DuplicateRecord("risk event", "has an id that is taken", subject)
        return {"id": subject, "at": event.at, "new": False}
    event = RiskEvent(account, now, EXTERNAL, subject, level, by, said)
    loop.note(event)
    return {"id": subject, "at": event.at, "new": True}
