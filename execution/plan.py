"""From a strategy's draft to the final decision, its orders and its refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from domain.decision import Action, Decision, ExitReason, GateVerdict, Reason
from domain.market import Instrument, MarketState
from domain.ports import Gate
from domain.records import changed
from domain.trading import ZERO, Order, Portfolio, Position, Refusal, RiskMode
from execution.exits import Meaning, horizon_over, meaning
from execution.journal import Journal
from execution.orders import Desk, entry_orders, exit_order
from execution.risk import Check, RiskState, failed
from execution.sizing import Sized, SizingSettings, size

_ENTERS = (Meaning.ENTER, Meaning.REVERSE)
_CLOSES = (Meaning.REVERSE, Meaning.CLOSE)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a symbol looks like when its decision arrives.

    Attributes
    ----------
    portfolio : marked at the closes of the last bars.
    price : close of the execution bar at ``as_of``, quote units; None if it is missing.
    closing : whether an exit already works.
    pending : notional of other symbols' entries on their way, quote units.
    in_flight : whether nobody knows what became of an order of this symbol.
    """

    instrument: Instrument
    portfolio: Portfolio
    price: Decimal | None
    scale: Decimal  # execution price / forecast price
    closing: bool
    pending: Decimal = ZERO
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


class Planner:
    """Applies gate, risk and sizing to drafts.

    Parameters
    ----------
    spreads : the modelled spread of each execution symbol, bps, checked where there is no book.
    journal : may make entries wait for a reflection; None = there is none.
    """

    def __init__(
        self,
        risk: RiskState,
        sizing: SizingSettings,
        spreads: Mapping[str, float],
        desk: Desk,
        gate: Gate | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._risk, self._sizing, self._spreads = risk, sizing, dict(spreads)
        self._desk, self._gate, self._journal = desk, gate, journal

    def plan(self, draft: Decision, state: MarketState, now: Situation) -> Plan:
        """Return the final decision with what follows from it; changes nothing."""
        decision, vetoes = self._gated(draft, state, now.portfolio)
        what = meaning(decision.action.sign, now.position, now.instrument.market)
        checks, sized, noes = self._reviewed(decision, state, now, what)
        decision = _final(decision, checks, [*vetoes, *noes])
        orders = self._exits(decision, now, what, refused=bool(noes))
        if what in _ENTERS and not noes:
            orders += entry_orders(self._desk, decision, now.instrument, sized.qty, now.scale)
        symbol, account = now.instrument.symbol, self._desk.account
        intent = "hold" if what is Meaning.HOLD else "entry"
        refusals = tuple(
            Refusal(account, symbol, draft.as_of, no.code, no.rule, no.value, intent, decision.id)
            for no in (*vetoes, *noes)
        )
        return Plan(decision, tuple(orders), refusals)

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
    ) -> tuple[tuple[Check, ...], Sized, list[_No]]:
        nothing = Sized(Decimal(0), Decimal(0), Decimal(0))
        if what is Meaning.IMPOSSIBLE:
            rule = "spot sells only what it holds"
            return (), nothing, [_No(Reason.SHORT_NOT_POSSIBLE, rule, "no position")]
        if what is Meaning.HOLD:
            checks = self._risk.state_checks()
            return checks, nothing, _noes(checks)
        if what not in _ENTERS:
            return (), nothing, []
        if now.in_flight:
            rule = "every order of the symbol has a known end"
            return (), nothing, [_No(Reason.IN_FLIGHT, rule, "one has none")]
        if now.price is None:
            rule = "needs the execution bar that closes at as_of"
            return (), nothing, [_No(Reason.STALE_DATA, rule, "missing")]
        return self._entry(decision, state, now, now.price)

    def _entry(
        self, decision: Decision, state: MarketState, now: Situation, price: Decimal
    ) -> tuple[tuple[Check, ...], Sized, list[_No]]:
        stop = None if decision.stop is None else Decimal(repr(decision.stop)) * now.scale
        shrunk = decision.gate.action == "shrink"
        factor = (decision.gate.size_factor if shrunk else 1.0) * self._risk.size_factor
        sized = size(
            self._sizing, now.portfolio.equity, price, stop, now.instrument, factor,
            self._risk.risk_cap,
        )  # fmt: skip
        symbol = now.instrument.symbol
        others = {s: p for s, p in now.portfolio.positions.items() if s != symbol}
        checks = self._risk.entry_checks(
            changed(now.portfolio, positions=others), symbol, sized.notional,
            self._spreads.get(symbol, 0.0), state.book, now.pending,
        )  # fmt: skip
        if self._journal is not None:
            checks += self._journal.checks(symbol, decision.action.value)
        noes = _noes(checks)
        if sized.reason is not None:
            rule = f"notional at least {sized.floor}"
            noes.append(_No(sized.reason, rule, f"{sized.notional:.2f}"))
        return checks, sized, noes

    def _exits(
        self, decision: Decision, now: Situation, what: Meaning, *, refused: bool
    ) -> list[Order]:
        killed = self._risk.mode is RiskMode.KILLED  # then only what was sent at the kill closes
        if killed or now.position is None or now.closing:
            return []
        if what in _CLOSES:
            reason = ExitReason.OPPOSITE
            return [exit_order(self._desk, now.position, reason, decision.as_of)]
        held_on = what is Meaning.HOLD and not refused
        if not held_on and horizon_over(now.position, decision.as_of):
            due = now.position.horizon_due
            return [exit_order(self._desk, now.position, ExitReason.HORIZON, due)]
        return []


def _noes(checks: tuple[Check, ...]) -> list[_No]:
    # One refusal per code: the first check that failed.
    first: dict[Reason, Check] = {}
    for check in failed(checks):
        first.setdefault(check.code, check)
    return [
        _No(code, f"{check.name} within {check.limit}", str(check.value))
        for code, check in first.items()
    ]


def _final(decision: Decision, checks: tuple[Check, ...], noes: list[_No]) -> Decision:
    if not checks and not noes:
        return decision
    risk = {check.name: {"value": check.value, "limit": check.limit} for check in checks}
    decision = changed(
        decision,
        margins={**decision.margins, **{check.name: check.margin for check in checks}},
        inputs={**decision.inputs, "risk": risk},
    )
    if not noes:
        return decision
    why = "; ".join(f"{no.code.value}: {no.rule}, is {no.value}" for no in noes)
    return changed(
        decision,
        action=Action.NO_TRADE,
        reasons=(*decision.reasons, *(no.code.value for no in noes)),
        reason=f"{decision.reason} Refused: {why}.",
    )
