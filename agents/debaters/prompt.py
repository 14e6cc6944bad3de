"""What a language model is asked, and how its answer is read. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agents.debaters.provider import ProviderError
from domain.decision import Consensus, strongest_dissent
from domain.market import MarketState

VERSION = 1  # of the question: another one is another model version
ARGUMENT_CHARACTERS = 280

SYSTEM = (
    "You are one debater in a council that forecasts whether a price will be higher some bars "
    "ahead. You get a JSON object of numbers: the council's weighted probability of up, each "
    "member's probability and weight, the width of its 80 % interval and its risks in basis "
    "points and fractions, recent returns in basis points, oldest first, and the strongest "
    "dissenter. Moves on this scale are almost unpredictable: answer 0 unless the numbers hold "
    "evidence that the members have missed. Reply with one JSON object and nothing else: "
    '{"move": a number from -1 (down) to 1 (up), "argument": one sentence of at most 200 '
    "characters that names the evidence}."
)
_RETURNS = 24  # bars
_FENCE = re.compile(r"\A\s*```(?:json)?\s*(\{.*\})\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Argument:
    """A parsed answer: ``move`` in [−1, 1], and one sentence, cleaned."""

    move: float
    text: str


def question(state: MarketState, view: Consensus) -> str:
    """Return the user's part of the prompt: numbers and agents' names, no prose of anybody."""
    close = state.bars.close[-_RETURNS - 1 :]
    returns = [round(1e4 * math.log(b / a), 1) for a, b in pairwise(close.tolist())]
    body: dict[str, Any] = {
        "symbol": view.symbol,
        "timeframe": view.timeframe,
        "horizon_bars": view.horizon_bars,
        "p_up": round(view.p_up, 4),
        "members": [
            {
                "agent": opinion.agent,
                "p_up": _rounded(opinion.direction_probability()),
                "weight": round(view.weights[opinion.agent], 4),
                "width_bps": None
                if opinion.quantiles is None
                else round(1e4 * (opinion.quantiles.at(0.9) - opinion.quantiles.at(0.1)), 1),
                "risk_down": _rounded(opinion.risk_down),
                "risk_up": _rounded(opinion.risk_up),
            }
            for opinion in view.opinions
            if opinion.agent in view.weights
        ],
        "strongest_dissent": strongest_dissent(view.p_up, view.contributions),
        "returns_bps": returns,
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False)


def read(text: str) -> Argument:
    """Parse an answer: one JSON object, bare or in a code fence, with exactly what was asked for.

    Raises
    ------
    ProviderError : ``invalid``, for anything else.
    """
    fenced = _FENCE.match(text)
    try:
        body = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError) as error:
        raise ProviderError("invalid", "no JSON object") from error
    if not isinstance(body, dict) or body.keys() != {"move", "argument"}:
        raise ProviderError("invalid", "must have move and argument, and nothing else")
    move, argument = body["move"], body["argument"]
    if isinstance(move, bool) or not isinstance(move, int | float) or not -1.0 <= move <= 1.0:
        raise ProviderError("invalid", "move must be a number from −1 to 1")
    if not isinstance(argument, str):
        raise ProviderError("invalid", "argument must be text")
    return Argument(float(move), _cleaned(argument))


def _cleaned(text: str) -> str:
    """Printable, on one line, and short: it is shown to people and never read by a machine."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words[:ARGUMENT_CHARACTERS]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
