import socket

import httpx
import pytest

from domain.errors import SettingError
from serving.counters import Counters
from serving.desk_health import STILL_SECONDS, desk_health


def test_health_when_the_desk_moves_then_it_is_live_and_figures_are_told():
    counters = Counters()
    counters.aged("BTC/USDT", 3.0)
    with desk_health("127.0.0.1", 0, lambda: 0.25, counters.text) as url:
        live = httpx.get(f"{url}/health/live")
        figures = httpx.get(f"{url}/metrics")
        assert httpx.get(f"{url}/elsewhere").status_code == 404
    assert (live.status_code, live.json()) == (200, {"status": "ok", "idle_seconds": 0.2})
    assert 'conclave_data_age_seconds{symbol="BTC/USDT"} 3.0' in figures.text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/live")


def test_health_when_the_desk_hangs_then_it_says_so():
    with desk_health("127.0.0.1", 0, lambda: STILL_SECONDS, str) as url:
        reply = httpx.get(f"{url}/health/live")
    assert (reply.status_code, reply.json()["status"]) == (503, "still")
    assert reply.headers["retry-after"] == "2"


def test_health_when_callers_are_slow_then_others_are_answered():
    with desk_health("127.0.0.1", 0, lambda: 0.0, str) as url:
        port = httpx.URL(url).port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        assert httpx.get(f"{url}/health/live", timeout=20.0).status_code == 200
        for one in silent:
            one.close()


def test_health_when_no_port_is_set_then_nobody_listens():
    with desk_health("127.0.0.1", None, lambda: 0.0, str) as url:
        assert url is None


def test_health_when_the_port_is_taken_then_the_setting_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingError, match="DESK_PORT"),
            desk_health("127.0.0.1", port, lambda: 0.0, str),
        ):
            pass
