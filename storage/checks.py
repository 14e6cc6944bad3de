"""The laws that every ledger keeps, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from domain.decision import Action, Decision, GateVerdict
from domain.errors import CheckFailed, DuplicateRecord, LedgerError, UsageError
from domain.market import Bar, BookSnapshot, BookView, OrderFlow, SeenBook, SettledFunding, Trade
from domain.operations import ExternalTrade, OperatorReport, Reflection, RiskEvent
from domain.opinion import Opinion, Outcome
from domain.ports import Ledger
from domain.quantiles import Quantiles
from domain.trading import (
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    OrderType,
    Posting,
    Refusal,
    RiskMode,
    Side,
)

_T0 = 1_735_689_600_000  # 2025-01-01T00:00:00Z
_STEP = 300_000
_SPOT, _PERP = "BTC/USDT", "BTC/USDT:USDT"


def check_ledger(make: Callable[[], Ledger]) -> None:
    """Try every law on a ledger of its own.

    Parameters
    ----------
    make : returns an empty ledger at each call.

    Raises
    ------
    CheckFailed : naming the law that does not hold.
    """
    for law in LAWS:
        law(make())


def examples(step: int = 0) -> list[Any]:
    """Return one record or more of every kind, as one step of a session would append them."""
    as_of = _T0 + (step + 1) * _STEP
    price = 0.1 + 0.2 + step  # not a short number, on purpose
    levels = (0.1, 0.5, 0.9)
    quantiles = Quantiles(levels, (-0.0041, 1e-17, 0.1 + 0.2))
    opinion = Opinion(
        "technical", "t1", _SPOT, "5m", as_of, 5, 0.5 + 1e-16, quantiles, 1 / 3, 0.2, None,
        "Momentum is up.", {"rsi": 71.3, "nested": {"list": [1, 2.5, None, "ü"]}},
    )  # fmt: skip
    silent = Opinion("risk", "r1", _SPOT, "5m", as_of, 5, None, None, risk_down=0.25)
    decision = Decision(
        _SPOT, "5m", as_of, as_of + 17, 5, "council", Action.LONG, Action.NO_TRADE,
        ("below_cost", "low_quorum"), "The edge is below the cost.", 0.513, 1e-5, quantiles, 0.2,
        0.2, 0.1, None, None, None,
        weights={"technical": 2 / 3, "climatology": 1 / 3}, contributions={"_fusion": -0.001},
        explanations={"technical": "Momentum."}, absent={"chronos": "deadline"},
        margins={"prob_min": -0.087, "edge": None}, inputs={"costs": {"fee_bps": 10.0}},
        model_versions={"technical": "t1"},
        gate=GateVerdict("shrink", 0.5, 0.9, "small", Action.LONG), state_seq=3, git_commit="abc",
    )  # fmt: skip
    order = Order(
        f"cv{step}", "paper", _PERP, Side.BUY, Decimal("0.00100"), OrderType.STOP, as_of,
        decision.id, "entry", trigger=Decimal("94000.10"), reduce_only=True,
    )  # fmt: skip
    fill = Fill(
        f"fill{step}", order.id, "paper", _PERP, Side.BUY, Decimal("0.00100"), Decimal("94000.10"),
        as_of + _STEP, Decimal("0.047000050"), Decimal(0), Decimal(1) / 3, Decimal("94000"), False,
        "entry", Decimal("-1E-20"),
    )  # fmt: skip
    fee = Decimal("0.047000050")
    trade = ClosedTrade(
        _PERP, "LONG", Decimal("0.001"), as_of, as_of + _STEP, Decimal("94000.10"), Decimal(95000),
        fee, Decimal(0), Decimal("0.01"), Decimal("-0.002"), Decimal("0.94"), "target",
        decision_id=decision.id,
    )  # fmt: skip
    return [
        Bar(_SPOT, "5m", as_of - _STEP, price, price + 1, price / 2, price, 12.000000000000002),
        opinion,
        silent,
        Outcome(_SPOT, "5m", as_of, 5, as_of + 5 * _STEP, -1.1e-5, 0.0, 0.002),
        decision,
        order,
        fill,
        Posting(fill.id, "paper", "cash", "USDT", -fee, fill.at, "taker"),
        Posting(fill.id, "paper", "fee", "USDT", fee, fill.at),
        trade,
        Refusal("paper", _SPOT, as_of, "short_not_possible", "spot", "0", "entry", decision.id),
        EquityMark("paper", as_of, Decimal("9999.95"), Decimal("10000.00"), Decimal("1E+4")),
        ModeChange("paper", as_of, RiskMode.HALTED, "risk", "daily loss"),
        RiskEvent("paper", as_of, "external", "news", "warning", "me", {"score": 0.1 + 0.2}),
        SeenBook(_SPOT, as_of, _view(as_of)),
        SettledFunding(_PERP, as_of, -0.1 - 0.2, published=False),
        OperatorReport("paper", as_of, "hrv", 41.3, "watch", "after lunch"),
        Reflection("paper", _PERP, decision.id, as_of, "me", "Too early.", ("fomo", "ü"), True),
        ExternalTrade(
            "external",
            f"sheet-{as_of}",
            as_of,
            _SPOT,
            "LONG",
            Decimal("0.10"),
            as_of,
            as_of + 1,
            Decimal("100.5"),
            Decimal("101"),
            Decimal("0.02"),
            Decimal(0),
            Decimal("0.030"),
            "me",
            "sheet",
            "ü",
        ),
    ]


def _view(at: int) -> BookView:
    book = BookSnapshot(_SPOT, at - 7, ((0.1 + 0.2, 1.0), (0.1, 2.5e-7)), ((0.31, 3.0),))
    flow = OrderFlow(at - 10_000, at, -1 / 3, 2.0, 41)
    return BookView(book, (Trade(at - 9, 0.3, 1e-5, True),), flow)


def _demand(holds: bool, law: str, *, got: object = None) -> None:
    if not holds:
        raise CheckFailed("ledger", law, got)


def _refuses(ledger: Ledger, records: Sequence[Any], error: type[LedgerError], law: str) -> None:
    before = ledger.head()
    try:
        ledger.append(records)
    except error:
        _demand(ledger.head() == before, "stores nothing of a refused append")
        return
    raise CheckFailed("ledger", law)


def _law_order(ledger: Ledger) -> None:
    first = ledger.append(examples(0))
    second = ledger.append(examples(1))
    numbers = first + second
    rising = all(a < b for a, b in pairwise(numbers))
    _demand(rising, "numbers records in the order of their appends", got=numbers)
    _demand(ledger.head()[0] == numbers[-1], "has the newest number at its head")
    _demand(ledger.append([]) == [], "takes an empty append")


def _law_round_trip(ledger: Ledger) -> None:
    records = examples(0)
    numbers = ledger.append(records)
    for of in {type(record) for record in records}:
        stored = list(ledger.records(of))
        wanted = [
            (n, record) for n, record in zip(numbers, records, strict=True) if type(record) is of
        ]
        same = stored == wanted and [repr(_exact(r)) for _, r in stored] == [
            repr(_exact(r)) for _, r in wanted
        ]
        _demand(same, f"gives back each {of.__name__} as it was appended", got=stored)


def _exact(record: Any) -> list[Any]:
    """Return what == does not tell apart: digits of Decimals, types of enums, but no key order."""
    values = [getattr(record, name) for name in record.__slots__]
    return [
        format(v, "f") if isinstance(v, Decimal) else sorted(v) if isinstance(v, Mapping) else v
        for v in values
    ]


def _law_head(ledger: Ledger) -> None:
    seq, empty = ledger.head()
    ledger.append(examples(0))
    grown, digest = ledger.head()
    _demand(seq > 0 or empty == "0" * 64, "has a head of 64 zeros when empty", got=empty)
    changed = grown > seq and digest != empty and len(digest) == 64
    _demand(changed, "changes its hash with every append", got=digest)


def _law_idempotent(ledger: Ledger) -> None:
    numbers = ledger.append(examples(0))
    head = ledger.head()
    _demand(ledger.append(examples(0)) == numbers, "gives a repeat its old numbers")
    _demand(ledger.head() == head, "stores a repeat once")
    mixed = ledger.append([*examples(0)[:2], *examples(1)[:2]])
    _demand(mixed[:2] == numbers[:2] and mixed[2] > head[0], "skips what it has, stores the rest")
    twice = ledger.append([*examples(2)[:1], *examples(2)[:1]])
    _demand(twice[0] == twice[1], "stores a record once that comes twice in one append")


def _law_other_content(ledger: Ledger) -> None:
    records = examples(0)
    ledger.append(records)
    bar, opinion, mark = records[0], records[1], records[11]
    new = examples(1)[0]
    for changed in (
        replace(bar, close=bar.close + 1e-9),
        replace(opinion, rationale="Something else."),
        replace(mark, equity=mark.equity + Decimal("1E-18")),
    ):
        _refuses(ledger, [new, changed], DuplicateRecord, "refuses a key with other content")
    _refuses(
        ledger, [new, replace(new, volume=0.0)], DuplicateRecord,
        "refuses two contents of a key in one append",
    )  # fmt: skip


def _law_finite(ledger: Ledger) -> None:
    bar, opinion = examples(0)[:2]
    for bad in (float("nan"), float("inf")):
        for record in (replace(bar, close=bad), replace(opinion, p_up=bad)):
            _refuses(ledger, [bar, record], LedgerError, "refuses NaN and infinity")
    _refuses(ledger, [bar, object()], LedgerError, "refuses what is no record")


def _law_double_entry(ledger: Ledger) -> None:
    cash = next(record for record in examples(0) if isinstance(record, Posting))
    _refuses(ledger, [cash], LedgerError, "refuses an entry that does not balance")


def _law_filters(ledger: Ledger) -> None:
    for step in range(3):
        ledger.append(examples(step))
    every = list(ledger.records(Opinion))
    as_of = every[2][1].as_of
    found = list(ledger.records(Opinion, symbol=_SPOT, as_of=as_of))
    _demand(
        found == [row for row in every if row[1].as_of == as_of] and len(found) == 2,
        "finds records by equality of fields", got=found,
    )  # fmt: skip
    later = list(ledger.records(Opinion, after=every[1][0]))
    _demand(later == every[2:], "gives only what comes after a number", got=later)
    _demand(not list(ledger.records(Bar, symbol="ETH/USDT")), "finds nothing where nothing is")
    with suppress(UsageError):
        list(ledger.records(Bar, colour="red"))
        raise CheckFailed("ledger", "refuses a filter on an unknown field")


LAWS: tuple[Callable[[Ledger], None], ...] = (
    _law_order,
    _law_round_trip,
    _law_head,
    _law_idempotent,
    _law_other_content,
    _law_finite,
    _law_double_entry,
    _law_filters,
)
