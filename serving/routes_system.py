"""Routes of the system: events, assertions, proposals, symbols, jobs, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Path, Query
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.asserting import told
from serving.job_kinds import JobRequest
from serving.jobs import cancelled, job_of, queued
from serving.metrics import exposition
from serving.page import render
from serving.params import TOKEN, Cursor, Limit, Met, Number, Service, Who, listing, seq
from serving.replies import (
    Alive,
    AssertionsView,
    HealthView,
    JobView,
    Listing,
    ProposalView,
    Ready,
    SymbolView,
)
from serving.requests import (
    JobCancel,
    OpinionsRequest,
    ProposalRequest,
    SymbolChange,
    SymbolRequest,
)
from serving.schema import proposal_of
from serving.streaming import EventStream
from serving.wire import opinion_to

router = APIRouter(tags=["system"])

ASSERTING_SECONDS = 300.0  # patience with the desk: it trades a month again
SymbolPath = Annotated[str, Path(max_length=40, pattern=r"^[A-Za-z0-9:-]+$", examples=["BTC-USDT"])]
LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID", ge=0, le=2**53,
        description="id of the last event that the reader has; without it, the next one is first",
    ),
]  # fmt: skip
Kinds = Annotated[
    list[Annotated[str, Query(pattern=r"^[a-z_]{1,32}$")]],
    Query(max_length=10, description="only these: decision, fill, trade, risk, journal, …"),
]


@router.get("/v1/stream", response_class=EventStream, status_code=200)
async def stream(
    service: Service,
    last_event_id: LastEventId = None,
    kind: Kinds = [],  # noqa: B006 - copied
) -> EventStream:
    """Stream events as they happen: server-sent events, each with its id, kind and JSON.

    A reader that reconnects with Last-Event-ID misses none. At most 100 at a time (503 beyond);
    comments keep quiet streams alive.
    """
    return await service.surface.streams.stream(last_event_id, kind)


@router.get("/v1/assertions", response_model=AssertionsView)
def list_assertions(service: Service) -> Any:
    """Return what must hold of the ledger, as the desk last measured it."""
    return {**told(service.snapshots), "next": None}


@router.post("/v1/assertions", dependencies=TOKEN, response_model=AssertionsView)
async def measure_assertions(service: Service) -> Any:
    """Measure all of them now; what fails goes to the ledger and opens a proposal.

    Needs the scope ``admin``.
    """
    service.running_desk()  # or this would wait for minutes
    return {**await service.ask_desk("assertions", {}, seconds=ASSERTING_SECONDS), "next": None}


@router.get("/v1/proposals", response_model=Listing[ProposalView])
def list_proposals(
    service: Service,
    state: Literal["open", "accepted", "rejected"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Any:
    """List what the system proposes, such as to look at a failure, newest first, all worlds."""
    found = service.proposals.list(state=state, limit=limit + 1, before_id=seq(cursor))
    more = found[limit - 1].id if len(found) > limit else None
    return listing([proposal_of(one) for one in found[:limit]], more)


@router.post("/v1/proposals/{proposal_id}", dependencies=TOKEN, response_model=ProposalView)
def decide_proposal(proposal_id: Number, body: ProposalRequest, service: Service, who: Who) -> Any:
    """Accept or reject an open proposal. It notes the decision and carries nothing out.

    Needs the scope ``admin``.
    """
    accept = body.decision == "accept"
    now = service.clock.now()
    done = service.proposals.decide(proposal_id, accept=accept, by=who, at=now, why=body.why)
    return proposal_of(done)


# Symbols


@router.get("/v1/symbols", response_model=Listing[SymbolView])
def list_symbols(service: Service) -> Any:
    """List the symbols that are watched, by name, and whether the desk follows them now."""
    return listing(service.surface.symbols.all())


@router.get("/v1/symbols/{symbol}", response_model=SymbolView)
def one_symbol(symbol: SymbolPath, service: Service) -> Any:
    """Return a watched symbol."""
    return service.surface.symbols.one(symbol)


@router.post("/v1/symbols", dependencies=TOKEN, response_model=SymbolView, status_code=201)
def add_symbol(body: SymbolRequest, service: Service) -> Any:
    """Watch a symbol. The desk takes it up at the next start, unless SYMBOLS is set there.

    Needs the scope ``admin``.
    """
    return service.surface.symbols.add(body)


@router.patch("/v1/symbols/{symbol}", dependencies=TOKEN, response_model=SymbolView)
def change_symbol(symbol: SymbolPath, body: SymbolChange, service: Service) -> Any:
    """Change how a symbol is watched, from the next start on. Needs the scope ``admin``."""
    return service.surface.symbols.change(symbol, body)


@router.delete("/v1/symbols/{symbol}", dependencies=TOKEN, response_model=SymbolView)
def remove_symbol(symbol: SymbolPath, service: Service) -> Any:
    """Stop watching a symbol, from the next start on, and return it as it was.

    What the ledger holds of it stays. Needs the scope ``admin``.
    """
    gone = service.surface.symbols.one(symbol)
    service.surface.symbols.remove(symbol)
    return gone


# Jobs


@router.get("/v1/system/jobs", response_model=Listing[JobView])
def list_jobs(
    service: Service,
    state: Literal["queued", "running", "done", "failed", "cancelled"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Any:
    """List long work that was asked for, newest first."""
    found = service.surface.jobs.list(state=state, limit=limit + 1, before_id=seq(cursor))
    more = found[limit - 1].id if len(found) > limit else None
    return listing([job_of(one) for one in found[:limit]], more)


@router.post("/v1/system/jobs", dependencies=TOKEN, response_model=JobView, status_code=202)
def queue_job(body: Annotated[JobRequest, Body()], service: Service, who: Who) -> Any:
    """Queue a training, evaluation, backtest or look-ahead check for ``conclave jobs run``.

    Files are named as they lie in DATA_DIR_RAW; nothing else of the machine can be reached. Needs
    the scope ``admin``.
    """
    surface, now = service.surface, service.clock.now()
    args = body.args.model_dump(exclude_none=True)
    return job_of(queued(surface.jobs, surface.raw_dir, body.kind, args, who, now))


@router.get("/v1/system/jobs/{job_id}", response_model=JobView)
def one_job(job_id: Number, service: Service) -> Any:
    """Return a job, with its result once it has ended."""
    return job_of(service.surface.jobs.get(job_id))


@router.patch("/v1/system/jobs/{job_id}", dependencies=TOKEN, response_model=JobView)
def cancel_job(job_id: Number, body: JobCancel, service: Service) -> Any:
    """Cancel a job that waits or runs; 422 if it has ended. Needs the scope ``admin``."""
    del body  # there is only one state to ask for
    return job_of(cancelled(service.surface.jobs, job_id, service.clock.now()))


# Health


@router.get("/v1/system/health", response_model=HealthView)
def system_health(service: Met) -> Any:
    """Return whether the parts work and what is wrong with those that do not."""
    return service.health()


@router.get("/health/live")
def live() -> Alive:
    """Answer while the process lives."""
    return Alive(status="ok")


@router.get("/health/ready")
def ready(service: Service) -> Ready:
    """Answer 200 when a signal can be asked for, else 503."""
    return Ready(status="ok", phase=service.running_desk().info.get("phase"))


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
