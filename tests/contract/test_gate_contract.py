"""Every gate keeps the laws of its port, and the checker names the one that is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba")

from domain.decision import Decision, GateVerdict
from domain.errors import CheckFailed
from domain.market import MarketState
from domain.trading import Portfolio
from execution.checks import check_gate
from rl.actions import CHOICES
from rl.duel import Duel
from rl.following import FollowingGate
from rl.gate import NoUsableGate, PolicyGate, Powers, Trained
from rl.observation import LARGEST, Schema
from rl.policy import Policy
from tests.gate_scenes import decided, frame_of, terms_of

COST = terms_of().round_trip
PORTFOLIO = Portfolio("paper", "USDT", 0, Decimal(10_000), Decimal(10_000), Decimal(10_000))
MOMENTS = [
    (replace(state, bars=state.bars.slice(len(state.bars) - 1, len(state.bars))), decision)
    for state, decision in decided(frame_of("walk", 420))
]


def drawn(powers: Powers | None = None) -> PolicyGate:
    """A gate whose policy was drawn by lot."""
    schema, rng = Schema(), np.random.default_rng(5)
    n = len(schema.names)
    weights = tuple(
        rng.normal(size=shape).astype(np.float32) * 0.3 for shape in ((8, n), (CHOICES, 8))
    )
    biases = np.zeros(8, np.float32), np.zeros(CHOICES, np.float32)
    most = np.full(n, LARGEST, np.float32)
    policy = Policy(weights, biases, np.zeros(n), np.ones(n), -most, most, 1_000)
    return PolicyGate(Trained(policy, schema, "ema_cross", "v1"), "5m", COST, powers)


def following() -> FollowingGate:
    return FollowingGate(drawn(), "ema_cross", Duel(5 * 300_000, COST))


@pytest.mark.parametrize(
    "make",
    [
        drawn,
        lambda: drawn(Powers(always=True)),
        lambda: drawn(Powers(override_above=0.0, always=True)),
        lambda: NoUsableGate("ema_cross", "none"),
        following,
    ],
)
def test_check_gate_when_it_is_one_of_ours_then_every_law_holds(make: Callable[[], Any]) -> None:
    check_gate(make, MOMENTS, PORTFOLIO)


class Answering(NoUsableGate):
    """One that answers what it is told to."""

    def __init__(self, **told: Any) -> None:
        super().__init__("ema_cross", "none")
        self.told = told

    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        return replace(super().judge(decision, state, portfolio), **self.told)


class Raising(NoUsableGate):
    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        if np.isnan(state.features.values).all():
            raise ValueError("NaN")
        return super().judge(decision, state, portfolio)


class Deaf(NoUsableGate):
    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        raise ValueError("no rows")


class Moody(Answering):
    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        self.told = {"confidence": 1.0 - self.told.get("confidence", 0.0)}
        return super().judge(decision, state, portfolio)


class Forgetful(Answering):
    """One whose answer depends on how it was told the rows."""

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        self.told = {"confidence": min(len(rows) / 1_000, 1.0)}


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (lambda: Answering(size_factor=1.5), "part in"),
        (lambda: Answering(confidence=float("nan")), "probability"),
        (lambda: Answering(would=None), "would do"),
        (lambda: Answering(action="veto"), "does what it says"),
        (lambda: Answering(action="allow", would="veto", size_factor=0.0), "does what it says"),
        (lambda: Answering(action="shrink", would="shrink", size_factor=0.0), "part where it"),
        (lambda: Answering(would="perhaps"), "would do"),
        (lambda: Answering(action="veto", would="veto"), "nothing by a veto"),
        (lambda: Answering(size_factor=0.5), "allows the whole"),
        (lambda: Answering(reason=""), "reason"),
        (lambda: Answering(input_decision=None), "names what it judged"),
        (lambda: Raising("ema_cross", "none"), "never raises"),
        (lambda: Deaf("ema_cross", "none"), "never raises"),
        (Moody, "asked again"),
        (Forgetful, "after a restart"),
    ],
)
def test_check_gate_when_a_law_is_broken_then_it_is_named(
    make: Callable[[], Any], law: str
) -> None:
    with pytest.raises(CheckFailed, match=law):
        check_gate(make, MOMENTS, PORTFOLIO)
