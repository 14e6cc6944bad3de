"""The exchange's account that live orders go to: its connection, what it must be like, its broker.

Keys come from the settings, which have them from the environment alone, and go into the client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog
from pydantic import SecretStr

from data.sources.exchange import connect
from domain.errors import SettingError
from domain.market import Instrument, symbol_on
from domain.ports import Clock
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.guard import Bounds, LastGuard
from execution.adapters.user_stream import UserStream
from execution.adapters.waits import Waits
from serving.broker_health import BrokerHealth
from serving.going_live import LIVE_ACCOUNT
from serving.going_live_conditions import Condition
from serving.rules import CURRENCY
from serving.settings import Settings

log = structlog.get_logger("live")

RECV_WINDOW_MS = 5_000  # after which the exchange takes no request any more
_TIMEOUT_MS = 5_000
_STREAM = "wss://fstream.binance.com"
_FSTREAM = "/fstream"  # where another server has the streams of perpetuals


def gateway_of(settings: Settings, more: Iterable[str] = ()) -> Gateway:
    """Return the connection to the account that settings name; asks nothing yet.

    Parameters
    ----------
    more : symbols to look at beside those that are traded.

    Raises
    ------
    SettingError : without a key, or for an exchange or a market that is not traded live.
    """
    data, live = settings.data, settings.live
    if live.exchange_api_key is None or live.exchange_api_secret is None:
        raise SettingError(
            "EXCHANGE_API_KEY and EXCHANGE_API_SECRET", "must be set for real orders", None,
            "Set them in the environment; a key that may trade and not withdraw.",
        )  # fmt: skip
    if settings.execution.market != "perp":
        rule = "must be perp for live orders: spot's fees leave parts that cannot be sold"
        raise SettingError("EXECUTION_MARKET", rule, settings.execution.market)
    client = signing_client(
        data.exchange, data.exchange_url, live.exchange_api_key, live.exchange_api_secret
    )
    traded = [symbol_on(symbol, "perp") for symbol in data.symbols]
    return Gateway(client, dict.fromkeys([*traded, *more]), CURRENCY)


def signing_client(exchange: str, url: str | None, key: SecretStr, secret: SecretStr) -> Any:
    """Return a ccxt client of perpetuals that signs what it asks.

    Raises
    ------
    SettingError : for an exchange that is not traded live.
    """
    if not exchange.startswith("binance"):
        rule = "must be binance for live orders: its answers are what is understood"
        raise SettingError("EXCHANGE", rule, exchange)
    client = connect(exchange, "perp", url, _TIMEOUT_MS)
    client.apiKey, client.secret = key.get_secret_value(), secret.get_secret_value()
    client.options["recvWindow"] = RECV_WINDOW_MS
    return client


def stream_address(settings: Settings) -> Callable[[str], str]:
    """Return where a listen key's stream is."""
    url = settings.data.exchange_url
    base = _STREAM if url is None else url.replace("http", "ws", 1) + _FSTREAM
    return lambda key: f"{base}/private/ws?listenKey={key}"


def account_conditions(gateway: Gateway, settings: Settings, clock: Clock) -> Iterator[Condition]:
    """Iterate over what the account and its key must be like; asks the exchange.

    Raises
    ------
    ServiceUnreachable : if it does not answer.
    """
    rights = gateway.rights()
    draws = rights is None or rights.get("enableWithdrawals", True)
    value = "the exchange does not tell" if rights is None else f"may{' ' if draws else ' not '}"
    yield Condition(
        "no withdrawals", not draws, value if rights is None else f"{value}withdraw",
        "may not withdraw", "Make another key at the exchange, without that right.",
    )  # fmt: skip
    trades = rights is not None and rights.get("enableFutures", False)
    yield Condition(
        "may trade", trades, "may trade" if trades else "may not trade", "may trade perpetuals",
        "Allow futures for the key at the exchange.",
    )  # fmt: skip
    skew = _skew(gateway, clock)
    yield Condition(
        "clock", abs(skew) <= settings.live.clock_skew_ms, f"{skew:+d} ms",
        f"within {settings.live.clock_skew_ms:g} ms", "Set this machine's clock (NTP).",
    )  # fmt: skip
    yield flat(gateway)


def flat(gateway: Gateway) -> Condition:
    """Return whether an account holds nothing of what is traded, and has no order there.

    Raises
    ------
    ServiceUnreachable : if the exchange does not answer.
    """
    held = {symbol: qty for symbol, qty in gateway.positions().items() if qty}
    orders = gateway.open_orders()
    told = ", ".join(f"{symbol} {qty:f}" for symbol, qty in held.items()) or "flat"
    return Condition(
        "flat account", not held and not orders, f"{told}, {orders} open orders",
        "no position and no open order in what is traded", "Close them at the exchange.",
    )  # fmt: skip


def _skew(gateway: Gateway, clock: Clock) -> int:
    before = clock.now()
    theirs = gateway.time()
    return theirs - (before + clock.now()) // 2


@dataclass(frozen=True, slots=True)
class LiveBroker:
    """A broker with what stands behind it.

    Attributes
    ----------
    cash : of the account now; what a ledger without a past begins with.
    """

    broker: CcxtBroker
    stream: UserStream
    cash: Decimal
    health: BrokerHealth


def signed_in(settings: Settings, clock: Clock) -> Gateway:
    """Connect to the account that settings name, and return the connection.

    Raises
    ------
    SettingError : if the key may withdraw, may not trade, or this machine's clock is off.
    ServiceUnreachable : if the exchange does not answer.
    """
    gateway = gateway_of(settings)
    gateway.open()
    for one in account_conditions(gateway, settings, clock):
        if not one.ok and one.name != "flat account":  # a restart finds its own positions
            raise SettingError(f"live: {one.name}", f"must be: {one.limit}", one.value, one.hint)
    return gateway


def live_broker(
    gateway: Gateway, settings: Settings, instruments: Mapping[str, Instrument],
    allowed: Callable[[], str], **more: Any,
) -> LiveBroker:  # fmt: skip
    """Return the broker of an account, listening to its stream.

    Parameters
    ----------
    gateway : of :func:`signed_in`.
    allowed : why nothing may be opened now, empty if it may.

    Raises
    ------
    SettingError : if the account hedges.
    ServiceUnreachable : if the exchange does not answer.
    """
    listening, live = gateway_of(settings), settings.live
    gateway.settle_on_one()
    bounds = Bounds(
        Decimal(str(live.live_order_notional)), Decimal(str(live.live_symbol_notional)),
        Decimal(str(live.live_account_notional)), live.live_orders_per_minute,
        Decimal(str(live.live_band_bps)),
    )  # fmt: skip
    stream = UserStream(listening, stream_address(settings))
    waits = Waits(live.answer_patience_s, (RECV_WINDOW_MS + live.clock_skew_ms) / 1_000)
    broker = CcxtBroker(
        gateway, instruments, LastGuard(bounds, allowed, time.monotonic), account=LIVE_ACCOUNT,
        news=stream, waits=waits, **more,
    )  # fmt: skip
    stream.start()
    cash, _ = gateway.holdings()
    return LiveBroker(broker, stream, cash, BrokerHealth(gateway.reach, stream.health))
