"""Whether the person at the desk is fit to open positions, by their own reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.operations import OperatorReport


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest report of one source.

    Attributes
    ----------
    limit : least value that does not pause.
    until : ms, market time; what was reported counts before it.
    """

    source: str
    value: float
    limit: float
    at: int
    until: int
    by: str
    note: str

    @property
    def margin(self) -> float:
        """Distance to the limit, in the reading's own unit; below 0 pauses."""
        return self.value - self.limit


class Readiness:
    """The operator's newest reports as a fold; the newest of a source holds until it expires.

    Parameters
    ----------
    limits : source → least value.
    hold_ms : how long a report counts, market time.
    """

    def __init__(self, account: str, limits: Mapping[str, float], hold_ms: int) -> None:
        self._account, self._limits, self._hold = account, dict(limits), hold_ms
        self._readings: dict[str, Reading] = {}

    @property
    def watched(self) -> bool:
        """Whether any report could pause anything."""
        return bool(self._limits)

    def fold(self, report: OperatorReport) -> None:
        """Take in one report."""
        limit = self._limits.get(report.source)
        if report.account == self._account and limit is not None:
            self._readings[report.source] = Reading(
                report.source, report.value, limit, report.at, report.at + self._hold, report.by,
                report.note,
            )  # fmt: skip

    def reading(self, now: int) -> Reading | None:
        """Return the reading that counts at ``now`` (ms): the furthest below its limit, if any.

        Distances are compared as shares of the limits. None if nobody has reported lately.
        """
        counting = [reading for reading in self._readings.values() if now < reading.until]
        return min(counting, key=lambda one: one.margin / one.limit, default=None)

    def readings(self) -> list[Reading]:
        """Return the newest reading of every source, expired ones included, by source."""
        return [self._readings[source] for source in sorted(self._readings)]
