"""From a strategy's draft to the final decision, its orders and its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from domain.decision import Action, Decision, ExitReason, GateVerdict, Reason
from domain.market import Instrument, MarketState
from domain.ports import Gate
from domain.records import changed
from domain.times import timeframe_ms
from domain.trading import Order, Portfolio, Position, Refusal, RiskMode
from execution.exits import Meaning, Waiting, horizon_over, meaning
from execution.journal import Journal
from execution.kelly import Stake, TrackRecord
from execution.levels import OFF, Levels, LevelSettings, levels_for
from execution.limits import Check, failed
from execution.money import dec
from execution.orders import Desk, entry_orders, exit_order
from execution.risk import RiskState
from execution.sizing import Sized, SizingSettings, size

LATE_BARS = 2  # after a close nothing is entered on it any more
_ENTERS = (Meaning.ENTER, Meaning.REVERSE)
_CLOSES = (Meaning.REVERSE, Meaning.CLOSE)
_HAS_SIDE = (*_ENTERS, Meaning.HOLD)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a symbol looks like when its decision arrives.

    Attributes
    ----------
    portfolio : marked at the closes of the last bars.
    price : close of the execution bar at ``as_of``, quote units; None if it is missing.
    closing : whether an exit already works.
    pending : other symbols' entries on their way, quote units.
    waiting : the exit that waits for a better book.
    in_flight : whether nobody knows what became of an order of this symbol.
    """

    instrument: Instrument
    portfolio: Portfolio
    price: Decimal | None
    scale: Decimal  # execution price / forecast price
    closing: bool
    pending: Mapping[str, Decimal] = field(default_factory=dict)
    waiting: Waiting | None = None
    in_flight: bool = False

    @property
    def position(self) -> Position | None:
        """The open position, if there is one."""
        return self.portfolio.positions.get(self.instrument.symbol)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written down and sent."""

    decision: Decision
    orders: tuple[Order, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class _No:
    code: Reason
    rule: str
    value: str
    intent: str = "entry"


@dataclass(slots=True)
class _Review:
    """What was looked at on the way, to be written on the decision."""

    checks: tuple[Check, ...] = ()
    noes: list[_No] = field(default_factory=list)
    levels: Levels | None = None
    sized: Sized | None = None
    stake: Stake | None = None


class Planner:
    """Applies gate, levels, sizing and risk to drafts.

    Parameters
    ----------
    spreads : the modelled spread of each execution symbol, bps, checked where there is no book.
    record : what the last trades allow to risk; None where size does not depend on it.
    levels : stop and target of drafts that have neither.
    journal : may make entries wait for a reflection; None = there is none.
    """

    def __init__(
        self,
        risk: RiskState,
        sizing: SizingSettings,
        spreads: Mapping[str, float],
        desk: Desk,
        gate: Gate | None = None,
        record: TrackRecord | None = None,
        levels: LevelSettings = OFF,
        journal: Journal | None = None,
    ) -> None:
        self._risk, self._sizing, self._spreads = risk, sizing, dict(spreads)
        self._desk, self._gate, self._journal = desk, gate, journal
        self._record, self._levels = record, levels

    def plan(self, draft: Decision, state: MarketState, now: Situation) -> Plan:
        """Return the final decision with what follows from it; changes nothing."""
        decision, vetoes = self._gated(draft, state, now.portfolio)
        what = meaning(decision.action.sign, now.position, now.instrument.market)
        review = self._reviewed(decision, state, now, what)
        exits = self._exits(decision, state, now, what, review)
        noes = [*vetoes, *review.noes]
        decision = _final(decision, review, noes)
        orders = [*exits]
        if what in _ENTERS and review.sized is not None and not review.noes:
            qty = review.sized.qty
            orders += entry_orders(self._desk, decision, now.instrument, qty, now.scale)
        refusals = tuple(self._refusal(no, draft, now, what) for no in noes)
        return Plan(decision, tuple(orders), refusals)

    def _refusal(self, no: _No, draft: Decision, now: Situation, what: Meaning) -> Refusal:
        intent = "hold" if what is Meaning.HOLD and no.intent == "entry" else no.intent
        return Refusal(
            self._desk.account, now.instrument.symbol, draft.as_of, no.code, no.rule, no.value,
            intent, draft.id,
        )  # fmt: skip

    def _gated(
        self, draft: Decision, state: MarketState, portfolio: Portfolio
    ) -> tuple[Decision, list[_No]]:
        if self._gate is None or draft.action is Action.NO_TRADE:
            return draft, []
        verdict: GateVerdict = self._gate.judge(draft, state, portfolio)
        decision = changed(draft, gate=verdict)
        if verdict.action == "veto":
            no = _No(Reason.GATE_VETO, verdict.reason or "gate", f"{verdict.confidence:.3f}")
            return changed(decision, action=Action.NO_TRADE), [no]
        if verdict.action == "override":
            other = Action.SHORT if draft.action is Action.LONG else Action.LONG
            return changed(decision, action=other, stop=None, target=None), []
        return decision, []

    def _reviewed(
        self, decision: Decision, state: MarketState, now: Situation, what: Meaning
    ) -> _Review:
        review = _Review()
        if what in _HAS_SIDE and decision.stop is None and decision.target is None:
            review.levels = levels_for(decision.action, state, self._levels)
        if what is Meaning.IMPOSSIBLE:
            rule = "spot sells only what it holds"
            review.noes.append(_No(Reason.SHORT_NOT_POSSIBLE, rule, "no position"))
        elif what is Meaning.HOLD:
            review.checks = self._risk.state_checks()
            review.noes += _noes(review.checks)
        elif what in _ENTERS and now.in_flight:
            rule = "every order of the symbol has a known end"
            review.noes.append(_No(Reason.IN_FLIGHT, rule, "one has none"))
        elif what in _ENTERS and now.price is None:
            rule = "needs the execution bar that closes at as_of"
            review.noes.append(_No(Reason.STALE_DATA, rule, "missing"))
        elif what in _ENTERS and decision.ts - decision.as_of > LATE_BARS * state.bars.step_ms:
            late = f"{(decision.ts - decision.as_of) // 1000} s"
            rule = f"decided within {LATE_BARS} bars of the close"
            review.noes.append(_No(Reason.STALE_DATA, rule, late))
        elif what in _ENTERS and now.price is not None:
            self._entry(decision, state, now, now.price, review)
        return review

    def _entry(
        self,
        decision: Decision,
        state: MarketState,
        now: Situation,
        price: Decimal,
        review: _Review,
    ) -> None:
        symbol = now.instrument.symbol
        stop = decision.stop if review.levels is None else review.levels.stop
        review.stake = None if self._record is None else self._record.stake(decision.symbol)
        shrunk = decision.gate.action in ("shrink", "override")
        factor = (decision.gate.size_factor if shrunk else 1.0) * self._risk.size_factor
        sized = size(
            self._sizing, now.portfolio.equity, price,
            None if stop is None else dec(stop) * now.scale, now.instrument, factor,
            self._risk.risk_cap, review.stake,
        )  # fmt: skip
        others = {s: p for s, p in now.portfolio.positions.items() if s != symbol}
        review.sized = sized
        review.checks = self._risk.entry_checks(
            changed(now.portfolio, positions=others), symbol, sized.notional,
            self._spreads.get(symbol, 0.0), state.book, now.pending,
        )  # fmt: skip
        if self._journal is not None:
            review.checks += self._journal.checks(symbol, decision.action.value)
        review.noes += _noes(review.checks)
        if sized.reason is not None:
            rule = f"notional at least {sized.floor}"
            review.noes.append(_No(sized.reason, rule, f"{sized.notional:.2f}"))

    def _exits(
        self,
        decision: Decision,
        state: MarketState,
        now: Situation,
        what: Meaning,
        review: _Review,
    ) -> list[Order]:
        killed = self._risk.mode is RiskMode.KILLED  # then only what was sent at the kill closes
        if killed or now.position is None or now.closing:
            return []
        due = self._due(decision, now, now.position, what, refused=bool(review.noes))
        if due is None:
            return []
        reason, at = due
        bad = self._waits(decision, state, now)
        if bad is None:
            return [exit_order(self._desk, now.position, reason, at)]
        review.checks = (*review.checks, bad)
        review.noes += [changed(no, intent=reason.value) for no in _noes((bad,))]
        return []

    def _due(
        self, decision: Decision, now: Situation, position: Position, what: Meaning, *,
        refused: bool,
    ) -> tuple[ExitReason, int] | None:  # fmt: skip
        if what in _CLOSES:
            return ExitReason.OPPOSITE, decision.as_of
        if what is Meaning.HOLD and not refused:
            return None
        if horizon_over(position, decision.as_of):
            return ExitReason.HORIZON, position.horizon_due
        return None if now.waiting is None else (now.waiting.reason, now.waiting.since)

    def _waits(self, decision: Decision, state: MarketState, now: Situation) -> Check | None:
        """Return the check that makes an exit of choice wait; None where it goes out."""
        since = decision.as_of if now.waiting is None else now.waiting.since
        patience = self._risk.limits.exit_patience * timeframe_ms(decision.timeframe)
        if state.book is None or decision.as_of - since >= patience:
            return None
        return next(iter(failed(self._risk.exit_checks(state.book, decision.as_of))), None)


def _noes(checks: tuple[Check, ...]) -> list[_No]:
    # One refusal per code: the first check that failed.
    first: dict[Reason, Check] = {}
    for check in failed(checks):
        first.setdefault(check.code, check)
    return [
        _No(code, f"{check.name} within {check.limit}", str(check.value))
        for code, check in first.items()
    ]


def _final(decision: Decision, review: _Review, noes: list[_No]) -> Decision:
    checks, changes = review.checks, dict[str, Any]()
    if checks:
        risk = {check.name: {"value": check.value, "limit": check.limit} for check in checks}
        changes["inputs"] = {**decision.inputs, "risk": risk, **_found(review)}
        margins = {check.name: check.margin for check in checks}
        changes["margins"] = {**decision.margins, **margins}
    if review.levels is not None:
        changes |= {"stop": review.levels.stop, "target": review.levels.target}
    if noes:
        why = "; ".join(f"{no.code.value}: {no.rule}, is {no.value}" for no in noes)
        codes = dict.fromkeys(no.code.value for no in noes)
        changes["action"] = Action.NO_TRADE
        changes["reasons"] = (*decision.reasons, *codes)
        changes["reason"] = f"{decision.reason} Refused: {why}."
    elif review.sized is not None and review.sized.smallest:
        changes["reasons"] = (*decision.reasons, Reason.KELLY_FLOOR.value)
        changes["reason"] = f"{decision.reason} The last trades had no edge: the smallest order."
    return changed(decision, **changes) if changes else decision


def _found(review: _Review) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if review.stake is not None:
        found["kelly"] = review.stake.as_dict()
    if review.levels is not None:
        found["levels"] = review.levels.as_dict()
    return found
