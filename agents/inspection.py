"""What a trained model must show before anybody is asked to believe it.

Three questions, asked whenever a version is promoted, reloaded or loaded from MODELS_DIR: does its
card fit the settings, was it no worse than climatology, does the agent speak sense with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.artifacts import Card
from agents.checks import check_opinions
from agents.contract import sleep_reason
from agents.training.reports import CLIMATOLOGY
from domain.errors import CheckFailed, ModelError
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import Agent

MAX_QUANTILE = 0.20  # |log return| over the horizon that nobody is believed
_SAME = 1e-12  # forecasts closer than this are one forecast

# What a model is judged by in its walk-forward, by what comes after the slash of its name, and
# whether more is better; models without a slash forecast a range.
_YARDSTICKS = {
    "trend": ("brier_skill_1e4", True),
    "return": ("pinball_bps", False),
    "risk": ("down_brier", False),
}
_RANGE = ("pinball_bps", False)
_GATE = ("gain", True)  # bps of the stake a bar over no gate


def judged_by(name: str) -> tuple[str, bool]:
    """Return the walk-forward score that decides about a model, and whether more is better."""
    kind, _, target = name.partition("/")
    return _GATE if kind == "gate" else _YARDSTICKS.get(target, _RANGE)


def scores(card: Card) -> dict[str, float]:
    """Return the walk-forward means of a card; empty if it has none."""
    told = card.metrics.get("walk_forward")
    pairs = told.items() if isinstance(told, dict) else ()
    return {key: float(value) for key, value in pairs if isinstance(value, int | float)}


def require_fit(card: Card, horizon_bars: int, timeframe: str | None) -> None:
    """Refuse a model that forecasts something else than what is asked.

    Parameters
    ----------
    timeframe : None = whatever it was trained on.

    Raises
    ------
    ModelError : naming what it was trained for and what is wanted.
    """
    if card.horizon_bars != horizon_bars:
        raise ModelError(
            f"{card.agent} {card.version}",
            f"was trained for a horizon of {card.horizon_bars} bars", horizon_bars,
            f"Set PRED_HORIZON_STEPS={card.horizon_bars}, or train a model for {horizon_bars}.",
        )  # fmt: skip
    if timeframe is not None and card.timeframe != timeframe:
        raise ModelError(
            f"{card.agent} {card.version}", f"was trained on {card.timeframe} bars", timeframe,
            f"Set TIMEFRAME={card.timeframe}, or train a model on {timeframe} bars.",
        )  # fmt: skip


def require_skill(name: str, card: Card) -> str:
    """Refuse a model that did worse in validation than saying what is usual.

    Returns
    -------
    What was compared, or why nothing could be, in one sentence.

    Raises
    ------
    ModelError : with both scores.
    """
    key, more = judged_by(name)
    told = scores(card)
    if key not in told:
        return f"Not compared with climatology: the card has no walk-forward {key}."
    mine, usual = told[key], told.get(CLIMATOLOGY + key)
    if usual is None and not more:
        return f"Not compared with climatology: the card has no {CLIMATOLOGY}{key}."
    bar = max(0.0, usual or 0.0) if more else float(usual or 0.0)  # a gain must at least be one
    if not (mine > bar if more else mine <= bar):  # NaN is no better either
        raise ModelError(
            f"{name} {card.version}",
            f"must not be worse than climatology in validation: its {key} must be "
            f"{'above' if more else 'at most'} {bar:.5g}", mine,
            "Train it on more or other bars; a model that adds nothing is better left out.",
        )  # fmt: skip
    return f"{key} {mine:.5g} in walk-forward, against {bar:.5g} of climatology."


def require_sense(agent: Agent, states: Sequence[MarketState]) -> None:
    """Ask an agent about a few states and refuse it if the answers cannot be.

    It must speak about at least half of them, with probabilities in [0, 1] and finite, ordered
    quantiles within ±20 %, and nothing that it forecasts may be the same on all of them.

    Parameters
    ----------
    states : of a market with enough of a past, far enough from one another to differ.

    Raises
    ------
    ModelError : saying what it said.
    """
    try:
        opinions = agent.opine(states)
        check_opinions(agent, states, opinions)
    except CheckFailed as error:
        raise ModelError(f"smoke forecast of {error.what}", error.rule, error.value) from error
    except Exception as error:  # whatever a library says to a model that it cannot run
        told = f"must be made without an error: {type(error).__name__}: {error}"
        raise ModelError(f"smoke forecast of {agent.name}", told) from error
    awake = [opinion for opinion in opinions if sleep_reason(opinion) is None]
    if 2 * len(awake) < len(states):
        raise ModelError(
            f"smoke forecast of {agent.name}",
            f"must be made on at least half of {len(states)} states", len(awake),
        )  # fmt: skip
    for field, rows in _numbers(awake).items():
        _require_range(agent, field, rows)


def _require_range(agent: Agent, field: str, rows: Sequence[tuple[float, ...]]) -> None:
    values = np.array(rows)  # (n states, n numbers)
    largest = float(np.abs(values).max())
    if field == "quantiles" and largest > MAX_QUANTILE:
        raise ModelError(
            f"smoke forecast of {agent.name}",
            f"its quantiles must lie within ±{MAX_QUANTILE:.0%} of log return", largest,
        )  # fmt: skip
    if float(np.ptp(values, axis=0).max()) <= _SAME:
        raise ModelError(
            f"smoke forecast of {agent.name}",
            f"its {field} must depend on the market; it is the same on all {len(values)} states",
            rows[0] if len(rows[0]) > 1 else rows[0][0],
            "A constant forecast is climatology at best: train again.",
        )  # fmt: skip


def _numbers(opinions: Sequence[Opinion]) -> dict[str, list[tuple[float, ...]]]:
    """Everything forecast, by field, where it was forecast at all."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for opinion in opinions:
        for field in ("p_up", "risk_down", "risk_up"):
            value = getattr(opinion, field)
            if value is not None:
                found.setdefault(field, []).append((value,))
        if opinion.quantiles is not None:
            found.setdefault("quantiles", []).append(tuple(opinion.quantiles.values))
    return found
