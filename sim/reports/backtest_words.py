"""What a backtest says, in plain sentences, the most important first."""

from __future__ import annotations

from collections.abc import Iterator

from sim.reports.parts import Level, Sentence
from sim.reports.reading import (
    Board,
    dig,
    number,
    numbers,
    part,
    percent,
    rows,
    show,
    usdt,
    word,
)

LEGEND = (
    "● known: a fact of this run, or beyond luck at 95 % · ◐ likely: beyond luck at 90 % · "
    "○ noise: not to be told from luck · ▲ warning."
)
_LOPSIDED = 0.9  # share of one side from which the market's drift is in the result
_TOO_GOOD = 4.0  # a Sharpe ratio that real strategies of this kind do not have


def plain_words(board: Board) -> list[Sentence]:
    """Return what the report says; every number is its own, and any part may be missing."""
    return [*_too_good(board), *_money(board), *_idle(board), *_costs(board), *_chance(board),
            *_sharpe(board), *_luck(board), *_fall(board), *_targets(board)]  # fmt: skip


def _traded(board: Board) -> bool:
    return bool(number(board, "trades") or number(board, "metrics", "turnover"))


def _too_good(board: Board) -> Iterator[Sentence]:
    ratio = number(board, "metrics", "sharpe")
    if ratio is not None and ratio > _TOO_GOOD:
        yield Sentence(
            "warning",
            f"Too good to be true: a Sharpe ratio of {show(ratio)} on real bars means a leak until "
            "disproved; on the simulated market it is the planted edge.",
        )


def _money(board: Board) -> Iterator[Sentence]:
    metrics = part(board, "metrics")
    made, final = number(metrics, "return_pct"), number(metrics, "equity_final")
    initial = number(board, "curves", "initial")
    if made is None or final is None or initial is None or not _traded(board):
        return
    change = final - initial
    said = (
        f"It {'made' if change >= 0.0 else 'lost'} {usdt(abs(change))} ({show(made, '+.2f')} %) of "
    )
    days = show(number(metrics, "duration_days"), ",.0f")
    said += f"{usdt(initial)} in {days} days, after all costs."
    held = number(metrics, "buy_hold_return_pct")
    if held is not None:
        said += f" Buying and holding came to {show(held, '+.2f')} %."
    level: Level = "known"
    if change < 0.0:
        level = "warning"
    elif (ends := _interval(board, "return_pct")) is not None and ends[0] <= 0.0 and change > 0.0:
        level = "noise"
        said += f" Luck alone explains it: the 95 % interval is {_span(ends, '+.2f')} %."
    yield Sentence(level, said)


def _interval(board: Board, key: str) -> tuple[float, float] | None:
    found = dict(enumerate(rows(board, "intervals", key)))
    ends = numbers({str(k): v for k, v in found.items()}, "0", "1")
    return None if ends is None else (ends[0], ends[1])


def _span(ends: tuple[float, float], form: str) -> str:
    return f"{show(ends[0], form)} to {show(ends[1], form)}"


def _idle(board: Board) -> Iterator[Sentence]:
    if _traded(board) or not part(board, "decisions"):
        return
    if "in sample" in part(board, "conventions"):
        yield Sentence(
            "warning",
            "Not one trade, and no wonder: agents were silent about bars that their models were "
            "trained on. Trade later bars to learn anything.",
        )
        return
    held = number(board, "metrics", "buy_hold_return_pct")
    yield Sentence(
        "known",
        "Not one trade; the reasons stand below. On real bars NO_TRADE is nearly always the honest "
        f"answer. Buying and holding came to {show(held, '+.2f')} %.",
    )


def _costs(board: Board) -> Iterator[Sentence]:
    costs = {name: number(board, "costs", name) or 0.0 for name in sorted(part(board, "costs"))}
    final, initial = number(board, "metrics", "equity_final"), number(board, "curves", "initial")
    paid = sum(costs.values())
    if not paid or final is None or initial is None:
        return
    gross = final - initial + paid
    largest = max(sorted(costs), key=lambda name: costs[name])
    said = f"Costs took {usdt(paid)}, most of it {largest}; before them it stood at "
    said += f"{usdt(gross, '+,.2f')}."
    if gross > 0.0 > gross - paid:
        said += " So costs alone made the loss."
    yield Sentence("warning" if gross - paid < 0.0 else "known", said)


def _chance(board: Board) -> Iterator[Sentence]:
    found = part(board, "benchmarks", "random_turnover")
    share = number(found, "percentile")
    if share is None:
        return
    said = f"Of {show(number(found, 'draws'), ',.0f')} traders who trade as often, as long and as "
    said += f"large at random instants, it beats {percent(share)}"
    level, verdict = _timing(share)
    said += f": its sides and timing are {verdict}."
    if level in ("known", "likely") and (side := _one_sided(board)):
        level = "noise"
        said += f" But nearly all are {side}, so the market’s own drift counts as merit here; "
        said += "compare with buying and holding."
    yield Sentence(level, said)


def _timing(share: float) -> tuple[Level, str]:
    if share >= 0.975:
        return "known", "beyond luck"
    if share >= 0.95:
        return "likely", "probably beyond luck"
    if share <= 0.025:
        return "warning", "worse than chance"
    return "noise", "not to be told from chance"


def _one_sided(board: Board) -> str:
    """The side of nearly all trades; nothing where both are taken."""
    counts = {word(row, "name"): number(row, "trades") or 0.0
              for row in rows(board, "curves", "by_side")}  # fmt: skip
    most = max(sorted(counts), key=lambda side: counts[side], default="")
    return most if most and counts[most] >= _LOPSIDED * sum(counts.values()) else ""


def _sharpe(board: Board) -> Iterator[Sentence]:
    ratio, days = number(board, "metrics", "sharpe"), number(board, "n", "sharpe")
    if ratio is None:
        if (days or 0.0) < 30.0 and days is not None:
            yield Sentence("noise", f"No Sharpe ratio: {days:,.0f} days, and 30 are needed.")
        return
    ends = _interval(board, "sharpe")
    level: Level = "noise"
    said = f"Sharpe {show(ratio, '+.2f')} on {show(days, ',.0f')} days"
    if ends is not None:
        said += f", 95 % interval {_span(ends, '+.2f')}"
        level = "known" if ends[0] > 0.0 else "warning" if ends[1] < 0.0 else "noise"
    tail = {"known": "above 0 beyond luck", "warning": "below 0 beyond luck"}
    yield Sentence(level, f"{said}: {tail.get(level, 'not to be told from 0')}.")


def _luck(board: Board) -> Iterator[Sentence]:
    deflated = number(board, "metrics", "deflated_sharpe")
    if deflated is None:
        return
    told = word(board, "conventions", "trials")
    yield Sentence(
        "known" if deflated >= 0.95 else "noise",
        f"Deflated Sharpe: with {percent(deflated)} confidence the true one is above what the "
        f"luckiest of so many worthless trials would show ({told}); below 95 % it may well be "
        "luck.",
    )


def _fall(board: Board) -> Iterator[Sentence]:
    deepest, days = numbers(board.get("metrics"), "max_drawdown", "max_drawdown_days") or (0.0, 0.0)
    if deepest > 0.0:
        said = f"At its worst it was {percent(deepest, 2)} below its highest equity"
        said += f"; the longest spell below a peak took {days:,.0f} days." if days else "."
        yield Sentence("known", said)


def _targets(board: Board) -> Iterator[Sentence]:
    judged = [row for row in rows(board, "success") if isinstance(dig(row, "met"), bool)]
    if not judged:
        return
    missed = [word(row, "target") for row in judged if not dig(row, "met")]
    said = (
        f"Of the documents’ targets that this run can measure it meets {len(judged) - len(missed)} "
    )
    said += f"of {len(judged)}"
    said += f". Missed: {'; '.join(missed)}." if missed else "."
    yield Sentence("warning" if missed else "known", said)
