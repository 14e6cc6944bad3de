"""Our way through pytorch-forecasting's network, and our windows, against the library's own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data import NaNLabelEncoder

from agents.tft import KNOWN, UNKNOWN, TftInputs
from agents.training.dataset import Dataset
from agents.training.tft import PAST, export
from agents.training.tft_data import Sampler, cut, group_of, join
from agents.training.tft_network import DenseTft, TftShape
from data.labels import adverse, make_labels
from domain.market import BarFrame
from tests.agents_world import market, with_gap

EXACT = {"rtol": 0.0, "atol": 1e-5}
PARTS = ("forecast", "attention", "weights")
SHAPE = TftShape(PAST["trend"], KNOWN, 4, 60, 5, 13)
READ = ("a", "b", "c")  # made-up features of the windows
INPUTS = TftInputs(
    READ, KNOWN, np.zeros(3), np.ones(3), (UNKNOWN, "BTC/USDT", "ETH/USDT"), 60, 5
)  # fmt: skip


@dataclass(frozen=True)
class Questions:
    """What a network is asked: blocks of bars."""

    symbol: torch.Tensor
    past: torch.Tensor
    known: torch.Tensor

    @classmethod
    def of(cls, n: int, bars: int = 60) -> Any:
        draw = torch.Generator().manual_seed(n)
        sizes = (n, bars, len(SHAPE.past)), (n, bars + 5, len(KNOWN))
        past, known = (torch.randn(size, generator=draw) for size in sizes)
        return cls(torch.randint(0, 4, (n,), generator=draw), past, known)

    def for_the_library(self) -> dict[str, torch.Tensor]:
        """The same in the form of a batch of a TimeSeriesDataSet; it must not see past columns of
        the future, so they are NaN."""
        n = len(self.symbol)
        ahead = torch.full((n, 5, len(SHAPE.past)), torch.nan)
        return {
            "encoder_cat": self.symbol[:, None, None].expand(n, 60, 1),
            "decoder_cat": self.symbol[:, None, None].expand(n, 5, 1),
            "encoder_cont": torch.cat((self.known[:, :60], self.past), dim=2),
            "decoder_cont": torch.cat((self.known[:, 60:], ahead), dim=2),
            "encoder_lengths": torch.full((n,), 60), "decoder_lengths": torch.full((n,), 5),
            "target_scale": torch.ones(n, 2),
        }  # fmt: skip


@pytest.fixture(scope="module")
def network():
    """Random weights everywhere, biases and norms included, which start as 0 and 1."""
    torch.manual_seed(1)
    made = DenseTft(SHAPE).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def ask(network, questions, stride=1):
    with torch.no_grad():
        return network(questions.symbol, questions.past, questions.known, stride)


@pytest.mark.parametrize("n", [1, 16])
def test_dense_when_asked_what_the_library_is_asked_then_it_says_the_same(network, n):
    questions = Questions.of(n)
    forecast, attention, weights = ask(network, questions)
    with torch.no_grad():
        said = network.tft(questions.for_the_library())
    torch.testing.assert_close(forecast, said["prediction"], **EXACT)
    seen = said["encoder_attention"][:, -1].mean(dim=1)
    torch.testing.assert_close(attention, seen, **EXACT)
    chosen = said["encoder_variables"].squeeze(-2).mean(dim=1)
    torch.testing.assert_close(weights, chosen, **EXACT)
    assert forecast.std() > 0.1  # of something that speaks


def test_dense_when_trained_through_then_its_gradients_are_the_library_s(network):
    questions = Questions.of(4)
    mine = network(questions.symbol, questions.past, questions.known)[0].square().mean()
    theirs = network.tft(questions.for_the_library())["prediction"].square().mean()
    parameters = [p for p in network.parameters() if p.requires_grad]
    pairs = (torch.autograd.grad(x, parameters, allow_unused=True) for x in (mine, theirs))
    for a, b in zip(*pairs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize(("windows", "stride"), [(4, 5), (3, 1), (1, 5)])
def test_dense_when_windows_come_in_blocks_then_as_one_by_one(network, windows, stride):
    blocks = Questions.of(3, bars=60 + (windows - 1) * stride)
    together = ask(network, blocks, stride)
    for k in range(windows):
        at = slice(k * stride, k * stride + 60), slice(k * stride, k * stride + 65)
        single = Questions(blocks.symbol, blocks.past[:, at[0]], blocks.known[:, at[1]])
        for a, b in zip(together, ask(network, single), strict=True):
            torch.testing.assert_close(a[k::windows], b, **EXACT)


def test_dense_when_the_future_of_a_window_changes_then_earlier_steps_do_not(network):
    questions = Questions.of(2)
    known = questions.known.clone()
    known[:, 63:] += 1.0
    before, after = ask(network, questions)[0], ask(network, Questions(
        questions.symbol, questions.past, known
    ))[0]  # fmt: skip
    torch.testing.assert_close(before[:, :3], after[:, :3], **EXACT)
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.long
def test_export_when_run_by_onnx_runtime_then_it_says_what_the_network_says(network):
    session = onnxruntime.InferenceSession(export(network), providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == list(PARTS)
    assert session.get_outputs()[0].shape == [1, 5, 13]
    for seed in range(3):
        one = Questions.of(seed + 1)
        feed = {
            "symbol": one.symbol[:1].numpy(), "past": one.past[:1].numpy(),
            "known": one.known[:1].numpy(),
        }  # fmt: skip
        eager = ask(network, Questions(one.symbol[:1], one.past[:1], one.known[:1]))
        for a, b in zip(session.run(None, feed), eager, strict=True):
            np.testing.assert_allclose(a, b.numpy(), **EXACT)


def group(bars, symbol, columns):
    labels = make_labels(bars, 5)
    none = np.zeros(len(bars))
    data = Dataset(bars, labels, none, *adverse(labels), none, none, np.empty((len(bars), 0)))
    return group_of(symbol, data, columns, INPUTS, np.full(len(bars), 1e-3))


@pytest.fixture(scope="module")
def groups():
    """Two symbols of different length, their features within the ±4 that are never clipped."""
    rng = np.random.default_rng(2)
    frames = [market(380, seed=1), renamed(market(350, seed=2), "ETH/USDT")]
    return [group(bars, k + 1, rng.uniform(-3, 3, (len(bars), 3))) for k, bars in enumerate(frames)]


def renamed(bars, symbol):
    return BarFrame(
        symbol, bars.timeframe, bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume
    )


def as_frame(groups, first):
    """The bars from ``first`` on, one row a bar, as pytorch-forecasting reads them."""
    parts = []
    for one in groups:
        bars = one.data.bars
        columns = dict(zip((*KNOWN, *READ), np.hstack((one.known[:-5], one.past)).T, strict=True))
        returns = np.diff(np.log(bars.close), prepend=np.log(bars.close[0]))
        part = pd.DataFrame({"at": np.arange(len(bars)), "r": returns, **columns})
        parts.append(part.assign(symbol=bars.symbol).iloc[first:])
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def theirs(groups):
    first = 287 - 59  # the 288th bar ends the first window
    return TimeSeriesDataSet(
        as_frame(groups, first), time_idx="at", target="r", group_ids=["symbol"],
        max_encoder_length=60, min_encoder_length=60, max_prediction_length=5,
        min_prediction_length=5, static_categoricals=["symbol"],
        time_varying_known_reals=list(KNOWN), time_varying_unknown_reals=list(READ),
        categorical_encoders={"symbol": NaNLabelEncoder(add_nan=True)},
        target_normalizer=None, scalers=dict.fromkeys((*KNOWN, *READ)),
    )  # fmt: skip


@pytest.mark.long
def test_windows_when_cut_then_they_are_the_samples_of_a_time_series_data_set(groups, theirs):
    rows = [one.rows(0, 2**62) for one in groups]
    ours = join([cut(one, at, INPUTS) for one, at in zip(groups, rows, strict=True)])
    samples = [theirs[k] for k in range(len(theirs))]
    assert len(ours.symbol) == len(samples) == (380 - 5 - 287) + (350 - 5 - 287)
    assert {int(x["encoder_length"]) for x, _ in samples} == {60}
    cont = np.stack([x["x_cont"].numpy() for x, _ in samples])
    assert cont.shape == (len(samples), 65, len(theirs.reals))
    for k, name in enumerate(KNOWN):
        np.testing.assert_array_equal(ours.known[:, :, k], cont[:, :, theirs.reals.index(name)])
    for k, name in enumerate(READ):
        np.testing.assert_array_equal(ours.past[:, :, k], cont[:, :60, theirs.reals.index(name)])
    returns = np.stack([target[0].numpy() for _, target in samples])
    np.testing.assert_allclose(ours.y, np.cumsum(returns, axis=1), atol=1e-7)
    symbols = np.stack([x["x_cat"][:, 0].numpy() for x, _ in samples])
    np.testing.assert_array_equal(np.repeat(ours.symbol[:, None], 65, axis=1), symbols)


def test_windows_when_the_library_batches_them_then_the_dense_network_says_the_same(theirs):
    torch.manual_seed(3)
    small = DenseTft(TftShape(READ, KNOWN, 3, 60, 5, 1, hidden=8, heads=1)).eval()
    x, _ = next(iter(theirs.to_dataloader(train=False, batch_size=32, num_workers=0)))
    order = [theirs.reals.index(name) for name in (*KNOWN, *READ)]
    cont = torch.cat((x["encoder_cont"], x["decoder_cont"]), dim=1)[:, :, order]
    questions = Questions(
        x["encoder_cat"][:, 0, 0], cont[:, :60, len(KNOWN) :], cont[:, :, : len(KNOWN)]
    )
    batch = {**x, "encoder_cont": cont[:, :60], "decoder_cont": cont[:, 60:]}
    with torch.no_grad():
        said = small.tft(batch)["prediction"]
    torch.testing.assert_close(ask(small, questions)[0], said, **EXACT)


def test_windows_when_bars_are_missing_or_a_feature_is_then_none_reaches_over_it():
    bars = with_gap(market(900, seed=4), 420, 3)
    columns = np.random.default_rng(5).uniform(-1, 1, (len(bars), 3))
    columns[800, 1] = np.nan
    rows = group(bars, 1, columns).rows(0, 2**62)
    ends = [*range(287, 420 - 5), *range(420 + 287, 800), *range(860, 897 - 5)]
    assert rows.tolist() == ends


def test_rows_when_blocks_are_asked_for_then_every_window_of_them_is_whole():
    bars = with_gap(market(900, seed=4), 420, 3)
    one = group(bars, 1, np.zeros((len(bars), 3)))
    single = set(one.rows(0, 2**62).tolist())
    blocks = one.rows(0, 2**62, windows=4, stride=5).tolist()
    assert blocks == [r for r in sorted(single) if {r - 5, r - 10, r - 15} <= single]


def test_rows_when_a_fit_ends_then_labels_were_known_by_then(groups):
    one = groups[0]
    ts, step = one.data.bars.ts, one.data.bars.step_ms
    end = int(ts[340])
    rows = one.rows(int(ts[300]), end)
    assert (ts[rows[0]], ts[rows[-1]] + 6 * step) == (ts[300], end)


def test_sampler_when_asked_for_a_batch_then_a_pure_function_of_seed_and_number(groups):
    def sampler(seed):
        rows = [one.rows(0, 2**62, 2, 5) for one in groups]
        return Sampler(groups, rows, INPUTS, seed, windows=2, stride=5)

    made = sampler(7)
    later = [made.batch(k, 16) for k in (5, 0, 3)]
    again = [sampler(7).batch(k, 16) for k in (5, 0, 3)]
    for a, b in zip(later, again, strict=True):
        for name in type(a).__dataclass_fields__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    other = sampler(8).batch(5, 16)
    assert not np.array_equal(other.past, later[0].past)
    assert other.past.shape == (16, 65, 3)
    assert other.y.shape == (32, 5)


def test_sampler_when_it_hides_symbols_then_about_as_many_as_it_says(groups):
    rows = [one.rows(0, 2**62) for one in groups]
    batch = Sampler(groups, rows, INPUTS, 1, windows=1, stride=5).batch(0, 4000)
    assert np.mean(batch.symbol == 0) == pytest.approx(0.15, abs=0.02)
    assert np.mean(batch.symbol == 1) == pytest.approx(0.425, abs=0.03)
