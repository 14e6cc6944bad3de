"""What a token may do, and which scope each route asks for."""

from __future__ import annotations

from typing import Literal

Scope = Literal["read", "signal", "trade", "risk", "admin"]
SCOPES: dict[Scope, str] = {
    "read": "every GET beyond loopback",
    "signal": "ask the council: POST /v1/signals",
    "trade": "journal, closes and trades from elsewhere: POST /v1/journal, /v1/trades",
    "risk": "kill, arm, the operator's reports, risk events: POST /v1/risk/…",
    "admin": "symbols, jobs, proposals, assertions, and whatever has no scope of its own",
}
ALL: frozenset[Scope] = frozenset(SCOPES)
READING = ("GET", "HEAD", "OPTIONS")
SIGNALS = "/v1/signals"
_CHANGING: tuple[tuple[str, Scope], ...] = (
    (SIGNALS, "signal"), ("/v1/journal", "trade"), ("/v1/trades", "trade"), ("/v1/risk", "risk"),
)  # fmt: skip


def asks_signal(method: str, path: str) -> bool:
    """Return whether a request asks the council and nothing more."""
    return method == "POST" and path == SIGNALS


def scope_of(method: str, path: str) -> Scope:
    """Return the scope that a request needs; what nobody thought of needs ``admin``."""
    if method in READING:
        return "read"
    for prefix, scope in _CHANGING:
        if path == prefix or path.startswith(f"{prefix}/"):
            return scope
    return "admin"
