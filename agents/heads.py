"""One voice from three heads: trend says p, return says the quantiles, risk the adverse moves.

A head is one fitted target of one kind of model (``baseline/trend``, ``tft/return`` …). What kind
it is makes no difference here: :class:`ThreeHeads` is the agent for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.artifacts import Artifact
from agents.contract import Floats, asleep, canonical, speak
from agents.volatility import LOOKBACK
from agents.windows import Run, runs
from domain.canonical import short_hash
from domain.errors import ModelError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Needs

TARGETS = ("trend", "return", "risk")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a head says about n states; fields of other targets are None.

    Attributes
    ----------
    awake : (n,) whether it has all it reads; the other rows hold anything.
    p_up : (n,) P(up).
    sigma : (n,) standard deviation of the log return. ``quantiles`` : (n, 13) of it, no drift.
    drift : expected return = drift·(2p − 1)·σ, by which the quantiles are to be moved.
    risk_down, risk_up : (n,) P(adverse move).
    evidence : per row, what it was read from.
    """

    awake: NDArray[np.bool_]
    p_up: Floats | None = None
    sigma: Floats | None = None
    quantiles: Floats | None = None
    drift: float = 0.0
    risk_down: Floats | None = None
    risk_up: Floats | None = None
    evidence: Sequence[Mapping[str, Any]] = ()


class Head(Protocol):
    """One fitted target."""

    @property
    def feature_rows(self) -> int:
        """Feature rows it reads of a state."""
        ...

    def predict(self, run: Run, states: Sequence[MarketState]) -> Prediction:
        """Forecast for the states of one run, whose index counts ``states``."""
        ...


class ThreeHeads:
    """The agent of three heads (:class:`domain.ports.Agent`).

    Parameters
    ----------
    name : of the agent.
    heads : by target. ``artifacts`` : what they were made from, in the order of the targets.
    """

    def __init__(self, name: str, heads: Mapping[str, Head], artifacts: Sequence[Artifact]) -> None:
        self.name = name
        cards = [artifact.card for artifact in artifacts]
        for target, card in zip(TARGETS, cards, strict=True):
            if card.target != target:
                raise ModelError(f"{name}/{target}", f"must be of the target {target}", card.target)
        self.version = short_hash([card.identity for card in cards], 12)
        horizons = {card.horizon_bars for card in cards}
        if len(horizons) > 1:
            raise ModelError(name, "its three targets must have one horizon", sorted(horizons))
        self.horizon_bars = horizons.pop()
        self._heads = [heads[target] for target in TARGETS]
        self._rows = max(head.feature_rows for head in self._heads)
        self.needs = Needs(bars=LOOKBACK, feature_rows=self._rows)
        self.trained_until = max(card.end_ms for card in cards)
        self.trained_on = (cards[0].symbol, cards[0].timeframe)

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        """Return one opinion per state; asleep where a head lacks something it reads."""
        states = list(states)
        out: list[Opinion] = []
        for run in runs(states, LOOKBACK, self._rows if self._rows > 1 else 0):
            here = [states[i] for i in run.index]
            own = replace(run, index=tuple(range(len(here))))
            trend, ret, risk = (head.predict(own, here) for head in self._heads)
            awake = trend.awake & ret.awake & risk.awake
            out.extend(
                self._opinion(state, trend, ret, risk, k)
                if awake[k]
                else asleep(self.name, self.version, state, self.horizon_bars)
                for k, state in enumerate(here)
            )
        return out

    def _opinion(
        self, state: MarketState, trend: Prediction, ret: Prediction, risk: Prediction, k: int
    ) -> Opinion:
        p, sigma = _at(trend.p_up, k), _at(ret.sigma, k)
        tilt = ret.drift * (2.0 * p - 1.0) * sigma
        assert ret.quantiles is not None
        quantiles = canonical(ret.quantiles[k] + tilt)
        evidence = {**(trend.evidence[k] if trend.evidence else {}), "sigma": sigma}
        return speak(
            self.name, self.version, state, self.horizon_bars, p_up=p, quantiles=quantiles,
            expected_return=tilt, risk_down=_at(risk.risk_down, k), risk_up=_at(risk.risk_up, k),
            rationale=self.words(p, sigma, evidence), evidence=evidence,
        )  # fmt: skip

    def words(self, p: float, sigma: float, evidence: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Say in one sentence what was seen."""
        return f"Sees {p:.1%} for up and a width of {sigma * 1e4:.1f} bp."


def _at(values: Floats | None, k: int) -> float:
    assert values is not None
    return float(values[k])
