"""Work that is the same in one process or in several."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_adopted: list[Callable[[Any], Any]] = []  # what a worker process was forked to do


def each_in_order(work: Callable[[T], R], items: Sequence[T], processes: int = 1) -> Iterator[R]:
    """Iterate over ``work(item)`` in the order of the items, whoever is done first.

    Worker processes are forked, so ``work`` may be anything, a closure over large arrays as well;
    items and results must be picklable. Where a system does not fork safely, or with one process
    or one item, the work is done here.

    Parameters
    ----------
    work : must not depend on what it was called with before.
    """
    if min(processes, len(items)) < 2 or sys.platform != "linux":
        yield from map(work, items)
        return
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        # from 3.12 on Python warns that threads do not survive a fork; workers start none
        warnings.simplefilter("ignore", DeprecationWarning)
        # a worker that is told to end before it has let go of our handler must not overhear it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pool = context.Pool(min(processes, len(items)), _adopt, (work,))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        yield from pool.imap(_do, items)


def _adopt(work: Callable[[Any], Any]) -> None:
    # A handler that came along with the fork may keep a worker alive that is told to end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _adopted[:] = [work]


def _do(item: Any) -> Any:
    return _adopted[0](item)
