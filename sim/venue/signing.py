"""API keys of the venue: who may ask for what, and whether a question is really theirs.

A question is signed by HMAC-SHA256 of its query string followed by its body, without the signature
itself. Its timestamp is checked against the wall's clock, because clients sign with theirs; one
that keeps to market time, as a client does that has asked ``/time`` and adjusted to it, is as good.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from sim.venue import order_refusals as refuse
from sim.venue import refusals
from sim.venue.moments import SKEW_MS

WINDOW_MS, LONGEST_MS = 5_000, 60_000  # recvWindow, where none is given and at most
AHEAD_MS = 1_000
ORDERS = 50  # in ten seconds
_SPANS = {"10S": 10_000, "1M": 60_000, "1D": 86_400_000}
_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")
_KEY = re.compile(r"[A-Za-z0-9]{16,128}")


@dataclass(frozen=True, slots=True)
class Key:
    """A pair of key and secret, and what it may do.

    Attributes
    ----------
    account : whose it is.
    """

    key: str
    secret: str
    account: str
    trades: bool = True
    withdraws: bool = False

    @classmethod
    def made(cls, seed: int, account: str = "main", **may: bool) -> Key:
        """Return the pair that follows from a seed; it guards paper money of one venue only."""
        key, secret = (
            hashlib.sha256(f"{what} {seed} {account}".encode()).hexdigest()
            for what in ("venue key", "venue secret")
        )
        return cls(key, secret, account, **may)

    def signature(self, text: str) -> str:
        """Return the signature of a text, 64 hexadecimal digits."""
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, as it was sent.

    Attributes
    ----------
    key : header ``X-MBX-APIKEY``; empty = none.
    text : query string and body as they were signed. ``signature`` : empty = none.
    """

    key: str
    text: str
    signature: str
    params: Mapping[str, str]

    @classmethod
    def sent(cls, key: str, query: str, body: str) -> Question:
        """Read a question from a raw query string and a body of a form."""
        found = _SIGNATURE.search(body) or _SIGNATURE.search(query)
        text = _SIGNATURE.sub("", query) + _SIGNATURE.sub("", body)
        pairs = [pair for part in (query, body) for pair in parse_qsl(part, keep_blank_values=True)]
        return cls(key, text, found[1] if found else "", dict(pairs))


class KeyRing:
    """All keys, and how many orders each account has sent.

    Parameters
    ----------
    wall, market : clocks, ms.
    """

    def __init__(
        self, keys: Iterable[Key], wall: Callable[[], int], market: Callable[[], int]
    ) -> None:
        self._keys = {key.key: key for key in keys}
        self._wall, self._market = wall, market
        self._sent: dict[str, dict[str, tuple[int, int]]] = {}  # span → (its number, orders)

    def known(self, name: str, *, trades: bool = False) -> Key:
        """Return a key.

        Raises
        ------
        Refused : if it is none, or may not do what is wanted.
        """
        if _KEY.fullmatch(name) is None:
            raise refuse.bad_key()
        key = self._keys.get(name)
        if key is None or (trades and not key.trades):
            raise refuse.unknown_key()
        return key

    def account(self, name: str) -> str:
        """Return whose a key is; empty = nobody's."""
        key = self._keys.get(name)
        return "" if key is None else key.account

    def signed(self, question: Question, *, trades: bool = False) -> Key:
        """Return the key of a signed question.

        Raises
        ------
        Refused : if key, time or signature are not right.
        """
        key = self.known(question.key, trades=trades)
        if not question.signature:
            raise refusals.missing("signature")
        self._check_time(question.params)
        if not hmac.compare_digest(key.signature(question.text), question.signature):
            raise refuse.bad_signature()
        return key

    def _check_time(self, params: Mapping[str, str]) -> None:
        at = _whole(params, "timestamp")
        if at is None:
            raise refusals.missing("timestamp")
        window = _whole(params, "recvWindow")
        window = WINDOW_MS if window is None else window
        if window > LONGEST_MS:
            raise refuse.wide_window()
        ages = [clock() + SKEW_MS.get() - at for clock in (self._wall, self._market)]
        if any(-AHEAD_MS <= age <= window for age in ages):
            return
        if ages[0] < 0:
            raise refuse.early(-ages[0])
        raise refuse.late()

    def count_order(self, account: str) -> dict[str, str]:
        """Count an order and return the headers that tell how many there were.

        Raises
        ------
        Refused : beyond the limit of ten seconds.
        """
        now, sent = self._wall(), self._sent.setdefault(account, {})
        in_time: dict[str, tuple[int, int]] = {}
        for name, span in _SPANS.items():
            window, (last, n) = now // span, sent.get(name, (0, 0))
            in_time[name] = window, 1 + (n if window == last else 0)
        if in_time["10S"][1] > ORDERS:
            raise refuse.too_many_orders(ORDERS)
        sent.update(in_time)
        return {f"X-MBX-ORDER-COUNT-{name}": str(n) for name, (_, n) in in_time.items()}


def _whole(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise refusals.illegal(name)
    return int(text)
