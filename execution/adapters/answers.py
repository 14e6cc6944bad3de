"""What a venue's answer to an order means: refused, there already, or nobody can say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import ccxt

from domain.decision import Reason
from domain.errors import ServiceUnreachable
from execution.adapters.breaker import NotSent

# An order may have taken effect although the venue answers with one of these.
_UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007})
_DUPLICATE = -4116
_CODE = re.compile(r'"code"\s*:\s*"?(-?\d+)')
_QUERY = re.compile(r"\?\S*")
_LONGEST = 160

Kind = Literal["refused", "invalid", "duplicate", "triggers", "unknown", "unsent"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request.

    Attributes
    ----------
    kind : ``refused``; ``invalid``: ccxt refused it and sent nothing; ``duplicate``: its client id
        is at the venue already; ``triggers``: a stop whose price is passed; ``unknown``: it may
        have taken effect, and must be asked after; ``unsent``: it never left, because the venue is
        left alone.
    value : the venue's code, the same for the same mistake. ``why`` : its words.
    """

    kind: Kind
    code: Reason
    rule: str
    value: str
    why: str

    @property
    def left(self) -> bool:
        """Whether it left for the venue."""
        return self.kind not in ("invalid", "unsent")

    @property
    def nothing_to_close(self) -> bool:
        """Whether the venue holds nothing that the order would reduce."""
        return self.code is Reason.UNFILLED


def verdict(error: ccxt.BaseError) -> Verdict:
    """Return what an error of ccxt says about the order that was sent.

    ======================================  ==========  ====================
    timeouts, lost lines, 5xx               unknown     ``in_flight``
    −1000, −1001, −1006, −1007, no code     unknown     ``in_flight``
    client id taken (−4116, −2010)          duplicate
    stop beyond the price (−2021)           triggers    ``risk_veto``
    too little money or margin              refused     ``insufficient_margin``
    worth too little (−4164, NOTIONAL)      refused     ``below_min_notional``
    nothing to reduce (−2022)               refused     ``unfilled``
    rate limits, clock, key, market closed  refused     ``not_placed``
    everything else with a code             refused     ``risk_veto``
    refused by ccxt itself                  invalid     ``risk_veto``
    ======================================  ==========  ====================
    """
    why = words_of(error)
    code = code_of(error)

    def said(kind: Kind, reason: Reason, rule: str) -> Verdict:
        return Verdict(kind, reason, rule, type(error).__name__ if code is None else str(code), why)

    unknown = said("unknown", Reason.IN_FLIGHT, "the venue says what became of an order")
    if code in _UNKNOWN_CODES:
        return unknown
    if code == _DUPLICATE or "Duplicate order" in why:
        return said("duplicate", Reason.IN_FLIGHT, "a client id is used once")
    for kinds, reason, rule in _REFUSALS:
        if isinstance(error, kinds):
            triggers = isinstance(error, ccxt.OrderImmediatelyFillable)
            return said("triggers" if triggers else "refused", reason, rule)
    if isinstance(error, ccxt.OperationFailed):
        return unknown
    if never_left(error):
        return said("invalid", Reason.RISK_VETO, "as the venue takes orders")
    if code is None:
        return unknown  # an answer that cannot be read says nothing
    reason, rule = _BY_CODE.get(code, (Reason.RISK_VETO, "as the venue takes orders"))
    if "NOTIONAL" in why:
        reason, rule = _BY_CODE[-4164]
    return said("refused", reason, rule)


def unsent(error: NotSent) -> Verdict:
    """Return what is said of an order that did not leave."""
    rule = "the venue must answer before anything is sent"
    return Verdict("unsent", Reason.NOT_PLACED, rule, error.code, error.message)


def unreachable(name: str, error: ccxt.BaseError, *, lost: bool) -> ServiceUnreachable:
    """Return what is said of a question in vain; ``lost``: nothing was answered."""
    hint = "Try again later." if lost else ""
    if isinstance(error, ccxt.AuthenticationError):
        hint = "EXCHANGE_API_KEY and EXCHANGE_API_SECRET must be this exchange's, allowed to trade."
    what = "did not answer" if lost else "refused"
    return ServiceUnreachable(name, what, words_of(error), hint)


def words_of(error: ccxt.BaseError) -> str:
    """Return an error in a line, without what was asked: a signed question names the account."""
    return _QUERY.sub("", " ".join(str(error).split()))[:_LONGEST]


def never_left(error: ccxt.BaseError) -> bool:
    """Return whether ccxt refused what was asked for and sent nothing: no code is the venue's."""
    return isinstance(error, _BEFORE_SENDING) and code_of(error) is None


def code_of(error: ccxt.BaseError) -> int | None:
    """Return the venue's own code in an error, None without one."""
    found = _CODE.search(str(error))
    return None if found is None else int(found[1])


_BY_CODE: Mapping[int, tuple[Reason, str]] = {
    -2022: (Reason.UNFILLED, "closes only what is held"),
    -2027: (Reason.INSUFFICIENT_MARGIN, "within the venue's largest position"),
    -4164: (Reason.BELOW_MIN_NOTIONAL, "worth what the venue demands"),
}
# In this order: the first ones are kinds of network trouble to ccxt, but they are answers.
_REFUSALS: tuple[tuple[tuple[type[ccxt.BaseError], ...], Reason, str], ...] = (
    ((ccxt.DDoSProtection, ccxt.RateLimitExceeded), Reason.NOT_PLACED, "within the rate limits"),
    ((ccxt.InvalidNonce,), Reason.NOT_PLACED, "this machine's clock agrees with the venue's"),
    ((ccxt.AuthenticationError,), Reason.NOT_PLACED, "the venue takes the key"),
    ((ccxt.MarketClosed,), Reason.NOT_PLACED, "the market trades"),
    ((ccxt.InsufficientFunds,), Reason.INSUFFICIENT_MARGIN, "the account can pay"),
    ((ccxt.OrderImmediatelyFillable,), Reason.RISK_VETO, "a stop waits for its price"),
)
_BEFORE_SENDING = (
    ccxt.InvalidOrder, ccxt.ArgumentsRequired, ccxt.BadSymbol, ccxt.BadRequest, ccxt.NotSupported,
)  # fmt: skip
