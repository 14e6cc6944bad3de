"""The gate in use: a checked policy that allows, shrinks or vetoes what the strategy wants.

It never stands in the way: whatever is wrong with it or unknown to it, the decision goes on as it
is, with the reason. Whether it is applied at all is for the :mod:`rl.duel` to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.artifacts import Artifact
from domain.decision import Decision, GateVerdict
from domain.errors import ModelError
from domain.market import Bar, MarketState
from domain.times import timeframe_ms
from domain.trading import Portfolio
from rl.actions import CHOICES, COUNTS, KINDS, SIZES, allowed, verb_of
from rl.duel import Duel
from rl.observation import Schema, account_row, market_row, sigma_of
from rl.policy import WEIGHTS, Flags, Policy, from_bytes

NAME = "gate"  # of its artifact


@dataclass(frozen=True, slots=True)
class Powers:
    """What the gate may do.

    Attributes
    ----------
    override_above : confidence above which it may turn a side; None = never.
    always : whether it is applied without having earned it.
    """

    override_above: float | None = None
    always: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """What an artifact holds.

    Attributes
    ----------
    strategy : whose decisions it was trained on.
    until : close of the last bar that it was trained on, UTC ms.
    """

    policy: Policy
    schema: Schema
    strategy: str
    version: str
    until: int = 0


def trained(artifact: Artifact) -> Trained:
    """Read an artifact.

    Raises
    ------
    ModelError : if it is no gate, or its observations mean something else today.
    """
    params = artifact.params()
    try:
        told = params["schema"]
        schema = Schema(tuple(told["agents"]), tuple(told["features"]), int(told["horizon_bars"]))
        expected, strategy = str(told["hash"]), str(params["strategy"])
        body = artifact.contents[WEIGHTS]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(str(artifact.folder), f"is no gate: {error!r}") from error
    if schema.hash != expected:
        raise ModelError(
            artifact.folder.name, f"its observation schema must be {schema.hash}", expected,
            "Observations changed since it was trained: train again.",
        )  # fmt: skip
    card = artifact.card
    return Trained(from_bytes(body, schema), schema, strategy, card.version, card.end_ms)


class PolicyGate:
    """A trained gate (:class:`domain.ports.Gate`).

    Parameters
    ----------
    cost : of a round trip, fraction.
    spot : whether a short side only closes a long one.
    """

    def __init__(
        self, model: Trained, timeframe: str, cost: float, powers: Powers | None = None, *,
        spot: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.powers, self._cost, self._spot = model, powers or Powers(), cost, spot
        self._horizon_ms = model.schema.horizon_bars * timeframe_ms(timeframe)
        self.duel = Duel(self._horizon_ms, cost, model.version, spot=spot)

    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        """Say what it would do with a side, and whether that is to happen."""
        del portfolio  # it looks at what it would hold itself, applied or not
        try:
            return self._judged(decision, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, a decision does not wait
            return _let_pass(decision, f"failed: {error}")

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Fold ledger rows in order: what it said, and what became of it."""
        fold(self.duel, self.model.strategy, rows)

    def view(self) -> Mapping[str, Any]:
        """Return its state, for people."""
        return {
            "version": self.model.version, "strategy": self.model.strategy,
            "state": "applied" if self._applied else "shadow", "problem": "",
            **self.duel.as_dict(),
        }  # fmt: skip

    @property
    def _applied(self) -> bool:
        return self.powers.always or self.duel.applied

    def _judged(self, decision: Decision, state: MarketState) -> GateVerdict:
        model, schema = self.model, self.model.schema
        if decision.strategy != model.strategy:
            return _let_pass(decision, f"trained for {model.strategy}")
        if decision.horizon_bars != schema.horizon_bars:
            return _let_pass(decision, f"trained for {schema.horizon_bars} bars ahead")
        seen = np.array([[*self._own(state), *market_row(schema, decision, state, self._cost)]],
                        dtype=np.float32)  # fmt: skip
        if not np.isfinite(seen).all():
            return _let_pass(decision, "unknown territory: an observation is missing")
        strange = int(model.policy.unknown(seen)[0])
        if strange >= model.policy.strange:
            return _let_pass(decision, f"unknown territory: {strange} columns beyond training")
        chosen, sure = model.policy.choose(seen, self._mask(decision.intent.sign, state.symbol))
        return self._verdict(decision, chosen[0].tolist(), float(sure[0]))

    def _own(self, state: MarketState) -> tuple[float, float, float, float]:
        book = self.duel.book(state.symbol)
        if not book.part:
            return 0.0, 0.0, 0.0, 0.0
        left = max(book.due - state.as_of, 0) / self._horizon_ms
        return account_row(
            book.part, book.entry, float(state.bars.close[-1]), book.entry, 1.0, left,
            sigma_of(state, self.model.schema.horizon_bars),
        )  # fmt: skip

    def _mask(self, intent: int, symbol: str) -> Flags:
        turns = self.powers.override_above is not None
        held = self.duel.book(symbol).part
        mask = np.ones((1, CHOICES), dtype=bool)
        for kind in range(COUNTS[0]):
            mask[0, kind] = allowed(kind, held, intent, spot=self._spot, guard=True, override=turns)
        return mask

    def _verdict(self, decision: Decision, chosen: Sequence[int], sure: float) -> GateVerdict:
        kind, size, _ = chosen
        verb, part = verb_of(kind, size, decision.intent.sign)
        limit = self.powers.override_above
        if verb == "override" and (limit is None or sure <= limit):
            return _let_pass(decision, f"not sure enough to override: {sure:.3f}", sure)
        what = KINDS[kind] if verb != "shrink" else f"{KINDS[kind]} {SIZES[size]:.0%}"
        reason = f"policy {self.model.version}: {what}, p {sure:.3f}"
        applied = verb if self._applied else "shadow"
        return GateVerdict(
            applied, part, sure, reason, decision.intent, verb, self.model.version
        )  # fmt: skip


def fold(duel: Duel, strategy: str, rows: Sequence[tuple[int, Any]]) -> None:
    """Fold ledger rows in order: bars, and what a strategy decided."""
    for _, record in rows:
        if type(record) is Bar:
            duel.closed(record)
        elif type(record) is Decision and record.strategy == strategy:
            duel.decided(record)


class NoUsableGate:
    """Stands where a gate was wanted and none can be used: lets everything pass, and says why."""

    def __init__(self, strategy: str, why: str) -> None:
        self._strategy, self._why = strategy, why
        self._duel = Duel(0, 0.0)

    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        """Allow."""
        del state, portfolio
        return _let_pass(decision, f"no usable gate: {self._why}")

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Learn nothing."""

    def view(self) -> Mapping[str, Any]:
        """Return its state, for people."""
        return {
            "version": None, "strategy": self._strategy, "state": "unusable", "problem": self._why,
            **self._duel.as_dict(),
        }  # fmt: skip


def _let_pass(decision: Decision, why: str, sure: float = 0.0) -> GateVerdict:
    sure = sure if math.isfinite(sure) else 0.0
    return GateVerdict("allow", 1.0, sure, why, decision.intent, "allow")
