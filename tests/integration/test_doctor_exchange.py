"""What ``conclave doctor`` says of the exchange, which here is one on this machine."""

from __future__ import annotations

from pathlib import Path

from serving.commands.common import settings_from
from serving.doctor import Finding
from serving.examination import examine
from tests.relay import free_port
from tests.venue_server import Faults, venue


def exchange_in(folder: Path, url: str, *more: str) -> Finding:
    sets = [f"VAR_DIR={folder}", f"EXCHANGE_URL={url}", "models.agents=climatology", *more]
    found = examine(settings_from("exercise", None, sets))
    [exchange] = [finding for finding in found if finding.name == "exchange"]
    return exchange


def test_doctor_when_the_exchange_answers_then_it_says_how_fast(tmp_path: Path) -> None:
    with venue() as url:
        found = exchange_in(tmp_path, url)
    assert found.ok
    assert found.detail.startswith("binance answers in ")


def test_doctor_when_it_does_not_then_that_is_a_fault_only_where_orders_are_real(
    tmp_path: Path,
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert exchange_in(tmp_path, nobody).ok is None
    needed = exchange_in(tmp_path, nobody, "LIVE_MODE=true", "PAPER_MODE=false")
    assert needed.ok is False
    assert "Real orders need it" in needed.hint
    with venue(Faults(next=[500] * 9)) as url:
        assert "must tell its time" in exchange_in(tmp_path, url).detail
