"""A gate that follows what is promoted, between two decisions and without a restart.

The next one begins with what a restarted desk would know of it: where the market and the strategy
stand, and nothing that another policy has earned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from domain.decision import Decision, GateVerdict
from domain.market import MarketState
from domain.trading import Portfolio
from rl.duel import Duel
from rl.gate import NoUsableGate, PolicyGate, fold

AnyGate = PolicyGate | NoUsableGate


class FollowingGate:
    """Whatever gate was offered last (:class:`domain.ports.Gate`).

    Parameters
    ----------
    first : the gate to begin with.
    strategy : whose decisions are guarded.
    market : a duel that knows no policy; what comes of the strategy alone is folded into it.
    """

    def __init__(self, first: AnyGate, strategy: str, market: Duel) -> None:
        self._now, self._strategy, self._market = first, strategy, market
        self._offered: deque[AnyGate] = deque(maxlen=1)

    def offer(self, gate: AnyGate) -> None:
        """Hand over the next gate, from any thread; it takes its place before the next call."""
        self._offered.append(gate)

    def judge(self, decision: Decision, state: MarketState, portfolio: Portfolio) -> GateVerdict:
        """Say what the gate of now says."""
        return self._turned().judge(decision, state, portfolio)

    def observe(self, rows: Sequence[tuple[int, Any]]) -> None:
        """Fold ledger rows in order."""
        self._turned().observe(rows)
        fold(self._market, self._strategy, rows)

    def view(self) -> Mapping[str, Any]:
        """Return the state of the gate of now, for people."""
        return self._now.view()

    def _turned(self) -> AnyGate:
        while self._offered:
            gate = self._offered.popleft()
            if isinstance(gate, PolicyGate):
                gate.duel = self._market.succeeded(gate.model.version)
            self._now = gate
        return self._now
