"""``conclave data``: bars in, checked, cleaned, with features."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from data.origin import SIMULATED, joined, note, origin_of, origin_of_file
from domain.errors import DataRefused, ServiceUnreachable, UsageError
from domain.times import parse_iso, timeframe_ms
from serving.bar_folders import bar_store
from serving.commands.common import (
    Config,
    Json,
    Set,
    err,
    out,
    print_json,
    progress_steps,
    settings_from,
)
from serving.system import SystemClock

app = typer.Typer(help="Fetch, import, check and list market data.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(help="Parquet or CSV files", show_default=False)]
Symbol = Annotated[str | None, typer.Option(help="if the file name does not say, e.g. BTC/USDT")]
Timeframe = Annotated[str | None, typer.Option(help="if the file name does not say, e.g. 5m")]


@app.command("import")
def import_(
    files: Files,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    interpolate: Annotated[
        bool, typer.Option(help="also write a variant with holes of at most 3 bars filled, flagged")
    ] = False,
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Take files in through all four layers: raw, cleansed, features, windows.

    Example: conclave data import BTCUSDT-binance-spot-5m-2025.parquet
    """
    from data.features import build_features
    from data.importing import import_file

    settings = settings_from(None, config, sets)
    store = bar_store(settings)
    for path in files:
        origin = joined(store, origin_of_file(path))
        result = import_file(
            path, store, symbol=symbol, timeframe=timeframe, now_ms=SystemClock().now(),
            features=build_features, encoder=settings.features.encoder_length,
            horizon=settings.data.pred_horizon_steps, interpolate=interpolate,
        )  # fmt: skip
        note(store, origin)
        if json:
            print_json({"report": result.report.to_dict(), "windows": result.windows})
        else:
            out.print(result.report.to_text(), markup=False)
            out.print(
                f"stored {result.stored.kept:,} bars, {result.windows:,} windows", style="green"
            )


@app.command()
def fetch(
    symbol: Annotated[
        list[str] | None, typer.Option(help="repeatable; else SYMBOLS", show_default=False)
    ] = None,
    timeframe: Annotated[
        list[str] | None,
        typer.Option(help="repeatable; else 1m, 3m, 5m, 15m, 30m and 1h", show_default=False),
    ] = None,
    market: Annotated[
        str | None, typer.Option(help="spot or perp; else as the symbols say", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="first day, e.g. 2024-01-01; else --bars of each timeframe")
    ] = None,
    bars: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="of each timeframe, the newest")
    ] = 1_000,
    funding: Annotated[
        bool | None,
        typer.Option(
            "--funding/--no-funding",
            help="settlements of perpetuals as well; else as far as the exchange tells them",
            show_default=False,
        ),
    ] = None,
    json: Json = False, config: Config = None, sets: Set = None,
) -> None:  # fmt: skip
    """Fetch bars from the exchange into all four layers; goes on where it was stopped.

    Bars longer than a minute are compared with those made from the bars of 1m. EXCHANGE names any
    exchange of ccxt; EXCHANGE_URL another server of its protocol, such as conclave venue.

    Example: conclave data fetch --symbol BTC/USDT --timeframe 5m --since 2024-01-01
    """
    import time

    from data.sources.exchange import Caller, connect
    from data.sources.history import History
    from data.sources.servers import Servers
    from domain.addresses import without_user
    from serving.exchange_servers import backup_of, http_at
    from serving.fetching import ALL, Fetcher, Wanted, markets_of
    from serving.settings.data import TIMEFRAMES

    settings = settings_from(None, config, sets)
    place, symbols = markets_of(market, symbol or settings.data.symbols)
    for one in timeframe or ():
        if one not in TIMEFRAMES:  # before an exchange is waited for
            raise UsageError("--timeframe", f"must be one of {' '.join(TIMEFRAMES)}", one)
    start = None if since is None else parse_iso(since, "--since")
    url = settings.data.exchange_url
    exchange = connect(settings.data.exchange, place, url)
    addresses = http_at(settings.data.exchange, place, url, backup_of(settings, place))
    caller = Caller(
        exchange, time.sleep, lambda text: err.print(text, style="yellow", markup=False),
        servers=Servers(exchange, addresses),
    )  # fmt: skip
    fetcher = Fetcher(
        History(caller),
        bar_store(settings),
        settings,
        settings.data.exchange if url is None else SIMULATED,
        settings.data.var_dir / "data" / "fetching",
        settings.data.exchange if url is None else without_user(url),
    )
    began = time.monotonic()
    wanted = Wanted(symbols, timeframe or ALL, start, bars, funding is not False)
    try:
        with progress_steps(quiet=json) as steps:
            report = fetcher.fetch(wanted, steps)
    except KeyboardInterrupt:
        err.print("stopped; what came is kept, and the same command goes on from there",
                  style="yellow")  # fmt: skip
        raise
    report |= {"seconds": time.monotonic() - began, "requests": caller.requests,
               "waits": caller.waits}  # fmt: skip
    if json:
        print_json(report)
    else:
        if url is not None:
            _tell_simulated()
        _tell_fetched(report, start)
    away = [row for row in report.get("funding", ()) if row["away"]]
    if away:
        raise ServiceUnreachable(
            f"settlements of {away[0]['symbol']}", f"were not told; {away[0]['missing']}", None,
            "The bars are stored. Run it again for the settlements; without them: --no-funding.",
        )  # fmt: skip
    missing = [row["missing"] for row in report.get("funding", ()) if row["missing"]]
    if missing and funding:
        raise UsageError(
            "--funding", f"must be what the exchange tells; {missing[0]}", None,
            "The bars are stored. Without settlements: --no-funding.",
        )  # fmt: skip
    for why in missing:
        err.print(f"no settlements of funding: {why}", style="yellow", markup=False)


def _tell_fetched(report: dict[str, Any], start: int | None) -> None:
    out.print(_fetched(report))
    for row in report["items"]:
        what = f"{row['symbol']} {row['timeframe']}"
        if row["gaps"]:
            out.print(f"{what}: holes; the exchange has no such bars, or they were not asked for",
                      style="yellow", markup=False)  # fmt: skip
        late = None if row["start"] is None or start is None else parse_iso(row["start"]) - start
        if late is not None and late >= timeframe_ms(row["timeframe"]):
            out.print(f"{what}: the exchange's first bar opens at {row['start']}", style="dim",
                      markup=False)  # fmt: skip
    for row in report["compared"]:
        if row["different"]:
            out.print(
                f"{row['symbol']} {row['timeframe']}: {row['different']:,} of "
                f"{row['compared']:,} bars are not those of 1m, the first at {row['first']}",
                style="yellow", markup=False,
            )  # fmt: skip
    for row in report.get("funding", ()):
        if not row["missing"]:
            out.print(f"{row['symbol']}: {row['settlements']:,} settlements", markup=False)
    out.print(f"{report['requests']:,} requests in {report['seconds']:.0f} s", style="dim")


def _tell_simulated() -> None:
    out.print("simulated market: not an exchange's own bars", style="yellow")


def _fetched(report: dict[str, Any]) -> Table:
    table = Table("symbol", "timeframe", "fetched", "stored", "first open", "to", "gaps", box=None)
    for row in report["items"]:
        table.add_row(
            row["symbol"], row["timeframe"], f"{row['fetched']:,}", f"{row['stored']:,}",
            (row["start"] or "–")[:10], (row["end"] or "–")[:16], f"{row['gaps']:,}",
        )  # fmt: skip
    return table


@app.command()
def check(
    files: Files, symbol: Symbol = None, timeframe: Timeframe = None, json: Json = False
) -> None:
    """Validate files and say what is wrong with them; exits 3 if one must not be used."""
    from data.importing import check_file

    refused = []
    for path in files:
        _, report = check_file(path, symbol=symbol, timeframe=timeframe, now_ms=SystemClock().now())
        if json:
            print_json(report.to_dict())
        else:
            out.print(report.to_text(), markup=False)
        if not report.ok:
            refused.append(path.name)
    if refused:
        raise DataRefused("data", "has defects that must not be used", ", ".join(refused))


@app.command()
def listen(
    symbol: Annotated[
        list[str] | None, typer.Option(help="repeatable; else SYMBOLS", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=1.0, max=3_600.0, help="messages are counted over, market time",
                     show_default="feed.start_listen_s"),
    ] = None,
    json: Json = False, config: Config = None, sets: Set = None,
) -> int:  # fmt: skip
    """Listen to the exchange and say whether its feed is fit to be traded on; exits 1 if not.

    Fetches bars of six timeframes, then counts messages, stamps and spreads. Ends as soon as all
    start criteria are met, at the latest after feed.start_patience_min minutes.

    Example: conclave data listen --seconds 30
    """
    from domain.market import parse_symbol
    from serving.commands.listening_tables import told
    from serving.listening import listen as heard

    more = [] if seconds is None else [f"START_LISTEN_S={seconds:g}"]
    settings = settings_from(None, config, [*(sets or ()), *more])
    symbols = [parse_symbol(one) for one in symbol or settings.data.symbols]
    if json:
        body = heard(settings, symbols, SystemClock(), str)
        print_json(body)
    else:
        with err.status("asking the exchange …") as status:
            body = heard(settings, symbols, SystemClock(), status.update)
        for part in told(body):
            out.print(part)
    return 0 if body["met"] else 1


@app.command("list")
def list_(json: Json = False, config: Config = None, sets: Set = None) -> None:
    """List what is stored."""
    store = bar_store(settings_from(None, config, sets))
    stored, origin = store.list(), origin_of(store)
    if json:
        items = [{**asdict(item), "path": item.path.name} for item in stored]
        print_json(
            {
                "items": items,
                "origin": origin.origin,
                "simulated": bool(stored) and origin.simulated,
            }
        )
        return
    if stored and origin.simulated:
        _tell_simulated()
    table = Table("symbol", "timeframe", "bars", "first open", "last open", box=None)
    for item in stored:
        table.add_row(item.symbol, item.timeframe, f"{item.rows:,}", item.start, item.end)
    out.print(
        table if stored else "Nothing yet. Try: conclave data fetch, or conclave data import FILE"
    )


@app.command()
def features(
    symbol: Annotated[str, typer.Argument(help="e.g. BTC/USDT")],
    timeframe: Annotated[str, typer.Option()] = "5m",
    json: Json = False,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Compute the features of stored bars anew (layer 03)."""
    from data.features import build_features
    from domain.market import parse_symbol

    store = bar_store(settings_from(None, config, sets))
    frame = store.load(parse_symbol(symbol), timeframe)
    made = build_features(frame)
    path = store.put_features(frame, made)
    body = {
        "rows": len(frame),
        "columns": len(made.names),
        "schema": made.schema,
        "path": path.name,
    }
    if json:
        print_json(body)
    else:
        out.print(f"{body['rows']:,} rows × {body['columns']} features (schema {made.schema})")
