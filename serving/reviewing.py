"""The weekly review: from the ledger to the files in ``VAR_DIR/reports/journal``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from domain.errors import NotFound
from serving.journal_view import closed_within, picture_of
from serving.report_files import write_report
from serving.rules import ACCOUNT
from serving.settings import Settings
from serving.system import SystemClock
from sim.journal_review import review, span_of, week_of
from sim.reports.journal import Plots, markdown, render
from sim.reports.trade_plot import chance, price
from storage.queries import Reader


def reviewed(reader: Reader, settings: Settings, week: str | None) -> tuple[dict[str, Any], Path]:
    """Make the review of a week, write it, and return it with its path in ``history/``.

    Parameters
    ----------
    week : ISO, e.g. ``2025-W05``; None = that of the last closed trade.

    Raises
    ------
    UsageError : if it is no week.
    NotFound : without a week, if no trade was closed yet.
    """
    chosen = _last(reader) if week is None else week
    found = closed_within(reader, ACCOUNT, *span_of(chosen))
    body = review(chosen, found)
    plots: Plots = {one.trade.id: _charts(reader, one.trade.id) for one in found}
    folder = settings.data.var_dir / "reports" / "journal"
    path = write_report(folder, body, SystemClock().now(), render(body, plots), markdown(body))
    return body, path


def _last(reader: Reader) -> str:
    newest = reader.trades(limit=1, account=ACCOUNT).items
    if not newest:
        raise NotFound("journal", "has no closed trade yet")
    return week_of(newest[0][1].closed_at)


def _charts(reader: Reader, trade_id: str) -> tuple[Any, ...]:
    picture = picture_of(reader, trade_id)
    return price(picture), chance(picture)
