"""LightGBM boosts the baseline's trees: equal scores, equal bytes, or a clear no."""

import subprocess
import sys

import numpy as np
import pytest

from agents.artifacts import Artifact, Card, load
from agents.baseline import TARGETS, Baseline
from agents.training.baseline import BaselineConfig
from agents.training.dataset import Boosting, Source, boost, learner
from agents.training.kinds import model_of
from agents.training.onnx_trees import export_trees
from agents.trees import Trees
from domain.errors import ModelError, SettingError
from tests.agents_world import START, STEP, market, states_of

lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is an extra")
from agents.training.lightgbm_trees import LightGbm  # noqa: E402 - after the skip

QUICK = Boosting(rounds=40, patience=10, rows_a_leaf=50, l2=1.0)
N, K = 6000, 6


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(N, K))
    x[:, 5] = rng.integers(-3, 4, N)  # few values, zero among them
    up = (x[:, 0] * x[:, 1] + 0.5 * x[:, 5] + rng.normal(size=N) > 0).astype(float)
    return x, up, np.exp(x[:, 2]) * rng.gamma(2.0, size=N)


def grown(x, target, loss="log_loss", seed=7):
    return boost(learner("lightgbm", loss), x, target, np.ones(len(x), bool), seed, QUICK, 5)


def served(tmp_path, outputs):
    card = Card("a", "t", 0, "c", "", "BTC/USDT", "5m", 5, 0, 0, 7)
    graph = export_trees(outputs, K)
    return Trees(Artifact(tmp_path, card, {"model.onnx": graph}), K, len(outputs))


def splits_of(model):
    """(feature, threshold) of every split."""
    frame = model.booster.trees_to_dataframe().dropna(subset=["split_feature"])
    features = frame["split_feature"].str.removeprefix("Column_").astype(int)
    return list(zip(features, frame["threshold"].astype(float), strict=True))


def around_splits(model, x):
    """Rows with one value on a threshold, or the next double below or above it."""
    rows = []
    for i, (feature, threshold) in enumerate(splits_of(model)[:400]):
        for value in (threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)):
            rows.append(x[i].copy())
            rows[-1][feature] = value
    return np.array(rows)


def test_export_trees_when_lightgbm_then_equal_to_its_raw_scores(table, tmp_path):
    x, up, ratio = table
    first, second, width = grown(x, up), grown(x, up, seed=8), grown(x, ratio, "gamma")
    scores = served(tmp_path, {"p": [first, second], "width": [width]}).scores(x)
    mean = (first.decision_function(x) + second.decision_function(x)) / 2
    assert np.abs(scores[:, 0] - mean).max() < 1e-6
    assert np.abs(scores[:, 1] - width.decision_function(x)).max() < 1e-6
    assert width.predict(x) == pytest.approx(np.exp(scores[:, 1]), rel=1e-5)
    assert np.std(mean) > 0.1


def test_export_trees_when_a_row_lies_on_a_split_of_lightgbm_then_it_goes_the_same_way(
    table, tmp_path
):
    x, up, _ = table
    model = grown(x, up)
    rows = around_splits(model, x)
    scores = served(tmp_path, {"p": [model]}).scores(rows)[:, 0]
    assert np.abs(scores - model.decision_function(rows)).max() < 1e-6
    thresholds = np.array([threshold for _, threshold in splits_of(model)[:400]])
    below_zero = (thresholds < 0.0) & (thresholds > -1e-34)  # LightGBM reads these values as 0
    assert below_zero.any()
    on, below, above = scores[0::3], scores[1::3], scores[2::3]
    assert np.array_equal(on[~below_zero], below[~below_zero])  # <= goes left
    assert (on != above).mean() > 0.5


@pytest.mark.parametrize("trained_on_missing", [False, True])
def test_export_trees_when_a_value_is_missing_then_it_goes_the_way_of_lightgbm(
    table, tmp_path, trained_on_missing
):
    x, up, _ = table
    holes = np.where(np.random.default_rng(1).random(x.shape) < 0.1, np.nan, x)
    model = grown(holes if trained_on_missing else x, up)
    told = {part["missing_type"] for part in inner_parts(model.booster.dump_model())}
    assert told == {"NaN" if trained_on_missing else "None"}
    scores = served(tmp_path, {"p": [model]}).scores(holes)[:, 0]
    assert np.abs(scores - model.decision_function(holes)).max() < 1e-6


def inner_parts(dump):
    left = [tree["tree_structure"] for tree in dump["tree_info"]]
    while left:
        part = left.pop()
        if "leaf_value" not in part:
            yield part
            left += [part["left_child"], part["right_child"]]


def test_export_trees_when_lightgbm_finds_no_split_then_a_constant(tmp_path):
    x, up = np.zeros((200, K)), np.arange(200) % 4 == 0
    model = LightGbm("log_loss", max_iter=3, early_stopping=False).fit(x, up)
    scores = served(tmp_path, {"p": [model]}).scores(x)[:, 0]
    assert scores == pytest.approx(np.full(200, np.log(1 / 3)), abs=1e-6)


@pytest.mark.parametrize("rule", ["categories", "zero_as_missing"])
def test_export_trees_when_a_split_has_another_rule_then_model_error(table, rule):
    x, up, _ = table
    x = np.column_stack((x[:, :5], np.abs(x[:, 5])))
    params = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    params |= {"zero_as_missing": rule == "zero_as_missing", "min_data_per_group": 1}
    kinds = [5] if rule == "categories" else []
    rows = lightgbm.Dataset(x, up, params=params, categorical_feature=kinds)
    model = LightGbm("log_loss", max_iter=5, early_stopping=False)
    model.booster = lightgbm.train(params, rows, 5)
    with pytest.raises(ModelError, match="must be value <= threshold"):
        export_trees({"p": [model]}, K)


def test_boost_when_lightgbm_is_repeated_then_the_same_bytes_and_another_seed_gives_others(table):
    x, up, _ = table
    one, two, other = (export_trees({"p": [grown(x, up, seed=s)]}, K) for s in (7, 7, 8))
    assert one == two
    assert one != other


def test_boost_when_lightgbm_stops_early_then_fewer_rounds_than_allowed(table):
    x, _, _ = table
    noise = np.random.default_rng(0).integers(0, 2, N).astype(float)
    assert grown(x, noise).booster.num_trees() < QUICK.rounds


def test_learner_when_sklearn_or_lightgbm_then_they_agree_on_the_same_task(table):
    x, up, _ = table
    rows = np.ones(N, bool)
    by_library = [
        boost(learner(name, "log_loss"), x, up, rows, 7, QUICK, 5).decision_function(x)
        for name in ("sklearn", "lightgbm")
    ]
    assert np.corrcoef(by_library)[0, 1] > 0.95


@pytest.mark.long
def test_baseline_when_lightgbm_trained_it_then_the_same_bytes_again_and_an_agent_that_knows(
    tmp_path,
):
    bars, end = market(6400, seed=3, drift=9e-4), START + 6000 * STEP
    source = Source(end, 7, end, "abc1234", "0" * 64, folds=0)
    quick = {"trend_leaves": "7"} | {
        f"{target}.{name}": value
        for target in ("trend", "width", "risk")
        for name, value in {"rounds": 30, "patience": 30, "rows_a_leaf": 50}.items()
    }
    cards = []
    for target in (*TARGETS, "trend"):
        model = model_of("baseline", target, settings={"library": "lightgbm", **quick})
        model.train([bars], source)
        cards.append(model.save(tmp_path / str(len(cards))))
    assert cards[0].files == cards[3].files
    assert cards[0].settings["library"] == "lightgbm"
    folders = [tmp_path / str(k) / "baseline" / t / cards[k].version for k, t in enumerate(TARGETS)]
    agent = Baseline(*map(load, folders))
    p = np.array([one.p_up for one in agent.opine(list(states_of(agent, bars))[6000:6300])])
    up = bars.close[6005:6305] > bars.close[6000:6300]
    assert p[up].mean() > p[~up].mean() + 0.05  # the planted edge is found out of sample


@pytest.mark.parametrize(("name", "hint"), [("lightgmb", 'Did you mean "lightgbm"'), ("xgb", "")])
def test_config_when_library_is_unknown_then_setting_error(name, hint):
    with pytest.raises(SettingError, match="must be one of sklearn, lightgbm") as caught:
        BaselineConfig(library=name)
    assert hint in str(caught.value)


WITHOUT = """
import sys
sys.modules["lightgbm"] = None  # what an import then finds: nothing
from agents.training.baseline import BaselineConfig
from agents.training.kinds import model_of
from domain.errors import SettingError
print(BaselineConfig().library)
try:
    model_of("baseline", "trend", settings={"library": "lightgbm"})
except SettingError as error:
    print(error)
"""


def test_config_when_lightgbm_is_not_installed_then_it_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    default, told = done.stdout.splitlines()
    assert default == "sklearn"
    assert told.startswith("library lightgbm: must be installed")
    assert 'pip install -c constraints.txt -e ".[lightgbm]"' in told
