import json

import pytest

from agents.artifacts import (
    Card,
    FolderStore,
    columns_hash,
    load,
    promote,
    promoted,
    rollback,
    save,
    versions,
)
from domain.errors import ModelError
from domain.times import parse_iso

NAME = "baseline/trend"


def card(at="2026-01-02T03:04:05Z", columns=(), schema=""):
    return Card(
        "baseline", "trend", parse_iso(at), "abc1234", "0" * 64, "BTC/USDT", "5m", 5,
        0, parse_iso("2025-01-01"), 7, columns, schema, {"auc": 0.5},
    )  # fmt: skip


def put(root, at="2026-01-02T03:04:05Z", body=b'{"x":1}'):
    return save(root, NAME, card(at), {"params.json": body})


def test_save_when_loaded_again_then_card_and_bytes_are_the_same(tmp_path):
    saved = put(tmp_path)
    artifact = load(tmp_path / NAME / saved.version)
    assert saved.version == "20260102T030405Z-abc1234"
    assert (artifact.card, artifact.params()) == (saved, {"x": 1})
    assert {"numpy", "scikit-learn", "onnxruntime"} <= set(artifact.card.libraries)
    assert {"python", "platform", "cpu", "cpus"} == set(artifact.card.environment)
    latest = json.loads((tmp_path / NAME / "metrics" / "latest.json").read_text())
    assert latest == {"version": saved.version, "metrics": {"auc": 0.5}}
    assert (tmp_path / NAME / "metrics" / "history" / f"{saved.version}.json").is_file()


def test_save_when_files_are_safetensors_then_they_are_kept_as_they_are(tmp_path):
    version = save(tmp_path, NAME, card(), {"model.safetensors": b"\x00\x01"}).version
    assert load(tmp_path / NAME / version).contents == {"model.safetensors": b"\x00\x01"}


@pytest.mark.parametrize("name", ["baseline/trend", "baseline/return", "baseline/risk", "risk"])
def test_load_when_a_shipped_card_names_no_environment_then_it_still_loads(name):
    assert FolderStore().open(name).card.files


@pytest.mark.parametrize(
    ("field", "value"),
    [("horizon_bars", "5"), ("metrics", None), ("columns", "ret_0"), ("files", ["params.json"])],
)
def test_load_when_a_card_field_is_of_another_kind_then_refused_naming_it(tmp_path, field, value):
    folder = tmp_path / NAME / put(tmp_path).version
    body = json.loads((folder / "card.json").read_text()) | {field: value}
    (folder / "card.json").write_text(json.dumps(body))
    with pytest.raises(ModelError, match=f"{field}: must be a JSON"):
        load(folder)


def test_load_when_one_byte_changed_then_refused_naming_file_and_rule(tmp_path):
    folder = tmp_path / NAME / put(tmp_path).version
    (folder / "params.json").write_bytes(b'{"x":2}')
    with pytest.raises(ModelError, match=r"params\.json: its sha256 must be"):
        load(folder)


def test_load_when_a_file_is_gone_then_refused(tmp_path):
    folder = tmp_path / NAME / put(tmp_path).version
    (folder / "params.json").unlink()
    with pytest.raises(ModelError, match="missing"):
        load(folder)


@pytest.mark.parametrize("name", ["model.pkl", "../../evil.json", "model.joblib"])
def test_load_when_card_names_a_pickle_or_another_folder_then_refused(tmp_path, name):
    folder = tmp_path / NAME / put(tmp_path).version
    body = json.loads((folder / "card.json").read_text())
    body["files"] = {name: "0" * 64}
    (folder / "card.json").write_text(json.dumps(body))
    with pytest.raises(ModelError, match=r"plain \.json, \.onnx or \.safetensors"):
        load(folder)


def test_load_when_features_mean_something_else_then_refused(tmp_path):
    good = save(tmp_path, NAME, card(columns=("ret_0",), schema=columns_hash(["ret_0"])), {})
    assert load(tmp_path / NAME / good.version).card.columns == ("ret_0",)
    other = card("2026-02-02", columns=("ret_0",), schema=columns_hash(["ret_1"]))
    bad = save(tmp_path, NAME, other, {})
    with pytest.raises(ModelError, match="feature schema"):
        load(tmp_path / NAME / bad.version)


def test_save_when_version_exists_with_other_bytes_then_refused(tmp_path):
    put(tmp_path)
    assert put(tmp_path).version  # the same again is fine
    with pytest.raises(ModelError, match="never change"):
        put(tmp_path, body=b'{"x":2}')


def test_identity_when_only_time_differs_then_equal_and_other_bytes_then_not(tmp_path):
    first, again = put(tmp_path), put(tmp_path, "2026-03-03")
    other = put(tmp_path, "2026-04-04", b"{}")
    assert first.identity == again.identity != other.identity


def test_rollback_when_promoted_twice_then_the_first_again_then_none(tmp_path):
    first, second = put(tmp_path).version, put(tmp_path, "2026-02-02").version
    promote(tmp_path, NAME, first)
    promote(tmp_path, NAME, second)
    assert promoted(tmp_path, NAME) == second
    assert rollback(tmp_path, NAME) == first == promoted(tmp_path, NAME)
    assert rollback(tmp_path, NAME) is None
    assert promoted(tmp_path, NAME) is None
    with pytest.raises(ModelError, match="no promoted version"):
        rollback(tmp_path, NAME)


def test_promote_when_unknown_or_damaged_then_refused_and_nothing_changes(tmp_path):
    version = put(tmp_path).version
    with pytest.raises(ModelError, match="version that exists"):
        promote(tmp_path, NAME, "20200101T000000Z-none")
    (tmp_path / NAME / version / "params.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="sha256"):
        promote(tmp_path, NAME, version)
    assert promoted(tmp_path, NAME) is None


def test_versions_when_listed_then_oldest_first_and_metrics_is_none_of_them(tmp_path):
    newer, older = put(tmp_path, "2026-02-02").version, put(tmp_path).version
    assert versions(tmp_path, NAME) == [older, newer]
    assert versions(tmp_path, "risk") == []


def test_store_when_nothing_is_promoted_then_what_ships_else_the_promoted(tmp_path):
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    promote(shipped, NAME, put(shipped).version)
    store = FolderStore(mine, shipped)
    assert store.current(NAME) == str(shipped / NAME / put(shipped).version)
    promote(mine, NAME, put(mine, "2026-05-05").version)
    assert store.open(NAME).folder.parent == mine / NAME
    with pytest.raises(ModelError, match="promoted or shipped"):
        store.open("risk")


def test_promoted_when_pointer_leaves_the_folder_then_refused(tmp_path):
    promote(tmp_path, NAME, put(tmp_path).version)
    (tmp_path / NAME / "promoted.json").write_text('{"version": "../../x", "history": []}')
    with pytest.raises(ModelError, match="must name a version"):
        promoted(tmp_path, NAME)
