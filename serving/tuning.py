"""Run a study with Ray Tune: trials suggested by Optuna, the hopeless ones stopped early by ASHA.

It runs on this machine, or, where ``RAY_ADDRESS`` is set as in a Ray job, on that cluster. Tune
keeps the state of the study in its folder: after a kill the same study goes on from there, every
trial from its own checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import StringIO
from logging import WARNING
from pathlib import Path
from pickle import PickleBuffer
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import ray
from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from agents.training.dataset import Source
from agents.training.settings import Setting
from agents.training.spaces import Between, OneOf
from agents.training.trainable import Trainable
from agents.training.watch import Watch
from domain.errors import DataRefused, ModelError, ServiceUnreachable, SettingError, UsageError
from domain.market import BarFrame
from serving.studies import Found, State, Study, Tried, better, ended, words
from serving.system import environment

SCORE, REACHED, FINAL = "score", "reached", "final"  # what a trial reports
CHECKPOINT, _BEST = "checkpoint", "best.json"
_LOSS = "loss"  # as the training loop calls it, which a search must not load torch for
RETRIES = 2  # of a trial whose process died
_RAY = "ray"  # Tune's folder inside the study's
_DIGITS = 3  # of a number that is tried: more of them say nothing
_KNOCK_S = 5.0
_STORE = 128 * 2**20  # bytes of Ray's object store, beside what trials are handed

Log = Callable[[Tried], None]


def search(study: Study, bars: Sequence[BarFrame], watch: Watch, log: Log) -> Found:
    """Run a study to its end, or go on with it; one that is finished is read from its folder.

    Parameters
    ----------
    watch : told about trials and the best so far.
    log : called once with every trial that ended.

    Raises
    ------
    DataRefused, UsageError, SettingError : what the training says to these bars or settings.
    ModelError : if no trial ended well, or the study cannot be gone on with.
    ServiceUnreachable : if ``RAY_ADDRESS`` names a cluster that does not answer.
    """
    found = study.finished()
    if found is not None:
        watch.say(f"study {study.name} is finished: {_best(found.best, found.metric)}")
        return found
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    follower = _Follower(study, watch, log)
    with _cluster(_STORE + 2 * _size((study.spec, bars))), _followed(follower):
        tuner = _tuner(study, bars, watch)
        try:
            with redirect_stdout(StringIO()):  # Tune draws tables there
                tuner.fit()
        except tune.TuneError as error:
            raise follower.refusal or error from None
        found = _found(study)
        _keep(study, found)
    return found


def _tuner(study: Study, bars: Sequence[BarFrame], watch: Watch) -> tune.Tuner:
    spec, folder = study.spec, study.folder.resolve() / _RAY
    key, more = study.judge
    task = tune.with_resources(
        tune.with_parameters(trial, spec=spec, bars=list(bars), source=study.source, key=key),
        _resources(study),
    )
    if _resumable(folder):
        watch.say(f"study {study.name} goes on where it was")
        try:
            return tune.Tuner.restore(str(folder), task)
        except Exception as error:  # whatever unpickling says to a file that was cut off
            raise _lost(study, error) from error
    shutil.rmtree(folder, ignore_errors=True)
    length = study.length
    asha = ASHAScheduler(
        REACHED, max_t=length, grace_period=max(1, length // 4), reduction_factor=2,
        stop_last_trials=False,
    )  # fmt: skip
    return tune.Tuner(
        task,
        param_space={name: _domain(part) for name, part in spec.space.items()},
        tune_config=tune.TuneConfig(
            metric=SCORE, mode="max" if more else "min", num_samples=study.trials,
            search_alg=OptunaSearch(seed=study.source.seed, points_to_evaluate=[spec.usual]),
            scheduler=asha, max_concurrent_trials=study.concurrent, reuse_actors=True,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name=_RAY, storage_path=str(folder.parent), verbose=0, callbacks=[_Callback()],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )  # fmt: skip


def trial(
    config: Mapping[str, Setting], spec: Trainable, bars: Sequence[BarFrame], source: Source,
    key: str,
) -> None:  # fmt: skip
    """Train with the settings of one trial until its score is known; runs in a Ray worker."""
    with TemporaryDirectory() as folder:
        reports = _Reports(Path(folder) / CHECKPOINT, key)
        reports.resume()
        watch = Watch(
            checked=reports.checked, scored=reports.scored, checkpoint=reports.folder / CHECKPOINT
        )
        try:
            spec.having(_rounded(config)).train(bars, Path(folder), source, watch)
        except _Scored:
            return


class _Scored(Exception):
    """The trial has its score: what training would do after that is not needed."""


class _Reports:
    """Reports of one trial to Tune, each with the training's checkpoint.

    What is reported is what a card would say if the training ended there: of a training that stops
    by its loss the scores at the lowest so far, of one in folds their means.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key, self._reached = folder, key, 0
        self._best: dict[str, float] = {}

    def resume(self) -> None:
        self.folder.mkdir()
        kept = tune.get_checkpoint()
        if kept is not None:
            with kept.as_directory() as there:
                shutil.copytree(there, self.folder, dirs_exist_ok=True)
            self._best = json.loads((self.folder / _BEST).read_text(encoding="utf-8"))

    def checked(self, reached: int, scores: Mapping[str, float]) -> None:
        self._reached = reached
        if not self._best or _LOSS not in scores or scores[_LOSS] < self._best[_LOSS]:
            self._best = dict(scores)
        self._report(self._best, final=False)

    def scored(self, scores: Mapping[str, float]) -> None:
        if self._key not in scores:
            raise DataRefused(
                "bars", "must leave something to validate on: a search compares validation scores",
                hint="Fetch more history, or move the end.",
            )  # fmt: skip
        self._report(scores, final=True)
        raise _Scored

    def _report(self, scores: Mapping[str, float], *, final: bool) -> None:
        (self.folder / _BEST).write_text(json.dumps(scores), encoding="utf-8")
        told = {SCORE: scores[self._key], REACHED: self._reached, FINAL: final}
        tune.report(told, checkpoint=tune.Checkpoint.from_directory(self.folder))


class _Follower:
    """Whoever is told what happens in the study."""

    def __init__(self, study: Study, watch: Watch, log: Log) -> None:
        self._study, self._watch, self._log = study, watch, log
        self._metric, self._more = study.judge
        self.refusal: BaseException | None = None

    def started(self, one: Any) -> None:
        settings = words(_rounded(one.config))
        self._watch.say(f"trial {_number(one)} of {self._study.trials}: {settings}")

    def reported(self, result: Mapping[str, Any]) -> None:
        self._watch.checked(result[REACHED], {self._metric: result[SCORE]})

    def ended(self, trials: Sequence[Any], one: Any) -> None:
        tried, length = _tried(one, self._study.length), self._study.length
        self._log(tried)
        score = "no score" if tried.score is None else f"{self._metric} {tried.score:.5g}"
        self._watch.say(f"trial {tried.number} {tried.state}: {score}")
        over = [other for other in trials if other.is_finished() and other is not one]
        done = ended([*(_tried(other, length) for other in over), tried])
        best = _best(better(done, self._more), self._metric) if done else "none yet"
        self._watch.tick(len(over) + 1, self._study.trials, f"best: {best}")

    def failed(self, one: Any) -> None:
        """Give up where no other trial could do better; say what happened elsewhere."""
        error = _error(one)
        if isinstance(error, DataRefused | UsageError | SettingError):
            self.refusal = error
            raise error
        told = str(error).strip().splitlines()[0]
        self._watch.say(f"trial {_number(one)} met an error: {type(error).__name__}: {told}")


_following: ContextVar[_Follower] = ContextVar("following")


class _Callback(tune.Callback):  # type: ignore[misc] # ray is not followed by mypy
    """Passes events on; Tune pickles it into the study's folder, so it holds nothing itself."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        _following.get().started(trial)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any  # noqa: ARG002
    ) -> None:  # fmt: skip
        _following.get().reported(result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        _following.get().ended(trials, trial)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        _following.get().failed(trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
        _following.get().failed(trial)
        _following.get().ended(trials, trial)


@contextmanager
def _followed(follower: _Follower) -> Iterator[None]:
    token = _following.set(follower)
    try:
        yield
    finally:
        _following.reset(token)


@contextmanager
def _cluster(store: int) -> Iterator[None]:
    """Join the cluster of ``RAY_ADDRESS``, or start one on this machine and take it down again."""
    address = environment().get("RAY_ADDRESS")
    own = {"include_dashboard": False, "object_store_memory": store}
    try:
        _require_answer(address)
        ray.init(
            address or "local", log_to_driver=False, logging_level=WARNING,
            **({} if address else own),
        )  # fmt: skip
    except Exception as error:  # Ray raises nothing narrower where it does not start
        rule = f"must answer at RAY_ADDRESS: {error}" if address else f"did not start: {error}"
        hint = "Unset RAY_ADDRESS to search on this machine." if address else "Try once more."
        raise ServiceUnreachable("Ray", rule, address, hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Knock at host and port: Ray would knock for a quarter of an hour."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host.removeprefix("ray://"), int(port)), _KNOCK_S):
            pass


def _resources(study: Study) -> dict[str, float]:
    """A trial's share of the largest node, of which this very job may hold a part."""

    def most(kind: str) -> int:
        nodes = (node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"])
        return int(min(max(nodes, default=0), ray.available_resources().get(kind, 0)))

    made = {"cpu": float(max(1, most("CPU") // study.concurrent))}
    if most("GPU") and study.spec.network:
        made["gpu"] = min(1.0, most("GPU") / study.concurrent)
    return made


def _resumable(folder: Path) -> bool:
    """Whether Tune left a state to go on from; one that a kill cut off is removed first."""
    states = sorted(folder.glob("experiment_state-*.json"))
    for path in list(states):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()
            states.remove(path)
    return bool(states) and bool(tune.Tuner.can_restore(str(folder)))


def _found(study: Study) -> Found:
    analysis = tune.ExperimentAnalysis(str(study.folder.resolve() / _RAY))
    tried = sorted(
        (_tried(one, study.length) for one in analysis.trials), key=lambda one: one.number
    )
    if len(tried) < study.trials:
        raise _lost(study, f"it holds {len(tried)} of {study.trials} trials")
    return Found(study.name, *study.judge, tuple(tried))


def _keep(study: Study, found: Found) -> None:
    analysis = tune.ExperimentAnalysis(str(study.folder.resolve() / _RAY))
    [best] = [one for one in analysis.trials if _number(one) == found.best.number]
    if best.checkpoint is not None:
        with best.checkpoint.as_directory() as there:
            shutil.copy(Path(there) / CHECKPOINT, study.checkpoint)
    study.finish(found)


def _tried(one: Any, length: int) -> Tried:
    result = one.last_result or {}
    score, reached = result.get(SCORE), int(result.get(REACHED, 0))
    state: State = "finished" if result.get(FINAL) or reached >= length else "stopped"
    return Tried(
        _number(one), _rounded(one.config),
        float(score) if score is not None and math.isfinite(score) else None,
        "failed" if one.status == "ERROR" else state,
        reached, round(float(result.get("time_total_s", 0.0)), 3),
    )  # fmt: skip


def _number(one: Any) -> int:
    return int(one.experiment_tag.partition("_")[0])


def _dirname(one: Any) -> str:
    return f"trial-{_number(one):03d}-{one.trial_id}"


def _error(one: Any) -> BaseException:
    error: BaseException = cloudpickle.loads(Path(one.pickled_error_file).read_bytes())
    cause: BaseException | None = getattr(error, "cause", None)
    return cause or error


def _rounded(config: Mapping[str, Any]) -> dict[str, Setting]:
    return {
        name: float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        for name, value in config.items()
    }


def _domain(part: Between | OneOf) -> Any:
    if isinstance(part, OneOf):
        return tune.choice(list(part.options))
    return (tune.loguniform if part.log else tune.uniform)(part.low, part.high)


def _size(handed: object) -> int:
    """Bytes of all arrays in it."""
    arrays: list[PickleBuffer] = []
    cloudpickle.dumps(handed, 5, buffer_callback=arrays.append)
    return sum(array.raw().nbytes for array in arrays)


def _best(one: Tried, metric: str) -> str:
    return f"{metric} {one.score:.5g} (trial {one.number})"


def _lost(study: Study, why: object) -> ModelError:
    return ModelError(
        f"study {study.folder}", f"cannot be gone on with: {why}", None, "Search anew with --fresh."
    )
