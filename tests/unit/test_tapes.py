"""Opinion tapes: asked once, kept part by part, played back bit for bit."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.contract import canonical, speak
from data.memory import MarketMemory
from domain.errors import CheckFailed, ConclaveError, DataRefused, NotFound
from domain.market import MarketState
from domain.opinion import Opinion
from domain.ports import OpinionSource
from domain.quantiles import CANONICAL_LEVELS, Quantiles, QuantileTable
from sim.scoring import Forecasts
from sim.tapes import TapeStore
from sim.tapes.blocks import block_of, from_bytes, to_bytes
from sim.tapes.shelves import FolderShelf
from tests.agents_world import STEP, with_gap
from tests.unit.tape_cases import (
    BARS,
    OFFSET,
    PART,
    Chartist,
    changed,
    equal_columns,
    files,
    heard,
    live,
    record,
    remember,
    same_bits,
)

ANY_FLOAT = st.none() | st.floats(width=64)
LEVELS = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=9, unique=True).map(sorted)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def any_quantiles(draw: st.DrawFn) -> Quantiles | None:
    if draw(st.booleans()):
        return None
    levels = tuple(draw(LEVELS | st.just(list(CANONICAL_LEVELS))))
    values = draw(st.lists(st.floats(), min_size=len(levels), max_size=len(levels)))
    return Quantiles(levels, tuple(values))


ANY_OPINION = st.builds(
    Opinion, st.just("a"), st.just("v"), st.just("BTC/USDT"), st.just("5m"),
    st.integers(0, 2**62), st.just(5), ANY_FLOAT, any_quantiles(), ANY_FLOAT, ANY_FLOAT, ANY_FLOAT,
    st.text(), st.dictionaries(st.text(), JSON, max_size=4),
)  # fmt: skip


def columns_of(opinions: Sequence[Opinion]) -> Forecasts:
    """What opinions say, one at a time."""
    out = Forecasts.silent(len(opinions))
    for row, opinion in enumerate(opinions):
        for name in ("p_up", "risk_down", "risk_up"):
            value = getattr(opinion, name)
            getattr(out, name)[row] = np.nan if value is None else value
        out.sigma[row] = opinion.evidence.get("sigma", np.nan)
        if opinion.quantiles is not None:
            table = opinion.quantiles.table()
            out.quantiles[row] = table.ppf(CANONICAL_LEVELS)[0]
            if opinion.p_up is None:
                out.p_up[row] = 1.0 - table.cdf(0.0)[0]
    return out


ABOUT = {"agent": "a", "version": "v", "symbol": "BTC/USDT", "timeframe": "5m", "horizon": 5}


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_OPINION, max_size=8))
def test_block_when_written_and_read_then_any_opinion_is_the_same_to_the_last_bit(
    opinions: list[Opinion],
) -> None:
    body = to_bytes(block_of(opinions, ABOUT))
    back = from_bytes(body, ABOUT).opinions()
    assert len(back) == len(opinions)
    assert all(same_bits(a, b) for a, b in zip(back, opinions, strict=True))
    assert to_bytes(block_of(back, ABOUT)) == body


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_block_when_any_byte_is_changed_or_cut_then_it_is_refused_or_reads_the_same(
    data: st.DataObject,
) -> None:
    opinions = live(Chartist())[:40]
    body = to_bytes(block_of(opinions, ABOUT))
    at = data.draw(st.integers(0, len(body) - 1))
    flipped = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    for damaged in (flipped, body[:at]):
        try:
            read = from_bytes(damaged, ABOUT)
        except DataRefused:
            continue
        expected = [replace(o, agent="a", model_version="v") for o in opinions]
        assert all(same_bits(a, b) for a, b in zip(read.opinions(), expected, strict=True))


def test_block_when_quantiles_and_levels_differ_in_number_then_it_is_refused() -> None:
    state = remember(BARS).states()[5]
    broken = speak("a", "v", state, 5, quantiles=Quantiles((0.1, 0.5, 0.9), (0.0, 0.1)))
    with pytest.raises(DataRefused, match="one quantile for each level"):
        block_of([broken], ABOUT)


@pytest.mark.parametrize("on_disk", [True, False])
def test_tape_when_played_then_it_says_what_the_agent_said(tmp_path: Path, on_disk: bool) -> None:
    gapped = with_gap(BARS, 70, 9)
    tape = record(TapeStore(tmp_path if on_disk else None, PART), Chartist(), gapped)
    said = live(Chartist(), gapped)
    assert all(same_bits(a, b) for a, b in zip(heard(tape), said, strict=True))
    assert [o.evidence for o in said if "asleep" in o.evidence] == [{"asleep": "data_gap"}] * 4
    source: OpinionSource = tape
    states = remember(gapped).states()
    for k in (0, 150, 3, 190):
        assert source.opinions(states[k]) == ([said[k]], {})
    assert bool(files(tmp_path)) is on_disk


def test_columns_when_read_then_they_are_what_the_opinions_say() -> None:
    tape = record(TapeStore(None, PART), Chartist(), with_gap(BARS, 70, 9))
    columns = tape.columns("chartist")
    assert equal_columns(columns, columns_of(heard(tape)))
    assert np.isfinite(columns.p_up).sum() == len(tape) - 4


def test_columns_when_levels_are_canonical_then_quantiles_keep_their_last_bit() -> None:
    state = remember(BARS).states()[50]
    values = np.random.default_rng(1).normal(size=(20, 13)) * 1e-3
    said = [speak("a", "v", state, 5, quantiles=canonical(row)) for row in values]
    columns = Forecasts.silent(20)
    block_of(said, ABOUT).write(columns, 0)
    assert np.array_equal(columns.quantiles, np.sort(values, axis=1))


def test_columns_when_levels_are_unknown_then_quantiles_are_read_off_the_completed_function() -> (
    None
):
    levels, values = (0.01, 0.1, 0.5, 0.9, 0.99), (-0.03, -0.01, 0.001, 0.01, 0.02)
    state = remember(BARS).states()[50]
    opinion = speak("a", "v", state, 5, quantiles=Quantiles(levels, values))
    columns = Forecasts.silent(1)
    block_of([opinion], ABOUT).write(columns, 0)
    table = QuantileTable.of(levels, values)
    assert np.array_equal(columns.quantiles, table.ppf(CANONICAL_LEVELS))
    assert columns.p_up[0] == 1.0 - table.cdf(0.0)[0]


def test_columns_when_quantiles_are_not_finite_then_they_are_left_out() -> None:
    state = remember(BARS).states()[50]
    bad = Quantiles((0.1, 0.5, 0.9), (-0.1, float("nan"), 0.1))
    columns = Forecasts.silent(1)
    block_of([speak("a", "v", state, 5, p_up=0.6, quantiles=bad)], ABOUT).write(columns, 0)
    assert columns.p_up[0] == 0.6
    assert np.isnan(columns.quantiles).all()


def test_tape_when_a_range_is_asked_for_then_rows_are_those_of_the_range(tmp_path: Path) -> None:
    store, agent = TapeStore(tmp_path, PART), Chartist()
    start, end = int(BARS.ts[37]), int(BARS.ts[101])
    tape = record(store, agent, start_ms=start, end_ms=end)
    said = live(Chartist())
    assert np.array_equal(tape.ts, BARS.ts[37:101])
    assert heard(tape) == said[37:101]
    assert [o for o, _ in tape.rounds(10, 20)] == [[o] for o in said[47:57]]
    assert equal_columns(tape.columns("chartist"), columns_of(said[37:101]))
    with pytest.raises(NotFound, match="bars from"):
        tape.opinions(remember(BARS).states()[101])
    with pytest.raises(NotFound, match="no agent"):
        tape.columns("nobody")
    with pytest.raises(DataRefused, match="no bar in the range"):
        record(store, agent, start_ms=int(BARS.ts[-1]) + 1)


def test_store_when_ranges_overlap_then_only_missing_parts_are_asked_about(tmp_path: Path) -> None:
    agent = Chartist()
    record(TapeStore(tmp_path, PART), agent, start_ms=int(BARS.ts[60]), end_ms=int(BARS.ts[90]))
    before = len(agent.asked)
    assert before < 30 + 2 * PART
    tape = record(TapeStore(tmp_path, PART), agent)
    assert len(agent.asked) == len(set(agent.asked)) == len(BARS)
    assert tape.asked == len(BARS) - before
    assert record(TapeStore(tmp_path, PART), agent).asked == 0


def test_store_when_bars_are_trained_on_then_nobody_is_asked_about_them(tmp_path: Path) -> None:
    trained, free = Chartist("trained"), Chartist("free")
    until = int(BARS.ts[77])
    tape = TapeStore(tmp_path, PART).record(
        {"trained": trained, "free": free}, remember(BARS), horizon=5,
        asleep_until={"trained": until},
    )  # fmt: skip
    assert min(trained.asked) == until + STEP
    assert len(trained.asked) == len(BARS) - 77
    rounds = list(tape.rounds())
    assert [o.agent for o in rounds[76][0]] == ["free"]
    assert rounds[76][1] == {"trained": "in_sample"}
    assert [o.agent for o in rounds[77][0]] == ["trained", "free"]
    assert rounds[77][1] == {}
    columns = tape.columns("trained")
    assert columns.in_sample.sum() == 77
    assert np.isnan(columns.sigma[:77]).all()
    assert np.isfinite(columns.sigma[77:]).all()
    whole = record(TapeStore(tmp_path, PART), trained).columns("trained")
    assert np.isfinite(whole.sigma[2:]).all()


def test_store_when_a_bar_in_the_past_changed_then_parts_from_there_on_are_made_again(
    tmp_path: Path,
) -> None:
    agent = Chartist()
    record(TapeStore(tmp_path, PART), agent)
    agent.asked.clear()
    other = changed(BARS, 100)
    tape = record(TapeStore(tmp_path, PART), agent, other)
    edge = 100 - (100 - OFFSET) % PART
    assert agent.asked == (BARS.ts[edge:] + STEP).tolist()
    assert heard(tape) == live(Chartist(), other)
    agent.asked.clear()
    record(TapeStore(tmp_path, PART), agent, replace(BARS, close=BARS.close))
    assert len(agent.asked) < PART  # only the part that is not finished was let go


def test_store_when_a_bar_before_a_gap_changed_then_parts_after_the_gap_stay(
    tmp_path: Path,
) -> None:
    gapped, agent = with_gap(BARS, 70, 9), Chartist()
    record(TapeStore(tmp_path, PART), agent, gapped)
    agent.asked.clear()
    other = changed(gapped, 10)
    tape = record(TapeStore(tmp_path, PART), agent, other)
    assert int(other.ts[70]) + PART * STEP > max(agent.asked)
    assert heard(tape) == live(Chartist(), other)
    cut = gapped.slice(70, len(gapped))  # a memory that begins at the gap shares them, too
    assert record(TapeStore(tmp_path, PART), agent, cut).asked < PART


def test_store_when_bars_are_appended_then_old_parts_stay_and_the_unfinished_one_is_replaced(
    tmp_path: Path,
) -> None:
    agent = Chartist()
    record(TapeStore(tmp_path, PART), agent, BARS.slice(0, 120))
    begun = OFFSET + (120 - OFFSET) // PART * PART
    old = files(tmp_path)
    agent.asked.clear()
    tape = record(TapeStore(tmp_path, PART), agent)
    assert agent.asked == (BARS.ts[begun:] + STEP).tolist()
    new = files(tmp_path)
    gone = set(old) - set(new)
    assert len(gone) == 1
    assert gone.pop().endswith(".unfinished.parquet")
    assert all(new[name] == old[name] for name in set(old) & set(new))
    assert heard(tape) == live(Chartist())


def test_store_when_version_horizon_or_agent_differ_then_files_do_too(tmp_path: Path) -> None:
    store = TapeStore(tmp_path, PART)
    record(store, Chartist())
    first = files(tmp_path)
    assert record(store, Chartist(version="v2")).asked == len(BARS)
    assert record(store, Chartist(name="../up")).asked == len(BARS)
    after = files(tmp_path)
    assert len(after) == 3 * len(first)
    assert all(after[name] == body for name, body in first.items())
    folders = {name.rsplit("/", 1)[0] for name in after}
    assert folders == {
        f"BTCUSDT-spot-5m-h5/{who}" for who in ("chartist/v1", "chartist/v2", "_up/v1")
    }


KILLED = """
import sys
from pathlib import Path
from sim.tapes import TapeStore
from tests.unit.tape_cases import PART, Chartist, record
record(TapeStore(Path(sys.argv[1]), PART), Chartist(die_after=int(sys.argv[2])))
"""


@pytest.mark.long
def test_store_when_killed_in_the_middle_then_it_goes_on_and_files_are_the_same_bytes(
    tmp_path: Path,
) -> None:
    record(TapeStore(tmp_path / "whole", PART), Chartist())
    broken = tmp_path / "broken"
    asked = OFFSET + 2 * PART
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(broken), str(asked)], cwd=root, check=False
    )
    assert run.returncode == -signal.SIGKILL
    kept = [name for name in files(broken) if name.endswith(".parquet")]
    assert len(kept) == 3
    agent = Chartist()
    lost = sorted(set(files(tmp_path / "whole")) - set(kept))[0]
    (broken / lost).with_name(f".{Path(lost).name}.4711.tmp").write_bytes(b"half of it")
    tape = record(TapeStore(broken, PART), agent)
    assert agent.asked == (BARS.ts[asked:] + STEP).tolist()
    assert files(broken) == files(tmp_path / "whole")
    assert heard(tape) == live(Chartist())


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"x" * len(b)])
def test_store_when_a_part_is_damaged_then_it_is_reported_and_made_again(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    record(TapeStore(tmp_path, PART), Chartist())
    good = files(tmp_path)
    name = sorted(good)[2]
    (tmp_path / name).write_bytes(damage(good[name]))
    agent = Chartist()
    tape = record(TapeStore(tmp_path, PART), agent)
    assert tape.damaged == [name]
    assert name in caplog.text
    assert len(agent.asked) == PART
    assert files(tmp_path) == good
    assert heard(tape) == live(Chartist())


def test_tape_when_files_are_gone_since_it_was_made_then_it_asks_again(tmp_path: Path) -> None:
    tape = record(TapeStore(tmp_path, PART), Chartist())
    for name in files(tmp_path):
        (tmp_path / name).unlink()
    assert heard(tape) == live(Chartist())


def test_store_when_a_part_lies_under_another_parts_name_then_it_is_not_believed(
    tmp_path: Path,
) -> None:
    record(TapeStore(tmp_path, PART), Chartist())
    first, second = sorted(files(tmp_path))[1:3]
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    tape = record(TapeStore(tmp_path, PART), Chartist())
    assert tape.damaged == [second]
    assert heard(tape) == live(Chartist())


def test_store_when_the_folder_cannot_be_made_then_the_error_says_what_to_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "tapes").write_text("a file")
    with pytest.raises(ConclaveError, match=r"cannot be written: .*writable tape folder"):
        record(TapeStore(tmp_path / "tapes", PART), Chartist())


def test_store_when_the_disk_is_full_then_the_error_is_clear_and_nothing_half_stays(
    tmp_path: Path,
) -> None:
    store = TapeStore(tmp_path, PART)
    record(store, Chartist(), BARS.slice(0, OFFSET + PART))
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))  # the kernel cuts the write short
    try:
        with pytest.raises(ConclaveError, match="cannot be written: File too large"):
            record(store, Chartist())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == before


def test_store_when_the_memory_has_forgotten_bars_then_it_is_refused() -> None:
    memory = MarketMemory(BARS.symbol, BARS.timeframe, keep=100)
    memory.append(BARS)
    with pytest.raises(DataRefused, match="keep=None"):
        TapeStore(None).record({"a": Chartist("a")}, memory, horizon=5)


class Confused(Chartist):
    """Speaks about the wrong thing."""

    def opine(self, states: Sequence[MarketState]) -> list[Opinion]:
        said = super().opine(states)
        return said[1:] if self.version == "short" else [replace(o, horizon_bars=7) for o in said]


def test_store_when_an_agent_speaks_about_something_else_then_nothing_is_kept(
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckFailed, match="must speak about"):
        record(TapeStore(tmp_path, PART), Confused())
    with pytest.raises(CheckFailed, match="one opinion for each"):
        record(TapeStore(tmp_path, PART), Confused(version="short"))
    assert files(tmp_path) == {}


def test_store_when_recording_then_progress_counts_every_bar_of_the_parts_once() -> None:
    told: list[tuple[int, int]] = []
    record(TapeStore(None, PART), Chartist(), progress=lambda done, n: told.append((done, n)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (len(BARS), len(BARS))


def test_shelf_when_several_write_the_same_parts_then_a_reader_sees_whole_parts_only(
    tmp_path: Path,
) -> None:
    record(TapeStore(tmp_path / "one", PART), Chartist())
    good, shelf = files(tmp_path / "one"), FolderShelf(tmp_path / "both")

    def write(_: int) -> None:
        for name, body in [*good.items()] * 20:
            assert shelf.get(name) in (None, body)
            shelf.put(name, body, "none")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert files(shelf.root) == good


def test_block_when_a_text_is_lost_then_it_is_refused() -> None:
    block = block_of(live(Chartist())[:4], ABOUT)
    whole = pq.read_table(pa.BufferReader(to_bytes(block)))
    at = whole.schema.get_field_index("rationale")
    lost = whole.set_column(at, "rationale", pa.array(["a", None, "b", "c"]))
    sink = pa.BufferOutputStream()
    pq.write_table(lost.replace_schema_metadata(whole.schema.metadata), sink)
    with pytest.raises(DataRefused, match="does not fit its hash"):
        from_bytes(sink.getvalue().to_pybytes(), ABOUT)
