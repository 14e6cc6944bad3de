"""The kinds of model that can be trained, by the name of the setting that chooses one."""

from __future__ import annotations

import difflib
from dataclasses import replace

from agents.contract import HORIZON_BARS
from agents.training.model import Model
from domain.errors import UsageError

KINDS = ("baseline", "tft")


def model_of(
    kind: str, target: str, horizon_bars: int = HORIZON_BARS, steps: int | None = None
) -> Model:
    """Return an untrained model.

    Parameters
    ----------
    steps : optimiser steps of a kind that is trained in steps; None = its own.

    Raises
    ------
    UsageError : for a kind or target that does not exist.
    """
    if kind == "baseline":
        from agents.training.baseline import BaselineModel

        return BaselineModel(target, horizon_bars)
    if kind == "tft":
        from agents.training.tft import TftConfig, TftModel

        config = TftConfig()
        if steps is not None:
            config = replace(config, schedule=replace(config.schedule, steps=steps))
        return TftModel(target, horizon_bars, config)
    close = difflib.get_close_matches(kind, KINDS, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(KINDS)}."
    raise UsageError("model", "must be a kind that exists", kind, hint)
