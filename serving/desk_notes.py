"""Under which names a desk leaves notes for the API, which reads them from the database."""

from __future__ import annotations

DRIFT = "drift"  # proposals and events of serving.monitoring
VIEW, VIEW_KEY = "view", "desk"  # the snapshot in which the desk tells weights, books and risk
COUNTERS_KEY = "counters"  # and the one in which it tells what it has counted
