"""The routes. Reading is free on loopback; whatever changes something needs the token."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from domain.canonical import plain
from domain.errors import NotFound, UsageError
from domain.times import iso
from serving.asserting import told
from serving.journal_view import detailed, listed
from serving.killing import KillOrder
from serving.metrics import exposition
from serving.page import render
from serving.risk_view import Kind, risk_events
from serving.schema import (
    ArmRequest,
    ErrorReply,
    JournalRequest,
    KillRequest,
    OperatorRequest,
    OpinionsRequest,
    Page,
    ProposalRequest,
    RiskEventRequest,
    Signal,
    SignalRequest,
    fill_of,
    proposal_of,
    signal_of,
    symbol_in,
    trade_of,
)
from serving.service import CouncilService
from serving.wire import opinion_to

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply} for status in (400, 401, 404, 405, 413, 415, 422, 500, 503)
}
router = APIRouter(responses=_ERRORS)


def service_of(request: Request) -> CouncilService:
    """Return the service this application was made over."""
    service: CouncilService = request.app.state.service
    return service


# serving.api.Envelope asks for the token; this only tells readers of /docs.
_TOKEN = [Security(HTTPBearer(auto_error=False))]
Service = Annotated[CouncilService, Depends(service_of)]


async def met_service(service: Service) -> CouncilService:
    """Return the service once it has heard from its agents what they are."""
    await service.meet()
    return service


Met = Annotated[CouncilService, Depends(met_service)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=18, description="`next` of the page before")]
Id = Annotated[str, Path(max_length=64, pattern=r"^[\w.:-]+$")]
Number = Annotated[int, Path(ge=1, le=2**53)]
ASSERTING_SECONDS = 300.0  # patience with the desk: it trades a month again
Bars = Annotated[int, Query(ge=0, le=1000, description="bars of history, 0 = none")]
Followed = Annotated[str | None, Query(max_length=40, description="e.g. BTC-USDT")]


@router.post("/v1/signals")
async def ask_signal(body: SignalRequest, service: Service) -> Signal:
    """Ask the council about the last closed bar; never trades; a repeat returns the same id.

    An earlier ``as_of`` (replay and demo) shows the agents that bar and nothing later, and pools
    them with the weights of now.
    """
    return signal_of(await service.signal(body))


@router.get("/v1/signals")
def list_signals(
    service: Service, symbol: Followed = None, limit: Limit = 100, cursor: Cursor = None
) -> Page:
    """List decisions, newest first."""
    wanted = None if symbol is None else symbol_in(symbol)
    page = service.reader.decisions(wanted, limit=limit, before_seq=_seq(cursor))
    items = [signal_of(decision).model_dump() for _, decision in page.items]
    return _page(items, page.next)


@router.get("/v1/signals/{signal_id}")
def one_signal(signal_id: Id, service: Service) -> Signal:
    """Return one decision."""
    found = service.reader.decision(signal_id)
    if found is None:
        raise NotFound("signal", "is not in the ledger", signal_id)
    return signal_of(found[1])


@router.get("/v1/signals/{signal_id}/why")
def why_signal(signal_id: Id, service: Service) -> dict[str, Any]:
    """Explain a decision: votes, weights, exact contributions, costs, margins, outcome."""
    return service.why(signal_id)


@router.get("/v1/agents")
def list_agents(service: Met) -> Page:
    """List the agents, where they run, and the models that they answer with at this moment."""
    return _page(service.agents_view())


@router.get("/v1/agents/weights")
def list_weights(service: Service, symbol: Followed = None, history: Bars = 0) -> Page:
    """List what each agent weighs now, the record that earned it, and what it weighed before."""
    return _page(service.weights(None if symbol is None else symbol_in(symbol), history))


@router.get("/v1/trades")
def list_trades(service: Service, limit: Limit = 100, cursor: Cursor = None) -> Page:
    """List closed trades, newest first."""
    page = service.reader.trades(limit=limit, before_seq=_seq(cursor))
    return _page([trade_of(trade) for _, trade in page.items], page.next)


@router.get("/v1/trades/{trade_id}")
def one_trade(trade_id: Id, service: Service) -> dict[str, Any]:
    """Return one closed trade."""
    found = service.reader.trade(trade_id)
    if found is None:
        raise NotFound("trade", "is not in the ledger", trade_id)
    return trade_of(found[1])


@router.get("/v1/positions")
def list_positions(service: Service) -> Page:
    """List open positions, marked to the last close."""
    told = service.portfolio()
    return _page([] if told is None else told["positions"])


@router.get("/v1/orders")
def list_orders(service: Service, limit: Limit = 100, cursor: Cursor = None) -> Page:
    """List orders, newest first, each with its fills."""
    page = service.reader.orders(limit=limit, before_seq=_seq(cursor))
    items = []
    for _, order in page.items:
        fills = service.reader.fills(order_id=order.id).items
        body = {**plain(order), "created_at": iso(order.created_at)}
        items.append({**body, "fills": [fill_of(fill) for _, fill in fills]})
    return _page(items, page.next)


@router.get("/v1/equity")
def list_equity(
    service: Service, points: Annotated[int, Query(ge=2, le=5000)] = 500
) -> dict[str, Any]:
    """Return the account's value over time, thinned evenly, and the account now."""
    marks = service.reader.equity_marks(service.account, max_points=points)
    return {
        "account": service.portfolio(),
        "items": [{**plain(mark), "at": iso(mark.at)} for mark in marks],
        "next": None,
    }


@router.get("/v1/risk/state")
def risk_state(service: Service) -> dict[str, Any]:
    """Return the risk mode and every limit: value now, limit, margin; and the last readings."""
    return service.risk()


@router.post("/v1/risk/kill", dependencies=_TOKEN)
async def kill(service: Service, body: KillRequest = KillRequest()) -> dict[str, Any]:  # noqa: B008
    """Refuse all entries until armed; close everything at the market, or freeze.

    Where the database takes no request, the file VAR_DIR/KILL is written instead.
    """
    return await service.kill("api", KillOrder(body.why, body.flatten))


@router.post("/v1/risk/arm", dependencies=_TOKEN)
async def arm(service: Service, body: ArmRequest = ArmRequest()) -> dict[str, Any]:  # noqa: B008
    """Leave HALTED or KILLED, in two steps: the first call returns the code for the second."""
    return await service.ask_desk("arm", {"by": "api", "why": body.why, "confirm": body.confirm})


@router.post("/v1/risk/hrv", dependencies=_TOKEN)
async def report_operator(service: Service, body: OperatorRequest) -> dict[str, Any]:
    """Say how the operator is; a report below its limit pauses entries until a good one, or a time.

    Times are market time. The pause ends with a report at or above the limit from the same source.
    """
    answer = await service.ask_desk("operator", {"by": "api", **body.model_dump()})
    return {**answer, "at": iso(answer["at"])}


@router.get("/v1/risk/events")
def list_risk_events(
    service: Service, kind: Kind | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Page:
    """List changes of mode, events, the operator's reports and refusals, newest first."""
    return risk_events(service.reader, service.account, kind, limit, _seq(cursor))


@router.post("/v1/risk/events", dependencies=_TOKEN)
async def report_event(service: Service, body: RiskEventRequest) -> dict[str, Any]:
    """Take down an event from outside, once per id; it changes no limit."""
    answer = await service.ask_desk("risk_event", {"by": "api", **body.model_dump()})
    return {**answer, "at": iso(answer["at"])}


@router.get("/v1/journal")
def list_journal(
    service: Service,
    missing: Annotated[bool, Query(description="only those without a person's words")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """List closed trades with the newest that was written about each, newest first."""
    return _page(
        *listed(
            service.reader, service.account, missing=missing, limit=limit, before_seq=_seq(cursor)
        )
    )


@router.get("/v1/journal/{trade_id}")
def one_entry(trade_id: Id, service: Service) -> dict[str, Any]:
    """Return a closed trade with everything written about it, and how far it went either way."""
    return detailed(service.reader, trade_id)


@router.post("/v1/journal", dependencies=_TOKEN)
async def write_journal(body: JournalRequest, service: Service) -> dict[str, Any]:
    """Write about a closed trade, or close a position: its reflection comes first, in one append.

    The same words about the same trade again add nothing.
    """
    said = body.model_dump()
    if body.symbol is not None:
        said["symbol"] = symbol_in(body.symbol)
    return await service.ask_desk(body.action, said)


@router.get("/v1/assertions")
def list_assertions(service: Service) -> dict[str, Any]:
    """Return what must hold of the ledger, as the desk last measured it."""
    return {**told(service.snapshots), "next": None}


@router.post("/v1/assertions", dependencies=_TOKEN)
async def measure_assertions(service: Service) -> dict[str, Any]:
    """Measure all of them now; what fails goes to the ledger and opens a proposal."""
    return {**await service.ask_desk("assertions", {}, seconds=ASSERTING_SECONDS), "next": None}


@router.get("/v1/proposals")
def list_proposals(
    service: Service,
    state: Literal["open", "accepted", "rejected"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """List what the system proposes, such as to look at a failure, newest first, all worlds."""
    found = service.proposals.list(state=state, limit=limit + 1, before_id=_seq(cursor))
    more = found[limit - 1].id if len(found) > limit else None
    return _page([proposal_of(one) for one in found[:limit]], more)


@router.post("/v1/proposals/{proposal_id}", dependencies=_TOKEN)
def decide_proposal(proposal_id: Number, body: ProposalRequest, service: Service) -> dict[str, Any]:
    """Accept or reject an open proposal. It notes the decision and carries nothing out."""
    accept = body.decision == "accept"
    now = service.clock.now()
    done = service.proposals.decide(proposal_id, accept=accept, by="api", at=now, why=body.why)
    return proposal_of(done)


@router.get("/v1/system/health")
def system_health(service: Met) -> dict[str, Any]:
    """Return whether the parts work and what is wrong with those that do not."""
    return service.health()


@router.get("/health/live")
def live() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "ok"}


@router.get("/health/ready")
def ready(service: Service) -> dict[str, Any]:
    """Answer 200 when a signal can be asked for, else 503."""
    holder = service.running_desk()
    return {"status": "ok", "phase": holder.info.get("phase")}


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(service: Service) -> PlainTextResponse:
    """Return figures for Prometheus."""
    return PlainTextResponse(exposition(service), media_type=CONTENT_TYPE_LATEST)


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def status_page(service: Met) -> HTMLResponse:
    """Show what the system is doing, for people."""
    return HTMLResponse(
        render(service.overview()),
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        },
    )


@router.post("/internal/opinions", include_in_schema=False)
async def internal_opinions(body: OpinionsRequest, service: Met) -> dict[str, Any]:
    """Ask the agents about bars that the desk has just appended."""
    wanted = [(item.symbol, item.as_of) for item in body.items]
    gathered = await service.opine(service.states(wanted))
    return {
        "opinions": [
            [opinion_to(opinion) for opinion in row.values()] for row in gathered.opinions
        ],
        "absent": dict(gathered.absent),
    }


def _page(items: list[dict[str, Any]], cursor: int | None = None) -> Page:
    return Page(items=items, next=None if cursor is None else str(cursor))


def _seq(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal()):
        raise UsageError(
            "cursor", "must be the `next` of an earlier page", cursor, "Leave it out to start."
        )
    return int(cursor)
