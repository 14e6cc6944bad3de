"""The TFT as an agent: the laws, when it sleeps, what it names, and which artifacts it refuses."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.artifacts import Artifact, FolderStore, load
from agents.checks import check_agent, check_blindness
from agents.contract import sleep_reason
from agents.tft import KNOWN, NAME, Tft, TftInputs
from agents.training.tft import PAST
from domain.errors import ModelError
from tests.agents_world import market, states_of, with_gap
from tests.neural_models import END, TARGETS

FIRST = 288 + 59 - 1  # row of the first bar after a gap that is spoken about
GAP = 700


@pytest.fixture(scope="module")
def store(tft_root):
    return FolderStore(tft_root)


@pytest.fixture(scope="module")
def agent(store):
    return Tft.from_store(store)


@pytest.fixture(scope="module")
def bars():
    return with_gap(market(1500, seed=11, drift=3e-4), GAP, 4)


@pytest.fixture(scope="module")
def states(agent, bars):
    return states_of(agent, bars)


@pytest.fixture(scope="module")
def opinions(agent, states):
    """What it says at once about the last bars."""
    return agent.opine(states[-60:])


@pytest.mark.long
def test_tft_when_checked_then_it_obeys_the_laws(agent, states):
    check_agent(agent, states[GAP + FIRST - 6 : GAP + FIRST + 10])


def test_tft_when_the_future_is_scrambled_or_cut_then_nothing_changes(agent, bars):
    check_blindness(agent, bars, lambda x: states_of(agent, x), [GAP - 1, GAP + FIRST, 1400])


def test_tft_when_opined_then_one_voice_with_all_it_owes(agent, opinions):
    assert {o.agent for o in opinions} == {NAME}
    assert {o.model_version for o in opinions} == {agent.version}
    for opinion in opinions:
        assert 0 < opinion.p_up < 1
        assert opinion.horizon_bars == agent.horizon_bars == 5
        assert (np.diff(opinion.quantiles.values) > 0).all()
        assert 0 < opinion.risk_down < 1
        assert 0 < opinion.risk_up < 1
        assert np.sign(opinion.expected_return) == np.sign(opinion.p_up - 0.5)
    assert len({o.p_up for o in opinions}) == len(opinions)
    assert (agent.trained_until, agent.trained_on) == (END, ("BTC/USDT", "5m"))


def test_tft_when_it_explains_itself_then_variables_it_read_and_shares(opinions):
    for opinion in opinions:
        shares = opinion.evidence["variables"]
        assert set(shares) <= {*KNOWN, *PAST["trend"]}
        assert len(shares) == 3
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert 0 < sum(shares.values()) <= 1
        assert 0 <= opinion.evidence["attention_last_12"] <= 1
        assert opinion.evidence["sigma"] > 0
        told = opinion.rationale.partition("it reads ")[2].partition(", and the last hour")[0]
        named = re.findall(r"(\w+) (\d+)%", told)
        assert named == [(name, f"{share:.0%}"[:-1]) for name, share in shares.items()]
        assert f"{opinion.p_up:.1%} for up" in opinion.rationale


def test_tft_when_a_gap_was_then_asleep_until_288_bars_and_a_window(agent, states):
    awake = [sleep_reason(o) is None for o in agent.opine(states[GAP - 2 : GAP + FIRST + 3])]
    assert awake == [True] * 2 + [False] * FIRST + [True] * 3
    early = agent.opine(states[FIRST - 2 : FIRST + 2])
    assert [sleep_reason(o) for o in early] == ["data_gap"] * 2 + [None] * 2


def test_tft_when_a_feature_is_missing_in_the_window_then_asleep_until_it_has_passed(agent, states):
    def without(state, rows_back):
        values = state.features.values.copy()
        column = state.features.names.index(PAST["risk"][-1])  # of one head; it silences all
        values[-1 - rows_back, column] = np.nan
        return replace(state, features=replace(state.features, values=values))

    at = states[-1]
    assert sleep_reason(agent.opine([without(at, 0)])[0]) == "data_gap"
    assert sleep_reason(agent.opine([without(at, 59)])[0]) == "data_gap"
    longer = states_of(Longer(agent), at.bars)[-1]  # with a row more than it reads
    assert agent.opine([without(longer, 60)]) == agent.opine([longer])
    assert sleep_reason(agent.opine([longer])[0]) is None


class Longer:
    """What an agent needs, and one feature row more."""

    def __init__(self, agent):
        self.needs = replace(agent.needs, feature_rows=agent.needs.feature_rows + 1)


def test_tft_when_a_column_that_no_head_reads_is_missing_then_nothing_changes(agent, states):
    state = states[-1]
    values = state.features.values.copy()
    read = {name for columns in PAST.values() for name in columns}
    unread = [k for k, name in enumerate(state.features.names) if name not in read]
    values[:, unread] = np.nan
    blind = replace(state, features=replace(state.features, values=values))
    assert agent.opine([blind]) == agent.opine([state])


def renamed(state, symbol):
    return replace(state, symbol=symbol, bars=replace(state.bars, symbol=symbol))


def said(opinion):
    return opinion.p_up, opinion.quantiles, opinion.risk_down, opinion.risk_up


def test_tft_when_symbols_differ_then_a_perpetual_is_its_pair_and_a_stranger_class_0(agent, states):
    names = ("BTC/USDT", "BTC/USDT:USDT", "DOGE/USDT", "XRP/USDT:USDT")
    spot, perp, doge, xrp = (said(agent.opine([renamed(states[-1], n)])[0]) for n in names)
    assert perp == spot
    assert doge == xrp != spot


def test_inputs_when_asked_for_a_symbol_then_its_class_or_0(store):
    inputs = TftInputs.from_json(store.open("tft/trend").params()["inputs"])
    assert inputs.symbols == ("?", "BTC/USDT")
    names = ("BTC/USDT", "BTC/USDT:USDT", "DOGE/USDT", "?")
    assert [inputs.symbol(n) for n in names] == [1, 1, 0, 0]


def test_inputs_when_scaled_then_clipped_at_4_and_nan_stays(store):
    inputs = TftInputs.from_json(store.open("tft/risk").params()["inputs"])
    rows = np.stack((inputs.mean + 2 * inputs.sd, inputs.mean - 99 * inputs.sd, inputs.mean))
    rows[2, 0] = np.nan
    scaled = inputs.scaled(rows)
    assert scaled.dtype == np.float32
    assert scaled[0] == pytest.approx(2.0)
    assert (scaled[1] == -4).all()
    assert np.isnan(scaled[2, 0])
    assert (scaled[2, 1:] == 0).all()


def test_inputs_when_written_and_read_then_the_same(store):
    body = store.open("tft/trend").params()["inputs"]
    assert TftInputs.from_json(json.loads(json.dumps(body))).to_json() == body


def with_inputs(artifact: Artifact, **fields: object) -> Artifact:
    """The artifact with other fields in the inputs of its params; None removes one."""
    params = artifact.params()
    inputs = {k: v for k, v in (params["inputs"] | fields).items() if v is not None}
    return with_file(artifact, "params.json", json.dumps(params | {"inputs": inputs}).encode())


def with_file(artifact: Artifact, name: str, body: bytes | None) -> Artifact:
    contents = {k: v for k, v in artifact.contents.items() if k != name}
    return replace(artifact, contents=contents if body is None else contents | {name: body})


def built(store: FolderStore, **changed: Artifact) -> Tft:
    return Tft(*(changed.get(t) or store.open(f"tft/{t}") for t in TARGETS))


BROKEN = {
    "no graph": (lambda a: with_file(a, "model.onnx", None), "must hold model.onnx"),
    "no params": (lambda a: with_file(a, "params.json", None), "must hold params.json"),
    "no past": (lambda a: with_inputs(a, past=None), "lack a field.*past"),
    "no inputs": (lambda a: with_file(a, "params.json", b'{"drift": 0.3}'), "lack a field"),
    "text as a number": (lambda a: with_inputs(a, horizon="soon"), "have a bad one"),
    "too few means": (lambda a: with_inputs(a, mean=[0.0]), "need 10 finite means"),
    "no deviation": (lambda a: with_inputs(a, sd=[0.0] * 10), "deviations > 0"),
    "nan mean": (lambda a: with_inputs(a, mean=[float("nan")] * 10), "finite means"),
    "another horizon": (lambda a: with_inputs(a, horizon=6), r"shapes .*'forecast': \[1, 6, 13\]"),
    "no such calendar": (lambda a: with_inputs(a, known=["tide"] * 4), "know the calendar by"),
    "fewer columns": (
        lambda a: with_inputs(a, past=["ret_0"], mean=[0.0], sd=[1.0]), "must be of the shapes",
    ),
    "a longer window": (lambda a: with_inputs(a, encoder=72), "must be of the shapes"),
    "no graph in it": (lambda a: with_file(a, "model.onnx", b"not a graph"), "must be a graph"),
    "a cut graph": (
        lambda a: with_file(a, "model.onnx", a.contents["model.onnx"][:-900]), "must be a graph",
    ),
}  # fmt: skip


def with_params(artifact: Artifact, **fields: object) -> Artifact:
    body = json.dumps({**artifact.params(), **fields}).encode()
    return with_file(artifact, "params.json", body)


def test_trend_when_trained_then_it_is_as_sure_as_the_held_out_days_allow(store, states):
    artifact = store.open("tft/trend")
    slope = artifact.card.metrics["walk_forward"]["slope"]
    assert artifact.params()["shrink"] == min(max(slope, 0.0), 1.0)
    chances = []
    for by in (1.0, 0.25):
        said = built(store, trend=with_params(artifact, shrink=by)).opine(states[-8:])
        chances.append(np.array([opinion.p_up for opinion in said]))
    full, quarter = (np.log(p / (1.0 - p)) for p in chances)
    assert quarter == pytest.approx(full / 4.0, abs=1e-9)


@pytest.mark.parametrize(("broken", "rule"), BROKEN.values(), ids=BROKEN)
def test_tft_when_an_artifact_is_not_what_it_must_be_then_model_error(store, broken, rule):
    with pytest.raises(ModelError, match=rule):
        built(store, **{"return": broken(store.open("tft/return"))})


def test_tft_when_a_graph_gives_other_outputs_then_model_error(store):
    trend = store.open("tft/trend").contents["model.onnx"]
    with pytest.raises(ModelError, match=r"'forecast': \[1, 5, 13\].*got .*\[1, 5, 1\]"):
        built(store, **{"return": with_file(store.open("tft/return"), "model.onnx", trend)})


def test_tft_when_card_and_network_have_two_horizons_then_model_error(store):
    artifact = store.open("tft/return")
    card = replace(artifact.card, horizon_bars=3)
    with pytest.raises(ModelError, match="one horizon"):
        built(store, **{"return": replace(artifact, card=card)})


def test_tft_when_a_target_lies_in_another_one_s_place_then_model_error(store):
    with pytest.raises(ModelError, match="must be of the target risk"):
        built(store, risk=store.open("tft/trend"))


def test_tft_when_a_file_is_changed_or_missing_then_model_error(store, tmp_path):
    folder = shutil.copytree(store.open("tft/trend").folder, tmp_path / "copy")
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ModelError, match="sha256"):
        load(folder)
    graph.unlink()
    with pytest.raises(ModelError, match="missing"):
        load(folder)


SERVE = """
import sys
from pathlib import Path
from agents.artifacts import FolderStore
from agents.tft import Tft
from tests.agents_world import market, states_of
agent = Tft.from_store(FolderStore(Path(sys.argv[1])))
opinion = agent.opine([states_of(agent, market(400))[-1]])[0]
heavy = {"torch", "lightning", "pytorch_forecasting", "chronos", "transformers"}
print(opinion.p_up, sorted(heavy & set(sys.modules)))
"""


@pytest.mark.long
def test_tft_when_it_only_serves_then_no_library_for_training_is_imported(tft_root):
    done = subprocess.run(
        [sys.executable, "-c", SERVE, tft_root], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    p, loaded = done.stdout.split(" ", 1)
    assert 0 < float(p) < 1
    assert loaded.strip() == "[]"
