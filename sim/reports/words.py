"""What a scoreboard says, in plain sentences: what is known, what is likely, what is noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sim.reports.parts import Level, Sentence
from sim.reports.reading import (
    COUNCIL,
    PINBALL_NOISE,
    Board,
    Member,
    best_agents,
    beyond_noise,
    comparison,
    council,
    evidence,
    fewer,
    members,
    number,
    part,
    percent,
    rows,
    show,
    title,
    word,
)

SURE, LIKELY = 3.0, 2.0  # Diebold-Mariano t
PROOF = 20.0  # e-value: 5 % false alarms at any stopping time (Ville 1939)
COVERAGE_AIM, COVERAGE_TOLERANCE, COVERAGE_NOISE = 0.80, 0.01, 0.005
_SCORES = {"brier": "direction", "pinball": "range", "risk_brier": "risk"}
_TELLING_AUC = 0.6
_SMALL = 2_000  # rows below which luck alone passes a leak limit
_Limit = tuple[str, float, float, str, str]  # key, sign, limit, words, format
_LIMITED, _LIMITED_BARS = "5m", 12  # what the limits were found on; a longer look ahead moves more
_LIMITS: tuple[_Limit, ...] = (
    # beyond it nobody has forecast real 5-minute bars honestly, five of them ahead
    ("brier_skill_1e4", 1.0, 38.0, "gain", "+.1f"),
    ("auc", 1.0, 0.565, "AUC", ".3f"),
    ("accuracy", 1.0, 0.55, "right", ".1%"),
    ("pinball_vs_ewma_pct", -1.0, -4.0, "pinball against EWMA in %", "+.1f"),
    ("risk_auc", 1.0, 0.90, "AUC of the risk", ".3f"),
    ("risk_sigma_auc", 1.0, 0.80, "AUC of the 1 σ risk", ".3f"),
)
_ANYWHERE: tuple[_Limit, ...] = (("auc", 1.0, 0.65, "AUC", ".3f"),)  # a peek at the next bar has .7


def plain_words(board: Board) -> list[Sentence]:
    """Return what the board says, the most important first; every number is the board's own.

    Parameters
    ----------
    board : the JSON of ``conclave evaluate``; any part of it may be missing.
    """
    return [
        *_leaks(board), _direction(council(board)), *_range(board),
        *_risk(board), *_noise(board), _money(board), *_abstention(board), *_doubts(board),
    ]  # fmt: skip


def level_of(t: float | None, e_value: float | None = None, lo: float | None = None) -> Level:
    """Return how sure a positive difference is.

    Parameters
    ----------
    t : Diebold-Mariano statistic.
    e_value, lo : evidence at any stopping time and lower end of the confidence sequence; where
        either is given, ``known`` also needs an e-value of 20 or a sequence above 0.
    """
    if t is None:
        return "noise"
    measured = e_value is not None or lo is not None
    proven = not measured or (e_value or 0.0) >= PROOF or (lo is not None and lo > 0.0)
    if t >= SURE and proven:
        return "known"
    if t >= LIKELY:
        return "likely"
    return "noise" if t > -LIKELY else "warning"


def _abstention(board: Board) -> list[Sentence]:
    """What abstaining saved: the trades that were declined, at the same costs."""
    found = board.get("abstention") or {}
    saved, lo, hi = (found.get(f"saved_bps{end}") for end in ("", "_lo", "_hi"))
    if not found.get("declined") or saved is None:
        return []
    span = "" if lo is None or hi is None else f" (95 %: {lo:+.2f} to {hi:+.2f})"
    level: Level = "noise" if lo is None or hi is None or lo <= 0.0 <= hi else "known"
    word = "saved" if saved >= 0.0 else "cost"
    text = (
        f"Abstaining {word} {abs(saved):.2f} bp a bar{span}: the side of the expected return would "
        f"have brought {found['gross_bps']:+.2f} bp before costs of {found['cost_bps']:.1f} bp, on "
        f"{found['declined']:,} bars without a trade."
    )
    return [Sentence(level, text)]


def _direction(member: Member) -> Sentence:
    row = member.scores
    n, gain, t = number(row, "n"), number(row, "brier_skill_1e4"), number(row, "dm_t")
    if not n or gain is None:
        return Sentence("noise", "Direction: the council forecast nothing here: nothing is known.")
    if number(row, "auc") is None:
        return Sentence("noise", "Direction: all outcomes are the same; nothing can be judged.")
    e_value, lo, hi = number(row, "e_value"), number(row, "cs_lo"), number(row, "cs_hi")
    level = level_of(t, e_value, lo)
    claim = {
        "known": "a little better than a coin, and hardly by luck",
        "likely": "probably a little better than a coin",
        "noise": "not to be told from a coin",
        "warning": "worse than a coin",
    }[level]
    error = number(row, "gain_se")
    facts = [f"gain {show(gain, '+.1f')}" + ("" if error is None else f" ± {show(error, '.1f')}")]
    facts += [f"t {show(t, '.1f')}"] if t is not None else ["no t: too few rows, or no variation"]
    accuracy = number(row, "accuracy")
    facts += [] if accuracy is None else [f"right on {percent(accuracy)}"]
    facts.append(f"{n:,.0f} bars")
    more = _anytime(level, t, e_value, lo, hi) + _more_bars(level, n, t)
    return Sentence(level, f"Direction: the council is {claim} ({', '.join(facts)}).{more}")


def _anytime(
    level: Level, t: float | None, e_value: float | None, lo: float | None, hi: float | None
) -> str:
    told = [] if e_value is None else [f"the e-value is {evidence(e_value)} ({PROOF:.0f} is proof)"]
    if lo is not None and hi is not None:
        told.append(f"the confidence sequence runs from {show(lo, '+.1f')} to {show(hi, '+.1f')}")
    if not told:
        return ""
    lead = "Looked at on every bar, "
    if level == "likely" and t is not None and t >= SURE:
        lead = "Looked at on every bar it is not proven yet: "
    return f" {lead}{' and '.join(told)}."


def _more_bars(level: Level, n: float, t: float | None) -> str:
    if level not in ("likely", "noise") or t is None or not 0.5 <= t < SURE:
        return ""
    needed = n * (SURE / t) ** 2  # t grows with the root of the rows
    return f" If the edge is real, about {needed:,.0f} bars would show it."


def _range(board: Board) -> Iterator[Sentence]:
    mine = council(board)
    if number(mine.scores, "pinball_bps") is None:
        yield Sentence("noise", "Range: the council forecast no quantiles here.")
        return
    told: list[tuple[float, float | None, str]] = []
    for base in ("ewma", "har_ranges", "har", "trailing"):
        better, t = _pinball(board, mine, base)
        if better is not None and len(told) < 2:
            side = "below" if better >= 0.0 else "above"
            by = f"{abs(better):.2f} % {side} {_owner(base)}"
            told.append((better, t, by + ("" if t is None else f" (t {show(t, '.1f')})")))
    facts = (
        [f"the council’s pinball loss is {' and '.join(text for *_, text in told)}"] if told else []
    )
    level: Level = "noise"
    if told:
        better, t, _ = told[0]
        level = level_of(t) if t is not None else _by_resolution(better, mine)
    width = _width(mine)
    if width is not None and width.level != "warning":
        facts.append(width.text)
    if facts:
        yield Sentence(level, f"Range: {', and '.join(facts)}.")
    if width is not None and width.level == "warning":
        yield Sentence("warning", f"Width of the range: {width.text}.")


def _owner(base: str) -> str:
    names = {"ewma": "EWMA’s", "har": "HAR’s", "har_ranges": "that of HAR with ranges"}
    return names.get(base, f"that of {title(base)}")


def _pinball(board: Board, mine: Member, base: str) -> tuple[float | None, float | None]:
    """Return how far the council's pinball lies below the baseline's, %, and the t of it."""
    theirs = number(board, "common", base, "pinball_bps")
    theirs = theirs or number(board, "baselines", base, "pinball_bps")
    row = comparison(board, COUNCIL, base, "pinball")
    difference = number(row, "difference")
    if theirs and difference is not None:
        return 100.0 * difference / theirs, number(row, "dm_t")
    ours = number(mine.same, "pinball_bps")
    if theirs and ours is not None:
        return 100.0 * (1.0 - ours / theirs), None
    pct = number(mine.scores, "pinball_vs_ewma_pct") if base == "ewma" else None
    return (None if pct is None else -pct), None


def _by_resolution(better: float, mine: Member) -> Level:
    n = number(mine.scores, "n")
    if not n or abs(better) <= PINBALL_NOISE * fewer(n):
        return "noise"
    return "likely" if better > 0.0 else "warning"


def _width(mine: Member) -> Sentence | None:
    share, n = number(mine.scores, "coverage_80"), number(mine.scores, "n")
    if share is None or not n:
        return None
    off = share - COVERAGE_AIM
    fact = f"p10–p90 held {percent(share)} of outcomes (aim 80 ± 1)"
    # luck moves the coverage of a year by half a point, of less by more
    if abs(off) <= max(COVERAGE_TOLERANCE, COVERAGE_NOISE * fewer(n)):
        return Sentence("known", fact)
    how = "too narrow, losses beyond it come more often than it says" if off < 0 else "too wide"
    return Sentence("warning", f"{how}: {fact}")


def _risk(board: Board) -> Iterator[Sentence]:
    mine = council(board)
    auc = number(mine.scores, "risk_auc")
    if auc is None:
        return
    row = comparison(board, COUNCIL, "ewma", "risk_brier")
    base = number(board, "common", "ewma", "risk_brier")
    base = base or number(board, "baselines", "ewma", "risk_brier")
    t, difference = number(row, "dm_t"), number(row, "difference")
    facts = [f"AUC {auc:.3f}"]
    if base and difference is not None:
        pct = 0.01 * difference / base  # 1e-4 of the Brier score, in % of the baseline's
        side = "below" if pct >= 0.0 else "above"
        facts.append(f"Brier score {abs(pct):.1f} % {side} EWMA’s, t {show(t, '.1f')}")
    ece = number(mine.scores, "risk_ece")
    facts += [] if ece is None else [f"stated risks are off by {100.0 * ece:.1f} points on average"]
    yield Sentence(
        _risk_level(auc, t),
        f"Risk of a fall beyond 0.5 %: {_risk_claim(auc, t)} ({', '.join(facts)}).",
    )


def _risk_level(auc: float, t: float | None) -> Level:
    if t is not None:
        return level_of(t)
    return "likely" if auc > _TELLING_AUC else "noise"


def _risk_claim(auc: float, t: float | None) -> str:
    if t is None:
        hardly = "" if auc > _TELLING_AUC else "hardly "
        return f"dangerous bars are {hardly}told from quiet ones"
    how = {"known": "better than", "likely": "probably better than", "noise": "no better than",
           "warning": "worse than"}[level_of(t)]  # fmt: skip
    return f"dangerous bars are told from quiet ones {how} by plain volatility"


def _noise(board: Board) -> Iterator[Sentence]:
    same: dict[str, list[str]] = {}
    for row in rows(board, "comparisons"):
        kind = _SCORES.get(word(row, "score"))
        if kind and beyond_noise(number(row, "difference"), number(row, "se")) is False:
            pair = f"{title(word(row, 'a'))} and {title(word(row, 'b'))}"
            same.setdefault(pair, []).append(kind)
    if same:
        told = [f"{pair} ({', '.join(kinds)})" for pair, kinds in same.items()]
        left = len(told) - 4
        more = f" and {left} more pair{'s' if left > 1 else ''}" if left > 0 else ""
        yield Sentence(
            "noise",
            f"Noise: {'; '.join(told[:4])}{more} differ by less than two standard errors: which "
            "is better is not known.",
        )
        return
    best, mine = best_agents(board, "brier_skill_1e4", 1), council(board)
    gain, theirs = number(mine.scores, "brier_skill_1e4"), None
    if best and (theirs := number(best[0].scores, "brier_skill_1e4")) is not None and gain:
        error = _error(mine) or _error(best[0])
        if error and abs(gain - theirs) < 2.0 * error:
            yield Sentence(
                "noise",
                f"Noise: the council ({show(gain, '+.1f')}) and the best agent in hindsight, "
                f"{title(best[0].name)} ({show(theirs, '+.1f')}), lie within two standard errors.",
            )


def _error(member: Member) -> float | None:
    t = number(member.scores, "dm_t")
    gain = number(member.scores, "brier_skill_1e4")
    return number(member.scores, "gain_se") or (abs(gain / t) if gain and t else None)


def _money(board: Board) -> Sentence:
    gain = number(council(board).scores, "brier_skill_1e4")
    move = number(board, "data", "mean_move_bps")
    size = ""
    if gain is not None and gain > 0.0:
        # of a calibrated forecast the gain is the mean of (p − ½)²
        size = f"A gain of {gain:.1f} is worth forecasts of about 50 ± {math.sqrt(gain):.1f} %. "
    if move is not None:
        moves = f"The price moves {move:.0f} bp on average until the forecast is due; "
    else:
        moves = "The price moves little until the forecast is due; "
    return Sentence(
        "known",
        f"Money: {size}{moves}a taker’s round trip costs 10 to 20 bp and right and wrong nearly "
        "cancel. No edge found so far on real bars pays it: NO_TRADE is nearly always the honest "
        "answer. The value lies in the range, the risk and patience.",
    )


def _limits(board: Board) -> tuple[_Limit, ...]:
    horizon = number(board, "horizon_bars")
    known = word(board, "data", "timeframe") == _LIMITED
    return _LIMITS if known and horizon and horizon <= _LIMITED_BARS else _ANYWHERE


def _leaks(board: Board) -> Iterator[Sentence]:
    limits = _limits(board)
    for member in members(board):
        if member.kind == "baseline":
            continue
        found = [
            f"{words} {format(value, form).replace('-', '−')} "
            f"(suspect beyond {format(limit, form).replace('-', '−')})"
            for key, sign, limit, words, form in limits
            if (value := number(member.scores, key)) is not None and sign * (value - limit) > 0.0
        ]
        if not found:
            continue
        n = number(member.scores, "n") or 0.0
        why = "The market is generated, or something sees the future."
        if n < _SMALL:
            why = f"With {n:,.0f} bars it may also be luck."
        yield Sentence(
            "warning", f"Too good to be true: {title(member.name)} has {', '.join(found)}. {why}"
        )


def _doubts(board: Board) -> Iterator[Sentence]:
    out = [m for m in members(board) if number(m.scores, "in_sample")]
    if out:
        most = max(number(member.scores, "in_sample") or 0.0 for member in out)
        names = ", ".join(title(member.name) for member in out)
        yield Sentence(
            "warning",
            f"Up to {most:,.0f} rows are left out because models were trained there: {names}.",
        )
    failed = [title(name) for name, row in part(board, "controls").items() if _failed(row)]
    if failed:
        yield Sentence(
            "warning",
            f"Controls failed: {', '.join(failed)}. Trust no score until it is known why.",
        )
    pbo = number(board, "overfitting", "pbo")
    if pbo is not None and pbo > 0.5:
        yield Sentence(
            "warning", f"The best of the tried candidates is overfitted with probability {pbo:.0%}."
        )
    moved = sum(bool(part(row).get("alarm")) for row in rows(board, "drift", "features"))
    if moved:
        them = "inputs have" if moved > 1 else "input has"
        yield Sentence(
            "warning",
            f"Drift: {moved} {them} moved away from what the models were trained on; the scores "
            "may not hold from here.",
        )


def _failed(row: Any) -> bool:
    return part(row).get("ok") is False
