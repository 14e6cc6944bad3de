"""``conclave venue``: the local exchange by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.commands.common import Config, Set, err, out, settings_from
from serving.system import SystemClock

if TYPE_CHECKING:
    from sim.venue.faults.running import Faults
    from sim.venue.market import Markets

PORT = 8_089


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(venue)


def venue(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="bars to show, one file a pair; else the simulated market",
                     metavar="FILE"),
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="of the simulated market; else SYMBOLS")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.001, max=10_000, help="market seconds a second")]
    = 1.0,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 = a free one")] = PORT,
    seed: Annotated[
        int, typer.Option(min=0, help="of the simulated market, of all books and of the key")
    ] = 7,
    balance: Annotated[
        list[str] | None,
        typer.Option(help="of its account at the start, on spot and for perpetuals; repeatable; "
                     "else USDT=10000", metavar="ASSET=AMOUNT"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="keeps the account: read at the start, written at the end",
                     metavar="FILE", dir_okay=False),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="what goes wrong, and when; more can be asked for as with --admin",
                     metavar="FILE", dir_okay=False),
    ] = None,
    funding_hours: Annotated[
        int,
        typer.Option(help="between two fundings of every perpetual; divides 24", min=1, max=24,
                     metavar="HOURS"),
    ] = 8,
    admin: Annotated[
        bool, typer.Option("--admin", help="let faults be asked for under /admin/faults")
    ] = False,
    config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Serve a Binance-compatible exchange on this machine, with paper money of its own.

    Spot under /api/v3, perpetuals under /fapi/v1; ccxt talks to it unmodified. Its one account has
    a key and a secret that follow from the seed. Ctrl-C ends it.

    Example: conclave venue, and elsewhere conclave data fetch --set
    EXCHANGE_URL=http://127.0.0.1:8089
    """
    from serving.venue_account import NAME, USUAL, balances, keep, kept, opened
    from sim.venue.server import for_ever, serving
    from sim.venue.signing import Key
    from sim.venue.trading import Trading

    settings = settings_from(None, config, sets)
    clock, amounts, ledger = SystemClock(), balances(balance or USUAL), kept(state)
    markets = _markets(
        data or [], symbol or list(settings.data.symbols), speed, seed, clock,
        0 if ledger is None else ledger.at, funding_hours,
    )  # fmt: skip
    ledger = ledger or opened(markets, amounts)
    key = Key.made(seed, NAME)
    trading = Trading(markets, ledger, (key,), clock.now)
    trouble = _trouble(faults, clock, markets) if faults is not None or admin else None

    async def serve() -> None:
        async with serving(markets, clock.now, port=port, trading=trading, faults=trouble) as found:
            names = ", ".join(sorted({each.name for each in markets.listings.values()}))
            out.print(f"http://127.0.0.1:{found}", markup=False)
            what = "bars of files" if data else "simulated market"
            err.print(f"{names}; {what}, speed {speed:g}; Ctrl-C ends it", style="dim",
                      markup=False)  # fmt: skip
            for what, value in (("key", key.key), ("secret", key.secret)):
                err.print(f"{what} {value}", markup=False)
            err.print("paper money of this venue only", style="dim")
            if trouble is not None:
                err.print(f"faults: http://127.0.0.1:{found}/admin/faults", style="dim")
            await for_ever()

    try:
        asyncio.run(serve())
    finally:
        if state is not None:
            keep(state, ledger)


def _trouble(path: Path | None, clock: SystemClock, markets: Markets) -> Faults:
    from serving.venue_faults import read_schedule
    from sim.venue.faults.running import Faults

    schedule = None if path is None else read_schedule(path)
    return Faults(clock.now, markets.clock.now, schedule)


def _markets(
    data: list[Path], symbols: list[str], speed: float, seed: int, clock: SystemClock, after: int,
    funding_hours: int,
) -> Markets:  # fmt: skip
    from domain.errors import UsageError
    from domain.market import symbol_on
    from domain.times import DAY_MS
    from serving.market_files import load_bars
    from sim.venue.market import Markets, Stored, VenueClock
    from sim.worlds import DemoSource, World

    if 24 % funding_hours:
        raise UsageError("--funding-hours", "must divide 24", funding_hours)
    worlds: dict[str, World]
    if data:
        frames = [load_bars(path, clock).frame for path in data]
        worlds = {symbol_on(frame.symbol, "spot"): Stored(frame) for frame in frames}
        start = max(int(frame.ts[0]) for frame in frames)
        end = min(int(frame.ts[-1]) for frame in frames)
        if len(worlds) < len(frames) or start >= end:
            raise UsageError(
                "--data", "needs one file a pair, and a time that all of them have",
                [path.name for path in data],
            )  # fmt: skip
        begins = max((start + end) // 2 // DAY_MS * DAY_MS, start)
    else:
        demo = DemoSource(symbols, seed=seed)
        worlds, begins = dict(demo.worlds), demo.live_ms
    time = VenueClock(max(begins, after), clock.now, speed)
    return Markets(worlds, time, seed=seed, funding_hours=funding_hours)
