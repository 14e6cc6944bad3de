"""The strategy's fold over the ledger: saved now and then, so that a restart takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import structlog

from domain.errors import SettingError
from domain.ports import Strategy
from execution.loop import TradingLoop
from serving.desk_notes import VIEW, VIEW_KEY
from storage.snapshots import SqlSnapshots

log = structlog.get_logger("folds")

_KIND = "fold"


@runtime_checkable
class Foldable(Protocol):
    """A strategy with a state worth saving."""

    state_seq: int

    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, body: Mapping[str, Any]) -> None: ...
    def weights_view(self, symbol: str) -> list[dict[str, Any]]: ...


@dataclass(slots=True)
class Fold:
    """Saves and restores what the strategy learned, and tells the API about it."""

    strategy: Strategy
    snapshots: SqlSnapshots

    def resume(self, loop: TradingLoop) -> None:
        """Rebuild the loop from the ledger, the strategy from its newest usable snapshot."""
        after = 0
        saved = self.snapshots.latest(_KIND, self.strategy.name)
        if saved is not None and isinstance(self.strategy, Foldable):
            try:
                self.strategy.restore(saved[1])
                after = saved[0]
            except SettingError as error:
                log.info("snapshot_unusable", why=str(error))
        rows = loop.resume(strategy_after=after)
        log.info("resumed", rows=rows, strategy_after=after)

    def save(self) -> None:
        """Save the fold as it is now."""
        if isinstance(self.strategy, Foldable) and self.strategy.state_seq:
            self.snapshots.save(
                _KIND, self.strategy.name, self.strategy.state_seq, self.strategy.snapshot()
            )

    def weights(self, symbol: str) -> list[dict[str, Any]]:
        """Return every agent's weight and record on a symbol."""
        return self.strategy.weights_view(symbol) if isinstance(self.strategy, Foldable) else []

    def tell(self, view: Mapping[str, Any]) -> None:
        """Leave weights, books and risk where the API finds them."""
        self.snapshots.save(VIEW, VIEW_KEY, 0, view)
