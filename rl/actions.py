"""What can be done at a close: ``MultiDiscrete([5, 4, 4])`` = (kind, size, levels).

kind    0 skip     nothing: what is held goes on until its horizon, stop or target
        1 buy      a long position; closes a short one, keeps a long one for another horizon
        2 sell     the other way round; on spot it only closes a long one
        3 adjust   give what is held other stops and targets
        4 hedge    be neutral: the whole position is offset at the next open
size    of the stake that an entry takes: ¼, ½, ¾ or all of it
levels  of an entry or of ``adjust``: stop and target in σ of the horizon from the close, see
        :data:`LEVELS`; 0 is none

Size and levels say nothing where the kind has no use for them. What a mask forbids is a skip.

A *guard* may only do what a gate can: where the strategy wants a side, skip it (veto) or take it
whole or smaller (allow, shrink), against it only where that is allowed (override). Where the
strategy wants nothing, it skips.
"""

from __future__ import annotations

from typing import Literal

SKIP, BUY, SELL, ADJUST, HEDGE = range(5)
KINDS = ("skip", "buy", "sell", "adjust", "hedge")
SIZES = (0.25, 0.5, 0.75, 1.0)
LEVELS = ((0.0, 0.0), (1.0, 2.0), (2.0, 3.0), (3.0, 5.0))  # stop, target; σ of the horizon
COUNTS = (len(KINDS), len(SIZES), len(LEVELS))
CHOICES = sum(COUNTS)  # columns of a mask: kinds, sizes, levels

Verb = Literal["allow", "shrink", "veto", "override"]


def allowed(kind: int, lots: float, intent: int, spot: bool, guard: bool, override: bool) -> bool:
    """Return whether a kind may be chosen.

    Parameters
    ----------
    lots : held, signed. ``intent`` : side the strategy wants, +1, −1 or 0.
    guard : whether only what a gate can do is allowed; ``override`` : also against the strategy.
    """
    if kind == SKIP:
        return True
    if guard:
        if intent == 0 or kind > SELL:
            return False
        side = 1 if kind == BUY else -1
        return (side == intent or override) and not (spot and side < 0 and lots <= 0.0)
    if kind == BUY:
        return True
    if kind == SELL:
        return not spot or lots > 0.0
    return lots != 0.0


def verb_of(kind: int, size: int, intent: int) -> tuple[Verb, float]:
    """Return what a choice means for a decision, and the share of its size that remains.

    Parameters
    ----------
    intent : the decision's side, +1 or −1.
    """
    if kind in (SKIP, HEDGE):
        return "veto", 0.0
    if kind == ADJUST:
        return "allow", 1.0
    side = 1 if kind == BUY else -1
    if side != intent:
        return "override", SIZES[size]
    return ("allow", 1.0) if SIZES[size] == 1.0 else ("shrink", SIZES[size])
