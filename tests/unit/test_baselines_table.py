"""Fitting, walking forward and shipping: nothing later than the fit is seen, nothing is lost."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agents.training.dataset import Boosting, build_dataset
from data.features import REFERENCE_54
from domain.canonical import canonical_json
from domain.errors import ModelError, UsageError
from domain.market import BarFrame
from domain.times import parse_iso
from sim import baselines as base
from sim.baselines import shipping
from sim.baselines.blend import Blend
from sim.baselines.boosting import Boosted, BoostedQuantiles, BoostingSettings
from sim.baselines.contract import Asked
from sim.baselines.fitting import ALL, chosen
from sim.scoring import Forecasts
from tests.unit.feature_bars import random_bars

STEP = 300_000
N, CUT = 7_000, 6_200
CHEAP = ("base_rate", "rsi_logistic", "logistic_54", "ewma", "garch", "har", "har_ranges")
QUICK = Boosting(rounds=6, patience=3, rows_a_leaf=200)
BOOSTED = (Boosted(BoostingSettings(QUICK, QUICK, QUICK)), BoostedQuantiles(QUICK), Blend(QUICK))


@dataclass(frozen=True, slots=True)
class Quarter:
    start_ms: int
    end_ms: int
    fit_ms: int


@pytest.fixture(scope="module")
def frame() -> BarFrame:
    return random_bars(N, seed=8, gaps=(900,))


def fit(frame: BarFrame, end_ms: int) -> tuple[base.Known, dict[str, object]]:
    """Every baseline on few rounds."""
    data = build_dataset(frame, int(frame.ts[-1]) + STEP, 5, features=True)
    fits = base.fit_all(data, end_ms, CHEAP)
    known = base.Known(data, base.Inputs.of(data), end_ms, 7, fits)
    for baseline in BOOSTED:
        fits[baseline.name] = baseline.fit(known)
    return known, fits


@pytest.fixture(scope="module")
def fitted(frame: BarFrame) -> tuple[base.Known, dict[str, object]]:
    return fit(frame, int(frame.ts[CUT]))


def as_bytes(fits: dict[str, object]) -> dict[str, str]:
    out = {}
    for baseline in ALL:
        if baseline.learns:
            body = baseline.to_json(fits[baseline.name])
            body["trees"] = body.get("trees", b"").hex()
            out[baseline.name] = canonical_json(body)
    return out


def scrambled(frame: BarFrame, since: int) -> BarFrame:
    noise = np.exp(np.random.default_rng(1).normal(0, 0.02, len(frame)))
    later = np.where(np.arange(len(frame)) >= since, noise, 1.0)
    columns = {n: getattr(frame, n) * later for n in ("open", "high", "low", "close", "volume")}
    return replace(frame, **columns)


@pytest.mark.long
def test_fits_when_bars_after_the_fit_change_then_not_a_byte_of_the_parameters_does(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    _, other = fit(scrambled(frame, CUT), int(frame.ts[CUT]))
    assert as_bytes(other) == as_bytes(fitted[1])
    earlier = base.fit_all(fitted[0].data, int(frame.ts[CUT - 1]), CHEAP)
    assert all(
        canonical_json(baseline.to_json(earlier[baseline.name])) != as_bytes(fitted[1])
        for baseline in ALL
        if baseline.name in CHEAP
    )


@pytest.mark.long
def test_forecasts_when_later_bars_are_missing_then_not_a_bit_of_them_changes(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    rows = np.arange(CUT - 50, CUT + 150)
    told = base.forecast_all(fitted[1], base.Inputs(frame, 5), rows)
    cut = base.forecast_all(fitted[1], base.Inputs(frame.slice(0, CUT + 50), 5), rows[:100])
    alone = base.forecast_all(fitted[1], base.Inputs(frame, 5), rows[:1])
    for name in base.NAMES:
        for field in Forecasts.__slots__:
            whole = getattr(told[name], field)
            np.testing.assert_array_equal(getattr(cut[name], field), whole[:100], name)
            np.testing.assert_array_equal(getattr(alone[name], field), whole[:1], name)
        assert told[name].awake.all()


def test_forecasts_when_made_then_they_are_what_their_names_say(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    rows = np.arange(CUT, N)
    told = base.forecast_all(fitted[1], base.Inputs(frame, 5), rows)
    for name, columns in told.items():
        if np.isfinite(columns.quantiles).any():
            assert (np.diff(columns.quantiles, axis=1) >= 0).all(), name
        for chance in (columns.p_up, columns.risk_down, columns.risk_up, columns.risk_sigma):
            assert ((chance > 0) & (chance < 1) | np.isnan(chance)).all(), name
    parts = ("har_ranges", "boosting", "boosting_quantile")
    mean = np.mean([told[part].quantiles for part in parts], axis=0)
    np.testing.assert_allclose(told["blend"].quantiles, mean)
    own = 1 / (1 + np.exp(-fitted[1]["blend"].scores(fitted[0].inputs.features[rows])))
    p = np.column_stack([told["logistic_54"].p_up, told["boosting"].p_up, own]).mean(axis=1)
    np.testing.assert_allclose(told["blend"].p_up, 0.5 + 0.8 * (p - 0.5))
    risk = (told["har_ranges"].risk_down + told["boosting"].risk_down) / 2
    np.testing.assert_allclose(told["blend"].risk_down, risk)
    np.testing.assert_array_equal(told["blend_rescaled"].p_up, told["blend"].p_up)


def test_residual_quantiles_when_fitted_then_training_rows_are_covered_as_they_say(
    fitted: tuple[base.Known, dict[str, object]],
) -> None:
    known, fits = fitted
    rows = np.flatnonzero(known.volatility_rows)
    told = base.forecast_all(fits, known.inputs, rows, ("ewma", "garch", "har"))
    y, events = known.data.labels.y[rows], known.data.down[rows]
    for columns in told.values():
        share = (y[:, None] <= columns.quantiles).mean(axis=0)
        np.testing.assert_allclose(share, base_levels(), atol=2e-3)
        assert columns.risk_down.mean() == pytest.approx(events.mean(), abs=1e-6)


def base_levels() -> np.ndarray:
    from sim.baselines.shape import LEVELS

    return LEVELS


def test_boosting_when_fitted_then_trees_answer_as_scikit_learn_does(
    fitted: tuple[base.Known, dict[str, object]],
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from sim.baselines.boosting import grown

    known, fits = fitted
    x = known.inputs.features
    model = grown(HistGradientBoostingClassifier, x, known.data.labels.up, known, QUICK)
    rows = np.flatnonzero(known.volume_rows)[-300:]
    har = base.forecast_all(fits, known.inputs, rows, ("har_ranges", "boosting"))
    np.testing.assert_allclose(har["boosting"].p_up, model.predict_proba(x[rows])[:, 1], atol=1e-6)


@pytest.mark.long
def test_refit_forward_when_walked_then_each_span_is_forecast_by_a_fit_from_before_it(
    frame: BarFrame,
) -> None:
    names = ("half", "logistic_54", "ewma", "trailing")
    ends = [int(frame.ts[k]) for k in (5_600, 6_300, 6_900)]
    spans = [Quarter(a, b, a - 5 * STEP) for a, b in pairwise(ends)]
    said: list[str] = []
    found = base.refit_forward(frame, spans, 5, names, progress=said.append)
    assert said[0] == "span 1 of 2: logistic_54"
    assert list(found) == [name for name in base.NAMES if name in names]
    data = build_dataset(frame, int(frame.ts[-1]) + STEP, 5, features=True)
    for span, rows in zip(spans, (np.arange(5_600, 6_300), np.arange(6_300, 6_900)), strict=True):
        fits = base.fit_all(data, span.fit_ms, names)
        told = base.forecast_all(fits, base.Inputs(frame, 5), rows, names)
        for name in names:
            np.testing.assert_array_equal(found[name].p_up[rows], told[name].p_up)
            np.testing.assert_array_equal(found[name].quantiles[rows], told[name].quantiles)
    outside = np.r_[0:5_600, 6_900:N]
    assert np.isnan(found["half"].p_up[outside]).all()
    changed = base.refit_forward(scrambled(frame, 6_300), spans, 5, names)
    np.testing.assert_array_equal(
        changed["logistic_54"].p_up[5_600:6_300], found["logistic_54"].p_up[5_600:6_300]
    )


def test_chosen_when_parts_are_needed_then_they_come_first_and_unknown_names_are_refused() -> None:
    assert [b.name for b in chosen(["boosting"])] == ["har_ranges", "boosting"]
    assert [b.name for b in ALL] == list(base.NAMES)
    for k, baseline in enumerate(ALL):
        assert set(baseline.parts) <= set(base.NAMES[:k])
    with pytest.raises(UsageError, match="har_ranges"):
        chosen(["hars"])


def test_shipped_when_read_then_it_is_what_the_script_would_write() -> None:
    fitted = base.shipped()
    assert set(fitted.fits) == set(shipping.SHIPPED_NAMES)
    body = json.loads((shipping.FOLDER / shipping.PARAMETERS).read_text())
    again = {b.name: b.to_json(fitted.fits[b.name]) for b in ALL if b.name in fitted.fits}
    trees = {name: part.pop("trees") for name, part in again.items() if "trees" in part}
    assert json.loads(canonical_json(again)) == body["fits"]
    assert trees == {
        path.name.removesuffix(".onnx.gz"): gzip.decompress(path.read_bytes())
        for path in shipping.FOLDER.glob("*.onnx.gz")
    }
    assert (shipping.FOLDER / shipping.PARAMETERS).read_text() == canonical_json(body) + "\n"
    assert fitted.end_ms == parse_iso("2025-01-01")
    assert sum(path.stat().st_size for path in shipping.FOLDER.iterdir()) < 500_000


def test_shipped_when_a_file_is_missing_or_damaged_then_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"parameters\.json: .*ship_baselines\.py"):
        base.shipped(tmp_path)
    shutil.copytree(shipping.FOLDER, tmp_path, dirs_exist_ok=True)
    trees = next(tmp_path.glob("*.gz"))
    trees.write_bytes(trees.read_bytes()[:100])
    with pytest.raises(ModelError, match=rf"{trees.name}: .*ship_baselines\.py"):
        base.shipped(tmp_path)


def test_shipped_when_features_mean_something_else_then_it_is_refused(tmp_path: Path) -> None:
    body = json.loads((shipping.FOLDER / shipping.PARAMETERS).read_text())
    for told in ({"feature_schema": "0" * 16}, {}):
        changed = {key: body[key] for key in body if key != "feature_schema"} | told
        (tmp_path / shipping.PARAMETERS).write_text(canonical_json(changed))
        for read in (base.shipped, base.feature_reference):
            with pytest.raises(ModelError, match=r"feature schema must be .*ship_baselines\.py"):
                read(tmp_path)


def test_feature_reference_when_read_then_each_column_has_rising_quantiles() -> None:
    found = base.feature_reference()
    assert set(found.quantiles) == set(REFERENCE_54)
    assert found.levels.tolist() == [round(0.05 * k, 2) for k in range(21)]
    assert all((np.diff(row) >= 0).all() and len(row) == 21 for row in found.quantiles.values())
    assert found.n == 183_378
    assert parse_iso("2023-04-01") == found.start_ms < found.end_ms <= base.shipped().end_ms
    assert (found.symbol, found.timeframe) == ("BTC/USDT", "5m")


def test_to_files_when_written_then_they_hold_fits_and_the_features_of_the_training_rows(
    fitted: tuple[base.Known, dict[str, object]],
) -> None:
    known, fits = fitted
    files = shipping.to_files(known, fits, ("ewma", "rsi_logistic", "boosting"))
    assert set(files) == {"parameters.json", "boosting.onnx.gz"}
    body = json.loads(files["parameters.json"])
    assert set(body["fits"]) == {"ewma", "rsi_logistic", "boosting"}
    ships = json.loads((shipping.FOLDER / shipping.PARAMETERS).read_text())
    assert set(ships) == set(body)
    assert ships["feature_schema"] == body["feature_schema"]
    assert body["fits"]["rsi_logistic"] == {"intercept": 0.0231, "slope": -0.705}
    column = known.inputs.features[known.volume_rows][:, 3]
    np.testing.assert_allclose(
        body["features"]["quantiles"][REFERENCE_54[3]],
        np.quantile(column, body["features"]["levels"]), rtol=1e-7,
    )  # fmt: skip
    assert body["features"]["n"] == len(column)


def test_baselines_when_parameters_suit_then_rows_before_their_end_are_in_sample(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    holder = base.Fitted("BTC/USDT", "5m", 5, int(frame.ts[CUT]), fitted[1])
    found = base.baselines(frame, np.arange(CUT - 100, CUT + 100), 5, holder)
    for name, columns in found.items():
        assert columns.in_sample.sum() == (0 if name in ("half", "trailing") else 100), name
    other = base.baselines(frame, np.arange(CUT, CUT + 10), 3, holder)
    assert {name for name, columns in other.items() if columns.awake.any()} == {"half", "trailing"}


def test_baselines_when_rows_begin_later_then_the_rescaled_width_is_the_same(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    end = int(frame.ts[3_000])  # so that 4 000 rows are out of sample
    holder = base.Fitted("BTC/USDT", "5m", 5, end, fitted[1])
    whole = base.baselines(frame, np.arange(2_000, N), 5, holder)["blend_rescaled"]
    for rows in (np.arange(6_500, N), np.r_[5_990:6_010, 6_900:N:7]):
        found = base.baselines(frame, rows, 5, holder)
        np.testing.assert_array_equal(
            found["blend_rescaled"].quantiles, whole.quantiles[rows - 2_000]
        )
        assert (found["blend_rescaled"].quantiles != found["blend"].quantiles).any()
        assert all(len(columns.p_up) == len(rows) for columns in found.values())


def test_baselines_when_rows_open_before_the_fit_ended_then_no_width_remembers_them(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    end, rows = 3_000, np.arange(400, N)
    holder = base.Fitted("BTC/USDT", "5m", 5, int(frame.ts[end]), fitted[1])
    found = base.baselines(frame, rows, 5, holder)
    own, blend = found["blend_rescaled"].quantiles, found["blend"].quantiles
    first = end + 2_016 + 4 - 400  # the last bar without 2 016 outcomes since the end
    np.testing.assert_allclose(own[:first], blend[:first], rtol=1e-12)
    assert not np.allclose(own[first:], blend[first:], rtol=1e-6)
    assert not np.allclose(own[first], blend[first], rtol=1e-6)


def test_asked_when_a_feature_is_missing_then_those_that_read_it_are_silent(
    frame: BarFrame, fitted: tuple[base.Known, dict[str, object]]
) -> None:
    rows = np.arange(880, 940)  # a gap before bar 900
    told = base.forecast_all(fitted[1], base.Inputs(frame, 5), rows)
    assert np.isnan(told["boosting"].p_up[20:]).all()
    assert np.isnan(told["blend"].p_up[20:]).all()
    assert np.isnan(told["logistic_54"].p_up[20:]).all()
    assert np.isfinite(told["ewma"].risk_down).all()
    silent = Asked(base.Inputs(frame, 5), rows, {"blend": Forecasts.silent(60)})
    assert np.isnan(ALL[-1].forecast(None, silent).quantiles).all()
