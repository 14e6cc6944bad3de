"""The gates there are: which one guards the strategy in use, and which may be promoted."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import structlog

from agents.artifacts import Artifact, FolderStore, pointers_stamp
from agents.inspection import judged_by, require_fit, scores
from agents.mirror import Mirror
from domain.errors import ModelError
from domain.times import timeframe_ms
from rl.duel import Duel
from rl.following import AnyGate, FollowingGate
from rl.gate import NAME, NoUsableGate, PolicyGate, Powers, trained
from serving.model_store import mirror_of
from serving.rules import Market
from serving.settings import Settings

Fetch = Callable[[str, str], object]  # name, version

log = structlog.get_logger("gate")


def is_gate(name: str) -> bool:
    """Return whether a model is a gate."""
    return name.partition("/")[0] == NAME


class GateFollower:
    """Offers a desk's gate every version that is promoted while the desk is at work.

    Parameters
    ----------
    symbol : a forecast symbol; what trading costs there is what the gate reckons with.
    mirror : of the store that says what is promoted; None = MODELS_DIR says it.
    """

    def __init__(
        self, settings: Settings, market: Market, symbol: str, mirror: Mirror | None = None
    ) -> None:
        self._mirror = mirror
        self._settings, self._market, self._symbol = settings, market, symbol
        self._strategy = settings.execution.strategy
        route = market.routes[symbol]
        horizon_ms = settings.data.pred_horizon_steps * timeframe_ms(settings.data.timeframe)
        cost = market.costs[route].round_trip(0.0).round_trip
        spot = market.instruments[route].market == "spot"
        self._problem = ""
        self._seen = self._stamp()  # before loading: what changes meanwhile is looked at again
        self.gate = FollowingGate(
            self._load(), self._strategy, Duel(horizon_ms, cost, spot=spot)
        )  # fmt: skip

    def refresh(self) -> None:
        """Look whether another version was promoted, and offer it.

        What could not be had is asked for again: a store may answer later.
        """
        stamp, had = self._stamp(), self._problem
        if stamp == self._seen and not had:
            return
        self._seen, gate = stamp, self._load()
        if self._problem != had or not self._problem:
            self.gate.offer(gate)

    def _stamp(self) -> Hashable:
        if self._mirror is not None:
            self._mirror.follow(NAME)
        return pointers_stamp(self._settings.data.models_dir, f"{NAME}/{self._strategy}")

    def _load(self) -> AnyGate:
        # a gate that cannot be used must not keep a desk from deciding
        had, self._problem = self._problem, ""
        try:
            fetch = None if self._mirror is None else self._mirror.fetch
            return gate_for(self._settings, self._market, self._symbol, fetch)
        except ModelError as error:
            self._problem = error.message
            if self._problem != had:
                log.warning("gate_unusable", why=error.message)
            return NoUsableGate(self._strategy, error.message)


def desk_gate(settings: Settings, market: Market, symbol: str) -> GateFollower | None:
    """Return what follows the gate in use for the strategy; None where the settings want none."""
    if settings.decision.gate == "off":
        return None
    return GateFollower(settings, market, symbol, mirror_of(settings))


def gate_for(
    settings: Settings, market: Market, symbol: str, fetch: Fetch | None = None
) -> PolicyGate:
    """Return the gate in use for the strategy.

    Parameters
    ----------
    symbol : a forecast symbol; what trading costs there is what the gate reckons with.
    fetch : brings a version that does not lie in MODELS_DIR yet.

    Raises
    ------
    ModelError : if there is no gate for the strategy, or none that can be used.
    """
    store = FolderStore(settings.data.models_dir, fetch=fetch)
    artifact = store.open(f"{NAME}/{settings.execution.strategy}")
    _require_fit(settings, artifact)
    route = market.routes[symbol]
    powers = Powers(
        settings.decision.gate_override_above, always=settings.decision.gate == "always"
    )
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
