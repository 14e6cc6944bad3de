"""What the bot's answers are made of: the API's own views, read from the database."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx

from domain.canonical import plain
from domain.errors import NotFound, ServiceUnreachable, UsageError
from domain.market import parse_symbol
from domain.times import timeframe_ms
from serving.auth import token_of
from serving.earnings import Period, by_period, by_symbol, total
from serving.schema import signal_of, trade_of
from serving.scoreboard import CONSENSUS
from serving.service import CouncilService
from serving.settings import Settings
from serving.settings.names import KEYS
from serving.system import git_commit

CHART_BARS = 96
EQUITY_POINTS = 400
CALIBRATION_OUTCOMES = 5_000  # the newest; as many as the API takes
_LOG_BYTES = 200_000


@dataclass(slots=True)
class Facts:
    """Reads one world for the bot, by the code that the API reads it with: the numbers are equal.

    Attributes
    ----------
    service : of the API, without agents: it reads and asks the desk.
    """

    service: CouncilService
    settings: Settings
    currency: str

    @property
    def account(self) -> dict[str, Any] | None:
        """The account as the desk last told."""
        return self.service.portfolio()

    def symbols(self) -> list[str]:
        """Return the symbols that have been decided on, else those of the settings."""
        known = sorted({symbol for symbol, _ in self.service.reader.last_bars()})
        wanted = [s for s in known if ":" not in s or s in self.settings.data.symbols]
        return wanted or list(self.settings.data.symbols)

    def symbol(self, text: str) -> str:
        """Return the symbol a person means; the first one if they name none.

        Raises
        ------
        UsageError : if it is no symbol. NotFound : if it is not followed.
        """
        if not text:
            return self.symbols()[0]
        wanted = parse_symbol(text)
        if wanted not in self.symbols():
            raise NotFound("symbol", "is not followed", wanted, ", ".join(self.symbols()))
        return wanted

    def market_now(self) -> int:
        """Return the close of the newest bar, ms; 0 before there is one."""
        last = self.service.reader.last_bars()
        return max((at + timeframe_ms(tf) for (_, tf), at in last.items()), default=0)

    def newest(self, symbol: str | None = None) -> dict[str, Any] | None:
        """Return the newest decision as the API shows it, None before there is one."""
        page = self.service.reader.decisions(symbol, limit=1)
        return signal_of(page.items[0][1]).model_dump() if page.items else None

    def consensus(self) -> list[dict[str, Any]]:
        """Return each symbol's newest decision."""
        return [found for symbol in self.symbols() if (found := self.newest(symbol)) is not None]

    def why(self, text: str) -> dict[str, Any]:
        """Return a decision's explanation: by id, the newest of a symbol, or the newest of all.

        Raises
        ------
        NotFound : if there is none.
        """
        found = self.newest() if not text else None
        if text and ("/" in text or text.isalpha()):
            found = self.newest(self.symbol(text))
        if found is None and not text:
            raise NotFound("signal", "is not in the ledger yet")
        return self.service.why(text if found is None else found["id"])

    def trades(self, count: int) -> list[dict[str, Any]]:
        """Return the newest closed trades."""
        page = self.service.reader.trades(limit=count, account=self.service.account)
        return [trade_of(trade) for _, trade in page.items]

    def closed(self) -> dict[str, Any]:
        """Return what all closed trades earned."""
        return dict(plain(total(by_symbol(self.service.reader, self.service.account))))

    def earned(self, period: Period, count: int) -> list[dict[str, Any]]:
        """Return what the newest periods earned."""
        rows = by_period(
            self.service.reader, self.service.account, period, self.market_now(), count
        )
        return [dict(plain(row)) for row in rows]

    def performance(self) -> list[dict[str, Any]]:
        """Return what each symbol earned."""
        return [dict(plain(x)) for x in by_symbol(self.service.reader, self.service.account)]

    def calibration(self, symbol: str) -> dict[str, Any]:
        """Return how far the probabilities can be taken at their word."""
        board = self.service.surface.scoreboard
        row = next(iter(board.calibration(symbol, CONSENSUS, CALIBRATION_OUTCOMES)), {})
        brier, bins = row.get("brier"), row.get("bins", [])
        return {
            "symbol": symbol, "n": row.get("n", 0), "brier": brier,
            "skill_1e4": None if brier is None else (0.25 - brier) * 1e4,
            "why": row.get("why", "nothing is scored yet") if not bins else None,
            "bins": [[b["forecast"], b["observed"], b["band_lo"], b["band_hi"], b["n"]]
                     for b in bins],
        }  # fmt: skip

    # Pictures

    def look(self) -> dict[str, Any]:
        """Return what every picture is told: its theme, and whether the market is simulated."""
        return {
            "theme": self.settings.notify.chart_theme, "simulated": self.service.plan.simulated,
        }  # fmt: skip

    def equity_data(self) -> dict[str, Any]:
        """Return the data of the equity picture; no marks before the first bar."""
        marks = self.service.reader.equity_marks(self.service.account, max_points=EQUITY_POINTS)
        rows = [[mark.at, str(mark.equity), str(mark.high_water)] for mark in marks]
        return {
            **self.look(), "currency": self.currency, "marks": rows,
            "initial": self.settings.execution.initial_cash,
        }  # fmt: skip

    def price_data(self, symbol: str) -> dict[str, Any]:
        """Return the data of the price picture.

        Raises
        ------
        NotFound : if there are no bars.
        """
        timeframe, reader = self.settings.data.timeframe, self.service.reader
        frame = reader.newest_bars(symbol, timeframe, CHART_BARS)
        if not len(frame):
            raise NotFound("bars", "are not there yet", symbol)
        columns = (frame.ts, frame.open, frame.high, frame.low, frame.close)
        first, last = int(frame.ts[0]), int(frame.ts[-1]) + frame.step_ms
        page = reader.decisions(symbol, limit=2 * CHART_BARS)
        said = [
            [d.as_of, d.action.value, d.prob_up]
            for _, d in reversed(page.items)
            if first <= d.as_of <= last and d.origin != "on_demand"
        ]
        position = self._position(symbol)
        newest = page.items[0][1] if page.items else None
        return {
            **self.look(), "symbol": symbol, "timeframe": timeframe, "step_ms": frame.step_ms,
            "bars": [[int(row[0]), *map(float, row[1:])] for row in zip(*columns, strict=True)],
            "decisions": said, "trades": self._trades(symbol, first),
            "stop": None if position is None or newest is None else newest.stop,
            "target": None if position is None or newest is None else newest.target,
        }  # fmt: skip

    def _position(self, symbol: str) -> dict[str, Any] | None:
        account = self.account or {"positions": []}
        mine = [p for p in account["positions"] if _base(p["symbol"]) == _base(symbol)]
        return mine[0] if mine else None

    def _trades(self, symbol: str, since_ms: int) -> list[list[Any]]:
        page = self.service.reader.trades(limit=50, account=self.service.account)
        return [
            [t.opened_at, float(t.entry), t.closed_at, float(t.exit), t.side]
            for _, t in reversed(page.items)
            if _base(t.symbol) == _base(symbol) and t.opened_at >= since_ms
        ]

    # The system itself

    def version(self) -> dict[str, Any]:
        """Return versions and the models' hash."""
        newest = self.newest()
        models = None if newest is None else newest["version"]["model_version"]
        parts = {"commit": git_commit()[:12], "models": models or "–",
                 "python": platform.python_version()}  # fmt: skip
        return {"version": _version(), "parts": parts}

    def paper(self) -> dict[str, Any]:
        """Return the terms of the paper account."""
        execution, plan = self.settings.execution, self.service.plan
        return {
            "market": execution.market, "source": plan.source, "profile": plan.profile,
            "speed": "max" if plan.speed is None else f"x{plan.speed:g}",
            "strategy": execution.strategy, "opening capital": execution.initial_cash,
            "leverage": execution.leverage, "spread, bps": execution.spread_bps,
            "slippage, bps": execution.slippage_bps, "latency": execution.latency,
            "funding": execution.funding,
        }  # fmt: skip

    def config(self, group: str) -> tuple[dict[str, dict[str, Any]], str]:
        """Return one group's settings, or all that are not at their default, and a title.

        Raises
        ------
        UsageError : if there is no such group.
        """
        described = self.settings.describe()
        if group:
            if group not in described:
                raise UsageError("group", f"must be one of {', '.join(described)}", group)
            return {group: described[group]}, f"Settings: {group}"
        changed: dict[str, dict[str, Any]] = {}
        for key in KEYS:
            fields = type(getattr(self.settings, key.group)).model_fields
            value = getattr(getattr(self.settings, key.group), key.field)
            if (
                value != fields[key.field].get_default()
                and fields[key.field].default_factory is None
            ):
                changed.setdefault(key.group, {})[key.field] = described[key.group][key.field]
        return changed, "Settings that differ from their default"

    def logs(self, process: str, count: int) -> list[dict[str, Any]]:
        """Return the newest warnings and errors of a process, the newest last.

        Raises
        ------
        NotFound : if there is no such log.
        """
        folder = self.settings.data.logs_dir
        known = sorted(path.stem for path in folder.glob("*.jsonl"))
        if process not in known:
            raise NotFound("log", f"is none of {', '.join(known) or 'none'}", process)
        found = [
            line for line in _lines_of(folder / f"{process}.jsonl") if line.get("level") != "info"
        ]
        return found[-count:]

    # Over HTTP, where the agents are

    async def over_http(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, seconds: float = 10.0
    ) -> dict[str, Any]:
        """Ask the API of this run.

        Raises
        ------
        ServiceUnreachable : if it does not answer.
        UsageError : what it refused, as it said it.
        """
        configured = self.settings.serving.api_token
        given = None if configured is None else configured.get_secret_value()
        token = token_of(self.settings.data.var_dir, given)
        plan = self.service.plan
        try:
            async with httpx.AsyncClient(
                base_url=plan.address, headers={"Authorization": f"Bearer {token}"},
                timeout=seconds, trust_env=False,
            ) as client:  # fmt: skip
                reply = await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ServiceUnreachable(
                "API", f"does not answer ({type(error).__name__})", plan.address
            ) from None
        found: dict[str, Any] = reply.json()
        if reply.is_error:
            told = found["error"]
            raise UsageError(told["message"], hint=told["hint"])
        return found


def _version() -> str:
    try:
        return version("conclave")
    except PackageNotFoundError:
        return "unknown"


def _base(symbol: str) -> str:
    return symbol.partition(":")[0]


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        for line in file.read().decode("utf-8", "replace").splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # the first one may be cut
                continue
            if isinstance(found, dict):
                yield found
