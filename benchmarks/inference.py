"""What a forecast of the neural agents costs, beside the libraries' own calls in the same run.

    OMP_NUM_THREADS=1 python -m benchmarks.inference [--markdown] [--models-dir var/models]

One thread unless the row says otherwise; medians of repeats after a warm-up, CPU beside wall.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.artifacts import FolderStore
from agents.chronos import Chronos, ChronosConfig
from agents.chronos_network import ChronosNetwork
from agents.chronos_views import AHEAD, POINTS
from agents.registry import load_agent
from benchmarks.__main__ import Figure, measure
from data.memory import MarketMemory
from domain.market import MarketState
from domain.ports import Agent
from sim.scoring import Floats
from sim.worlds import RANDOM_WALK, GeneratedWorld

BATCH = 64


@dataclass(frozen=True)
class Row:
    """One line of the table; ``n`` forecasts a call."""

    group: str
    figure: Figure

    @property
    def text(self) -> tuple[str, ...]:
        f = self.figure
        return (
            self.group, f.what, str(f.n), f"{f.wall_us * f.n / 1e3:.2f}",
            f"{f.wall_us / 1e3:.3f}", f"{f.cpu_us / 1e3:.2f}",
        )  # fmt: skip


HEADS = ("", "what", "forecasts a call", "ms a call", "ms a forecast", "CPU-s a 1 000")


def states_of(agent: Agent, n: int) -> list[MarketState]:
    """States of a generated walk, ``n`` consecutive ones."""
    world = GeneratedWorld(RANDOM_WALK, 7, "BTC/USDT", "5m")
    memory = MarketMemory("BTC/USDT", "5m", keep=None)
    memory.append(world.bars(world.start_ms, agent.needs.bars + 2_100 + n))
    return list(memory.states(None, None, agent.needs.bars, agent.needs.feature_rows)[-n:])


def agents_rows(store: FolderStore, repeats: int) -> Iterator[Row]:
    """Every agent with a model, alone and in a batch."""
    for name in ("baseline", "risk", "tft", "chronos"):
        agent = load_agent(name, store).agent
        states = states_of(agent, BATCH)
        yield _row(name, "agent, one state", 1, lambda: agent.opine(states[-1:]), 5 * repeats)  # noqa: B023
        yield _row(name, "agent, batch", BATCH, lambda: agent.opine(states), repeats)  # noqa: B023


def tft_rows(repeats: int) -> Iterator[Row]:
    """The library's own call on one window, and its network in eager mode (same shape)."""
    import pandas as pd
    import torch
    from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet

    from agents.training.tft import OUTPUTS, PAST
    from agents.training.tft_network import DenseTft, TftShape

    torch.set_num_threads(1)
    known = ("tod_sin_1", "tod_cos_1", "slot_hour", "weekend")
    shape = TftShape(PAST["return"], known, 8, 60, 5, OUTPUTS["return"])
    net = DenseTft(shape).eval()
    for n in (1, BATCH):
        window = (
            torch.zeros(n, dtype=torch.int64), torch.randn(n, 60, len(shape.past)),
            torch.randn(n, 65, len(known)),
        )  # fmt: skip
        with torch.inference_mode():
            yield _row("tft", "one head, dense eager", n, lambda: net(*window), repeats)  # noqa: B023
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(65, len(shape.past) + len(known))),
        columns=[*known, *shape.past],
    )
    frame["time_idx"], frame["symbol"], frame["y"] = np.arange(65), "BTC", 0.0
    dataset = TimeSeriesDataSet(
        frame, time_idx="time_idx", target="y", group_ids=["symbol"], max_encoder_length=60,
        max_prediction_length=5, static_categoricals=["symbol"],
        time_varying_known_reals=list(known), time_varying_unknown_reals=list(shape.past),
    )  # fmt: skip
    model = TemporalFusionTransformer.from_dataset(
        dataset, hidden_size=16, attention_head_size=2, hidden_continuous_size=16,
        output_size=OUTPUTS["return"],
    )  # fmt: skip
    quiet = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False,
    }  # fmt: skip
    yield _row(
        "tft", "one head, the library's predict(df)", 1,
        lambda: model.predict(frame, mode="raw", trainer_kwargs=quiet), repeats,
    )  # fmt: skip


def chronos_rows(store: FolderStore, repeats: int) -> Iterator[Row]:
    """The library's own call on the same windows; int8, a thread pool, explicit collection."""
    import torch
    from chronos import BaseChronosPipeline

    torch.set_num_threads(1)
    folder = store.open("chronos").folder
    closes = 1e5 * np.exp(
        np.cumsum(np.random.default_rng(0).normal(size=(6, POINTS + 1)), 1) * 1e-3
    )
    network = ChronosNetwork(folder)
    yield _row("chronos", "six series, fp32", 6, lambda: network.cumulative(closes, AHEAD), repeats)
    pipeline = BaseChronosPipeline.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
    returns = torch.from_numpy(np.diff(np.log(closes)).astype(np.float32))
    yield _row(
        "chronos", "six series, the library's predict_quantiles one by one", 6,
        lambda: [pipeline.predict_quantiles(row[None], prediction_length=AHEAD) for row in returns],
        repeats,
    )  # fmt: skip
    yield _row(
        "chronos", "six series, the library's predict_quantiles at once", 6,
        lambda: pipeline.predict_quantiles(returns, prediction_length=AHEAD), repeats,
    )  # fmt: skip
    int8 = ChronosNetwork(folder, int8=True)
    yield _row("chronos", "six series, int8", 6, lambda: int8.cumulative(closes, AHEAD), repeats)

    def collected() -> None:
        network.cumulative(closes, AHEAD)
        gc.collect()

    yield _row("chronos", "six series, gc.collect() after each", 6, collected, repeats)
    with ThreadPoolExecutor(2) as pool:
        halves = (closes[:3], closes[3:])
        yield _row(
            "chronos", "six series, two threads of three", 6,
            lambda: list(pool.map(lambda half: network.cumulative(half, AHEAD), halves)), repeats,
        )  # fmt: skip
    yield from _sizes(closes, repeats)


def _sizes(closes: Any, repeats: int) -> Iterator[Row]:
    """Six timeframes at the official sizes, untrained: what they would cost."""
    from agents.training.chronos import ChronosConfig as Training
    from agents.training.chronos import build

    for size in ("nano", "micro", "tiny", "mini"):
        with tempfile.TemporaryDirectory() as folder:
            build(Training(size=size)).save_pretrained(folder)
            network = ChronosNetwork(Path(folder))
            network.warm_up()
        yield _row(
            "sizes", f"six series, {size} ({network.described.parameters / 1e6:.2f} M)", 6,
            lambda: network.cumulative(closes, AHEAD), repeats,  # noqa: B023
        )  # fmt: skip


def int8_difference(store: FolderStore) -> float:
    """Largest difference in P(up) that int8 makes on 256 states."""
    said: list[Floats] = []
    for int8 in (False, True):
        agent = Chronos.from_store(store, ChronosConfig(int8=int8))
        p_up = [opinion.p_up for opinion in agent.opine(states_of(agent, 256))]
        said.append(np.array(p_up, dtype=np.float64))
    return float(np.abs(np.subtract(*said)).max())


def _row(group: str, what: str, n: int, work: Callable[[], object], repeats: int) -> Row:
    return Row(group, measure(what, "forecast", n, work, repeats))


def show(rows: Sequence[Row], *, markdown: bool) -> None:
    """Print the table."""
    if markdown:
        print("| " + " | ".join(HEADS) + " |\n|" + "---|" * len(HEADS))
    for row in rows:
        text = row.text
        if markdown:
            print("| " + " | ".join(text) + " |")
        else:
            print(f"{text[0]:<9}{text[1]:<58}{text[2]:>4}" + "".join(f"{x:>10}" for x in text[3:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    store = FolderStore(arguments.models_dir)
    rows = [
        *agents_rows(store, arguments.repeats), *chronos_rows(store, arguments.repeats),
        *tft_rows(arguments.repeats),
    ]  # fmt: skip
    show(rows, markdown=arguments.markdown)
    print(f"\nint8 changes P(up) by at most {int8_difference(store):.1e} on 256 states.")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"Peak memory of this process: {peak:.0f} MiB.")


if __name__ == "__main__":
    main()
