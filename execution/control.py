"""What a person, or a limit, may order of the trading loop: stop, allow again, close, take down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from domain.decision import ExitReason, Reason
from domain.errors import LedgerError, UsageError
from domain.market import Instrument
from domain.operations import ExternalTrade, OperatorReport, Reflection, RiskEvent
from domain.opinion import Outcome
from domain.ports import Aside, Broker
from domain.trading import ClosedTrade, ModeChange, Order, Refusal, RiskMode
from execution.dispatch import Dispatch
from execution.journal import JournalMode
from execution.limits import RiskLimits
from execution.messages import LoopSettings
from execution.orders import Desk, closing, exit_order
from execution.risk import RISK
from execution.scribe import Scribe
from execution.sizing import SizingSettings
from execution.state import LoopState

FEED = "feed"  # who holds entries while it is not sure of what the market tells


class Controls(LoopState):
    """The loop's state with a broker and a scribe: changes of mode, and orders that only close.

    Parameters
    ----------
    broker : every order goes to it by way of a :class:`~execution.dispatch.Dispatch`.
    scribe : writes to the ledger.
    instruments : every execution symbol's filters.
    aside : takes what was sent though it could not be written down; None = it is forgotten.
    """

    def __init__(
        self,
        broker: Broker,
        scribe: Scribe,
        instruments: Mapping[str, Instrument],
        settings: LoopSettings,
        strategy: str,
        limits: RiskLimits,
        sizing: SizingSettings,
        journal: JournalMode,
        aside: Aside | None = None,
    ) -> None:
        super().__init__(settings, strategy, limits, sizing, journal)
        self._broker, self._scribe, self._aside = broker, scribe, aside
        self._instruments = dict(instruments)
        self._desk = Desk(settings.account, strategy)
        self._dispatch = Dispatch(broker, settings.account)
        self._unsure = ""  # why the feed holds entries, whoever else does; empty if it is sure

    @property
    def witness(self) -> Callable[[Any], None] | None:
        """Called with every record that is new on the ledger, in order, after it is stored."""
        return self._scribe.witness

    @witness.setter
    def witness(self, witness: Callable[[Any], None] | None) -> None:
        self._scribe.witness = witness

    def open_orders(self) -> list[Order]:
        """Return the working orders, oldest first."""
        return self._broker.open_orders()

    def tend(self) -> None:
        """Look after what is not certain yet at the broker; the next bar tells of it."""
        self._broker.tend()

    def unsent(self) -> list[Order]:
        """Return exits that are not known to have reached the venue: what they close is open."""
        return self._dispatch.unsent()

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
        """Allow entries again, as soon as the feed is sure; None if they are allowed."""
        return self._let_in(by, why, at)

    def pause(self, by: str, why: str, at: int, *, flatten: bool = False) -> ModeChange | None:
        """Refuse entries until a person resumes; None if a person did, or more is stopped, already.

        What a limit or the feed has reduced becomes a person's, so that it does not lift by itself.

        Parameters
        ----------
        flatten : close what is open at the market as well; also where nothing else changes.
        """
        change = None
        if self.mode is RiskMode.ACTIVE:
            change = self.change_mode(RiskMode.REDUCING, by, why, at)
        elif self._reduced_by(RISK, FEED):
            change = self._enter_mode(RiskMode.REDUCING, by, why, at)
        if flatten:
            self.flatten(at)
        return change

    def resume_entries(self, by: str, why: str, at: int) -> ModeChange | None:
        """Undo a person's pause; None if entries are allowed. The feed holds them while it must.

        Raises
        ------
        UsageError : if more than a person's pause is in force.
        """
        if self.mode in (RiskMode.HALTED, RiskMode.KILLED):
            rule = "needs more than a start: arm it, in two steps"
            raise UsageError("mode", rule, self.mode.value, "conclave arm, or /arm.")
        if self._reduced_by(RISK):
            rule = "is set by a limit and lifts by itself"
            raise UsageError("mode", rule, self.mode.value, "conclave status tells which limit.")
        if self._reduced_by(FEED):
            rule = "waits for the feed and lifts by itself"
            raise UsageError("mode", rule, self.mode.value, "conclave status tells what it lacks.")
        return self._let_in(by, why, at)

    def hold_entries(self, why: str, at: int) -> ModeChange | None:
        """Refuse entries until the feed is sure; None if a person, or it, refuses them already.

        What a limit has reduced becomes the feed's, so that it does not lift within a decision.
        """
        self._unsure = why
        if self.mode is RiskMode.ACTIVE or self._reduced_by(RISK):
            return self._enter_mode(RiskMode.REDUCING, FEED, why, at)
        return None

    def release_entries(self, why: str, at: int) -> ModeChange | None:
        """Undo :meth:`hold_entries`; what a person or a limit has stopped stays so.

        A limit that is still broken takes back what the feed had taken over from it.
        """
        self._unsure = ""
        if not self._reduced_by(FEED):
            return None
        broken = self._risk.breaker
        if broken is not None:
            return self._enter_mode(RiskMode.REDUCING, RISK, broken, at)
        return self.change_mode(RiskMode.ACTIVE, FEED, why, at)

    def _let_in(self, by: str, why: str, at: int) -> ModeChange | None:
        change = self.change_mode(RiskMode.ACTIVE, by, why, at)
        if self._unsure:  # not even for the symbols that are left of a bar
            self.hold_entries(self._unsure, at)
        return change

    def _reduced_by(self, *who: str) -> bool:
        change = self._risk.change
        return self.mode is RiskMode.REDUCING and change is not None and change.by in who

    def change_mode(
        self, mode: RiskMode, by: str, why: str, at: int, *, flatten: bool = True
    ) -> ModeChange | None:
        """Change what risk allows at market time ``at`` (ms); None if it is so already.

        KILLED and HALTED close what is open, unless told not to ``flatten``; all but ACTIVE
        withdraw entries on their way.
        """
        if mode is self.mode:
            return None
        return self._enter_mode(mode, by, why, at, flatten=flatten)

    def _enter_mode(
        self, mode: RiskMode, by: str, why: str, at: int, *, flatten: bool = True
    ) -> ModeChange:
        if self._risk.change is not None:  # the ledger tells changes apart by their instant
            at = max(at, self._risk.change.at + 1)
        change = ModeChange(self.settings.account, at, mode, by, why)
        records: list[Any] = []
        reason = {RiskMode.KILLED: ExitReason.KILL, RiskMode.HALTED: ExitReason.RISK}.get(mode)
        orders = self._shut(records, change, reason if flatten else None)
        send = self._send if mode is RiskMode.ACTIVE else self._send_regardless
        send(records, orders)
        return change

    def flatten(self, at: int, reason: ExitReason = ExitReason.MANUAL) -> list[Order]:
        """Close every position at the market and return the orders.

        So is what an entry has filled that no bar has told of: the broker closes it.
        """
        records: list[Any] = []
        code = Reason.KILLED if self.mode is RiskMode.KILLED else Reason.BREAKER
        for order in self._entries():
            if self._dispatch.is_filled(order) is not False:
                self._withdraw(records, order, at, code, "everything is closed", reason.value)
        orders = self._exits(reason, at)
        self._send_regardless(records, orders)
        return orders

    def close(self, reflection: Reflection, at: int) -> Order:
        """Close the position a reflection is about, at the market; both go into one append.

        Raises
        ------
        UsageError : if nothing is open there, or it is being closed already.
        """
        symbol = reflection.symbol
        position = self._account.position(symbol)
        if position is None or position.decision_id != reflection.decision_id:
            raise UsageError("close", "needs an open position", symbol)
        if closing(self._broker.open_orders(), symbol):
            raise UsageError("close", "is on its way already", symbol)
        order = exit_order(self._desk, position, ExitReason.MANUAL, at)
        records: list[Any] = []
        self._take(records, reflection)
        self._send(records, [order])
        return order

    def note(self, record: OperatorReport | Reflection | RiskEvent | ExternalTrade) -> None:
        """Write down a row that comes from outside."""
        records: list[Any] = []
        self._take(records, record)
        self._scribe.commit(records)

    def shutdown(self, at: int) -> list[Order]:
        """Do what ``on_shutdown`` says."""
        if self.settings.on_shutdown == "keep":
            return []
        return self.flatten(at, ExitReason.SHUTDOWN)

    # Writing down

    def _take(self, records: list[Any], record: Any) -> ClosedTrade | Outcome | None:
        records.append(record)
        return self._enter(record)

    def _send(self, records: list[Any], orders: Sequence[Order]) -> None:
        # On the ledger first: an order that was sent is always known.
        self._write(records, orders)
        self._scribe.commit(self._dispatch.send(orders))

    def _send_regardless(self, records: list[Any], orders: Sequence[Order]) -> None:
        """Send what makes the account safer even where it cannot be written down now."""
        try:
            self._write(records, orders)
        except Exception as error:
            self._put_aside(records, error)  # before they leave: a crash must not make them foreign
            self._dispatch.send(orders)
            raise
        self._scribe.commit(self._dispatch.send(orders))

    def _put_aside(self, records: Sequence[Any], error: Exception) -> None:
        if self._aside is None:
            return
        try:
            self._aside.put(records)
        except (OSError, LedgerError) as worse:  # closing matters more than knowing of it
            error.add_note(f"nor could it be put aside: {worse}")

    def _write(self, records: list[Any], orders: Sequence[Order]) -> None:
        for order in orders:
            self._take(records, order)
        self._scribe.commit(records)

    def _shut(
        self, records: list[Any], change: ModeChange, reason: ExitReason | None
    ) -> list[Order]:
        self._take(records, change)
        code = Reason.KILLED if change.mode is RiskMode.KILLED else Reason.BREAKER
        if change.mode is not RiskMode.ACTIVE:
            for order in self._entries():
                if reason is None and self._dispatch.is_filled(order):
                    continue  # it is a position, and those stay
                rule = "mode must be ACTIVE"
                self._withdraw(records, order, change.at, code, rule, change.mode.value)
        return [] if reason is None else self._exits(reason, change.at)

    def _entries(self) -> list[Order]:
        """Return the entries that may fill: those at the broker, and those in doubt."""
        known = [*self._broker.open_orders(), *self._dispatch.entries()]
        return list({order.id: order for order in known if not order.reduce_only}.values())

    def _withdraw(
        self, records: list[Any], order: Order, at: int, code: Reason, rule: str, value: str
    ) -> None:
        self._broker.cancel(order.id)
        self._dispatch.give_up(order)
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
