"""Routes of the council: signals, agents, what their forecasts are worth."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from domain.errors import NotFound
from serving.params import Cursor, Followed, Id, Limit, Met, Service, listing, seq
from serving.replies import (
    AgentView,
    CalibrationRow,
    Listing,
    ScoreRow,
    Signal,
    WeightView,
    WhyView,
)
from serving.requests import SignalRequest
from serving.schema import signal_of, symbol_in

router = APIRouter(tags=["council"])

Bars = Annotated[int, Query(ge=0, le=1000, description="bars of history, 0 = none")]
Last = Annotated[
    int, Query(ge=1, le=5000, description="newest outcomes that are judged, for each symbol")
]
Agent = Annotated[
    str | None, Query(max_length=64, description="only this one; `consensus` is the council")
]


@router.post("/v1/signals")
async def ask_signal(body: SignalRequest, service: Service) -> Signal:
    """Ask the council about the last closed bar; never trades; a repeat returns the same id.

    An earlier ``as_of`` (replay and demo) shows the agents that bar and nothing later, and pools
    them with the weights of now. Free on loopback; elsewhere it needs the scope ``signal``.
    """
    return signal_of(await service.signal(body))


@router.get("/v1/signals", response_model=Listing[Signal])
def list_signals(
    service: Service, symbol: Followed = None, limit: Limit = 100, cursor: Cursor = None
) -> Any:
    """List decisions, newest first."""
    wanted = None if symbol is None else symbol_in(symbol)
    page = service.reader.decisions(wanted, limit=limit, before_seq=seq(cursor))
    return listing([signal_of(decision) for _, decision in page.items], page.next)


@router.get("/v1/signals/{signal_id}")
def one_signal(signal_id: Id, service: Service) -> Signal:
    """Return one decision."""
    found = service.reader.decision(signal_id)
    if found is None:
        raise NotFound("signal", "is not in the ledger", signal_id)
    return signal_of(found[1])


@router.get("/v1/signals/{signal_id}/why", response_model=WhyView)
def why_signal(signal_id: Id, service: Service) -> Any:
    """Explain a decision: votes, weights, exact contributions, costs, margins, outcome."""
    return service.why(signal_id)


@router.get("/v1/agents", response_model=Listing[AgentView])
def list_agents(service: Met) -> Any:
    """List the agents, where they run, and the models that they answer with at this moment."""
    return listing(service.agents_view())


@router.get(
    "/v1/agents/weights", response_model=Listing[WeightView], response_model_exclude_unset=True
)
def list_weights(service: Service, symbol: Followed = None, history: Bars = 0) -> Any:
    """List what each agent weighs now, the record that earned it, and what it weighed before."""
    return listing(service.weights(None if symbol is None else symbol_in(symbol), history))


@router.get("/v1/agents/scores", response_model=Listing[ScoreRow])
def list_scores(service: Service, symbol: Followed = None, last: Last = 1000) -> Any:
    """List what each agent's forecasts, and the council's, were worth over the newest outcomes.

    Each over the rows it was awake for, by the definitions of ``conclave evaluate``.
    """
    board = service.surface.scoreboard
    return listing(board.scores(None if symbol is None else symbol_in(symbol), last))


@router.get("/v1/calibration", response_model=Listing[CalibrationRow])
def list_calibration(
    service: Service, symbol: Followed = None, agent: Agent = None, last: Last = 1000
) -> Any:
    """List how far probabilities and intervals can be taken at their word.

    ``bins`` are a reliability diagram with the range that calibrated forecasts would show;
    ``coverage`` compares what intervals promise with what they held. Below 100 outcomes there are
    no bins, and ``why`` says so.
    """
    wanted = None if symbol is None else symbol_in(symbol)
    return listing(service.surface.scoreboard.calibration(wanted, agent, last))
