"""One training from its files to a version: which bars, where it goes on, what is searched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.artifacts import Card
from agents.mirror import Mirror
from agents.training.dataset import Source, require_rows
from agents.training.trainable import Trainable
from agents.training.watch import Watch
from domain.canonical import short_hash
from domain.errors import DataRefused, ModelError, UsageError
from domain.market import BarFrame
from domain.ports import Clock
from domain.times import iso, parse_iso
from serving import trials
from serving.market_files import BarsFile, load_bars
from serving.model_store import mirror_of
from serving.promotion import require_sound
from serving.registry import Outcome, after_training
from serving.settings import Settings
from serving.studies import Found, Study, Tried, words
from serving.system import set_defaults

Warn = Callable[[str], None]
_RAY = {  # for Ray, before it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's would end a search as if it were finished
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are told in one line
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # they are meant
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained.

    Attributes
    ----------
    words : how the command line names it, e.g. ``trend --model tft``.
    files : bars, the forecast symbol's first.
    end : bars that open before it are seen, ISO date.
    tune : trials of a search for settings, None = no search; ``concurrent`` : at a time.
    fresh : forget what an earlier run of the same training left behind.
    """

    spec: Trainable
    words: str
    files: Sequence[Path]
    end: str
    seed: int
    tune: int | None = None
    concurrent: int = 1
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it. ``trial_log`` : what the log says about a search."""

    name: str
    card: Card
    outcome: Outcome
    found: Found | None = None
    trial_log: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        body = {"name": self.name, "version": self.card.version, **self.outcome.as_json()}
        if self.found is not None:
            body |= {"tuning": self.found.as_json(), "trial": self.trial_log}
        return {**body, "card": self.card}


def train(
    order: Order, settings: Settings, clock: Clock, commit: str, watch: Watch, warn: Warn
) -> Trained:
    """Train, search first if that is asked, save a version, and promote it if that is wanted.

    Raises
    ------
    DataRefused : if the bars must not or cannot be trained on.
    UsageError : if they do not go together, or there is nothing to search.
    ModelError : if a checkpoint cannot be read, the loss is no longer finite, or the store of
        MODELS_URL does not answer; the version then lies in MODELS_DIR.
    """
    end_ms = parse_iso(order.end)
    read = [load_bars(path, clock) for path in order.files]
    if min(end_ms, max(_closes(file.frame) for file in read)) > trials.TEST_YEAR[0]:
        year = iso(trials.TEST_YEAR[0])[:4]
        warn(f"This model will have seen bars of {year} and later: that year is no test of it.")
    end_ms = min(end_ms, _closes(read[0].frame))  # what is validated on lies before this
    files = _chosen(order, read, end_ms, warn)
    bars = [one.frame.between(None, end_ms) for one in files]
    told = files[0].sha256 if len(files) == 1 else short_hash([one.sha256 for one in files], 64)
    source = Source(end_ms, order.seed, clock.now(), commit, told)
    root, spec, found, log = settings.data.models_dir, order.spec, None, ""
    if order.tune is not None:
        spec = spec.prepared(bars, watch)
        study = Study(spec, source, order.tune, order.concurrent, root / spec.name / "tune")
        found, log = _searched(study, bars, settings, clock, watch, fresh=order.fresh)
        spec = spec.having(found.best.settings)
    checkpoint = _checkpoint(root, spec, source)
    if order.fresh:
        checkpoint.unlink(missing_ok=True)
    if found is not None and not checkpoint.is_file() and study.checkpoint.is_file():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(study.checkpoint, checkpoint)  # the best trial's work is not done again
    source = replace(source, command=_command(order, spec, files))
    notes = None if found is None else found.notes()
    card = spec.train(bars, root, source, replace(watch, checkpoint=checkpoint), notes)
    checkpoint.unlink(missing_ok=True)  # what it was for is done
    store = mirror_of(settings)
    if store is not None:
        _to_store(store, spec.name, card.version)
    outcome = after_training(
        root, spec.name, card, promote_better=settings.models.auto_promote,
        sound=partial(require_sound, settings), store=store,
    )  # fmt: skip
    return Trained(spec.name, card, outcome, found, log)


def _to_store(store: Mirror, name: str, version: str) -> None:
    try:
        store.bring(f"{name}/")  # what is promoted there is what it is compared with
        store.push(name, version)
    except ModelError as error:
        told = f"It lies in MODELS_DIR. Take it there: conclave models promote {name} {version}"
        raise ModelError(f"{name} {version}", error.message, hint=told) from error


def _chosen(order: Order, files: Sequence[BarsFile], end_ms: int, warn: Warn) -> list[BarsFile]:
    """The files that this training can learn from; the first one must be."""
    first, *others = files
    spec = order.spec
    require_rows(first.frame, end_ms, spec.horizon_bars)
    if others and not spec.several:
        warn(f"{spec.name} learns from {first.frame.symbol} alone; --also is not used.")
        return [first]
    kept = [first]
    for file in others:
        frame = file.frame
        if frame.timeframe != first.frame.timeframe and not spec.mixed:
            raise UsageError(
                f"--also {file.path.name}", f"must be {first.frame.timeframe} bars",
                frame.timeframe, f"{spec.name} learns from bars of one timeframe.",
            )  # fmt: skip
        if any(_same(frame, other.frame) for other in kept):
            raise UsageError(
                f"--also {file.path.name}", "must be of another symbol or timeframe",
                f"{frame.symbol} {frame.timeframe}",
            )  # fmt: skip
        try:
            require_rows(frame, end_ms, spec.horizon_bars)
            kept.append(file)
        except DataRefused as error:  # a symbol that helps may be missing
            warn(f"{file.path.name} is left out: {error.rule}.")
    return kept


def _closes(bars: BarFrame) -> int:
    return int(bars.ts[-1]) + bars.step_ms


def _same(one: BarFrame, other: BarFrame) -> bool:
    return (one.symbol, one.timeframe) == (other.symbol, other.timeframe)


def _searched(
    study: Study, bars: Sequence[BarFrame], settings: Settings, clock: Clock, watch: Watch, *,
    fresh: bool,
) -> tuple[Found, str]:  # fmt: skip
    """Search, and log every trial: a result found after many tries is worth less."""
    set_defaults(**_RAY)
    from serving.tuning import search

    source, path = study.source, settings.models.trials_log
    start, end = int(bars[0].ts[0]), _closes(bars[0])
    metric = study.judge[0]

    def look(tried: Tried) -> trials.Look:
        what = (
            f"{study.spec.name} {bars[0].symbol} {bars[0].timeframe}: {words(tried.settings)}; "
            f"validated before {iso(source.end_ms)[:10]}, trial {tried.number} of study "
            f"{study.name}"
        )
        return trials.Look("tune", start, end, what, source.commit)

    def log(tried: Tried) -> None:
        score = tried.state if tried.score is None else f"{metric} {tried.score:.5g}"
        early = f", stopped at {tried.reached}" if tried.state == "stopped" else ""
        trials.record(path, look(tried), score + early, clock.now())

    if fresh:
        shutil.rmtree(study.folder, ignore_errors=True)
    trials.prepare(path, look(Tried(0, {}, None, "failed", 0, 0.0)))
    found = search(study, bars, watch, log)
    if path is None:
        return found, f"{trials.NOT_LOGGED} (TRIALS_LOG is unset)"
    return found, f"{trials.count(path).tune} tune trials so far in {path.as_posix()}"


def _checkpoint(root: Path, spec: Trainable, source: Source) -> Path:
    """Where a training keeps its state: another one for whatever makes another model."""
    made_by = [
        spec.question, source.data_sha256, source.end_ms, source.seed,
        source.commit,
    ]  # fmt: skip
    return root / spec.name / "checkpoints" / f"{short_hash(made_by, 12)}.checkpoint"


def _command(order: Order, spec: Trainable, files: Sequence[BarsFile]) -> str:
    """What to type to train this model again, without a search."""
    first, *others = (file.path.name for file in files)
    given = "".join(f" --with {word}" for word in words(spec.differing).split())
    also = "".join(f" --also {name}" for name in others)
    return (
        f"conclave train {order.words}{given} --data {first}{also} --end {order.end} "
        f"--seed {order.seed}"
    )
