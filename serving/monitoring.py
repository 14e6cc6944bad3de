"""The drift monitor of a running desk: once per UTC day of market time, after the day's outcomes.

It compares feature rows with the training distribution, and the published forecasts with what
happened (sim.drift). A new alarm opens one proposal and writes one event, whatever is killed in
between: both carry the alarm's own key, and a day is ticked off only after they are stored. It
appends nothing to the ledger, so a replay is the same with and without it, and a failure of its
own never reaches a decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from data.features.names import REFERENCE_54
from data.labels import Labels, make_labels
from data.memory import MarketMemory
from domain.canonical import canonical_json, plain
from domain.decision import Decision
from domain.times import DAY_MS, iso
from domain.trading import Event
from serving.desk_notes import DRIFT as KIND
from serving.report_files import stamp
from sim.drift import (
    DAYS,
    LIMIT,
    Alarm,
    Coverage,
    DayScore,
    FeatureDrift,
    Reference,
    coverage,
    day_scores,
    page,
    unscored,
)
from storage.events import EventLog
from storage.proposals import Proposal, Proposals
from storage.queries import Reader
from storage.snapshots import SqlSnapshots

log = structlog.get_logger("monitoring")

_SNAPSHOT = "monitor"
_READ = 500  # decisions read at a time after a restart
_READ_MOST = 8_640
_SHOWN = 20  # columns in a report and in a proposal

_ACTIONS = {
    "feature": "Look at the bars of the last 30 days first (conclave data check); if the market "
    "is what has changed, retrain the models on data that includes it (conclave train).",
    "brier": "Look at weights and scores of the agents (GET /v1/agents/weights); retrain or roll "
    "back what misleads the council. Probabilities are surer than outcomes bear out.",
    "coverage": "Retrain the interval models; until then do not size by the published p10–p90.",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What one decision published: NaN where nothing."""

    p_up: float
    low: float
    high: float
    warm_up: bool


@dataclass(slots=True)
class Watch:
    """What is known of one symbol between two days; saved after each."""

    through: int | None = None  # days since 1970 before this one are done
    days: list[DayScore] = field(default_factory=list)
    level: float = 0.0  # of the CUSUM
    active: list[str] = field(default_factory=list)  # alarms of the last day that could raise

    def as_dict(self) -> dict[str, Any]:
        """Return JSON's types."""
        return dict(plain(self))

    def copy(self) -> Watch:
        """Return one that can be changed without changing this one."""
        return Watch(self.through, list(self.days), self.level, list(self.active))

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Watch:
        """Read :meth:`as_dict` back, bit for bit."""
        days = [DayScore(**day) for day in body["days"]]
        return cls(body["through"], days, float(body["level"]), list(body["active"]))


@dataclass(frozen=True, slots=True)
class Finding:
    """One day's look at one symbol.

    Attributes
    ----------
    features : columns, the worst first, or None; then ``unmeasured`` says why.
    level : of the CUSUM; ``unscored`` says why the day has not moved it, or is empty.
    """

    at: int
    features: list[FeatureDrift] | None
    unmeasured: str | None
    level: float
    unscored: str
    coverage: Coverage | None
    alarms: list[Alarm]


@dataclass(slots=True)
class Monitor:
    """Watches the symbols of one world.

    Attributes
    ----------
    reference : training distribution of features, or None: ``no_reference`` then says why.
    folder : of the reports, e.g. ``VAR_DIR/reports/monitoring``: ``latest.json`` is the newest of
        any world, ``<world>/latest.json`` that of one.
    history : whether ``<world>/history`` keeps a report a day of market time.
    """

    world: str
    horizon: int
    proposals: Proposals
    events: EventLog
    snapshots: SqlSnapshots
    folder: Path
    reference: Reference | None = None
    no_reference: str = "no reference ships"
    history: bool = True
    _heard: dict[str, dict[int, Heard]] = field(default_factory=dict)
    _watched: dict[str, Watch] = field(default_factory=dict)
    _tried: dict[str, int] = field(default_factory=dict)
    _found: dict[str, Finding] = field(default_factory=dict)

    def hear(self, record: Any) -> None:
        """Note a decision on a bar, by its open; the first word counts, other records do not."""
        if not isinstance(record, Decision) or record.origin == "on_demand":
            return
        try:
            self._heard.setdefault(record.symbol, {}).setdefault(record.as_of, _heard(record))
        except Exception as error:  # noqa: BLE001 - the decision is in the ledger and goes on
            _failed(record.symbol, error)

    def resume(self, reader: Reader, memories: Mapping[str, MarketMemory]) -> None:
        """Read what was saved, and decisions of the days that are not done yet."""
        try:
            for symbol, memory in memories.items():
                saved = self.snapshots.latest(_SNAPSHOT, symbol)
                watch = Watch() if saved is None else Watch.from_dict(saved[1])
                self._watched[symbol] = watch
                since = 0 if watch.through is None else watch.through * DAY_MS + memory.step_ms
                for decision in _since(reader, symbol, since):
                    self.hear(decision)
        except Exception as error:  # noqa: BLE001 - decisions go on without a monitor
            log.warning("monitor_not_resumed", error=f"{type(error).__name__}: {error}")

    def look(self, memory: MarketMemory) -> None:
        """Look at every day whose outcomes have become known; nothing to do within a day."""
        last = memory.last_as_of
        if last is None:
            return
        done = (last - self.horizon * memory.step_ms) // DAY_MS
        if done <= self._tried.get(memory.symbol, -1):
            return
        self._tried[memory.symbol] = done  # what fails is tried again a day later
        try:
            self._catch_up(memory, done)
        except Exception as error:  # noqa: BLE001 - decisions go on without a monitor
            _failed(memory.symbol, error)
            self._forget(memory, done - DAYS)  # however long it goes on failing

    def _catch_up(self, memory: MarketMemory, done: int) -> None:
        symbol, step = memory.symbol, memory.step_ms
        heard = self._heard.get(symbol, {})
        watch = self._watched.get(symbol, Watch()).copy()  # kept only if all of it went well
        first = min(((as_of - step) // DAY_MS for as_of in heard), default=done)
        if watch.through is not None:
            first = max(first, watch.through)
        if first >= done:
            return
        labels = make_labels(memory.bars(), self.horizon)
        finding: Finding | None = None
        for day in range(first, done):
            said = {k: v for k, v in heard.items() if (k - step) // DAY_MS == day}
            if not said:
                continue
            finding = self._day(memory, watch, day, said, labels)
            if said[max(said)].warm_up:
                continue  # an alarm that began here is new to the first live day
            self._raise(memory, watch, finding)
            watch.active = [_identity(alarm) for alarm in finding.alarms]
        watch.through = done
        self.snapshots.save(_SNAPSHOT, symbol, 0, watch.as_dict())
        self._watched[symbol] = watch
        self._forget(memory, done)
        if finding is not None:
            self._found[symbol] = finding
            self._write()

    def _forget(self, memory: MarketMemory, day: int) -> None:
        """Drop what was published on the bars of earlier days."""
        heard = self._heard.get(memory.symbol, {})
        left = {k: v for k, v in heard.items() if (k - memory.step_ms) // DAY_MS >= day}
        self._heard[memory.symbol] = left

    def _day(
        self,
        memory: MarketMemory,
        watch: Watch,
        day: int,
        said: Mapping[int, Heard],
        labels: Labels,
    ) -> Finding:
        watch.days = [*watch.days, *_scores(said, labels, memory.step_ms)][-DAYS:]
        path, over = page([watch.days[-1].z], watch.level)
        watch.level = 0.0 if over[0] else path[0]
        covered = coverage(watch.days)
        at = (day + 1) * DAY_MS
        warm_up = said[max(said)].warm_up
        features, unmeasured = (None, "warm-up") if warm_up else self._features(memory, at)
        alarms = [
            *(_feature_alarm(one, at) for one in features or () if one.alarm),
            *([_brier_alarm(path[0], at)] if over[0] else []),
            *([_coverage_alarm(covered, at)] if covered is not None and covered.alarm else []),
        ]
        why = unscored(watch.days[-1:])
        return Finding(at, features, unmeasured, path[0], why, covered, alarms)

    def _features(
        self, memory: MarketMemory, at: int
    ) -> tuple[list[FeatureDrift] | None, str | None]:
        reference = self.reference
        if reference is None:
            return None, self.no_reference
        if not reference.suits(memory.symbol, memory.timeframe):
            return None, f"no reference for {memory.symbol} {memory.timeframe}"
        stop = int(np.searchsorted(memory.bars().ts, at))  # not what came after the day
        rows = memory.features()
        columns = [rows.names.index(name) for name in REFERENCE_54]
        window = rows.values[max(0, stop - reference.window) : stop, columns]
        found = reference.compare(REFERENCE_54, window)
        if found is None:
            return None, f"fewer than 90 % of {reference.window} feature rows"
        return found, None

    # What it tells

    def _raise(self, memory: MarketMemory, watch: Watch, finding: Finding) -> None:
        """Open a proposal a kind for alarms that are new; those of a day come in one."""
        fresh = [one for one in finding.alarms if _identity(one) not in watch.active]
        if not fresh:
            return
        known = [p for p in _all(self.proposals) if p.kind == KIND and self._mine(p, memory)]
        for kind in sorted({one.kind for one in fresh}):
            body = self._body(memory, kind, [one for one in fresh if one.kind == kind])
            told = next((p for p in known if p.body["key"] == body["key"]), None)
            if told is None:
                body = _without(body, _open_names(known, kind))
                if not body["figures"]:
                    continue
                self.proposals.put(KIND, body, finding.at)
                log.warning("drift", symbol=memory.symbol, alarm=kind, what=body["what"])
            else:
                body = told.body  # a crash came before the event, or before the day was ticked off
            self.events.append(Event(KIND, finding.at, body, "warning"), key=str(body["key"]))

    def _mine(self, proposal: Proposal, memory: MarketMemory) -> bool:
        told = (proposal.body.get(name) for name in ("world", "symbol", "timeframe"))
        return tuple(told) == (self.world, memory.symbol, memory.timeframe)

    def _body(self, memory: MarketMemory, kind: str, alarms: Sequence[Alarm]) -> dict[str, Any]:
        at = iso(alarms[0].at)
        return {
            "key": f"{KIND} {kind} {memory.symbol} {memory.timeframe} {at}",
            "world": self.world,
            "symbol": memory.symbol,
            "timeframe": memory.timeframe,
            "at": at,
            "alarm": kind,
            "what": _summary(alarms),
            "figures": [_dated(one) for one in alarms],
            "action": _ACTIONS[kind],
        }

    def _write(self) -> None:
        """Write the day's report; it is replaced as the other symbols of the world come in."""
        at = max(one.at for one in self._found.values())
        symbols = {symbol: _told(one) for symbol, one in sorted(self._found.items())}
        line = canonical_json({"world": self.world, "at": iso(at), "symbols": symbols}) + "\n"
        mine = self.folder / self.world.replace("/", "-")
        paths = [mine / "latest.json", self.folder / "latest.json"]
        if self.history:
            paths.append(mine / "history" / f"{stamp(at)}.json")
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = mine / "report.tmp"  # no other world writes here
            temporary.write_text(line, encoding="utf-8")
            temporary.replace(path)


def scored_days(snapshots: SqlSnapshots, symbol: str) -> list[DayScore]:
    """Return the trailing days of a symbol as the monitor last saved them."""
    saved = snapshots.latest(_SNAPSHOT, symbol)
    return [] if saved is None else Watch.from_dict(saved[1]).days


def _failed(symbol: str, error: Exception) -> None:
    log.warning("monitor_failed", symbol=symbol, error=f"{type(error).__name__}: {error}")


def _heard(decision: Decision) -> Heard:
    quantiles = decision.quantiles
    low, high = (math.nan, math.nan) if quantiles is None else map(quantiles.at, (0.1, 0.9))
    p_up = math.nan if decision.prob_up is None else decision.prob_up
    return Heard(p_up, low, high, decision.origin == "warm_up")


def _since(reader: Reader, symbol: str, as_of: int) -> Iterator[Decision]:
    """Decisions on bars from ``as_of`` on, newest first, at most a window of them."""
    before, read = None, 0
    while read < _READ_MOST:
        found = reader.decisions(symbol, limit=_READ, before_seq=before)
        for _, decision in found.items:
            if decision.origin == "on_demand":
                continue  # may be about any earlier bar
            if decision.as_of < as_of:
                return
            yield decision
        before, read = found.next, read + len(found.items)
        if before is None:
            return


def _scores(said: Mapping[int, Heard], labels: Labels, step_ms: int) -> list[DayScore]:
    """Score one day's decisions against the bars that followed."""
    opens = np.array(sorted(said), dtype=np.int64) - step_ms
    rows = np.minimum(np.searchsorted(labels.ts, opens), len(labels) - 1)
    known = (labels.ts[rows] == opens) & labels.valid[rows]
    told = np.array([(one.p_up, one.low, one.high) for _, one in sorted(said.items())])
    r = np.where(known, labels.y[rows], np.nan)
    p_up, low, high = told.T
    return day_scores(p_up, labels.up[rows], low, high, r, opens, labels.horizon)


def _identity(alarm: Alarm) -> str:
    return f"{alarm.kind} {alarm.name}"


def _feature_alarm(one: FeatureDrift, at: int) -> Alarm:
    limit = one.threshold or 0.0
    words = f"{one.name} has left its training distribution: PSI {one.psi:.2f} over 30 days, "
    words += f"limit {limit:.2f}, KS {one.ks:.2f}"
    return Alarm("feature", one.name, at, one.psi, limit, words)


def _brier_alarm(level: float, at: int) -> Alarm:
    words = f"the council's probabilities are surer than outcomes bear out: CUSUM {level:.1f} "
    words += f"standard deviations of a day, limit {LIMIT:g}"
    return Alarm("brier", "consensus", at, level, LIMIT, words)


def _coverage_alarm(one: Coverage, at: int) -> Alarm:
    words = f"p10–p90 covered {100 * one.value:.1f} % of the last 30 days' outcomes, not 80 "
    words += f"± {100 * one.threshold:.1f} %"
    return Alarm("coverage", "p10_p90", at, one.value, one.threshold, words)


def _summary(alarms: Sequence[Alarm]) -> str:
    more = len(alarms) - 1
    return alarms[0].words + (f"; and {more} more columns" if more else "")


def _all(proposals: Proposals) -> Iterator[Proposal]:
    before: int | None = None
    while found := proposals.list(limit=1000, before_id=before):
        yield from found
        before = found[-1].id


def _open_names(known: Sequence[Proposal], kind: str) -> set[str]:
    mine = (p for p in known if p.state == "open" and p.body["alarm"] == kind)
    return {str(figure["name"]) for p in mine for figure in p.body["figures"]}


def _without(body: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """The same proposal without what is proposed already."""
    left = [figure for figure in body["figures"] if figure["name"] not in names]
    what = body["what"]
    if left and len(left) < len(body["figures"]):
        what = left[0]["words"] + (f"; and {len(left) - 1} more columns" if len(left) > 1 else "")
    return {**body, "figures": left, "what": what}


def _told(one: Finding) -> dict[str, Any]:
    features = None if one.features is None else plain(one.features[:_SHOWN])
    told = {
        "at": iso(one.at),
        "features": features,
        "features_not_measured": one.unmeasured,
        "cusum": {"value": one.level, "threshold": LIMIT, "note": one.unscored},
        "coverage": None if one.coverage is None else _dated(one.coverage),
        "alarms": [_dated(alarm) for alarm in one.alarms],
    }
    return dict(plain(told))


def _dated(one: Alarm | Coverage) -> dict[str, Any]:
    return {**plain(one), "at": iso(one.at)}
