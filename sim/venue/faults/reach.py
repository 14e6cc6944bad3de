"""Whether a fault could ever strike: a pattern that fits nothing would be waited for in vain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product

from domain.errors import UsageError
from sim.venue.faults.model import Fault, Subject, Target, meant
from sim.venue.messages import stream_names
from sim.venue.user_stream import USER


@dataclass(frozen=True, slots=True)
class Reach:
    """All that a venue has that a fault could strike.

    Attributes
    ----------
    listed : (market, the venue's own symbol).
    paths : ``METHOD /path``. ``accounts`` : their names.
    """

    listed: Sequence[tuple[str, str]]
    paths: Sequence[str]
    accounts: Sequence[str]

    def refusal(self, fault: Fault, where: str) -> UsageError | None:
        """Return what is wrong with the first of a fault's patterns that fits nothing."""
        usual, target = Target(), fault.target
        for each in fields(Target):
            pattern = getattr(target, each.name)
            if pattern == getattr(usual, each.name):
                continue
            alone = Target(**{each.name: pattern})
            if not any(alone.covers(subject) for subject in self._subjects(each.name)):
                return UsageError(
                    f"{where}.{each.name}", "fits nothing that this venue has", pattern,
                    meant(pattern, self._examples(each.name)),
                )  # fmt: skip
        return None

    def _subjects(self, name: str) -> Iterator[Subject]:
        if name == "paths":
            yield from (Subject(path=path) for path in self.paths)
        elif name == "account":
            yield from (Subject(account=account) for account in self.accounts)
        elif name == "streams":
            yield Subject(stream=USER)
            for (market, symbol), stream in product(self.listed, stream_names()):
                yield Subject(market, stream=f"{symbol.lower()}@{stream}")
        else:
            yield from (Subject(market, symbol) for market, symbol in self.listed)

    def _examples(self, name: str) -> Iterable[str]:
        if name == "streams":
            return [USER, *(f"*@{stream}" for stream in stream_names())]
        return sorted({
            value for subject in self._subjects(name)
            if (value := getattr(subject, {"paths": "path"}.get(name, name)))
        })  # fmt: skip
