"""A tape of opinions as the arrays that the compiled consensus plays; needs numba."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from consensus.admission import Admitted, examine
from consensus.council import case_of
from consensus.kernel import Folded, Panel
from consensus.rounds import WIDTH
from consensus.settings import CouncilSettings
from consensus.volatility import bar_sigma
from data.memory import MarketMemory
from domain.ports import Agent
from sim.opinions import widest
from sim.panel import Range
from sim.scoring import Forecasts
from sim.tapes import Tape


def panel_of(
    where: Range, memory: MarketMemory, tape: Tape, agents: Mapping[str, Agent],
    settings: CouncilSettings, min_liquidity: float,
) -> Panel:  # fmt: skip
    """Return what the council would hear on every bar of a range, and what came of it.

    Parameters
    ----------
    tape : of the range. ``memory`` : the one that it was made from.
    min_liquidity : what the decision rules require of a book, quote units.
    """
    names, n, horizon = sorted(agents), len(where.labels), where.labels.horizon
    column = {name: k for k, name in enumerate(names)}
    said, measured = np.full((n, len(names), WIDTH), np.nan), np.full((n, 5), np.nan)
    need, stamps = widest(agents), np.empty(n, np.int64)
    states = memory.states(where.start_ms, None, need.bars, need.feature_rows)
    for t, (state, (opinions, absent)) in enumerate(zip(states, tape.rounds(), strict=True)):
        for opinion in opinions:
            verdict = examine(opinion, settings)
            if isinstance(verdict, Admitted) and opinion.agent not in absent:
                said[t, column[opinion.agent]] = verdict.said.row
        sigma = bar_sigma(state.bars)
        case = case_of(state, sigma, min_liquidity)
        numbers = (None if sigma is None else sigma * horizon**0.5, *case.as_dict().values())
        measured[t] = [np.nan if x is None else x for x in numbers]
        stamps[t] = state.as_of
    truth, step, ts = where.truth, where.past.step_ms, where.labels.ts
    known = where.labels.valid & np.isfinite(truth.log_return)
    known[: n - horizon] &= ts[horizon:] == ts[: n - horizon] + horizon * step
    known[n - horizon :] = False
    return Panel(
        names, said, np.where(known, truth.log_return, np.nan), truth.drop, truth.rise,
        np.arange(n) + horizon, stamps // step % settings.horizon_bars, measured[:, 0],
        measured[:, 1:],
    )  # fmt: skip


def forecasts_of(folded: Folded) -> Forecasts:
    """Return what was published as columns that can be scored."""
    made = Forecasts.silent(len(folded.p_up))
    made.p_up[:], made.quantiles[:] = folded.p_up, folded.quantiles
    made.risk_down[:], made.risk_up[:] = folded.risks[:, 0], folded.risks[:, 1]
    return made
