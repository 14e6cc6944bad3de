"""An exchange by ccxt, and one policy for everything that can go wrong between here and there."""

from __future__ import annotations

import difflib
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ccxt

from data.sources.exchange_urls import moved
from data.sources.servers import Servers
from data.sources.waiting import backoff, retry_after
from domain.errors import ConclaveError, DataRefused, ServiceUnreachable, SettingError, UsageError
from domain.market import Market

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TRIES = 8  # of a question that is not answered: two minutes of waiting
_FINAL = re.compile(r" (?:400|401|403|404|451|501) ")  # of HTTP: no second question would mend it
# what ccxt raises over an answer that is not as the exchange words it
GARBLED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
_TYPES: Mapping[Market, tuple[str, str]] = {"spot": ("spot", "spot"), "perp": ("swap", "linear")}


def connect(name: str, market: Market, url: str | None = None, timeout_ms: int = 10_000) -> Any:
    """Return a ccxt exchange that waits between questions as the venue wants it; asks nothing yet.

    Parameters
    ----------
    name : its ccxt id.
    url : another server of the same protocol, ``http://127.0.0.1:8089``; None = the exchange's own.

    Raises
    ------
    SettingError : if ccxt does not know the exchange.
    """
    if name not in ccxt.exchanges:
        close = difflib.get_close_matches(name, ccxt.exchanges, n=1)
        hint = f'Did you mean "{close[0]}"?' if close else "ccxt's documentation lists them."
        raise SettingError("EXCHANGE", "must be an exchange that ccxt knows", name, hint)
    kind, listed = _TYPES[market]
    options: dict[str, Any] = {"defaultType": kind, "fetchCurrencies": False}
    if name.startswith("binance"):  # it lists its markets on several servers
        options["fetchMarkets"] = {"types": [listed]}
    exchange = getattr(ccxt, name)(
        {"enableRateLimit": True, "timeout": timeout_ms, "options": options}
    )
    if url is not None:
        exchange.urls["api"] = moved(exchange.urls["api"], url)
        exchange.exceptions = with_codes(exchange.exceptions, listed)
    return exchange


def with_codes(exceptions: dict[str, Any], listed: str) -> dict[str, Any]:
    """Return ccxt's errors by code with those that one market alone has.

    ccxt knows whose codes they are by the exchange's own address; at another it would not.

    Parameters
    ----------
    listed : the market in ccxt's table, ``spot`` or ``linear``.
    """
    own = exceptions.get(listed, {}).get("exact", {})
    return {**exceptions, "exact": {**exceptions.get("exact", {}), **own}}


class Caller:
    """Asks an exchange, and asks again where that may help.

    ============================================  =============================================
    too many requests, or banned (429, 418)       waits as long as the exchange says, else backs off
    no answer, a late one, maintenance (5xx)      backs off: 1, 2, 4 … 60 s, each with jitter;
                                                  asks its next server then, where it has one
    an answer that makes no sense                 likewise
    an unknown symbol or a wrong question         is refused at once
    a key that is wrong or not allowed to         is refused at once
    anything else the exchange says               is told as it is
    ============================================  =============================================

    Parameters
    ----------
    sleep : seconds. ``say`` : told of every wait, in words.
    tries : of a question that is not answered.
    servers : of the exchange; None = it has one.
    """

    def __init__(
        self, exchange: Any, sleep: Callable[[float], None], say: Callable[[str], object] = str,
        seed: int = 0, tries: int = TRIES, servers: Servers | None = None,
    ) -> None:  # fmt: skip
        self.exchange, self._sleep, self._say, self._tries = exchange, sleep, say, tries
        self._servers = Servers(exchange) if servers is None else servers
        self._rng = random.Random(seed)  # noqa: S311 - spreads requests, guards nothing
        self.requests = self.waits = 0
        self._not_before = 0.0  # monotonic

    def __call__(self, ask: Callable[..., T], *words: Any, **named: Any) -> T:
        """Return what the exchange answers.

        Raises
        ------
        UsageError, SettingError : for what no second question would mend.
        ServiceUnreachable : if it does not answer, or with an error.
        """
        if time.monotonic() < self._not_before:  # it asked to be left alone: a ban would grow
            left = f"{self._not_before - time.monotonic():.0f} s"
            raise ServiceUnreachable(self._name, "asks to wait", left)
        for attempt in range(self._tries):
            self.requests += 1
            try:
                return ask(*words, **named)
            except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
                told = retry_after(self.exchange.last_response_headers)
                self._wait(attempt, f"{self._name} asks to wait", told, error)
            except ccxt.OperationFailed as error:  # the network, or the exchange itself, 5xx
                if _FINAL.search(str(error)):
                    raise self._final(error) from error
                self._wait(attempt, f"no answer from {self._name}", None, error, self._next())
            except ccxt.BaseError as error:
                raise self._final(error) from error
            except (DataRefused, *GARBLED) as error:
                why = f"no sense in the answer of {self._name}"
                self._wait(attempt, why, None, error, self._next())
        raise AssertionError  # the last wait raises

    @property
    def _name(self) -> str:
        return str(self.exchange.id)

    def _next(self) -> str:
        server = self._servers.next()
        return "" if server is None else f" at {server}"

    def _wait(
        self, attempt: int, why: str, told: float | None, error: Exception, at: str = ""
    ) -> None:
        if told is not None and self._tries == 1:
            self._not_before = time.monotonic() + told
        if attempt + 1 == self._tries:
            rule = f"did not answer in {self._tries} attempt{'s' * (self._tries > 1)}"
            hint = (
                "Try again later: what was fetched is kept. conclave venue is an exchange on this "
                "machine; EXCHANGE_URL names it."
            )
            raise ServiceUnreachable(self._name, rule, _short(error), hint) from error
        own = backoff(attempt + 1, FIRST_WAIT_S, LONGEST_WAIT_S, self._rng)
        seconds = own if told is None else told
        self.waits += 1
        self._say(f"{why}: again{at} in {seconds:.0f} s ({_short(error)})")
        self._sleep(seconds)

    def _final(self, error: ccxt.BaseError) -> ConclaveError:
        told = _short(error)
        if isinstance(error, ccxt.BadSymbol):
            return UsageError("symbol", f"must be one that {self._name} lists", told)
        if isinstance(error, ccxt.BadRequest):
            return UsageError(self._name, "refused the question", told)
        if isinstance(error, ccxt.AuthenticationError):
            return SettingError("API key", f"was refused by {self._name}", told)
        if isinstance(error, ccxt.NotSupported):
            return UsageError(self._name, "does not offer it", told)
        hint = "Is EXCHANGE_URL right? Some exchanges refuse some countries (451)."
        return ServiceUnreachable(self._name, "answered with an error", told, hint)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:157]}…"
