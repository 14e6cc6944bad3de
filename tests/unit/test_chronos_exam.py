"""The examination that Chronos sits on stored bars before it speaks."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agents.artifacts import FolderStore
from agents.chronos import Chronos, ChronosConfig
from agents.chronos_exam import examine
from agents.chronos_models import SHIPPED, choose
from agents.chronos_network import ChronosNetwork
from agents.chronos_views import TIMEFRAMES
from domain.errors import ModelError
from tests.agents_world import market, with_gap
from tests.neural_models import change_config

FIVE = ("5m", "15m", "30m", "1h")
HEAD = "output_patch_embedding.{}_layer.{}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return FolderStore(tmp_path_factory.mktemp("models"))  # holds none: what ships is used


@pytest.fixture(scope="module")
def shipped(store):
    return store.open("chronos").folder


@pytest.fixture(scope="module")
def bars():
    return market(3_300, seed=4)


def answering(shipped, folder, factor):
    """A copy of what ships whose last layer is multiplied by ``factor``."""
    shutil.copytree(shipped, folder)
    weights = load_file(folder / "model.safetensors")
    for name in (HEAD.format(a, b) for a in ("output", "residual") for b in ("weight", "bias")):
        weights[name] = weights[name] * np.float32(factor)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_exam_when_bars_suffice_then_the_last_fifth_is_forecast_and_coverage_told(shipped, bars):
    network = ChronosNetwork(shipped)
    five, quarter, half, hour = examine(network, bars, FIVE)
    assert (five.bars, five.windows, five.ready) == (1000, 200, True)
    assert (quarter.bars, quarter.windows, quarter.ready) == (1000, 200, True)
    assert (half.bars, half.windows) == (550, 110)
    assert (hour.bars, hour.windows) == (275, 55)
    for one in (five, quarter):
        assert 0.5 <= one.coverage_80 <= 0.98
        assert f"ready: coverage {one.coverage_80:.2f} of 200 windows" in one.sentence


@pytest.mark.long
def test_exam_when_the_coverage_is_counted_by_hand_then_the_same(shipped, bars):
    network = ChronosNetwork(shipped)
    (found,) = examine(network, bars, ["5m"])
    closes, hits, seen = bars.close, 0, 0
    for at in range(len(bars) - 201, len(bars) - 1):
        said = network.cumulative(closes[None, at - 200 : at + 1], 15)[0]
        for step in (1, 3, 5, 10, 15):
            if at + step < len(bars):
                moved = np.log(closes[at + step] / closes[at])
                hits += bool(said[step - 1, 0] <= moved <= said[step - 1, -1])
                seen += 1
    assert found.coverage_80 == pytest.approx(
        np.mean([_share(network, closes, step) for step in (1, 3, 5, 10, 15)]), abs=0.02
    )
    assert found.coverage_80 == pytest.approx(hits / seen)


def _share(network, closes, step):
    ends = np.arange(len(closes) - 201, len(closes) - 1 - step)
    said = network.cumulative(closes[ends[:, None] + np.arange(-200, 1)], 15)[:, step - 1]
    moved = np.log(closes[ends + step] / closes[ends])
    return np.mean((moved >= said[:, 0]) & (moved <= said[:, -1]))


@pytest.mark.parametrize(("n", "ready"), [(249, None), (250, True)])
def test_exam_when_bars_are_few_or_a_gap_is_in_them_then_not_judged(shipped, bars, n, ready):
    network = ChronosNetwork(shipped)
    (short,) = examine(network, bars.slice(len(bars) - n, len(bars)), ["5m"])
    assert (short.ready, short.bars) == (ready, n)
    (after_gap,) = examine(network, with_gap(bars, len(bars) - n - 1, 1), ["5m"])
    assert (after_gap.ready, after_gap.bars) == (ready, n)
    if ready is None:
        assert short.sentence == "BTC/USDT 5m not examined: 249 of 250 bars"


def test_exam_when_history_after_a_forecast_changes_then_only_the_outcome_does(shipped, bars):
    network, ends = ChronosNetwork(shipped), slice(0, 201)
    before = network.cumulative(bars.close[None, ends], 15)
    changed = bars.close.copy()
    changed[201:] *= 2.0
    assert np.array_equal(before, network.cumulative(changed[None, ends], 15))


@pytest.mark.long
@pytest.mark.parametrize(
    ("factor", "told"),
    [(0.0, "outside 0.50–0.98"), (50.0, "outside 0.50–0.98"), (np.nan, "is not finite")],
)
def test_agent_when_a_named_model_fails_then_what_ships_speaks_and_the_card_says_why(
    store, shipped, bars, tmp_path, factor, told
):
    bad = answering(shipped, tmp_path / "bad", factor)
    agent = Chronos.from_store(store, ChronosConfig(model=str(bad), fusion="fixed"))
    assert agent.model.used == str(bad)
    examined = agent.examined([bars])
    assert examined.model.used == SHIPPED
    assert told in examined.card.problem
    assert examined.card.problem.endswith("what ships is used")
    assert examined.timeframes == FIVE


@pytest.mark.long
def test_agent_when_a_named_model_cannot_be_loaded_then_what_ships_speaks(
    store, shipped, bars, tmp_path
):
    bad = change_config(shutil.copytree(shipped, tmp_path / "deeper"), num_layers=3)
    agent = Chronos.from_store(store, ChronosConfig(model=str(bad), fusion="fixed"))
    examined = agent.examined([bars])
    assert examined.model.used == SHIPPED
    assert "must hold every weight" in examined.card.problem


def test_agent_when_what_ships_fails_then_model_error(store, shipped, bars, tmp_path):
    network = ChronosNetwork(answering(shipped, tmp_path / "bad", 0.0))
    agent = Chronos(replace(choose(store), network=network))
    with pytest.raises(ModelError, match="must pass its examination in one timeframe"):
        agent.examined([bars])


def test_agent_when_one_timeframe_fails_then_it_is_left_out_and_named(store, bars):
    still, last = bars.close.copy(), slice(-210, None)
    still[last] = still[-211]  # always within the interval: 5m looks too good, an hour does not
    frozen = replace(
        bars, close=still, open=np.where(still == bars.close, bars.open, still),
        high=np.maximum(bars.high, still), low=np.minimum(bars.low, still),
    )  # fmt: skip
    examined = Chronos.from_store(store).examined([frozen])
    assert "5m" not in examined.timeframes
    assert any(note.startswith("BTC/USDT 5m left out: coverage") for note in examined.card.notes)
    assert set(examined.timeframes) < set(TIMEFRAMES)
