"""The gates there are: which one guards the strategy in use, and which may be promoted."""

from __future__ import annotations

import structlog

from agents.artifacts import Artifact, FolderStore
from agents.inspection import judged_by, require_fit, scores
from domain.errors import ModelError
from rl.gate import NAME, NoUsableGate, PolicyGate, Powers, trained
from serving.rules import Market
from serving.settings import Settings

log = structlog.get_logger("gate")


def is_gate(name: str) -> bool:
    """Return whether a model is a gate."""
    return name.partition("/")[0] == NAME


def desk_gate(settings: Settings, market: Market, symbol: str) -> PolicyGate | NoUsableGate | None:
    """Return what :func:`gate_for` does, or what lets everything pass where that one raises.

    A gate that cannot be used must not keep a desk from deciding.
    """
    try:
        return gate_for(settings, market, symbol)
    except ModelError as error:
        log.warning("gate_unusable", why=error.message)
        return NoUsableGate(settings.execution.strategy, error.message)


def gate_for(settings: Settings, market: Market, symbol: str) -> PolicyGate | None:
    """Return the gate in use for the strategy, or None where the settings want none.

    Parameters
    ----------
    symbol : a forecast symbol; what trading costs there is what the gate reckons with.

    Raises
    ------
    ModelError : if there is no gate for the strategy, or none that can be used.
    """
    wish = settings.decision.gate
    if wish == "off":
        return None
    store = FolderStore(settings.data.models_dir)
    artifact = store.open(f"{NAME}/{settings.execution.strategy}")
    _require_fit(settings, artifact)
    route = market.routes[symbol]
    powers = Powers(settings.decision.gate_override_above, always=wish == "always")
    return PolicyGate(
        trained(artifact), settings.data.timeframe, market.costs[route].round_trip(0.0).round_trip,
        powers, spot=market.instruments[route].market == "spot",
    )  # fmt: skip


def require_gate(settings: Settings, name: str, version: str) -> str:
    """Refuse a version of a gate that must not be promoted.

    Returns
    -------
    How it did against no gate in validation.

    Raises
    ------
    ModelError : naming the rule it breaks.
    """
    artifact = FolderStore(settings.data.models_dir, only={name: version}).open(name)
    _require_fit(settings, artifact)
    trained(artifact)
    key, _ = judged_by(name)
    gain = scores(artifact.card).get(key, 0.0)
    if not gain > 0.0:
        raise ModelError(
            f"{name} {version}", "must have gained over no gate in validation", gain,
            "Train it on more or other bars; without a gate nothing is lost.",
        )  # fmt: skip
    return f"{gain:+.4f} bps of the stake a bar over no gate in validation."


def _require_fit(settings: Settings, artifact: Artifact) -> None:
    require_fit(artifact.card, settings.data.pred_horizon_steps, settings.data.timeframe)
