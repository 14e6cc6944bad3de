"""Risk as the API shows it: the state of every limit, and what happened, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from domain.canonical import plain
from domain.operations import OperatorReport, RiskEvent
from domain.times import iso
from domain.trading import ModeChange, Refusal, RiskMode
from storage.queries import Reader

Kind = Literal["mode_change", "risk_event", "operator_report", "refusal"]
_TYPES: dict[Kind, type[Any]] = {
    "mode_change": ModeChange,
    "risk_event": RiskEvent,
    "operator_report": OperatorReport,
    "refusal": Refusal,
}


def risk_state(reader: Reader, account: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mode, every limit with value and margin, what is risked, the last readings.

    Parameters
    ----------
    told : what the desk last told of itself; empty before it has.
    """
    change = reader.latest_mode(account)
    mode = RiskMode.ACTIVE if change is None else change[1].mode
    more = told.get("risk", {})
    return {
        "mode": mode.value,
        "since": None if change is None else iso(change[1].at),
        "by": None if change is None else change[1].by,
        "why": None if change is None else change[1].why,
        "checks": told.get("risk_checks", []),
        "size_factor": more.get("size_factor"),
        "risk_cap": more.get("risk_cap"),
        "stakes": more.get("stakes", {}),
        "operator": [
            {**reading, "at": iso(reading["at"]), "until": iso(reading["until"])}
            for reading in more.get("operator", [])
        ],
    }


def risk_events(
    reader: Reader, account: str, kind: Kind | None, limit: int, before_seq: int | None
) -> tuple[list[dict[str, Any]], int | None]:
    """Return changes of mode, events, reports and refusals, newest first, and where it goes on."""
    found: list[tuple[int, Kind, Any]] = []
    for name in get_args(Kind) if kind is None else (kind,):
        page = reader.page(_TYPES[name], limit=limit + 1, before_seq=before_seq, account=account)
        found += [(seq, name, record) for seq, record in page.items]
    found.sort(key=lambda row: -row[0])
    items = [
        {**plain(record), "type": name, "at": iso(record.at), "seq": seq}
        for seq, name, record in found[:limit]
    ]
    return items, items[-1]["seq"] if len(found) > limit else None
