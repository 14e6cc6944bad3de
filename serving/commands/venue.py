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
    books: Annotated[
        list[Path] | None,
        typer.Option(help="recorded order books to show, one file a symbol, each with its trades "
                     "beside it; bars are made of these",
                     metavar="FILE"),
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="of the simulated market; else SYMBOLS")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="market time at the start; else behind the simulated market's warm-up, "
                     "the middle of bars, or where recorded books begin", metavar="TIME"),
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
        typer.Option(help="keeps the account: read at the start, written every half minute "
                     "and at the end",
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

    Example: conclave venue --speed 60, and elsewhere conclave data fetch --set
    EXCHANGE_URL=http://127.0.0.1:8089, or conclave up --source live with the same
    """
    from domain.errors import UsageError
    from domain.times import iso, parse_iso
    from serving.venue_account import NAME, USUAL, AccountFile, balances, opened
    from serving.venue_market import wares_of
    from sim.venue.server import for_ever, serving
    from sim.venue.signing import Key
    from sim.venue.trading import Trading

    settings = settings_from(None, config, sets)
    if 24 % funding_hours:
        raise UsageError("--funding-hours", "must divide 24", funding_hours)
    clock, amounts = SystemClock(), balances(balance or USUAL)
    wanted = None if start is None else parse_iso(start, "--start")
    wares = wares_of(data or (), books or (), symbol or (), settings.data.symbols, seed)
    account = None if state is None else AccountFile(state, wares.name)
    ledger = None if account is None else account.read()
    begins = wares.begin(wanted, 0 if ledger is None else ledger.at)
    markets = wares.markets(begins, speed, funding_hours)
    if ledger is not None and (balance or wanted is not None):
        err.print(f"goes on with the account of {state}, at its time; --balance and --start are of "
                  "a new one", style="yellow", markup=False)  # fmt: skip
    ledger = ledger or opened(markets, amounts, begins)
    if account is not None:
        account.write(ledger)  # a file that cannot be written is said now
    key = Key.made(seed, NAME)
    trading = Trading(markets, ledger, (key,), clock.now)
    trouble = _trouble(faults, clock, markets) if faults is not None or admin else None

    async def serve() -> None:
        async with serving(markets, clock.now, port=port, trading=trading, faults=trouble) as found:
            names = ", ".join(sorted({each.name for each in markets.listings.values()}))
            out.print(f"http://127.0.0.1:{found}", markup=False)
            err.print(f"{names}; {wares.what}, speed {speed:g}; Ctrl-C ends it", style="dim",
                      markup=False)  # fmt: skip
            until = "" if wares.ends_ms is None else f"; no trading after {iso(wares.ends_ms)}"
            err.print(f"market time {iso(begins)}{until}", style="dim", markup=False)
            for name, value in (("key", key.key), ("secret", key.secret)):
                err.print(f"{name} {value}", markup=False)
            err.print("paper money of this venue only", style="dim")
            if trouble is not None:
                err.print(f"faults: http://127.0.0.1:{found}/admin/faults", style="dim")
                for error in trouble.in_vain():
                    err.print(str(error), style="yellow", markup=False, soft_wrap=True)
            await (for_ever() if account is None else account.keep(ledger))

    try:
        asyncio.run(serve())
    finally:
        if account is not None:
            account.write(ledger)


def _trouble(path: Path | None, clock: SystemClock, markets: Markets) -> Faults:
    from serving.venue_faults import read_schedule
    from sim.venue.faults.running import Faults

    schedule = None if path is None else read_schedule(path)
    return Faults(clock.now, markets.clock.now, schedule)
