"""The terms of a session: what shaped it beside bars, opinions and people.

The desk writes them before its first row and whenever they change, as an event that stays; with
them ``parity`` can run the session again from the ledger alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from domain.canonical import plain
from domain.errors import DataRefused, SettingError
from domain.market import Instrument
from domain.trading import Event
from execution.funding import BASE_RATE, INTERVAL_MS, FundingRate, rates_of, stamps_between
from serving.settings import Settings
from storage.events import EventLog
from storage.ledger import SqlLedger

KIND = "session"
_GROUPS = (
    "data", "features", "models", "consensus", "decision", "execution", "risk", "journal",
)  # fmt: skip
_MACHINE = {"data": ("var_dir", "raw_dir", "processed_dir", "logs_dir"), "models": ("trials_log",)}


@dataclass(frozen=True, slots=True)
class Rates:
    """Published funding rates, fractions: one for every stamp from ``first`` (ms) on."""

    first: int
    rates: tuple[float, ...]
    every_ms: int = INTERVAL_MS

    @classmethod
    def sampled(
        cls, funding: FundingRate, symbol: str, span: tuple[int, int], every_ms: int
    ) -> Rates | None:
        """Return the rates within a span of bars, UTC ms; None where all are the usual one."""
        stamps = list(stamps_between(span[0] - 1, span[1], every_ms))
        rates = tuple(funding(symbol, stamp) for stamp in stamps)
        usual = all(rate == BASE_RATE for rate in rates)
        return None if usual else cls(stamps[0], rates, every_ms)

    def lookup(self) -> FundingRate:
        """Return them as the broker asks for them."""
        end = self.first + self.every_ms * len(self.rates)
        stamps = range(self.first, end, self.every_ms)
        return rates_of(stamps, self.rates)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a desk was started with.

    Attributes
    ----------
    source : the feed's label. ``commit`` : of the code that ran.
    seed, warm_up_days : of the demo market.
    price : the price that default filters were scaled by, by forecast symbol, quote units.
    keep_market : whether orders went to the market of the bars.
    bars, feature_rows : how much of a state strategy and agents were shown.
    funding : None = 0.01 % at every stamp, or what is on the ledger of a live market.
    listed : filters as the exchange told them, by execution symbol, and what is its own to each:
        hours of funding, on a live account fees and tiers of margin.
    seen_books : whether agents and fills were shown books that are on the ledger, and positions
        paid the funding that is.
    settings : by group, those that shape decisions and fills; none of them is secret.
    """

    profile: str
    source: str
    commit: str
    seed: int
    warm_up_days: int
    price: Mapping[str, float]
    keep_market: bool
    bars: int
    feature_rows: int
    funding: Rates | None
    settings: Mapping[str, Mapping[str, Any]]
    listed: Mapping[str, Instrument] | None = None
    seen_books: bool = False


def shaping(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings that shape decisions and fills, as JSON's types."""
    described = settings.describe()
    return {
        group: {
            name: value
            for name, value in described[group].items()
            if name not in _MACHINE.get(group, ())
        }
        for group in _GROUPS
    }


def settings_under(terms: Terms) -> Settings:
    """Return the settings that were in force.

    Raises
    ------
    SettingError : if this version does not know one of them.
    """
    try:
        return Settings.model_validate({group: dict(of) for group, of in terms.settings.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingError(
            f"the session's setting {'.'.join(map(str, first['loc']))}", str(first["msg"]),
            first["input"], "Take the version that ran the session.",
        ) from error  # fmt: skip


class SessionLog:
    """Writes down the terms of one world's sessions."""

    def __init__(self, events: EventLog, ledger: SqlLedger, terms: Terms) -> None:
        self._events, self._ledger, self._terms = events, ledger, plain(terms)

    def begin(self) -> None:
        """Note the terms in force from the next row on, unless they are so already."""
        told = self._events.of_kind(KIND)
        if told and told[-1].body["terms"] == self._terms:
            return
        body = {"after": self._ledger.head()[0], "terms": self._terms}
        self._events.append(Event(KIND, 0, body), f"{KIND} {len(told)}")


def terms_of(events: EventLog) -> Iterator[tuple[int, Terms]]:
    """Iterate over (last row before them, terms), oldest first.

    Raises
    ------
    DataRefused : if they cannot be read.
    """
    for event in events.of_kind(KIND):
        try:
            terms = TypeAdapter(Terms).validate_python(dict(event.body["terms"]))
        except (ValidationError, KeyError) as error:
            raise DataRefused("the session's terms", f"cannot be read ({error})") from error
        yield int(event.body["after"]), terms
