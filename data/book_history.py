"""What a live market's books and trades were at each close, and in the moments after it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from data.flow import WINDOW_MS, BookWatch
from domain.market import BookSnapshot, BookView, SeenBook, Trade

FILLING_MS = 10_000  # after a close: orders that were decided on it fill then
_SPACING_MS = 500  # between two books that are kept of it
_BARS = 24  # that are kept
_TRADES = 200  # newest of a view


class BookHistory:
    """One symbol's books as a live stream brings them.

    Parameters
    ----------
    step_ms : length of a bar; a view is taken at every multiple of it.
    """

    def __init__(self, symbol: str, step_ms: int, window_ms: int = WINDOW_MS) -> None:
        self.symbol, self._step = symbol, step_ms
        self._watch = BookWatch(window_ms)
        self._due = 0  # the next close
        self._last = 0
        self._views: deque[tuple[int, BookView]] = deque(maxlen=_BARS)
        self._after: deque[BookSnapshot] = deque()

    def see(self, event: BookSnapshot | Trade) -> None:
        """Take in the next event; one that says it is older than the last happened with it."""
        at = max(event.at, self._last)
        if at != event.at:
            event = replace(event, at=at)
        self._last = at
        if 0 < self._due <= at:
            self._views.append((self._due, self._seen(self._due)))
        self._due = at - at % self._step + self._step
        self._watch.see(event)
        if isinstance(event, BookSnapshot):
            self._keep(event)

    def at_close(self, as_of: int) -> SeenBook | None:
        """Return what was known at a close (ms); None where nothing is known of that bar."""
        for due, view in self._views:
            if due == as_of:
                return SeenBook(self.symbol, as_of, view)
        if self._due == as_of and self._last:  # nothing has come since
            return SeenBook(self.symbol, as_of, self._seen(as_of))
        return None

    def after_close(self, close_ms: int) -> list[SeenBook]:
        """Return the books of the moments after a close, oldest first; none is at the close."""
        return [
            SeenBook(self.symbol, max(book.at, close_ms + 1), BookView(book))
            for book in self._after
            if close_ms <= book.at < close_ms + FILLING_MS
        ]

    def _seen(self, as_of: int) -> BookView:
        view = self._watch.view(as_of)
        return replace(view, trades=view.trades[-_TRADES:])

    def _keep(self, book: BookSnapshot) -> None:
        if book.at % self._step >= FILLING_MS:
            return
        before = self._after[-1].at if self._after else None
        if before is not None and book.at - before < _SPACING_MS:
            return
        self._after.append(book)
        oldest = book.at - _BARS * self._step
        while self._after[0].at < oldest:
            self._after.popleft()
