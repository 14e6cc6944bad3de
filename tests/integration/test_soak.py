"""Hours of a market in seconds, with faults of every kind all the time: nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domain.decision import Decision
from domain.market import Bar
from serving.cli import run as conclave
from sim.venue.faults.schedule import schedule_of
from tests.live_stage import Stage, holes, lived
from tests.venue_server import BTC

pytestmark = pytest.mark.timeout(600)

PERP = f"{BTC}:USDT"
TROUBLE = {
    "random": {"every_s": 0.8, "longest_s": 1.2, "seed": 7, "classes": ["stream", "rest"]},
}  # fmt: skip
COUNCIL = (
    "EXECUTION_MARKET=perp", "models.agents=climatology,microstructure",
    "feed.start_criteria=false", "execution.stop_atr=0.3", "execution.target_atr=0.3",
)  # fmt: skip


def test_desk_when_something_goes_wrong_all_the_time_then_no_bar_is_lost_and_all_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path / "var", schedule=schedule_of(TROUBLE, "trouble"), speed=300.0)
    stage.open()
    try:
        lived(stage.desk("exercise", *COUNCIL), 120)
    finally:
        stage.close()
    for symbol in (BTC, PERP):
        assert holes(stage.rows(Bar, symbol=symbol)) == [], symbol
    bars, made = stage.rows(Bar, symbol=BTC), stage.rows(Decision)
    assert [one.as_of for one in made] == [bar.close_ms for bar in bars]
    spot = stage.markets.tape(stage.markets.listing("spot", "BTCUSDT"))
    own = spot.bars("1m", bars[0].open_ms, len(bars), bars[-1].close_ms + 60_000)
    for name in ("open", "high", "low", "close", "volume"):
        assert [getattr(bar, name) for bar in bars] == getattr(own, name).tolist(), name
    assert stage.ledger().verify().rows == stage.ledger().head()[0]
    capsys.readouterr()
    code = conclave(["parity", "--json", "--set", f"VAR_DIR={stage.var_dir}"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["same"], told["exact"]) == (0, True, True)
