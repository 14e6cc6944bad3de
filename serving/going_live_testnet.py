"""A rehearsal at the exchange's own testnet: its protocol as it is, and money that is none.

Some answers are lost on this side, before an order leaves and after it was answered. Binance's
testnet of perpetuals is its demo trading: https://www.binance.com/en/support/faq/detail/9be58f73e5e14338809e3b705b9687dd
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ccxt

from data.sources.answers import bars_of
from data.sources.exchange import GARBLED
from data.sources.listing import instrument_of
from domain.errors import CheckFailed, DataRefused, ServiceUnreachable, SettingError, UsageError
from domain.market import Bar
from execution.adapters.answers import words_of
from execution.adapters.ccxt_broker import CcxtBroker
from execution.adapters.gateway import Gateway
from execution.adapters.waits import Waits
from serving.going_live_scene import LOSSES, SYMBOL, Rehearsal, Scene, rehearsing
from serving.going_live_venue import RECV_WINDOW_MS, flat, signing_client
from serving.rules import CURRENCY
from serving.settings import Settings

MOST_ORDERS = 400  # twice as many may be sent, and the exchange tells of a thousand at once
_STEP_S = 1.5  # between two looks at what became of an order
_STEP_MS = 60_000
_LAST_BARS = 4  # after the last order: fills may come late
_CLOSINGS = 6  # orders that close what is still held at the end, at most
_ORDER = "/order"  # where orders go


def rehearse_at_testnet(
    settings: Settings, orders: int, seed: int, tick: Callable[[int, int], object],
    sleep: Callable[[float], None] = time.sleep, monotonic: Callable[[], float] = time.monotonic,
) -> Rehearsal:  # fmt: skip
    """Carry out so many small orders at the testnet, half of them entries, and close what is open.

    Parameters
    ----------
    tick : told (done, all).

    Raises
    ------
    SettingError : without a key of the testnet, or for an exchange that has none.
    UsageError : for more orders than the exchange tells of at once.
    ServiceUnreachable : if it does not answer.
    CheckFailed : if its account is not flat, or cannot be made so.
    """
    if orders > MOST_ORDERS:
        raise UsageError("--orders", f"must be at most {MOST_ORDERS} at a testnet", orders)
    client, rng = _client(settings), random.Random(seed)  # noqa: S311 - chooses faults
    gateway = Gateway(client, [SYMBOL], CURRENCY, monotonic=monotonic)
    gateway.open()
    gateway.settle_on_one()
    if not (account := flat(gateway)).ok:
        raise CheckFailed("testnet", f"must have {account.limit}", account.value, account.hint)
    cash, _ = gateway.holdings()
    began = gateway.time()
    lost = _lose_answers(client, random.Random(seed + 1))  # noqa: S311 - chooses faults
    waits = Waits(0.0, (RECV_WINDOW_MS + settings.live.clock_skew_ms) / 1e3, 0.25)
    instrument = instrument_of(client.markets[SYMBOL])
    broker: CcxtBroker = rehearsing(gateway, instrument, waits, monotonic, sleep)

    def step() -> Bar:
        sleep(_STEP_S)
        return _bar_until(client, gateway.time() + _STEP_MS // 60)

    scene = Scene(broker, instrument, cash, gateway.time, step)
    tries = 0
    while scene.sent - scene.unplaced < orders or scene.held:  # what never arrived shows little
        tries += 1
        if tries > 2 * orders + _CLOSINGS:
            why = scene.refusal and f"refused: {scene.refusal.rule} ({scene.refusal.value})"
            raise CheckFailed(
                "testnet", "must take orders and end flat", why or f"{scene.held:f} held",
                "Look at its account: money for small orders, nothing open. Then try again.",
            )  # fmt: skip
        scene.order(rng)
        tick(min(scene.sent, orders), orders)
    scene.wait(_LAST_BARS)
    mine = [row for row in _orders_since(client, began) if row[0].split("-")[0] in scene.names]
    known = {fill.order_id for fill in scene.fills}
    names = [name for name, _ in mine]
    wallet, _ = gateway.holdings()
    return Rehearsal(
        scene.sent, len(lost), scene.unplaced, len(names) - len(set(names)),
        sum(name.split("-")[0] not in known for name, filled in mine if filled),
        wallet - scene.cash,
    )  # fmt: skip


def _client(settings: Settings) -> Any:
    data, live = settings.data, settings.live
    if live.testnet_api_key is None or live.testnet_api_secret is None:
        raise SettingError(
            "TESTNET_API_KEY", "must be set together with TESTNET_API_SECRET", None,
            "Make a key at the exchange's testnet (Binance: demo.binance.com), and set both in "
            "the environment.",
        )  # fmt: skip
    client = signing_client(
        data.exchange, live.testnet_url, live.testnet_api_key, live.testnet_api_secret
    )
    if live.testnet_url is None:
        client.enable_demo_trading(True)
    return client


def _lose_answers(client: Any, rng: random.Random) -> list[str]:
    """Let some orders go lost on their way there, and some answers on their way back."""
    lost, send = list[str](), client.fetch

    def fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        ordering = method == "POST" and url.split("?")[0].endswith(_ORDER)
        chance = rng.random() if ordering else 1.0
        if chance < LOSSES[0]:
            lost.append("there")
            raise ccxt.RequestTimeout("lost on the way there")
        answer = send(url, method, headers, body)
        if chance < LOSSES[1]:
            lost.append("back")
            raise ccxt.RequestTimeout("lost on the way back")
        return answer

    client.fetch = fetch
    return lost


def _bar_until(client: Any, end_ms: int) -> Bar:
    """Return a bar of a minute that ends at an instant, with the newest prices."""
    last = _asked(lambda: bars_of(client.fetch_ohlcv(SYMBOL, "1m", limit=1), SYMBOL, "1m")).bar(-1)
    prices = (last.open, last.high, last.low, last.close)
    return Bar(SYMBOL, "1m", end_ms - _STEP_MS, *prices, last.volume)


def _orders_since(client: Any, since: int) -> list[tuple[str, Decimal]]:
    """Return (client id, filled quantity) of every order that the exchange has since an instant."""
    rows = _asked(lambda: client.fetch_orders(SYMBOL, since=since, limit=1_000))
    return [(str(row["clientOrderId"]), Decimal(str(row["filled"] or 0))) for row in rows]


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ccxt.BaseError as error:
        raise ServiceUnreachable("testnet", "must answer", words_of(error)) from error
    except (DataRefused, *GARBLED) as error:
        why = type(error).__name__
        raise ServiceUnreachable("testnet", "must answer what can be read", why) from error
