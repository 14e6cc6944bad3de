"""The one trading loop: backtest, paper and live differ in what is injected and nothing else.

A step has two halves, one ledger append each. :meth:`TradingLoop.absorb` takes in a closed bar:
fills, funding, closed trades and the outcome that fell due. :meth:`TradingLoop.decide` turns the
opinions on that bar into a decision and its orders, which fill in bars to come. All state is a
fold over the ledger: :meth:`TradingLoop.resume` rebuilds it after a crash at any point. After an
exception from the ledger a loop must be thrown away and resumed, never used on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from domain.decision import Consensus, Decision, ExitReason, Origin, Reason
from domain.errors import LedgerError, ServiceUnreachable, UsageError
from domain.market import Bar, Instrument, MarketState
from domain.operations import OperatorReport, RiskEvent
from domain.opinion import Opinion, Outcome
from domain.ports import Broker, Gate, Ledger, Strategy
from domain.trading import (
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    Portfolio,
    Refusal,
    RiskMode,
)
from execution import books
from execution.account import Account
from execution.dispatch import Dispatch
from execution.exits import horizon_over
from execution.history import History
from execution.kelly import Stake, TrackRecord
from execution.levels import OFF, LevelSettings
from execution.limits import Check, RiskLimits
from execution.messages import (
    Absorbed,
    LoopSettings,
    absorbed,
    execution_bar,
    only_finite,
    refuse_other_bar,
    stamped,
)
from execution.money import dec
from execution.orders import Desk, closing, exit_order, pending_elsewhere
from execution.plan import Plan, Planner, Situation
from execution.risk import RiskState
from execution.rows import Buffered, in_order
from execution.sizing import SizingSettings

Asked = tuple[MarketState, Sequence[Opinion], Mapping[str, str]]
"""One bar of warm-up: state, opinions, absent agents."""


class TradingLoop:
    """Bars and opinions in, decisions and orders out, everything on the ledger.

    Parameters
    ----------
    strategy, broker, ledger, gate : the ports.
    instruments : every execution symbol's filters.
    limits, sizing : what risk allows, and how much.
    levels : stop and target of decisions that come without; None = there are none.

    Raises
    ------
    UsageError : if a route leads to a symbol without an instrument.
    """

    def __init__(
        self,
        strategy: Strategy,
        broker: Broker,
        ledger: Ledger,
        instruments: Mapping[str, Instrument],
        settings: LoopSettings,
        *,
        limits: RiskLimits | None = None,
        sizing: SizingSettings | None = None,
        gate: Gate | None = None,
        levels: LevelSettings | None = None,
    ) -> None:
        for symbol in settings.routes.values():
            if symbol not in instruments:
                raise UsageError("routes", "must lead to an instrument", symbol)
        self.settings = settings
        self._strategy, self._broker = strategy, broker
        self._ledger: Ledger | Buffered = ledger
        self._store = ledger
        self._instruments = dict(instruments)
        self._routes = dict(settings.routes)
        self._traded = set(self._routes.values())
        self._desk = Desk(settings.account, strategy.name)
        self._dispatch = Dispatch(broker, settings.account)
        self._account = Account(settings.account, settings.currency, self._routes, strategy.name)
        self._risk = RiskState(limits or RiskLimits(), settings.account, self._routes)
        sizing = sizing or SizingSettings()
        self._record = TrackRecord(
            sizing.kelly, settings.account, self._routes, sizing.risk_fraction
        )
        self._planner = Planner(
            self._risk, sizing, settings.spread_bps, self._desk, gate,
            self._record if sizing.mode == "kelly" else None, levels or OFF,
        )  # fmt: skip
        self._history = History(settings.horizon_bars)
        self._marks: dict[str, Decimal] = {}  # execution symbol → last close
        self._marked: dict[str, int] = {}  # execution symbol → when that bar closed
        self._equity_at = 0
        self._decided: dict[str, Decision] = {}  # on bars, warm-up included
        self._answered: deque[tuple[str, int]] = deque(maxlen=256)  # asked on demand, lately
        self.witness: Callable[[Any], None] | None = None
        """Called with every record that is new on the ledger, in order, after it is stored."""
        self._head = 0

    # What it knows

    @property
    def mode(self) -> RiskMode:
        """What risk allows now."""
        return self._risk.mode

    def absorbed_up_to(self, symbol: str) -> int:
        """Return the close (ms) of the last bar taken in for a forecast symbol; 0 for none."""
        last = self._history.last(symbol)
        return 0 if last is None else last.close_ms

    def decided_up_to(self, symbol: str) -> int:
        """Return ``as_of`` (ms) of the last decision on a bar, warm-up included; 0 for none."""
        last = self._decided.get(symbol)
        return 0 if last is None else last.as_of

    def last_decision(self, symbol: str) -> Decision | None:
        """Return the last decision on a bar, warm-up included."""
        return self._decided.get(symbol)

    def portfolio(self, at: int) -> Portfolio:
        """Return the account marked to the last closes."""
        return self._account.portfolio(at, self._marks)

    @property
    def risk(self) -> RiskState:
        """What risk knows; to be read."""
        return self._risk

    def risk_checks(self) -> tuple[Check, ...]:
        """Return every limit that needs no order, with its value now and its margin."""
        held = self.portfolio(self._equity_at)
        return (*self._risk.state_checks(), *self._risk.exposure_checks(held))

    def stakes(self) -> dict[str, Stake]:
        """Return what Kelly's rule would risk now, by forecast symbol."""
        return {symbol: self._record.stake(symbol) for symbol in sorted(self._routes)}

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first."""
        return self._broker.open_orders()

    # Phase A

    def absorb(self, bar: Bar, exec_bar: Bar | None = None) -> Absorbed:
        """Take in one closed bar of a forecast symbol; a bar already known changes nothing.

        Parameters
        ----------
        exec_bar : the same span on the execution market, where that is another symbol; without
            it nothing fills in this bar and nothing may be entered at its close.

        Raises
        ------
        UsageError : for a symbol without a route, or bars of different spans.
        """
        executed = execution_bar(self._routes, bar, exec_bar)
        if bar.close_ms <= self.absorbed_up_to(bar.symbol):
            return Absorbed(bar, repeated=True)
        records: list[Any] = []
        orders: list[Order] = []
        if not self._account.funded:
            self._opening(records, bar.open_ms)
        for row in self._dispatch.ask(bar.open_ms):
            self._take(records, row)
        if executed is not None:
            if executed is not bar:
                self._take(records, executed)
            orders = self._late_exit(executed)
        outcome = self._take(records, bar)
        for order in orders:
            self._take(records, order)
        for row in self._dispatch.send(orders):
            self._take(records, row)
        if executed is not None:
            self._execute(records, executed)
            self._reconcile(records, executed.close_ms)
        if isinstance(outcome, Outcome):
            records.append(outcome)
        self._commit(records)
        return absorbed(bar, records)

    def _opening(self, records: list[Any], at: int) -> None:
        settings = self.settings
        lines = books.opening(settings.account, settings.currency, settings.initial_cash, at)
        for line in lines:
            self._take(records, line)
            self._broker.restore((line,))

    def _late_exit(self, bar: Bar) -> list[Order]:
        # A decision at the due time sends this order itself; without one (a data gap, a desk that
        # was down) it goes out before the first bar that opens later, under the same id.
        position = self._account.position(bar.symbol)
        # KILLED: only what was sent at the kill closes.
        if position is None or self.mode is RiskMode.KILLED:
            return []
        waiting, due = self._account.waiting(bar.symbol), position.horizon_due
        reason = ExitReason.HORIZON if horizon_over(position, bar.open_ms) else None
        if waiting is not None:
            if waiting.last == bar.open_ms:  # decided just now: the next close looks again
                return []
            if reason is None:
                reason, due = waiting.reason, waiting.since
        if reason is None or closing(self._broker.open_orders(), bar.symbol):
            return []
        return [exit_order(self._desk, position, reason, due)]

    def _execute(self, records: list[Any], bar: Bar) -> None:
        step = bar.close_ms - bar.open_ms
        for order in self._broker.open_orders():
            late = order.symbol == bar.symbol and bar.open_ms - order.created_at >= step
            if late and order.intent == "entry":
                age = f"{(bar.open_ms - order.created_at) // 1000} s"
                self._withdraw(
                    records, order, bar.open_ms, Reason.UNFILLED, "fills in the next bar", age
                )
        for line in self._broker.funding(bar):
            self._take(records, line)
        for row in self._broker.on_bar(bar):
            trade = self._take(records, row)
            if isinstance(row, Fill):
                for line in books.of_fill(row, self.settings.currency):
                    self._take(records, line)
            if trade is not None:
                self._take(records, trade)

    def _reconcile(self, records: list[Any], at: int) -> None:
        # What ledger and broker disagree about stops entries, and closes nothing: it is not known
        # what there is to close.
        event = self._dispatch.compare(self._account, at)
        if event is None:
            return
        self._take(records, event)
        if event.level == "error" and self.mode in (RiskMode.ACTIVE, RiskMode.REDUCING):
            why = f"broker and ledger differ: {event.subject}"
            change = ModeChange(self.settings.account, at, RiskMode.HALTED, event.kind, why)
            self._shut(records, change, None)

    # Phase B

    def decide(
        self,
        state: MarketState,
        opinions: Sequence[Opinion],
        absent: Mapping[str, str],
        now: int,
        *,
        origin: Origin = "bar",
    ) -> Decision:
        """Decide on the last absorbed bar; the same question again returns the same decision.

        Parameters
        ----------
        now : ms, the emission time.
        origin : only ``bar`` trades. ``warm_up`` is stored as NO_TRADE. ``on_demand`` is stored
            beside the bar's own decision; on the last bar it is reviewed as if it traded.

        Raises
        ------
        UsageError : if ``state.as_of`` is not the close of the last absorbed bar (``on_demand``:
            of an absorbed bar).
        """
        opinions, absent = only_finite(opinions, absent)
        if origin == "on_demand":
            return self._answer(state, opinions, absent, now)
        known = self._decided.get(state.symbol)
        if known is not None and known.as_of == state.as_of:
            return known
        refuse_other_bar(state, self.absorbed_up_to(state.symbol), earlier=False)
        if (state.symbol, state.as_of) in self._answered:
            said = self._said(state)
            opinions = [said.get(opinion.key, opinion) for opinion in opinions]
        draft = self._draft(state, opinions, absent, now, origin)
        records: list[Any] = list(opinions)
        orders: list[Order] = []
        plan = Plan(draft, (), ())
        if origin == "bar":
            account = self.portfolio(state.as_of)
            orders += self._mark(records, account)
            plan = self._plan(draft, state, account, {order.symbol for order in orders})
        orders += plan.orders
        for refusal in plan.refusals:
            self._take(records, refusal)
        self._take(records, plan.decision)
        self._send(records, orders)
        return plan.decision

    def _answer(
        self,
        state: MarketState,
        opinions: Sequence[Opinion],
        absent: Mapping[str, str],
        now: int,
    ) -> Decision:
        refuse_other_bar(state, self.absorbed_up_to(state.symbol), earlier=True)
        place: dict[str, Any] = {"symbol": state.symbol, "as_of": state.as_of}
        said = self._said(state)
        opinions = [said.get(opinion.key, opinion) for opinion in opinions]
        draft = self._draft(state, opinions, absent, now, "on_demand")
        for _, known in self._store.records(Decision, **place, origin="on_demand"):
            if known.id == draft.id:
                return known
        last = state.as_of == self.absorbed_up_to(state.symbol)
        account = self.portfolio(state.as_of)
        decision = self._plan(draft, state, account, set()).decision if last else draft
        records: list[Any] = [opinion for opinion in opinions if opinion.key not in said]
        self._take(records, decision)
        self._commit(records)
        return decision

    def _said(self, state: MarketState) -> dict[str, Opinion]:
        # What was said first stays said, should a later answer differ in its last bits.
        rows = self._store.records(Opinion, symbol=state.symbol, as_of=state.as_of)
        return {opinion.key: opinion for _, opinion in rows}

    def view(
        self, state: MarketState, opinions: Sequence[Opinion], absent: Mapping[str, str]
    ) -> Consensus | None:
        """Return what the strategy makes of opinions before it decides; None if it says nothing."""
        said, missing = only_finite(opinions, absent)
        prepared = self._strategy.prepare_state(state, said, missing)
        found: Consensus | None = getattr(prepared, "consensus", None)
        return found

    def step(
        self,
        state: MarketState,
        opinions: Sequence[Opinion],
        absent: Mapping[str, str],
        now: int,
        exec_bar: Bar | None = None,
    ) -> Decision:
        """Absorb the state's last bar and decide on it."""
        self.absorb(state.bars.bar(-1), exec_bar)
        return self.decide(state, opinions, absent, now)

    def warm_up(self, asked: Iterable[Asked], *, batch: int = 2_000) -> int:
        """Absorb and decide over history without trading, stored ``batch`` rows at a time.

        Returns
        -------
        The number of bars taken in; those already decided are passed over.
        """
        buffered = Buffered(self._store)
        self._ledger = buffered
        done = 0
        try:
            for state, opinions, absent in asked:
                if state.as_of <= self.decided_up_to(state.symbol):
                    continue
                self.absorb(state.bars.bar(-1))
                self.decide(state, opinions, absent, state.as_of, origin="warm_up")
                done += 1
                if len(buffered) >= batch:
                    buffered.flush()
            buffered.flush()
        finally:
            self._ledger = self._store
        return done

    def _draft(
        self,
        state: MarketState,
        opinions: Sequence[Opinion],
        absent: Mapping[str, str],
        now: int,
        origin: Origin,
    ) -> Decision:
        prepared = self._strategy.prepare_state(state, opinions, absent)
        draft = self._strategy.generate_signal(prepared, now)
        return stamped(draft, origin, self.settings)

    def _mark(self, records: list[Any], now: Portfolio) -> list[Order]:
        # One mark per instant: with several symbols the first to decide makes it.
        if now.at <= self._equity_at:
            return []
        mark = EquityMark(now.account, now.at, now.cash, now.equity, now.high_water)
        self._take(records, mark)
        change = self._risk.due_change(now.at)
        if change is None:
            return []
        halts = change.mode is RiskMode.HALTED
        return self._shut(records, change, ExitReason.RISK if halts else None)

    def _plan(
        self, draft: Decision, state: MarketState, account: Portfolio, leaving: set[str]
    ) -> Plan:
        symbol = self._routes[state.symbol]
        working = self._broker.open_orders()
        price = self._marks.get(symbol) if self._marked.get(symbol) == state.as_of else None
        scale = Decimal(1)
        if price is not None and symbol != state.symbol:
            scale = price / dec(state.bars.close[-1])
        situation = Situation(
            self._instruments[symbol], account, price, scale,
            symbol in leaving or closing(working, symbol),
            pending_elsewhere(working, symbol, self._marks), self._account.waiting(symbol),
            self._dispatch.in_flight(symbol),
        )  # fmt: skip
        return self._planner.plan(draft, state, situation)

    # Control

    def kill(self, by: str, why: str, at: int, *, flatten: bool = True) -> ModeChange | None:
        """Refuse all entries and close everything at the market; None if already killed.

        Parameters
        ----------
        flatten : without it positions are left alone, with their stops and targets; a later kill
            with it still closes them.
        """
        change = self.change_mode(RiskMode.KILLED, by, why, at, flatten=flatten)
        if change is None and flatten:
            self.flatten(at, ExitReason.KILL)
        return change

    def arm(self, by: str, why: str, at: int) -> ModeChange | None:
        """Allow entries again; None if they are allowed."""
        return self.change_mode(RiskMode.ACTIVE, by, why, at)

    def change_mode(
        self, mode: RiskMode, by: str, why: str, at: int, *, flatten: bool = True
    ) -> ModeChange | None:
        """Change what risk allows at market time ``at`` (ms); None if it is so already.

        KILLED and HALTED close what is open, unless told not to ``flatten``; all but ACTIVE
        withdraw entries on their way.
        """
        if mode is self.mode:
            return None
        if self._risk.change is not None:  # the ledger tells changes apart by their instant
            at = max(at, self._risk.change.at + 1)
        change = ModeChange(self.settings.account, at, mode, by, why)
        records: list[Any] = []
        reason = {RiskMode.KILLED: ExitReason.KILL, RiskMode.HALTED: ExitReason.RISK}.get(mode)
        orders = self._shut(records, change, reason if flatten else None)
        try:
            self._send(records, orders)
        except (LedgerError, ServiceUnreachable):
            # Nothing can be written down now; what makes the account safer goes out all the same.
            self._dispatch.send(orders)
            raise
        return change

    def report(self, report: OperatorReport) -> None:
        """Take down how the operator is; it may pause entries from the next decision on."""
        self._note(report)

    def event(self, event: RiskEvent) -> None:
        """Take down something that bears on risk."""
        self._note(event)

    def _note(self, record: OperatorReport | RiskEvent) -> None:
        records: list[Any] = []
        self._take(records, record)
        self._commit(records)

    def flatten(self, at: int, reason: ExitReason = ExitReason.MANUAL) -> list[Order]:
        """Close every position at the market and return the orders."""
        orders = self._exits(reason, at)
        self._send([], orders)
        return orders

    def shutdown(self, at: int) -> list[Order]:
        """Do what ``on_shutdown`` says."""
        if self.settings.on_shutdown == "keep":
            return []
        return self.flatten(at, ExitReason.SHUTDOWN)

    def resume(self, strategy_after: int = 0) -> int:
        """Rebuild everything from the ledger, into a fresh loop with a fresh broker and strategy.

        Parameters
        ----------
        strategy_after : rows up to this number are already in the strategy's own snapshot.

        Returns
        -------
        The number of rows read.

        Raises
        ------
        UsageError : if the loop has already worked.
        """
        if self._head:
            raise UsageError("resume", "needs a loop that has not worked yet")
        count = 0
        lesson: list[tuple[int, Any]] = []
        for seq, record in in_order(self._store):
            count += 1
            self._dispatch.follow(record, self._broker.restore((record,)))
            self._enter(record)
            if seq > strategy_after:
                lesson.append((seq, record))
            if len(lesson) >= 1_000:
                self._teach(lesson)
                lesson = []
        self._teach(lesson)
        self._head = self._store.head()[0]
        records: list[Any] = []
        for refusal in self._dispatch.resumed():
            self._take(records, refusal)
        self._reconcile(records, max(self._marked.values(), default=0))
        self._commit(records)
        return count

    # One way in for every row, live and on resume

    def _enter(self, record: Any) -> ClosedTrade | Outcome | None:
        if isinstance(record, Bar):
            if record.symbol in self._traded or self._account.position(record.symbol) is not None:
                self._marks[record.symbol] = dec(record.close)
                self._marked[record.symbol] = record.close_ms
            if record.symbol not in self._routes:
                return None
            self._risk.fold(record)
            self._record.fold(record)
            return self._history.push(record)
        if isinstance(record, Decision):
            self._history.asked(record)
            if record.origin == "on_demand":
                self._answered.append((record.symbol, record.as_of))
            else:
                self._decided[record.symbol] = record
        elif isinstance(record, EquityMark):
            self._equity_at = max(self._equity_at, record.at)
        self._risk.fold(record)
        self._record.fold(record)
        return self._account.fold(record)

    def _take(self, records: list[Any], record: Any) -> ClosedTrade | Outcome | None:
        records.append(record)
        return self._enter(record)

    def _commit(self, records: list[Any]) -> None:
        if not records:
            return
        numbers = self._ledger.append(records)
        # A row that was there before (an opinion asked for twice) has been learned from.
        rows = [row for row in zip(numbers, records, strict=True) if row[0] > self._head]
        if self.witness is not None:
            for _, record in rows:
                self.witness(record)
        self._head = max(self._head, *numbers)
        self._teach(rows)

    def _teach(self, rows: Sequence[tuple[int, Any]]) -> None:
        first = 0
        for i, (_, record) in enumerate(rows):
            if type(record) is ClosedTrade:
                self._strategy.observe(rows[first : i + 1])
                self._strategy.post_trade_update(record)
                first = i + 1
        if first < len(rows):
            self._strategy.observe(rows[first:])

    def _send(self, records: list[Any], orders: Sequence[Order]) -> None:
        # On the ledger first: an order that was sent is always known.
        for order in orders:
            self._take(records, order)
        self._commit(records)
        self._commit(list(self._dispatch.send(orders)))

    def _shut(
        self, records: list[Any], change: ModeChange, reason: ExitReason | None
    ) -> list[Order]:
        self._take(records, change)
        code = Reason.KILLED if change.mode is RiskMode.KILLED else Reason.BREAKER
        if change.mode is not RiskMode.ACTIVE:
            for order in self._broker.open_orders():
                if order.intent == "entry":
                    rule = "mode must be ACTIVE"
                    self._withdraw(records, order, change.at, code, rule, change.mode.value)
        return [] if reason is None else self._exits(reason, change.at)

    def _withdraw(
        self, records: list[Any], order: Order, at: int, code: Reason, rule: str, value: str
    ) -> None:
        self._broker.cancel(order.id)
        refusal = Refusal(
            order.account, order.symbol, at, code, rule, value, order.intent, order.decision_id
        )
        self._take(records, refusal)

    def _exits(self, reason: ExitReason, at: int) -> list[Order]:
        return [
            exit_order(self._desk, position, reason, at)
            for position in self._account.positions()
            if position.symbol in self._instruments
            and not closing(self._broker.open_orders(), position.symbol)
        ]
