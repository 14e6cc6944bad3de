"""What live accounts have open by their ledgers, whichever run traded it, and what becomes of it.

Other symbols, bars or horizons make another world with a ledger of its own, and a run looks after
its own world only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine

from domain.errors import ConclaveError, SettingError
from domain.trading import ZERO, Order, Refusal
from serving.going_live import LIVE_ACCOUNT, LiveRecord, account_of, configured
from serving.plan import RunPlan
from serving.settings import Settings
from storage.accounts import list_accounts
from storage.queries import Reader

Open = Mapping[str, Decimal]
"""Symbol → signed quantity, base units; 0 = an entry of which nobody knows whether it fills."""

_NEWEST = 200  # entries that are looked at: one in doubt is its symbol's last


@dataclass(frozen=True, slots=True)
class Told:
    """What the exchange says is held; ``why`` it says nothing, empty if it does."""

    held: Open
    why: str = ""


def open_by_ledger(engine: Engine, world: str) -> Open:
    """Return what the live account of a world has open by its ledger."""
    reader = Reader(engine, world)
    newest: dict[str, Order] = {}
    for _, order in reader.orders(limit=_NEWEST, account=LIVE_ACCOUNT, intent="entry").items:
        newest.setdefault(order.symbol, order)
    doubt = {symbol: ZERO for symbol, order in newest.items() if not _ended(reader, order)}
    return doubt | reader.held(LIVE_ACCOUNT)


def _ended(reader: Reader, entry: Order) -> bool:
    filled = reader.fills_of([entry.id])[entry.id]
    refused = reader.page(
        Refusal, limit=1, account=LIVE_ACCOUNT, decision_id=entry.decision_id, intent=entry.intent
    )
    return bool(filled or refused.items)


def left_alone(engine: Engine, plan: RunPlan) -> dict[str, Open]:
    """Return by world what live accounts have open that a run does not look after."""
    mine = plan.world if plan.execution == "live" else None
    worlds = {each.world for each in list_accounts(engine) if each.kind == LIVE_ACCOUNT}
    found = {world: open_by_ledger(engine, world) for world in sorted(worlds - {mine})}
    return {world: held for world, held in found.items() if held}


def words(held: Open) -> str:
    """Return what is open as people read it."""
    return ", ".join(
        f"{qty:f} {symbol}" if qty else f"an entry of {symbol} that may have filled"
        for symbol, qty in held.items()
    )


def ask_exchange(settings: Settings, symbols: Iterable[str]) -> Told:
    """Ask what the account of the settings' key holds of symbols and of what is traded."""
    from serving.going_live_venue import gateway_of  # it brings an exchange's client

    try:
        gateway = gateway_of(settings, symbols)
        gateway.open()
        return Told({symbol: qty for symbol, qty in gateway.positions().items() if qty})
    except ConclaveError as error:
        return Told({}, error.message)


def refuse_to_leave(
    engine: Engine, plan: RunPlan, settings: Settings, say: Callable[[str], object]
) -> None:
    """Say what a run would leave alone of what live accounts have open.

    Raises
    ------
    SettingError : if the run asks for live orders, and the exchange says that it is held.
    """
    left = left_alone(engine, plan)
    own = open_by_ledger(engine, plan.world) if left else {}
    for world, held in left.items():
        what = f"the live account of world {world} has open {words(held)}"
        hint = (
            "To have it looked after start with LIVE_MODE=true and the SYMBOLS, TIMEFRAME, "
            "PRED_HORIZON_STEPS and key that it was traded with; or close it at the exchange."
        )
        mine = LiveRecord(engine, world).account == account_of(settings)
        told = Told({}, "not asked")
        if mine and configured(settings) and plan.source == "live":
            told = ask_exchange(settings, held)
        there = {
            symbol: rest for symbol, qty in told.held.items()
            if symbol in held and (rest := qty - own.get(symbol, ZERO)) * (held[symbol] or rest) > 0
        }  # fmt: skip
        if there:
            raise SettingError(what, f"no run may leave alone {words(there)}", None, hint)
        if told.why:
            say(
                f"{what} by its ledger (the exchange: {told.why}); this run leaves it alone. {hint}"
            )
