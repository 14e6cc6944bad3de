"""``data fetch``: from an exchange into the four layers, going on where it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.features import build_features
from data.files import Funding, file_sha256
from data.importing import import_file
from data.origin import Origin, joined, note
from data.resample import differing, resample
from data.sources.history import PAGE, History
from data.store import BarStore
from data.timeframes import TIMEFRAMES
from domain.canonical import canonical_json
from domain.errors import DataRefused, ServiceUnreachable, UsageError
from domain.market import BarFrame, Market, market_of, parse_symbol, symbol_on
from domain.times import iso, timeframe_ms
from serving.settings import Settings
from sim.progress import Progress, Steps

ALL = TIMEFRAMES
_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
_BEGUN = "begun.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched.

    Attributes
    ----------
    symbols : unified, of one market.
    start_ms : first open; None = so that there are ``bars`` of every timeframe.
    funding : whether perpetuals' settlements are fetched as well, if the exchange tells them.
    """

    symbols: Sequence[str]
    timeframes: Sequence[str]
    start_ms: int | None
    bars: int
    funding: bool


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches into a store.

    Attributes
    ----------
    origin : of the bars, as file names tell it: the exchange's id, or ``simulated``.
    folder : keeps the pages of what is not whole yet.
    server : that is asked, so that pages of another one are not taken for its.
    """

    history: History
    store: BarStore
    settings: Settings
    origin: str
    folder: Path
    server: str = ""

    def fetch(self, wanted: Wanted, steps: Steps) -> dict[str, Any]:
        """Fetch everything and return a report, JSON's types.

        Settlements that the exchange does not tell are ``missing`` in it, in words; it is ``away``
        if it went away before it told them, and those of the symbols after it are not asked for.

        Raises
        ------
        DataRefused : if the bars are no good, or others than those stored.
        ServiceUnreachable : if the exchange does not answer; what came is kept.
        """
        self.history.open()
        for symbol in wanted.symbols:
            for timeframe in wanted.timeframes:
                self.history.require(symbol, timeframe)
        now, items = self.history.now(), []
        if wanted.start_ms is not None and wanted.start_ms >= now:
            raise UsageError("--since", f"must lie before {iso(now)}, the exchange's time",
                             iso(wanted.start_ms))  # fmt: skip
        origin = Origin(self.origin, self.server, self.history.market)
        note(self.store, joined(self.store, origin))
        for symbol in wanted.symbols:
            for timeframe in wanted.timeframes:
                tick = steps(f"{symbol} {timeframe}")
                items.append(self._bars(symbol, timeframe, wanted, now, tick))
        report: dict[str, Any] = {"at": iso(now), "origin": self.origin, "items": items}
        report["compared"] = [
            found
            for symbol in wanted.symbols
            for found in self._compared(symbol, wanted.timeframes)
        ]
        if wanted.funding:
            perps = [symbol for symbol in wanted.symbols if market_of(symbol) == "perp"]
            report["funding"] = list(self._all_funding(perps, wanted, now))
        return report

    def _bars(
        self, symbol: str, timeframe: str, wanted: Wanted, now: int, tick: Progress
    ) -> dict[str, Any]:
        step = timeframe_ms(timeframe)
        start = wanted.start_ms
        first = now // step * step - wanted.bars * step if start is None else start
        known = self._stored(symbol, timeframe)
        place = self.folder / self._name(symbol, timeframe)
        asked = place.with_suffix(".asked.json")
        if known is not None and self._reaches_back(known, asked, first):
            first = int(known.ts[-1]) + step  # what follows, so that there is no hole
        first = self._begun(place, first)
        fresh = sum(len(page) for page in self._pages(place, symbol, timeframe, first, now, tick))
        new = 0
        if fresh:
            whole = _whole(symbol, timeframe, _parts(place))
            path = place / f"{self._name(symbol, timeframe)}-{_span(whole)}.parquet"
            _write(path, whole)
            new = self._import(path, now)
        shutil.rmtree(place, ignore_errors=True)
        stored = self._stored(symbol, timeframe)
        if stored is not None and first < int(stored.ts[0]):  # it has none before
            told = {"from": self.server, "first": first, "found": int(stored.ts[0])}
            asked.write_text(canonical_json(told) + "\n", encoding="utf-8")
        return {
            "symbol": symbol, "timeframe": timeframe, "fetched": new,
            "stored": 0 if stored is None else len(stored),
            "start": None if stored is None else iso(int(stored.ts[0])),
            "end": None if stored is None else iso(int(stored.ts[-1]) + step),
            "gaps": 0 if stored is None else int((np.diff(stored.ts) != step).sum()),
        }  # fmt: skip

    def _reaches_back(self, known: BarFrame, asked: Path, first: int) -> bool:
        """Return whether nothing before the stored bars is left to be asked for."""
        if int(known.ts[0]) <= first:
            return True
        try:
            told = json.loads(asked.read_text(encoding="utf-8"))
            same = told["from"] == self.server and told["found"] == int(known.ts[0])
            return bool(same and told["first"] <= first)  # the exchange has none there
        except (OSError, ValueError, LookupError, TypeError):  # it is asked once more
            return False

    def _begun(self, place: Path, first: int) -> int:
        """Return where a fetch begins: where one that was cut off began, if its pages will do."""
        told, mine = place / _BEGUN, {"from": self.server, "first": first}
        if told.is_file():
            before = json.loads(told.read_text(encoding="utf-8"))
            if before["from"] == self.server and before["first"] <= first:
                return int(before["first"])
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        told.write_text(canonical_json(mine) + "\n", encoding="utf-8")
        return first

    def _import(self, path: Path, now: int) -> int:
        try:
            result = import_file(
                path, self.store, now_ms=now, features=build_features,
                encoder=self.settings.features.encoder_length,
                horizon=self.settings.data.pred_horizon_steps,
            )  # fmt: skip
        except DataRefused:
            shutil.rmtree(path.parent, ignore_errors=True)  # a second answer may be a better one
            raise
        return result.report.kept

    def _pages(
        self, place: Path, symbol: str, timeframe: str, first: int, now: int, tick: Progress
    ) -> Iterator[BarFrame]:
        """Iterate over pages, those that an earlier attempt left among them."""
        step, done = timeframe_ms(timeframe), 0
        total = max(-(-(now - first) // (PAGE * step)), 1)
        for path in _parts(place):
            page = _read(path, symbol, timeframe)
            first, done = int(page.ts[-1]) + step, done + 1
            yield page
        for page in self.history.pages(symbol, timeframe, first, now):
            _write(place / f"{int(page.ts[0]):015d}.part", page)
            done += 1
            tick(min(done, total), total)
            yield page
        tick(total, total)

    def _stored(self, symbol: str, timeframe: str) -> BarFrame | None:
        if not self.store.bars_path(symbol, timeframe).exists():
            return None
        return self.store.load(symbol, timeframe)

    def _compared(self, symbol: str, timeframes: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Iterate over how bars agree with those made from the exchange's own bars of 1m."""
        minutes = self._stored(symbol, "1m")
        for timeframe in timeframes:
            own = self._stored(symbol, timeframe)
            if minutes is None or own is None or timeframe == "1m":
                continue
            made = resample(minutes, timeframe)
            opens, apart = differing(own, made)
            first = None if not apart.any() else iso(int(opens[np.argmax(apart)]))
            yield {"symbol": symbol, "timeframe": timeframe, "compared": len(opens),
                   "different": int(apart.sum()), "first": first}  # fmt: skip

    def _all_funding(
        self, symbols: Sequence[str], wanted: Wanted, now: int
    ) -> Iterator[dict[str, Any]]:
        for symbol in symbols:
            try:
                yield self._funding(symbol, wanted, now)
            except ServiceUnreachable as error:  # the bars are there, and are to be told of
                yield _unsettled(symbol, error.message, away=True)
                return  # it would be waited for again with every symbol

    def _funding(self, symbol: str, wanted: Wanted, now: int) -> dict[str, Any]:
        start = wanted.start_ms
        if start is None:
            start = now - max(timeframe_ms(one) for one in wanted.timeframes) * wanted.bars
        try:
            found = self.history.funding(symbol, start, now)
        except UsageError as error:  # the bars are there, and most of what is done needs no more
            return _unsettled(symbol, error.message)
        if not len(found.ts):
            return _unsettled(symbol)
        return _unsettled(symbol) | {"settlements": len(found.ts), "path": self._kept(found, now)}

    def _kept(self, found: Funding, now: int) -> str:
        """Keep settlements as bars are kept: for good, with where they are from."""
        ends = [iso(int(found.ts[place])) for place in (0, -1)]
        days = "-".join(end[:10].replace("-", "") for end in ends)
        pair = f"{_pair(found.symbol)}-{self.origin}-perp-funding"
        path = self.folder / f"{pair}-{found.hours}h-{days}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(pa.table({"ts": found.ts, "rate": found.rate}), path)
            raw = self.store.put_raw(path, file_sha256(path), {
                "symbol": found.symbol, "market": "perp", "funding_hours": found.hours,
                "imported_at": iso(now), "rows": len(found.ts), "start": ends[0], "end": ends[1],
            })  # fmt: skip
        finally:
            path.unlink(missing_ok=True)
        return raw.path.name

    def _name(self, symbol: str, timeframe: str) -> str:
        return f"{_pair(symbol)}-{self.origin}-{market_of(symbol)}-{timeframe}"


def _unsettled(symbol: str, why: str | None = None, *, away: bool = False) -> dict[str, Any]:
    return {"symbol": symbol, "settlements": 0, "path": None, "missing": why, "away": away}


def _pair(symbol: str) -> str:
    return symbol_on(symbol, "spot").replace("/", "")


def _span(frame: BarFrame) -> str:
    ends = (iso(int(frame.ts[0])), iso(int(frame.ts[-1]) + frame.step_ms))
    return "-".join(end[:16].replace("-", "").replace(":", "") for end in ends)


def _parts(place: Path) -> list[Path]:
    return sorted(place.glob("*.part"))


def _whole(symbol: str, timeframe: str, parts: Sequence[Path]) -> BarFrame:
    pages = [_read(path, symbol, timeframe) for path in parts]
    columns = [np.concatenate([getattr(page, name) for page in pages]) for name in _COLUMNS]
    return BarFrame(symbol, timeframe, *columns)


def _write(path: Path, frame: BarFrame) -> None:
    part = path.with_name(f"{path.name}.new")
    table = pa.table({name: getattr(frame, name) for name in _COLUMNS})
    # where two markets' bars are the same, as at the local exchange, their files are not
    about = {"symbol": frame.symbol, "timeframe": frame.timeframe}
    pq.write_table(table.replace_schema_metadata(about), part)
    part.replace(path)


def _read(path: Path, symbol: str, timeframe: str) -> BarFrame:
    table = pq.read_table(path)
    return BarFrame(symbol, timeframe, *(table[name].to_numpy() for name in _COLUMNS))


def markets_of(market: str | None, symbols: Sequence[str]) -> tuple[Market, tuple[str, ...]]:
    """Return a market and the symbols as they are called there.

    Parameters
    ----------
    market : None = the perpetuals' if every symbol is one, else spot.

    Raises
    ------
    UsageError : for another market, or a symbol that names no pair.
    """
    named = [parse_symbol(one) for one in symbols]
    if market is None:
        perps = [one for one in named if market_of(one) == "perp"]
        if perps and len(perps) < len(named):
            raise UsageError(
                "symbols", "must be of one market", ", ".join(named),
                "Say which: --market spot or --market perp.",
            )  # fmt: skip
        market = "perp" if perps else "spot"
    if market not in ("spot", "perp"):
        raise UsageError("--market", "must be spot or perp", market)
    place: Market = "perp" if market == "perp" else "spot"
    return place, tuple(dict.fromkeys(symbol_on(one, place) for one in named))
