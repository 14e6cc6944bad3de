"""A training in folds that goes on where it was, and bars that nothing can be learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.artifacts import Card
from agents.training.baseline import BaselineConfig, BaselineModel
from agents.training.dataset import FOLD_MS, Boosting, Source, require_rows
from agents.training.folds import FoldLog
from agents.training.reports import logit_slope
from agents.training.volatility import newton
from agents.training.watch import Watch
from domain.errors import DataRefused, ModelError, UsageError
from domain.market import BarFrame
from tests.agents_world import START, STEP, market, with_gap

BARS = 5_900 + 2 * FOLD_MS // STEP
END = START + BARS * STEP
SOURCE = Source(END, 7, END, "abc1234", "0" * 64, folds=2)
CONFIG = BaselineConfig(trend=Boosting(rounds=3, patience=2), trend_leaves=(7,))


class Stop(Exception):
    """The process was killed here."""


@pytest.fixture(scope="module")
def bars() -> BarFrame:
    return market(BARS, seed=3, drift=9e-4)


def train(bars: BarFrame, watch: Watch) -> Card:
    return BaselineModel("trend", config=CONFIG).train([bars], SOURCE, watch)


@pytest.mark.long
def test_baseline_when_stopped_after_a_fold_then_goes_on_and_ends_in_the_same(
    bars: BarFrame, tmp_path: Path
) -> None:
    checked: list[int] = []
    said: list[str] = []

    def stop(fold: int, _: Mapping[str, float]) -> None:
        raise Stop

    path = tmp_path / "folds.checkpoint"
    with pytest.raises(Stop):
        train(bars, Watch(checked=stop, checkpoint=path))
    seen: list[Mapping[str, float]] = []
    watch = Watch(said.append, checked=lambda n, _: checked.append(n), scored=seen.append)
    again = train(bars, replace(watch, checkpoint=path))
    whole = train(bars, Watch())
    assert checked == [2]
    assert "trend: resumed after fold 1" in said
    assert (again.metrics, again.files) == (whole.metrics, whole.files)
    assert len(whole.metrics["walk_forward"]["folds"]) == 2
    assert {**seen[0], "folds": whole.metrics["walk_forward"]["folds"]} == (
        whole.metrics["walk_forward"]
    )


def test_fold_log_when_the_question_differs_then_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    FoldLog.open(path, ["a"]).add({"auc": 0.5})
    assert FoldLog.open(path, ["a"]).folds == [{"auc": 0.5}]
    assert FoldLog.open(path, ["b"]).folds == []


def test_fold_log_when_a_score_is_not_a_number_then_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    FoldLog.open(path, 1).add({"auc": float("nan")})
    assert np.isnan(FoldLog.open(path, 1).folds[0]["auc"])


@pytest.mark.parametrize("body", ["", "{", "[]", '{"identity": 1}', '"text"'])
def test_fold_log_when_damaged_then_model_error_with_what_to_do(tmp_path: Path, body: str) -> None:
    path = tmp_path / "log"
    path.write_text(body, encoding="utf-8")
    if body == '{"identity": 1}':
        assert FoldLog.open(path, 1).folds == []  # of another question
        return
    with pytest.raises(ModelError, match="must be readable") as caught:
        FoldLog.open(path, 1)
    assert "--fresh" in caught.value.hint


# bars


def still(bars: BarFrame, rows: slice) -> BarFrame:
    """The price does not move in ``rows``."""
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[rows] = bars.close[rows.start or 0]
    return replace(bars, **columns)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda bars: bars.slice(0, 500), "there are 208"),
        (lambda bars: with_gap(with_gap(bars, 3_000, 3), 3_500, 3), "there are 4"),
        (lambda bars: still(bars, slice(0, None)), "moved on 0 of them"),
        (lambda bars: still(bars, slice(3_000, None)), "moved on 27"),
    ],
    ids=["short", "gaps", "constant", "half constant"],
)
def test_require_rows_when_nothing_can_be_learned_then_data_refused(change, told) -> None:  # type: ignore[no-untyped-def]
    bars = change(market(5_400))
    with pytest.raises(DataRefused, match="5000 valid rows") as caught:
        require_rows(bars, START + 9_000 * STEP, 5)
    assert told in caught.value.message


def test_require_rows_when_a_gap_leaves_enough_then_labels() -> None:
    bars = with_gap(market(6_500), 1_000, 3)
    labels = require_rows(bars, START + 9_000 * STEP, 5)
    assert int(labels.valid.sum()) == 6_500 - 3 - 2 * 287 - 2 * 5


def test_newton_when_it_ends_nowhere_then_data_refused() -> None:
    def flat(beta):  # type: ignore[no-untyped-def]
        return 0.0, np.full(2, np.nan), np.eye(2)

    with pytest.raises(DataRefused, match="must let a model be fitted"):
        newton(np.zeros(2), flat, ridge=0.0)


@pytest.mark.parametrize("other", ["same", "timeframe"])
def test_train_when_bars_do_not_go_together_then_usage_error(bars: BarFrame, other: str) -> None:
    more = bars if other == "same" else replace(bars, symbol="ETH/USDT", timeframe="15m")
    with pytest.raises(UsageError, match="must"):
        BaselineModel("trend", config=CONFIG).train([bars, more], SOURCE)


@pytest.mark.parametrize(("sure", "slope"), [(2.0, 0.5), (0.5, 2.0), (1.0, 1.0)])
def test_logit_slope_when_forecasts_are_too_sure_then_below_1(sure, slope):
    rng = np.random.default_rng(3)
    true = rng.normal(0.0, 0.5, 200_000)
    up = rng.random(len(true)) < 1.0 / (1.0 + np.exp(-true))
    assert logit_slope(sure * true, up) == pytest.approx(slope, abs=0.03 * slope)


def test_logit_slope_when_nothing_is_said_then_1():
    assert logit_slope(np.zeros(100), np.arange(100) % 2 == 0) == 1.0
