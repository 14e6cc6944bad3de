"""Routes of risk: its state, what happened, and the hands on it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from domain.times import iso
from serving.killing import KillOrder
from serving.params import TOKEN, Cursor, Limit, Service, Who, listing, seq
from serving.replies import (
    ArmTold,
    EventTold,
    KillTold,
    Listing,
    OperatorTold,
    RiskRow,
    RiskView,
)
from serving.requests import ArmRequest, KillRequest, OperatorRequest, RiskEventRequest
from serving.risk_view import Kind, risk_events

router = APIRouter(tags=["risk"])


@router.get("/v1/risk/state", response_model=RiskView)
def risk_state(service: Service) -> Any:
    """Return the risk mode and every limit: value now, limit, margin; and the last readings."""
    return service.risk()


@router.post(
    "/v1/risk/kill", dependencies=TOKEN, response_model=KillTold,
    response_model_exclude_unset=True,
)  # fmt: skip
async def kill(service: Service, who: Who, body: KillRequest = KillRequest()) -> Any:  # noqa: B008
    """Refuse all entries until armed; close everything at the market, or freeze.

    Where the database takes no request, the file VAR_DIR/KILL is written instead. Never refused
    for being one too many. Needs the scope ``risk``.
    """
    return await service.kill(who, KillOrder(body.why, body.flatten))


@router.post(
    "/v1/risk/arm", dependencies=TOKEN, response_model=ArmTold, response_model_exclude_unset=True
)
async def arm(service: Service, who: Who, body: ArmRequest = ArmRequest()) -> Any:  # noqa: B008
    """Leave HALTED or KILLED, in two steps: the first call returns the code for the second.

    Needs the scope ``risk``.
    """
    return await service.ask_desk("arm", {"by": who, "why": body.why, "confirm": body.confirm})


@router.post("/v1/risk/hrv", dependencies=TOKEN, response_model=OperatorTold)
async def report_operator(service: Service, who: Who, body: OperatorRequest) -> Any:
    """Say how the operator is; a report below its limit pauses entries until a good one, or a time.

    Times are market time. The pause ends with a report at or above the limit from the same source.
    Needs the scope ``risk``.
    """
    answer = await service.ask_desk("operator", {"by": who, **body.model_dump()})
    return {**answer, "at": iso(answer["at"])}


@router.get("/v1/risk/events", response_model=Listing[RiskRow])
def list_risk_events(
    service: Service, kind: Kind | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Any:
    """List changes of mode, events, the operator's reports and refusals, newest first."""
    return listing(*risk_events(service.reader, service.account, kind, limit, seq(cursor)))


@router.post("/v1/risk/events", dependencies=TOKEN, response_model=EventTold)
async def report_event(service: Service, who: Who, body: RiskEventRequest) -> Any:
    """Take down an event from outside, once per id; it changes no limit.

    The same id with other content is refused (409). Needs the scope ``risk``.
    """
    answer = await service.ask_desk("risk_event", {"by": who, **body.model_dump()})
    return {**answer, "at": iso(answer["at"])}
