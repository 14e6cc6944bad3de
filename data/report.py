"""What the validation of a run of bars found, as a value, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from domain.canonical import canonical_json, plain
from domain.errors import DataRefused

Severity = Literal["refused", "repaired", "dropped", "flagged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of defect.

    Attributes
    ----------
    code : e.g. ``"nan"``, ``"gaps"``; see :mod:`data.validation`.
    severity : ``refused`` (the bars must not be used), ``repaired`` or ``dropped`` (the cleansed
        bars differ from the file), ``flagged`` (kept as it is).
    count : how often; the unit is in ``detail``.
    where : the first few instants (ISO-8601, bar open), at most five.
    detail : one clause for people.
    """

    code: str
    severity: Severity
    count: int
    where: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole: the last bar before it, its first missing bar (both ISO opens) and its length."""

    after: str
    start: str
    bars: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """All holes, oldest first; ``bars_missing`` and ``longest`` in bars."""

    count: int
    bars_missing: int
    longest: int
    items: tuple[Gap, ...]

    @classmethod
    def of(cls, items: tuple[Gap, ...]) -> Gaps:
        """Sum up."""
        lengths = [gap.bars for gap in items]
        return cls(len(items), sum(lengths), max(lengths, default=0), items)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a validation.

    Attributes
    ----------
    rows, kept : bars in the file, and after repairs (0 when refused).
    start, end : open of the first and of the last kept bar (ISO), None without bars.
    sha256 : of the file, where there is one.
    """

    symbol: str
    timeframe: str
    rows: int
    kept: int
    start: str | None
    end: str | None
    findings: tuple[Finding, ...]
    gaps: Gaps
    sha256: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the bars may be used."""
        return not self.refusals

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that forbid the use of these bars."""
        return tuple(found for found in self.findings if found.severity == "refused")

    def finding(self, code: str) -> Finding | None:
        """Return the finding of that code, or None."""
        return next((found for found in self.findings if found.code == code), None)

    def require_ok(self, what: str = "") -> None:
        """Raise unless the bars may be used.

        Raises
        ------
        DataRefused : naming ``what`` (default: symbol and timeframe) and every reason.
        """
        if self.ok:
            return
        rules = "; ".join(
            f"{found.code}: {found.detail}{_at(found.where)}" for found in self.refusals
        )
        raise DataRefused(
            what or f"{self.symbol} {self.timeframe}",
            rules,
            hint="Correct the file or fetch it again; nothing is repaired by guessing.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON's types, with ``ok``."""
        return {"ok": self.ok, **plain(self)}

    def to_json(self) -> str:
        """Return one canonical line of JSON."""
        return canonical_json(self.to_dict())

    def to_text(self) -> str:
        """Return the report for people: a head, then one line a finding, gaps one by one."""
        span = f"{self.start} to {self.end}" if self.start else "no bars"
        verdict = "usable" if self.ok else "REFUSED"
        lines = [
            f"{self.symbol} {self.timeframe}: {verdict}",
            f"  bars      {self.rows} read, {self.kept} kept, {span}",
        ]
        if self.sha256:
            lines.append(f"  sha256    {self.sha256}")
        lines += [
            f"  {found.severity:<9} {found.code}: {found.detail}{_at(found.where)}"
            for found in self.findings
        ]
        shown = self.gaps.items[:20]
        lines += [f"    gap after {gap.after}: {gap.bars} bars missing" for gap in shown]
        if len(self.gaps.items) > len(shown):
            lines.append(f"    … and {len(self.gaps.items) - len(shown)} more gaps")
        return "\n".join(lines)


def _at(where: tuple[str, ...]) -> str:
    return f", at {', '.join(where)}" if where else ""
