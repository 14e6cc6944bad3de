"""Keys of the venue: what is signed is what is checked, and late or wrong is refused."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.venue.refusals import Refused
from sim.venue.signing import Key, KeyRing, Question

WALL, MARKET = 1_800_000_000_000, 1_700_000_000_000
KEY = Key.made(7)


def ring() -> KeyRing:
    return KeyRing((KEY,), lambda: WALL, lambda: MARKET)


def asked(query: str, body: str = "", key: Key = KEY) -> Question:
    signed = f"{query}&signature={key.signature(query + body)}"
    return Question.sent(key.key, signed, body)


def test_the_vector_of_the_exchange_s_documentation_is_met() -> None:
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
    text = ("symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
            "&timestamp=1499827319559")  # fmt: skip
    signature = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert Key("", secret, "").signature(text) == signature
    one, two = text[:50], text[50:]  # the same in query string and body
    found = Question.sent("", one, f"{two}&signature={signature}")
    assert (found.text, found.signature) == (text, signature)
    assert found.params["quantity"] == "1"


@given(st.text("abcxyz0123456789=&%+.-", max_size=60), st.integers(0, 10**6))
def test_whatever_is_signed_is_admitted_and_nothing_else(extra: str, broken: int) -> None:
    query = f"{extra.replace('signature', '')}&recvWindow=5000&timestamp={WALL}"
    assert ring().signed(asked(query)) is KEY
    known = asked(query)
    place = broken % 64
    digit = "0" if known.signature[place] != "0" else "1"
    forged = known.signature[:place] + digit + known.signature[place + 1 :]
    with pytest.raises(Refused) as told:
        ring().signed(Question(known.key, known.text, forged, known.params))
    assert told.value.code == -1022


@pytest.mark.parametrize(
    ("at", "window", "code"),
    [
        (WALL, "", 0), (WALL - 5_000, "", 0), (WALL - 5_001, "", -1021), (WALL + 1_000, "", 0),
        (WALL + 1_001, "", -1021), (WALL - 59_000, "60000", 0), (WALL, "60001", -1131),
        (MARKET, "", 0), (MARKET - 5_001, "", -1021), (0, "x", -1100),
    ],
)  # fmt: skip
def test_a_timestamp_is_fresh_by_the_wall_s_clock_or_by_the_market_s(
    at: int, window: str, code: int
) -> None:
    query = f"timestamp={at}" + (f"&recvWindow={window}" if window else "")
    if not code:
        assert ring().signed(asked(query)) is KEY
        return
    with pytest.raises(Refused) as told:
        ring().signed(asked(query))
    assert told.value.code == code


def test_what_is_missing_is_named() -> None:
    with pytest.raises(Refused, match="signature"):
        ring().signed(Question.sent(KEY.key, f"timestamp={WALL}", ""))
    with pytest.raises(Refused, match="timestamp"):
        ring().signed(asked("symbol=BTCUSDT"))


def test_a_key_follows_from_its_seed_and_account() -> None:
    assert Key.made(7) == KEY
    assert len({Key.made(7).key, Key.made(8).key, Key.made(7, "other").key}) == 3
    assert hmac.compare_digest(KEY.secret, Key.made(7).secret)
    assert KEY.key != KEY.secret


def test_orders_are_counted_by_spans_of_the_wall_s_clock() -> None:
    now = [1_000_000_000]
    keys = KeyRing((KEY,), lambda: now[0], lambda: MARKET)
    for n in range(1, 51):
        assert keys.count_order("main")["X-MBX-ORDER-COUNT-10S"] == str(n)
    with pytest.raises(Refused) as told:
        keys.count_order("main")
    assert (told.value.status, told.value.code) == (429, -1015)
    assert keys.count_order("other")["X-MBX-ORDER-COUNT-10S"] == "1"
    now[0] += 10_000
    headers = keys.count_order("main")
    assert headers == {"X-MBX-ORDER-COUNT-10S": "1", "X-MBX-ORDER-COUNT-1M": "51",
                       "X-MBX-ORDER-COUNT-1D": "51"}  # fmt: skip
