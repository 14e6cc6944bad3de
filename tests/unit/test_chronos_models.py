"""Which Chronos model is used: by its id, from a folder, or what ships; and what it says."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from agents.artifacts import FolderStore
from agents.chronos_models import HUB, SHIPPED, choose, require_known
from agents.chronos_network import FORM, LEVELS, RETURNS, ChronosNetwork, describe
from agents.chronos_views import AHEAD
from domain.errors import ModelError, UsageError
from tests.local_hub import LocalHub
from tests.neural_models import (
    change_config,
    official_bolt,
    official_chronos2,
    prices,
    save_bolt,
    untrained_bolt,
)

ROOT = Path(__file__).parents[2]
TINY, MINI, SMALL, BASE, TWO = HUB[:5]
QUANTISED = pytest.mark.filterwarnings("ignore:.*quant:UserWarning", "ignore::DeprecationWarning")

ASK = """
import json, sys, time
from pathlib import Path
from agents.artifacts import FolderStore
from agents.chronos_models import choose
for line in sys.stdin:
    began = time.perf_counter()
    chosen = choose(FolderStore(Path(sys.argv[1])), line.strip())
    print(json.dumps({
        "used": chosen.used, "problem": chosen.problem, "identity": chosen.identity,
        "reads": chosen.told()["reads"], "s": time.perf_counter() - began,
        "torch": "torch" in sys.modules,
    }), flush=True)
"""


class Visitor:
    """A process that chooses models; of its own, since a hub's address is read once, at import."""

    def __init__(self, root, home, endpoint, *names):
        home.mkdir()
        self._log = home / "log"
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        kept.pop("HF_HUB_OFFLINE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", ASK, str(root)], cwd=ROOT, text=True,
            env=kept | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log.open("w"),
        )  # fmt: skip
        self.ask(*names)

    def ask(self, *names):
        self._process.stdin.write("".join(f"{name}\n" for name in names))
        self._process.stdin.flush()

    def answer(self):
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return json.loads(line)

    def leave(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of our form, untrained."""
    return untrained_bolt(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def root(folder, tmp_path_factory):
    """A folder of models in which it is the version in use."""
    made = tmp_path_factory.mktemp("models")
    save_bolt(made, folder, {"horizon_bars": 5})
    return made


@pytest.fixture(scope="module")
def store(root):
    return FolderStore(root)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return official_bolt(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def chronos2(tmp_path_factory):
    return official_chronos2(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def networks(folder, official, chronos2):
    """One of each kind."""
    places = {"ours": folder, "official bolt": official, "chronos 2": chronos2}
    return {kind: ChronosNetwork(place) for kind, place in places.items()}


@pytest.fixture(scope="module", autouse=True)
def visits(root, official, tmp_path_factory):
    """A hub and visitors to it, to a closed port and to a mute one; they run beside the tests."""
    home = tmp_path_factory.mktemp("hub")
    wrong = {MINI: "missing", SMALL: "broken", BASE: "cut"}
    hub = LocalHub({TINY: official, BASE: official}, wrong)
    with hub.running(), socket.create_server(("127.0.0.1", 0)) as mute, free_port() as closed:
        places = {"hub": hub.url, "nobody": f"http://127.0.0.1:{closed}",
                  "silent": f"http://127.0.0.1:{mute.getsockname()[1]}"}  # fmt: skip
        names = {"hub": (TINY, TINY, MINI, SMALL, BASE), "nobody": (TINY,), "silent": (TWO,)}
        visitors = {k: Visitor(root, home / k, url, *names[k]) for k, url in places.items()}
        yield hub, home, visitors
        for visitor in visitors.values():
            visitor.leave()


class free_port:  # noqa: N801 # reads as a function
    """A port that is taken and on which nobody listens."""

    def __enter__(self):
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        return self._socket.getsockname()[1]

    def __exit__(self, *_):
        self._socket.close()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("amazon/chronos-bolt-medium", "amazon/chronos-bolt-small"),
        ("amazon/chronos-bolt-large", "amazon/chronos-bolt-base"),
        ("amazon/chronos-bolt-tinny", TINY), ("amazon/chronos2", TWO), ("shiped", TINY),
    ],
)  # fmt: skip
def test_model_when_an_id_does_not_exist_then_did_you_mean(store, wrong, meant):
    with pytest.raises(UsageError, match="hub id that exists") as caught:
        choose(store, wrong)
    assert f'Did you mean "{meant}"?' in str(caught.value.hint)
    for known in HUB:
        assert known in caught.value.hint


def test_model_when_named_in_any_known_way_then_taken_as_it_is(folder):
    for name in (SHIPPED, *HUB, str(folder), "./models/mine", "~/chronos"):
        assert require_known(name) == name


def test_choose_when_nothing_is_said_then_what_is_promoted(store):
    chosen = choose(store)
    assert (chosen.used, chosen.wanted, chosen.problem) == (SHIPPED, SHIPPED, "")
    assert chosen.identity == chosen.artifact.card.identity
    told = chosen.told()
    assert "problem" not in told
    assert (told["kind"], told["reads"]) == ("ChronosBoltPipeline", "log returns")


def test_choose_when_a_folder_is_named_then_it_is_used_and_known_by_its_bytes(
    store, folder, official, tmp_path
):
    chosen = choose(store, str(folder))
    assert (chosen.used, chosen.problem, chosen.artifact) == (str(folder), "", None)
    assert chosen.told()["reads"] == "log returns"
    assert choose(store, str(official)).told()["reads"] == "levels"
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert choose(store, str(moved)).identity == chosen.identity
    assert choose(store, str(moved), int8=True).identity != chosen.identity
    change_config(moved, dropout_rate=0.5)
    assert choose(store, str(moved)).identity != chosen.identity


def test_choose_when_int8_is_wanted_of_what_ships_then_another_identity(store):
    assert choose(store, int8=True).identity != choose(store).identity


def test_describe_when_a_folder_is_whole_then_what_it_holds(folder, official):
    ours, theirs = describe(folder), describe(official)
    weights = load_file(folder / "model.safetensors")
    assert ours.parameters == sum(x.size for x in weights.values())
    assert (ours.kind, ours.reads_returns, ours.steps) == ("ChronosBoltPipeline", True, 16)
    assert (theirs.kind, theirs.reads_returns, theirs.steps) == ("ChronosBoltPipeline", False, 64)


def spoilt(what):
    """A damage to a folder that is seen when it is named."""

    def config(text):
        return lambda folder: (folder / "config.json").write_text(text)

    def weights(change):
        path = "model.safetensors"
        return lambda folder: (folder / path).write_bytes(change((folder / path).read_bytes()))

    def pickled(folder):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    def settings(**fields):
        def change(folder):
            body = json.loads((folder / "config.json").read_text())
            change_config(folder, chronos_config=body["chronos_config"] | fields)

        return change

    header = b'{"w": {"shape": "wide"}}'
    return {
        "no config": (lambda f: (f / "config.json").unlink(), "readable config.json"),
        "config cut off": (config('{"chronos_pipe'), "readable config.json"),
        "config no object": (config("[]"), "must hold a JSON object"),
        "config of something else": (config('{"model_type": "bert"}'), "must be a model for"),
        "wrong pipeline": (
            lambda f: change_config(f, chronos_pipeline_class="ChronosPipeline"),
            "ChronosBoltPipeline or Chronos2Pipeline.*'ChronosPipeline'",
        ),
        "no settings": (lambda f: change_config(f, chronos_config=None), "must be a model for"),
        "settings no object": (lambda f: change_config(f, chronos_config=[1]), "be a model for"),
        "foreign form": (
            lambda f: change_config(f, **{FORM: {"input": "levels"}}), "its form must be",
        ),
        "other quantiles": (settings(quantiles=[0.1, 0.5, 0.9]), "must forecast the quantiles"),
        "no quantiles": (settings(quantiles=None), "must forecast the quantiles"),
        "pickled": (pickled, "must hold safetensors weights"),
        "truncated": (weights(lambda b: b[: len(b) // 2]), "must have .* bytes"),
        "longer": (weights(lambda b: b + b"\0"), "must have .* bytes"),
        "only a length": (weights(lambda b: b[:8]), "must begin with a safetensors header"),
        "empty": (weights(lambda b: b""), "must begin with a safetensors header"),
        "no safetensors": (weights(lambda b: b"\x93NUMPY" + b), "safetensors header"),
        "other header": (
            weights(lambda b: len(header).to_bytes(8, "little") + header), "safetensors header",
        ),
    }[what]  # fmt: skip


DAMAGES = (
    "no config", "config cut off", "config no object", "config of something else",
    "wrong pipeline", "no settings", "settings no object", "foreign form", "other quantiles",
    "no quantiles", "pickled", "truncated", "longer", "only a length", "empty", "no safetensors",
    "other header",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_choose_when_a_folder_is_damaged_then_told_and_what_ships_is_used(
    store, folder, tmp_path, caplog, damage
):
    spoil, rule = spoilt(damage)
    bad = shutil.copytree(folder, tmp_path / "model")
    spoil(bad)
    with pytest.raises(ModelError, match=rule) as caught:
        ChronosNetwork(bad)
    chosen = choose(store, str(bad))
    assert (chosen.used, chosen.wanted) == (SHIPPED, str(bad))
    assert chosen.problem == caught.value.message == chosen.told()["problem"]
    assert chosen.identity == choose(store).identity
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert str(bad) in caplog.text


def test_choose_when_a_folder_does_not_exist_then_what_ships_is_used(store, tmp_path):
    chosen = choose(store, str(tmp_path / "nowhere"))
    assert chosen.used == SHIPPED
    assert "must be a folder that exists" in chosen.problem


def test_choose_when_nothing_ships_either_then_model_error(folder, tmp_path):
    empty = FolderStore(tmp_path / "a", shipped=tmp_path / "b")
    with pytest.raises(ModelError, match="needs a promoted or shipped model"):
        choose(empty)
    assert choose(empty, str(folder)).used == str(folder)


def test_network_when_config_and_weights_do_not_go_together_then_model_error(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    for case, other in {
        "missing": {k: v for k, v in weights.items() if k != name},
        "renamed": {("x." + k if k == name else k): v for k, v in weights.items()},
        "reshaped": weights | {name: weights[name][:3].copy()},
    }.items():
        bad = tmp_path / case
        bad.mkdir()
        shutil.copy(folder / "config.json", bad)
        save_file(other, bad / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"every weight|cannot be loaded"):
            ChronosNetwork(bad).warm_up()
    deeper = change_config(shutil.copytree(folder, tmp_path / "deeper"), num_layers=3)
    with pytest.raises(ModelError, match="must hold every weight"):
        ChronosNetwork(deeper).warm_up()


def test_network_when_a_bolt_says_it_is_a_chronos_2_then_model_error(folder, tmp_path):
    bad = shutil.copytree(folder, tmp_path / "model")
    change_config(bad, chronos_pipeline_class="Chronos2Pipeline")
    with pytest.raises(ModelError, match=r"cannot be loaded|every weight"):
        ChronosNetwork(bad).warm_up()


def test_network_when_ours_is_asked_beyond_its_reach_then_model_error(tmp_path):
    short = untrained_bolt(tmp_path / "short", prediction_length=8)
    with pytest.raises(ModelError, match="must reach 15 steps ahead"):
        ChronosNetwork(short).cumulative(prices(1), AHEAD)


def test_network_when_any_kind_is_asked_then_finite_returns_in_order(networks):
    closes = prices(3)
    for kind, network in networks.items():
        said = network.cumulative(closes, AHEAD)
        assert said.shape == (3, AHEAD, len(LEVELS)), kind
        assert np.isfinite(said).all(), kind
        assert (np.diff(said, axis=2) >= 0).all(), kind
        assert (said[..., -1] > said[..., 0]).all(), kind
        assert np.abs(said).max() < 0.5, kind  # returns, whatever the model reads


def test_network_when_prices_are_in_another_unit_then_the_same_returns(networks):
    closes = prices(3)
    for kind, network in networks.items():
        cents = network.cumulative(closes * 100.0, 5)
        np.testing.assert_allclose(cents, network.cumulative(closes, 5), atol=2e-6, err_msg=kind)


def test_network_when_fewer_steps_are_asked_for_then_the_same_first_ones(networks):
    closes = prices(2)
    for kind, network in networks.items():
        few, all_ = network.cumulative(closes, 3), network.cumulative(closes, AHEAD)
        np.testing.assert_array_equal(few, all_[:, :3], err_msg=kind)


def test_network_when_the_price_is_frozen_then_finite(networks):
    for network in networks.values():
        assert np.isfinite(network.cumulative(np.full((1, 201), 7.0), AHEAD)).all()


def same_bits(network, closes):
    """Whether an answer is the same wherever in a batch the question stands, and beside whom."""
    whole = network.cumulative(closes, 5)
    turned = network.cumulative(closes[::-1], 5)[::-1]
    wild = network.cumulative(np.concatenate((closes[-1:], closes[:2] ** 2)), 5)[:1]
    alone = network.cumulative(closes[-1:], 5)
    return (
        np.array_equal(turned, whole)
        and np.array_equal(alone, whole[-1:])
        and np.array_equal(wild, alone)
    )


def test_network_when_a_question_stands_elsewhere_then_the_same_bits(networks):
    for kind, network in networks.items():
        assert same_bits(network, prices(9)), kind  # one more than a forward pass takes


@QUANTISED
def test_int8_when_a_question_stands_elsewhere_then_the_same_bits(folder):
    assert same_bits(ChronosNetwork(folder, int8=True), prices(3))


@QUANTISED
def test_int8_when_asked_then_within_a_tenth_of_the_spread_of_fp32(folder, official, networks):
    closes = prices(4)
    for kind, place in (("ours", folder), ("official bolt", official)):
        full = networks[kind].cumulative(closes, AHEAD)
        small = ChronosNetwork(place, int8=True).cumulative(closes, AHEAD)
        spread = full[..., -1:] - full[..., :1]
        assert np.abs((small - full) / spread).max() < 0.1
        assert not np.array_equal(small, full)


def test_ours_when_asked_then_what_the_library_says_of_the_returns(folder, networks):
    closes = prices(8)
    assert json.loads((folder / "config.json").read_text())[FORM] == RETURNS
    returns = np.diff(np.log(closes)).astype(np.float32)
    said, _ = pipeline_of(folder).predict_quantiles(torch.from_numpy(returns), 5, list(LEVELS))
    got = networks["ours"].cumulative(closes, 5)
    np.testing.assert_allclose(got, np.sort(said.numpy(), axis=2), atol=1e-7)


def test_official_when_asked_then_the_log_of_the_library_s_levels(official, chronos2, networks):
    closes = prices(8)
    levels = torch.from_numpy((closes / closes[:, -1:]).astype(np.float32))
    said, _ = pipeline_of(official).predict_quantiles(levels, 5, list(LEVELS))
    got = networks["official bolt"].cumulative(closes, 5)
    np.testing.assert_allclose(got, np.log(np.sort(said.numpy(), axis=2)), atol=1e-6)
    found, _ = pipeline_of(chronos2).predict_quantiles(levels[:, None], 5, list(LEVELS))
    got = networks["chronos 2"].cumulative(closes, 5)
    np.testing.assert_allclose(got, np.log(np.sort(torch.cat(found), axis=2)), atol=1e-6)


def pipeline_of(folder):
    from chronos import BaseChronosPipeline  # imports for seconds

    return BaseChronosPipeline.from_pretrained(folder)


@pytest.mark.long
def test_hub_when_asked_then_downloaded_once_or_what_ships_within_seconds(visits, official, store):
    hub, home, visitors = visits
    visitor = visitors["hub"]
    first, again, missing, broken, cut = (visitor.answer() for _ in range(5))
    assert (first["used"], first["problem"], first["reads"]) == (TINY, "", "levels")
    assert again["identity"] == first["identity"]
    assert hub.asked.count(f"/api/models/{TINY}/revision/main") == 1
    snapshot = next((home / "hub/hub").glob("models--amazon--chronos-bolt-tiny/snapshots/*"))
    assert sorted(p.name for p in snapshot.iterdir()) == ["config.json", "model.safetensors"]
    closes = prices(2)
    np.testing.assert_array_equal(
        ChronosNetwork(snapshot).cumulative(closes, 5),
        ChronosNetwork(official).cumulative(closes, 5),
    )
    for said, problem in ((missing, "404"), (broken, "500"), (cut, "peer closed connection")):
        assert said["used"] == SHIPPED
        assert said["identity"] == choose(store).identity
        assert "cannot be downloaded" in said["problem"]
        assert problem in said["problem"]
        assert said["s"] < 20
        assert not said["torch"]  # until it is asked about prices
    hub.wrong.clear()
    visitor.ask(BASE)
    healed = visitor.answer()
    assert (healed["used"], healed["identity"]) == (BASE, first["identity"])


@pytest.mark.parametrize(("where", "what"), [("nobody", "ConnectError"), ("silent", "ReadTimeout")])
def test_hub_when_it_does_not_answer_then_what_ships_within_seconds(visits, where, what):
    said = visits[2][where].answer()
    assert said["used"] == SHIPPED
    assert f"does not answer: {what}" in said["problem"]
    assert "not in the local cache" in said["problem"]
    assert said["s"] < 20
