"""The folders of bars that settings name, as one store."""

from __future__ import annotations

from data.store import BarStore
from serving.settings import Settings


def bar_store(settings: Settings) -> BarStore:
    """Return the store of bars in the folders that settings name."""
    data = settings.data
    return BarStore(data.var_dir / "data", data.raw_dir, data.processed_dir)
