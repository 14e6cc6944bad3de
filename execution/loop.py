"""The one trading loop: backtest, paper and live differ in what is injected and nothing else.

A step has two halves, one ledger append each. :meth:`TradingLoop.absorb` takes in a closed bar:
fills, funding, closed trades and the outcome that fell due. :meth:`TradingLoop.decide` turns the
opinions on that bar into a decision and its orders, which fill in bars to come. All state is a
fold over the ledger: :meth:`TradingLoop.resume` rebuilds it after a crash at any point. After an
exception from the ledger a loop must be thrown away and resumed, never used on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from domain.decision import Consensus, Decision, ExitReason, Origin, Reason
from domain.errors import UsageError
from domain.market import Bar, Instrument, MarketState, SeenBook, SettledFunding
from domain.opinion import Opinion, Outcome
from domain.ports import Aside, Broker, Gate, Ledger, Strategy
from domain.trading import (
    ClosedTrade,
    EquityMark,
    Fill,
    ModeChange,
    Order,
    Portfolio,
    RiskMode,
)
from execution import books
from execution.control import Controls
from execution.exits import horizon_over
from execution.journal import JournalMode
from execution.levels import OFF, LevelSettings
from execution.limits import RiskLimits
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
from execution.orders import closing, exit_order, pending_elsewhere
from execution.plan import Plan, Planner, Situation
from execution.rows import in_order
from execution.scribe import Row, Scribe
from execution.sizing import SizingSettings

Asked = tuple[MarketState, Sequence[Opinion], Mapping[str, str]]
"""One bar of warm-up: state, opinions, absent agents."""
Seen = SeenBook | SettledFunding
"""What a live market shows beside its bars."""


class TradingLoop(Controls):
    """Bars and opinions in, decisions and orders out, everything on the ledger.

    Parameters
    ----------
    strategy, broker, ledger, gate : the ports.
    instruments : every execution symbol's filters.
    limits, sizing : what risk allows, and how much.
    levels : stop and target of decisions that come without; None = there are none.
    journal : what is written about trades, and whether entries wait for it.
    aside : takes what was sent though the ledger was away; it is written down on :meth:`resume`.

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
        journal: JournalMode = "off",
        aside: Aside | None = None,
    ) -> None:
        for symbol in settings.routes.values():
            if symbol not in instruments:
                raise UsageError("routes", "must lead to an instrument", symbol)
        sizing = sizing or SizingSettings()
        state = (settings, strategy.name, limits or RiskLimits(), sizing, journal, aside)
        super().__init__(broker, Scribe(ledger, strategy, gate), instruments, *state)
        self._strategy, self._store = strategy, ledger
        self._planner = Planner(
            self._risk, sizing, settings.spread_bps, self._desk, gate,
            self._record if sizing.mode == "kelly" else None, levels or OFF, self._journal,
        )  # fmt: skip

    # Phase A

    def absorb(self, bar: Bar, exec_bar: Bar | None = None, seen: Sequence[Seen] = ()) -> Absorbed:
        """Take in one closed bar of a forecast symbol; a bar already known changes nothing.

        Parameters
        ----------
        exec_bar : the same span on the execution market, where that is another symbol; without
            it nothing fills in this bar and nothing may be entered at its close.
        seen : books that orders fill from in this bar, the one at its close, and what funding
            stamps pay at its open; to be kept.

        Raises
        ------
        UsageError : for a symbol without a route, or bars of different spans.
        """
        executed = execution_bar(self._routes, bar, exec_bar)
        if bar.close_ms <= self.absorbed_up_to(bar.symbol):
            return Absorbed(bar, repeated=True)
        records: list[Any] = [*seen]
        if not self._account.funded:
            self._opening(records, bar.open_ms)
        for row in self._dispatch.ask(bar.open_ms):
            self._take(records, row)
        outcome: ClosedTrade | Outcome | None
        if executed is None:
            outcome = self._take(records, bar)
        else:
            outcome = self._move(records, executed, bar)
        if isinstance(outcome, Outcome):
            records.append(outcome)
        self._scribe.commit(records)
        return absorbed(bar, records)

    def absorb_execution(self, exec_bar: Bar, seen: Sequence[Seen] = ()) -> Absorbed:
        """Take in a bar of an execution market whose close was absorbed without it, or never was.

        It comes before any later close is absorbed. What fills, or is stopped, in it does so then:
        its time is the bar's. One that is known, or older than one that is, changes nothing.

        Parameters
        ----------
        seen : books that orders fill from in this bar, what funding stamps pay; to be kept.

        Raises
        ------
        UsageError : for a symbol that no route of another leads to.
        """
        symbol = exec_bar.symbol
        of = [one for one, route in self._routes.items() if route == symbol != one]
        if not of:
            raise UsageError("exec_bar", "must be of a market that a symbol is executed at", symbol)
        if exec_bar.close_ms <= self.executed_up_to(symbol):
            return Absorbed(exec_bar, repeated=True)
        records: list[Any] = [*seen]
        self._move(records, exec_bar)
        self._scribe.commit(records)
        return absorbed(exec_bar, records)

    def _move(
        self, records: list[Any], executed: Bar, bar: Bar | None = None
    ) -> ClosedTrade | Outcome | None:
        """Let the market move by a bar; ``bar`` is the forecast symbol's, told after it."""
        if executed is not bar:
            self._take(records, executed)
        orders = self._late_exit(executed)
        outcome = None if bar is None else self._take(records, bar)
        for order in orders:
            self._take(records, order)
        for row in self._dispatch.send(orders):
            self._take(records, row)
        self._execute(records, executed)
        self._reconcile(records, executed.close_ms)
        return outcome

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
        for order in self._entries():
            if order.symbol == bar.symbol and bar.open_ms - order.created_at >= step:
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
            if isinstance(trade, ClosedTrade):
                self._write_up(records, trade)

    def _write_up(self, records: list[Any], trade: ClosedTrade) -> None:
        draft = None if self._journal is None else self._journal.draft(trade)
        self._take(records, trade)
        if draft is not None:
            self._take(records, draft)

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
        self._scribe.commit(records)
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
        done = 0
        with self._scribe.in_batches() as buffered:
            for state, opinions, absent in asked:
                if state.as_of <= self.decided_up_to(state.symbol):
                    continue
                self.absorb(state.bars.bar(-1))
                self.decide(state, opinions, absent, state.as_of, origin="warm_up")
                done += 1
                if len(buffered) >= batch:
                    buffered.flush()
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
            pending_elsewhere(self._entries(), symbol, self._marks), self._account.waiting(symbol),
            self._dispatch.in_flight(symbol),
        )  # fmt: skip
        return self._planner.plan(draft, state, situation)

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
        if self._scribe.head:
            raise UsageError("resume", "needs a loop that has not worked yet")
        if self._aside is not None:
            self._aside.settle(self._store)
        count = 0
        lesson: list[tuple[int, Any]] = []
        for seq, record in in_order(self._store):
            count += 1
            self._dispatch.follow(record, self._broker.restore((record,)))
            self._enter(record)
            lesson.append((seq, record))
            if len(lesson) >= 1_000:
                self._relate(lesson, strategy_after)
                lesson = []
        self._relate(lesson, strategy_after)
        self._scribe.head = self._store.head()[0]
        records: list[Any] = []
        for refusal in self._dispatch.resumed():
            self._take(records, refusal)
        self._reconcile(records, max(self._marked.values(), default=0))
        self._scribe.commit(records)
        return count

    def _relate(self, rows: Sequence[Row], strategy_after: int) -> None:
        self._scribe.show(rows)
        self._scribe.teach([row for row in rows if row[0] > strategy_after])
